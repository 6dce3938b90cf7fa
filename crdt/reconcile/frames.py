"""The frames of a comparison: do both hold the same, a sketch of it, ranges, items by short ids."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from crdt.errors import MalformedBytes
from crdt.framing import (
    ANSWER_FRAME_BYTES_MAX,
    EPOCH_BYTES,
    FETCH_COUNT_MAX,
    REQUEST_BYTES_MAX,
    VERSION,
    items_in,
    not_empty,
    open_frame,
)
from crdt.ids import NetworkId
from crdt.items import Item
from crdt.reconcile.keys import (
    BRANCH_COUNT,
    CELL_COUNT_MAX,
    DEPTH_MAX,
    DIGEST_BYTES,
    HASH_BYTES,
    LIST_COUNT_MAX,
    NONCE_BYTES,
    RANGE_COUNT_MAX,
    SIGNS_BYTES,
    range_size,
)
from crdt.wire import array, encode, field, fixed_bytes, natural

_HASHED, _LISTED = b"\x00", b"\x01"


@dataclass(frozen=True, slots=True)
class Compare:
    """Request: a digest of all you hold, under a key that is half mine."""

    nonce: bytes


@dataclass(frozen=True, slots=True)
class AskSketch:
    """Request: a sketch of all you hold.

    Attributes:
        nonce: As in the `Compare` before; the answerer's follows from it.
        signs: Of the asker's set, which tell how many cells are needed; empty when it says so.
        first: Cells that the asker has already.
        count: Up to which cell to go; 0 when the signs say so.
    """

    nonce: bytes
    signs: bytes
    first: int = 0
    count: int = 0


@dataclass(frozen=True, slots=True)
class Pick:
    """Request: the items with these short ids, under the key of a comparison."""

    nonce: bytes
    shorts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AskRanges:
    """Request: what ranges of all you hold contain.

    Attributes:
        n: The newest arrival of the set that the asker has been told of; 0: any recent one.
        depth: How many steps of four bits the ids of a range have in common.
        starts: The first eight bytes of the lowest id that each could hold, as numbers.
    """

    nonce: bytes
    n: int
    depth: int
    starts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Take:
    """Request: the items with these marks, each in a range of this depth, by its start."""

    nonce: bytes
    depth: int
    places: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Held:
    """What an answerer held at one moment.

    Attributes:
        epoch: Its store.
        last_n: Its newest arrival: the cursor of whoever has all of it.
        count: Ids it held or has dropped.
        digest: Of all of these, under the comparison's key.
    """

    epoch: bytes
    last_n: int
    count: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Compared:
    """Answer to `Compare`: its half of the key, and what it holds."""

    nonce: bytes
    held: Held


@dataclass(frozen=True, slots=True)
class Sketched:
    """Answer to `AskSketch`: cells of what it holds now; none when there is too much to tell."""

    held: Held
    cells: bytes


@dataclass(frozen=True, slots=True)
class Picked:
    """Answer to `Pick` and `Take`: some of the items, in any order, and what it has no item for."""

    items: tuple[Item, ...]
    absent: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Hashed:
    """A range told by the hashes of its sixteen parts, in order."""

    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """A range told by the marks of all ids it holds, ascending."""

    marks: tuple[int, ...]


Part: TypeAlias = Hashed | Listed


@dataclass(frozen=True, slots=True)
class Ranged:
    """Answer to `AskRanges`: one for each, in order; none when that set is not kept any more."""

    held: Held
    parts: tuple[Part, ...]


Question: TypeAlias = Compare | AskSketch | AskRanges | Pick | Take


def encode_question(frame: Question, network: NetworkId) -> bytes:
    """Return the bytes of a request."""
    if isinstance(frame, Compare):
        return encode(["compare", VERSION, network, frame.nonce])
    if isinstance(frame, AskSketch):
        return encode(
            ["sketch", VERSION, network, frame.nonce, frame.signs, frame.first, frame.count]
        )
    if isinstance(frame, AskRanges):
        assert 0 < len(frame.starts) <= RANGE_COUNT_MAX
        starts = b"".join(start.to_bytes(8, "big") for start in frame.starts)
        return encode(["ranges", VERSION, network, frame.nonce, frame.n, frame.depth, starts])
    if isinstance(frame, Take):
        assert 0 < len(frame.places) <= FETCH_COUNT_MAX
        places = b"".join(a.to_bytes(8, "big") + b.to_bytes(8, "little") for a, b in frame.places)
        return encode(["take", VERSION, network, frame.nonce, frame.depth, places])
    assert 0 < len(frame.shorts) <= FETCH_COUNT_MAX
    return encode(["pick", VERSION, network, frame.nonce, _packed_shorts(frame.shorts)])


def question_in(tag: str, rest: tuple[Any, ...]) -> Question | None:
    """Return the request in a frame, or None: it is none of a comparison's.

    Raises:
        MalformedBytes: its fields are not in order.
    """
    if tag == "compare" and len(rest) == 1:
        return Compare(_nonce(rest[0]))
    if tag == "sketch" and len(rest) == 4:
        signs = field(rest[1], bytes, "signs")
        first = natural(rest[2], "first cell", maximum=CELL_COUNT_MAX - 1)
        count = natural(rest[3], "cells", maximum=CELL_COUNT_MAX)
        if (count <= first) if count else (len(signs) != SIGNS_BYTES or first):
            raise MalformedBytes(f"a sketch with {len(signs)} bytes of signs, {first} to {count}")
        return AskSketch(_nonce(rest[0]), signs, first, count)
    if tag == "pick" and len(rest) == 2:
        shorts = not_empty(_shorts(rest[1], FETCH_COUNT_MAX), "pick")
        return Pick(_nonce(rest[0]), shorts)
    if tag == "ranges" and len(rest) == 4:
        depth = natural(rest[2], "depth", maximum=DEPTH_MAX)
        starts = not_empty(_starts(rest[3], depth), "ranges")
        return AskRanges(_nonce(rest[0]), natural(rest[1], "last arrival"), depth, starts)
    if tag == "take" and len(rest) == 3:
        depth = natural(rest[1], "depth", maximum=DEPTH_MAX)
        return Take(_nonce(rest[0]), depth, not_empty(_places(rest[2], depth), "take"))
    return None


def encode_compared(nonce: bytes, held: Held, network: NetworkId) -> bytes:
    """Return the answer to a comparison."""
    return encode(["compared", VERSION, network, nonce, *_held_fields(held)])


def decode_compared(raw: bytes, network: NetworkId) -> Compared:
    """Return the answer in `raw`.

    Raises:
        MalformedBytes, WrongNetwork, UnknownVersion: it is not one of ours.
    """
    tag, rest = open_frame(raw, network, bytes_max=REQUEST_BYTES_MAX)
    if tag != "compared" or len(rest) != 5:
        raise MalformedBytes(f"{tag[:20]!r} of {len(rest)} fields where a comparison is due")
    return Compared(_nonce(rest[0]), _held(rest[1:]))


def encode_sketched(held: Held, cells: bytes, network: NetworkId) -> bytes:
    """Return the answer to the wish for a sketch."""
    return encode(["sketched", VERSION, network, *_held_fields(held), cells])


def decode_sketched(raw: bytes, network: NetworkId) -> Sketched:
    """Return the answer in `raw`; its cells are not looked into.

    Raises:
        MalformedBytes, WrongNetwork, UnknownVersion: it is not one of ours.
    """
    tag, rest = open_frame(raw, network, bytes_max=ANSWER_FRAME_BYTES_MAX)
    if tag != "sketched" or len(rest) != 5:
        raise MalformedBytes(f"{tag[:20]!r} of {len(rest)} fields where a sketch is due")
    return Sketched(_held(rest[:4]), field(rest[4], bytes, "cells"))


def encode_ranged(held: Held, parts: Sequence[Part], network: NetworkId) -> bytes:
    """Return the answer to the wish for ranges."""
    raws = [_raw_part(part) for part in parts]
    return encode(["ranged", VERSION, network, *_held_fields(held), raws])


def decode_ranged(raw: bytes, network: NetworkId) -> Ranged:
    """Return the answer in `raw`.

    Raises:
        MalformedBytes, WrongNetwork, UnknownVersion: it is not one of ours.
    """
    tag, rest = open_frame(raw, network, bytes_max=ANSWER_FRAME_BYTES_MAX)
    if tag != "ranged" or len(rest) != 5:
        raise MalformedBytes(f"{tag[:20]!r} of {len(rest)} fields where ranges are due")
    raws = array(rest[4], "ranges")
    if len(raws) > RANGE_COUNT_MAX:
        raise MalformedBytes(f"{len(raws)} ranges; at most {RANGE_COUNT_MAX}")
    return Ranged(_held(rest[:4]), tuple(_part(field(one, bytes, "range")) for one in raws))


def encode_picked(raws: Sequence[bytes], absent: Sequence[int], network: NetworkId) -> bytes:
    """Return the answer to a pick."""
    return encode(["picked", VERSION, network, list(raws), _packed_shorts(absent)])


def decode_picked(raw: bytes, network: NetworkId) -> Picked:
    """Return the answer in `raw`; its items are decoded and not judged.

    Raises:
        MalformedBytes, WrongNetwork, UnknownVersion: it is not one of ours.
    """
    tag, rest = open_frame(raw, network, bytes_max=ANSWER_FRAME_BYTES_MAX)
    if tag != "picked" or len(rest) != 2:
        raise MalformedBytes(f"{tag[:20]!r} of {len(rest)} fields where picked items are due")
    return Picked(items_in(rest[0], FETCH_COUNT_MAX), _shorts(rest[1], FETCH_COUNT_MAX))


def _nonce(value: object) -> bytes:
    return fixed_bytes(value, NONCE_BYTES, "nonce")


def _packed_shorts(shorts: Sequence[int]) -> bytes:
    return b"".join(short.to_bytes(8, "little") for short in sorted(shorts))


def _shorts(value: object, count_max: int) -> tuple[int, ...]:
    """Return the short ids in a byte string: eight bytes each, little-endian, ascending."""
    raw = field(value, bytes, "short ids")
    if len(raw) % 8 or len(raw) > 8 * count_max:
        raise MalformedBytes(f"short ids of {len(raw)} bytes; 8 each, at most {count_max} of them")
    shorts = tuple(int.from_bytes(raw[at : at + 8], "little") for at in range(0, len(raw), 8))
    if any(a >= b for a, b in itertools.pairwise(shorts)):
        raise MalformedBytes("short ids are not ascending")
    return shorts


def _starts(value: object, depth: int) -> tuple[int, ...]:
    """Return the starts of ranges in a byte string: eight bytes each, big-endian, ascending."""
    raw = field(value, bytes, "ranges")
    if len(raw) % 8 or len(raw) > 8 * RANGE_COUNT_MAX:
        raise MalformedBytes(f"ranges of {len(raw)} bytes; 8 each, at most {RANGE_COUNT_MAX}")
    starts = tuple(int.from_bytes(raw[at : at + 8], "big") for at in range(0, len(raw), 8))
    if any(a >= b for a, b in itertools.pairwise(starts)):
        raise MalformedBytes("ranges are not ascending")
    _check_starts(starts, depth)
    return starts


def _places(value: object, depth: int) -> tuple[tuple[int, int], ...]:
    """Return pairs of a range's start, big-endian, and a mark, little-endian, ascending."""
    raw = field(value, bytes, "places")
    if len(raw) % 16 or len(raw) > 16 * FETCH_COUNT_MAX:
        raise MalformedBytes(f"places of {len(raw)} bytes; 16 each, at most {FETCH_COUNT_MAX}")
    places = tuple(
        (int.from_bytes(raw[at : at + 8], "big"), int.from_bytes(raw[at + 8 : at + 16], "little"))
        for at in range(0, len(raw), 16)
    )
    if any(a >= b for a, b in itertools.pairwise(places)):
        raise MalformedBytes("places are not ascending")
    _check_starts((start for start, _ in places), depth)
    return places


