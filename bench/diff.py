"""Comparing two sets of ids that are nearly the same: bytes, rounds and CPU, over the real frames.

What two replicas send each other to find out what one lacks (`crdt/reconcile`): every frame of both
sides is encoded, counted and decoded. The items themselves, which come at the end, are not counted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from crdt import NetworkId, PeerId, sha3
from crdt.frames import RequestFrame, decode_request, encode_request
from crdt.reconcile.comparing import Answers, Comparison
from crdt.reconcile.frames import AskSketch, Compare, Held, Pick, encode_compared, encode_sketched
from crdt.reconcile.idset import IdSet

NETWORK = NetworkId(sha3(b"bench"))
PEER = PeerId("peer")


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
    """Return figures for 0, 10 and 1000 differences, or for the number given."""
    counts = (0, 10, 1000) if differences < 0 else (differences,)
    found: dict[str, Any] = {}
    for count in counts:
        passes = [compare(ops, count, salt=salt) for salt in range(repeats)]
        found |= {
            f"bytes_{count}": round(median(one.size for one in passes)),
            f"bytes_most_{count}": max(one.size for one in passes),
            f"rounds_{count}": round(median(one.rounds for one in passes)),
            f"cpu_ms_{count}": round(median(one.cpu_ms for one in passes), 1),
        }
    return found


def compare(ops: int, differences: int, *, salt: int) -> Figures:
    """Compare two sets of `ops` ids, half of the differences on either side."""
    rng = np.random.default_rng(salt)
    raw = rng.bytes(32 * ops)
    cut, half = 32 * differences, 32 * (differences // 2)
    mine, theirs = IdSet(raw[half:]), IdSet(raw[:half] + raw[cut:])
    for ids in (mine, theirs):
        ids.rows()  # as they are between two comparisons
    answers, held = Answers(NETWORK, b"s" * 32), Held(b"e" * 16, ops, 0, b"")
    comparison = Comparison(rng.bytes(16), NETWORK)
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
