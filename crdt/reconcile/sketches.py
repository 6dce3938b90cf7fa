"""Rateless sketches: about 1.4 cells for each id that only one side has, whatever both have.

A rateless invertible Bloom look-up table (Yang, Gilad and Alizadeh, SIGCOMM 2024). Every short id
is in cell 0 and then in ever fewer: in cell i with a chance of 1 / (1 + i / 2). The cells of two
sides taken from each other hold only what differs; a cell that holds one id gives it away, and
taking that out of its other cells lets go of the next. All of it is a function of ids and key.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crdt.errors import MalformedBytes
from crdt.reconcile.idset import Words
from crdt.reconcile.keys import CELL_BYTES, CELL_COUNT_MAX, SIGNS_BYTES, ComparisonKey

_MARGIN = 1.8
"""Cells for each estimated difference: 1.35 to 1.5 are needed at a thousand, and an estimate from
64 signs is a sixth off, as a rule."""
_CELLS_MORE = 8
"""Few differences need more cells for each."""
_MASK = 2**64 - 1
_STEP = 0xDA942042E4DD58B5
_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)

U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Cells:
    """Some first cells of a sketch: arrays of equal length."""

    sums: U64
    checks: NDArray[np.uint32]
    counts: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.sums)

    def pack(self, first: int = 0) -> bytes:
        """Return the cells from one on, as they are sent: all sums, all checks, all counts."""
        return (
            self.sums[first:].astype("<u8").tobytes()
            + self.checks[first:].astype("<u4").tobytes()
            + self.counts[first:].astype("<u2").tobytes()
        )


def unpack_cells(raw: bytes) -> Cells:
    """Return the cells in `raw`.

    Raises:
        MalformedBytes: not a whole number of cells, or more than there may be.
    """
    count, rest = divmod(len(raw), CELL_BYTES)
    if rest or not 0 < count <= CELL_COUNT_MAX:
        raise MalformedBytes(
            f"a sketch of {len(raw)} bytes; 1..{CELL_COUNT_MAX} cells have 14 each"
        )
    return Cells(
        np.frombuffer(raw, "<u8", count).astype(np.uint64),
        np.frombuffer(raw, "<u4", count, 8 * count).astype(np.uint32),
        np.frombuffer(raw, "<u2", count, 12 * count).astype(np.uint16),
    )


def joined(first: Cells, second: Cells) -> Cells:
    """Return the cells that come one after the other."""
    return Cells(
        np.concatenate([first.sums, second.sums]),
        np.concatenate([first.checks, second.checks]),
        np.concatenate([first.counts, second.counts]),
    )


def shorts_of(rows: Words, key: ComparisonKey) -> U64:
    """Return the short id of every id, in the order of the rows."""
    words = rows.astype(np.uint64, copy=False)
    a, b, m, n = (np.uint64(word) for word in key.words[:4])
    one = np.uint64(1)  # what multiplies is odd, or the lowest bits would be lost
    with np.errstate(over="ignore"):
        return _mixed((words[:, 0] ^ a) * (m | one) + (words[:, 1] ^ b) * (n | one))


def signs_of(shorts: U64, key: ComparisonKey) -> bytes:
    """Return 64 sums of signs modulo 2**16, one of each bit: they tell how much two sets differ.

    The square of a sum's difference is, on average, the number of differences (Alon, Matias and
    Szegedy, 1996).
    """
    ones = _ones_by_bit(_mixed(shorts ^ np.uint64(key.words[5])))
    return (len(shorts) - 2 * ones).astype("<u2").tobytes()


def short_of(id_: bytes, key: ComparisonKey) -> int:
    """Return the short id of one id."""
    return int(shorts_of(np.frombuffer(id_, "<u8").reshape(1, 4), key)[0])


def estimated(mine: bytes, theirs: bytes) -> int:
    """Return about how many ids only one side has, from both sides' signs.

    Raises:
        MalformedBytes: theirs are not 64 sums.
    """
    if len(theirs) != SIGNS_BYTES:
        raise MalformedBytes(f"signs of {len(theirs)} bytes; they are {SIGNS_BYTES}")
    difference = np.frombuffer(mine, "<u2") - np.frombuffer(theirs, "<u2")
    return round(float((difference.astype(np.int16).astype(np.float64) ** 2).mean()))


def cells_for(difference: int) -> int:
    """Return how many cells an estimated difference needs, as a rule."""
    return min(CELL_COUNT_MAX, _CELLS_MORE + math.ceil(_MARGIN * difference))


def sketch(shorts: U64, key: ComparisonKey, count: int) -> Cells:
    """Return the first `count` cells of a set's sketch. Time: about 2 ln(count) steps an id."""
    checks = _mixed(shorts ^ np.uint64(key.words[4]))
    sums, check_sums = np.zeros(count, np.uint64), np.zeros(count, np.uint64)
    counts = np.zeros(count, np.int64)
    state = checks | np.uint64(1)
    at = np.zeros(len(shorts), np.float64)
    while len(state):
        where = at.astype(np.int64)
        np.bitwise_xor.at(sums, where, shorts)
        np.bitwise_xor.at(check_sums, where, checks)
        counts += np.bincount(where, minlength=count)
        with np.errstate(over="ignore"):
            state = state * np.uint64(_STEP)
        at = at + np.ceil((at + 1.5) * (2.0**32 / np.sqrt(state.astype(np.float64) + 1.0) - 1.0))
        kept = at < count
        shorts, checks, state, at = shorts[kept], checks[kept], state[kept], at[kept]
    return Cells(sums, check_sums.astype(np.uint32), counts.astype(np.uint16))