def _check_starts(starts: Iterable[int], depth: int) -> None:
    mask = range_size(depth) - 1
    for start in starts:
        if start & mask:
            raise MalformedBytes(f"no range of depth {depth} starts at {start:016x}")


def _raw_part(part: Part) -> bytes:
    if isinstance(part, Hashed):
        return _HASHED + b"".join(part.hashes)
    return _LISTED + _packed_shorts(part.marks)


def _part(raw: bytes) -> Part:
    kind, rest = raw[:1], raw[1:]
    if kind == _LISTED:
        return Listed(_shorts(rest, LIST_COUNT_MAX))
    if kind != _HASHED or len(rest) != BRANCH_COUNT * HASH_BYTES:
        raise MalformedBytes(f"a range of kind {kind.hex()!r} and {len(rest)} bytes")
    return Hashed(tuple(rest[at : at + HASH_BYTES] for at in range(0, len(rest), HASH_BYTES)))


def _held_fields(held: Held) -> list[Any]:
    return [held.epoch, held.last_n, held.count, held.digest]


def _held(parts: tuple[Any, ...]) -> Held:
    return Held(
        fixed_bytes(parts[0], EPOCH_BYTES, "epoch"),
        natural(parts[1], "last arrival"),
        natural(parts[2], "count"),
        fixed_bytes(parts[3], DIGEST_BYTES, "digest"),
    )
