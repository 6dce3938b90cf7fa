"""Live propagation: from a publish at one node until another, over libp2p, has it on disk."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.ingest import make_items
from bench.peers import NETWORK, BenchNode, holds, running

PAUSE_S = 0.1
"""Between publishes: ten a second, half of what a topic's pace lets through."""
WARM_COUNT = 10
"""First publishes, not counted: the gossip mesh forms with a heartbeat."""


def run(operations: int = 100) -> dict[str, Any]:
    """Return the median and the 95th percentile in milliseconds."""
    return asyncio.run(_live(operations))


async def _live(operations: int) -> dict[str, Any]:
    raws = [item.raw for item in make_items(NETWORK, operations + WARM_COUNT, 1)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        async with (
            running("one", folder) as one,
            running("two", folder, *one.client.addresses) as two,
        ):
            await one.catalogue.publish(raws[:1])
            await holds(two, 1, timeout_s=60)
            times_ms = [
                await _one(one, two, raw, number) for number, raw in enumerate(raws[1:], start=2)
            ][WARM_COUNT:]
    times_ms.sort()
    return {
        "operations": len(times_ms),
        "p50_ms": round(statistics.median(times_ms), 1),
        "p95_ms": round(times_ms[int(len(times_ms) * 0.95)], 1),
        "max_ms": round(times_ms[-1], 1),
    }


async def _one(one: BenchNode, two: BenchNode, raw: bytes, count: int) -> float:
    await asyncio.sleep(PAUSE_S)
    started_s = time.perf_counter()
    arrived = asyncio.create_task(holds(two, count, timeout_s=60))
    await one.catalogue.publish([raw])
    await arrived
    return (time.perf_counter() - started_s) * 1000