def apart(mine: Cells, theirs: Cells, key: ComparisonKey) -> tuple[set[int], set[int]] | None:
    """Return the short ids that only one side has, mine and theirs; None: more cells are needed.

    Terminates on any cells: each step takes an id out for the first time.
    """
    assert len(mine) == len(theirs)
    sums = (mine.sums ^ theirs.sums).tolist()
    checks = (mine.checks ^ theirs.checks).tolist()
    counts = (mine.counts - theirs.counts).astype(np.int16).tolist()
    mine_only: set[int] = set()
    theirs_only: set[int] = set()
    queue = [at for at, count in enumerate(counts) if abs(count) == 1]
    while queue:
        at = queue.pop()
        count = counts[at]
        if abs(count) != 1:
            continue
        short = sums[at]
        check = _mix(short ^ key.words[4])
        if check & 0xFFFFFFFF != checks[at]:
            continue
        if short in mine_only or short in theirs_only:
            return None  # no honest sketch gives an id away twice
        (theirs_only if count < 0 else mine_only).add(short)
        for place in _walk(check, len(sums)):
            sums[place] ^= short
            checks[place] ^= check & 0xFFFFFFFF
            counts[place] -= count
            if abs(counts[place]) == 1:
                queue.append(place)
    if any(sums) or any(checks) or any(counts):
        return None
    return mine_only, theirs_only


def _walk(check: int, count: int) -> Iterator[int]:
    """Yield the cells below `count` that an id is in, as `sketch` puts it there."""
    state, at = check | 1, 0.0
    while at < count:
        yield int(at)
        state = state * _STEP & _MASK
        at += math.ceil((at + 1.5) * (2.0**32 / math.sqrt(float(state) + 1.0) - 1.0))


def _mixed(words: U64) -> U64:
    """Return each word with every bit of it spread over all (splitmix64's last step)."""
    with np.errstate(over="ignore"):
        x = words * np.uint64(_MIX[0])
        x ^= x >> np.uint64(30)
        x *= np.uint64(_MIX[1])
        x ^= x >> np.uint64(27)
        x *= np.uint64(_MIX[2])
        x ^= x >> np.uint64(31)
    return x


def _mix(word: int) -> int:
    """Return what `_mixed` does to one word."""
    x = word * _MIX[0] & _MASK
    x = (x ^ x >> 30) * _MIX[1] & _MASK
    x = (x ^ x >> 27) * _MIX[2] & _MASK
    return x ^ x >> 31


def _ones_by_bit(words: U64) -> NDArray[Any]:
    """Return how many words have each of the 64 bits set, the lowest first.

    Three words at a time become one of their sums and one of their carries, all bits at once: ten
    times faster than looking at each bit.
    """
    total = np.zeros(64, np.int64)
    bits = np.arange(64, dtype=np.uint64)
    weight = 1
    while len(words):
        carried: list[U64] = []
        while len(words) > 64:
            third = len(words) // 3
            a, b, c = words[:third], words[third : 2 * third], words[2 * third : 3 * third]
            half = a ^ b
            carried.append((a & b) | (half & c))
            words = np.concatenate([half ^ c, words[3 * third :]])
        total += weight * ((words[:, None] >> bits) & np.uint64(1)).sum(axis=0, dtype=np.int64)
        words = np.concatenate(carried) if carried else np.zeros(0, np.uint64)
        weight *= 2
    return total
