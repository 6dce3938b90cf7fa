"""Comparing two sets of ids that are nearly the same: bytes, rounds and CPU, over the real frames.

What two replicas send each other to find out what one lacks (`crdt/reconcile`): every frame of both
sides is encoded, counted and decoded, but for the items themselves. Once with the sketch, and once
with ranges (`ranges_...`), as when the sketch keeps something back or is not enough.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from crdt import NetworkId, PeerId, sha3
from crdt.frames import RequestFrame, decode_request, encode_request
from crdt.reconcile.comparing import DEPTH_FEW, DEPTH_MANY, Answers, Comparison
from crdt.reconcile.frames import (
    AskRanges,
    AskSketch,
    Compare,
    Held,
    Pick,
    Take,
    encode_compared,
    encode_picked,
    encode_ranged,
    encode_sketched,
)
from crdt.reconcile.idset import IdSet
from crdt.reconcile.moments import Moments

NETWORK = NetworkId(sha3(b"bench"))
PEER = PeerId("peer")
SKETCHED_COUNT_MAX = 4_000


@dataclass(frozen=True, slots=True)
class Figures:
    """What one comparison took.

    Attributes:
        size: Bytes of all frames, both ways, but for the items at the end.
        missing: Items that were found to be lacking on the asking side.
        cpu_ms: Of both sides together.
    """

    size: int
    rounds: int
    missing: int
    cpu_ms: float


def run(ops: int = 1_000_000, differences: int = -1, repeats: int = 5) -> dict[str, Any]:
    """Return figures for 0, 10 and 1000 differences, or for the number given.

    No sketch tells of 10 000: then there are those of ranges only.
    """
    counts = (0, 10, 1000) if differences < 0 else (differences,)
    found: dict[str, Any] = {}
    for count in counts:
        if count <= SKETCHED_COUNT_MAX:
            found |= _figures("", count, [compare(ops, count, salt=n) for n in range(repeats)])
        if count:
            passes = [compare_ranges(ops, count, salt=n) for n in range(repeats)]
            found |= _figures("ranges_", count, passes)
    return found


def _figures(prefix: str, count: int, passes: list[Figures]) -> dict[str, Any]:
    return {
        f"{prefix}bytes_{count}": round(median(one.size for one in passes)),
        f"{prefix}bytes_most_{count}": max(one.size for one in passes),
        f"{prefix}rounds_{count}": round(median(one.rounds for one in passes)),
        f"{prefix}cpu_ms_{count}": round(median(one.cpu_ms for one in passes), 1),
    }


def compare(ops: int, differences: int, *, salt: int) -> Figures:
    """Compare two sets of `ops` ids, half of the differences on either side."""
    mine, theirs, nonce = _sides(ops, differences, salt)
    answers, held = Answers(NETWORK, b"s" * 32), Held(b"e" * 16, ops, 0, b"")
    comparison = Comparison(nonce, NETWORK)
    request: RequestFrame | None = comparison.ask()
    size = rounds = missing = 0
    started = time.process_time()
    while request is not None:
        raw_request = encode_request(request, NETWORK)
        arrived = decode_request(raw_request, NETWORK)
        size += len(raw_request)
        rounds += 1
        if isinstance(arrived, Compare):
            compared = answers.compare(PEER, arrived, held, theirs.rows())
            answer = encode_compared(compared.nonce, compared.held, NETWORK)
        elif isinstance(arrived, AskSketch):
            sketched = answers.sketch(PEER, arrived, held, theirs.rows())
            answer = encode_sketched(sketched.held, sketched.cells, NETWORK)
        else:
            assert isinstance(arrived, Pick)
            missing = len(arrived.shorts)
            break
        size += len(answer)
        request, _ = comparison.answered(answer, mine)
    return Figures(size, rounds, missing, (time.process_time() - started) * 1000)


def compare_ranges(ops: int, differences: int, *, salt: int) -> Figures:
    """Compare such sets by ranges, from the digests to the proof at the end.

    Items are asked for, and their frame comes without them.
    """
    mine, theirs, nonce = _sides(ops, differences, salt)
    answers, held = Answers(NETWORK, b"s" * 32), Held(b"e" * 16, ops, 0, b"")
    comparison = Comparison(nonce, NETWORK)
    started = time.process_time()
    moment = Moments().keep(held.epoch, ops, theirs.rows(), 0)
    compared = answers.compare(PEER, comparison.ask(), held, theirs.rows())
    size = len(encode_request(comparison.ask(), NETWORK))
    size += len(encode_compared(compared.nonce, compared.held, NETWORK))
    rounds, missing = 1, 0
    comparison.compared(compared, mine)
    depth = DEPTH_FEW if differences <= SKETCHED_COUNT_MAX else DEPTH_MANY
    request = comparison.narrow(mine, depth)
    narrowing = comparison.narrowing
    assert narrowing is not None
    while request is not None:
        raw_request = encode_request(request, NETWORK)
        arrived = decode_request(raw_request, NETWORK)
        size += len(raw_request)
        rounds += 1
        if isinstance(arrived, AskRanges):
            now, parts, _ = answers.ranged(PEER, arrived, moment)
            answer = encode_ranged(now, parts, NETWORK)
            request, _ = comparison.narrowed(answer)
        else:
            assert isinstance(arrived, Take)
            ids, absent = answers.taken(PEER, arrived, moment.ranges)
            answer = encode_picked([], absent, NETWORK)
            narrowing.came(ids, absent)
            comparison.got += ids
            missing += len(ids)
            request = narrowing.ask(comparison.nonce, comparison.moment_n)
        size += len(answer)
    assert comparison.is_whole()
    return Figures(size, rounds, missing, (time.process_time() - started) * 1000)


def _sides(ops: int, differences: int, salt: int) -> tuple[IdSet, IdSet, bytes]:
    """Return what either side holds, and a nonce."""
    rng = np.random.default_rng(salt)
    raw = rng.bytes(32 * ops)
    cut, half = 32 * differences, 32 * (differences // 2)
    mine, theirs = IdSet(raw[half:]), IdSet(raw[:half] + raw[cut:])
    for ids in (mine, theirs):
        ids.rows()  # as they are between two comparisons
    return mine, theirs, rng.bytes(16)
