"""Live propagation: from a publish at one node until another, over libp2p, has it on disk.

The two nodes are separate processes, and so are their network children.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.peers import BenchNode, holds, running
from bench.remote import RemoteNode, remote

PAUSE_S = 0.1
"""Between publishes: ten a second, half of what a topic's pace lets through."""
WARM_COUNT = 10
"""First publishes, not counted: the gossip mesh forms with a heartbeat."""


def run(operations: int = 100) -> dict[str, Any]:
    """Return the median and the 95th percentile in milliseconds."""
    return asyncio.run(_live(operations))


async def _live(operations: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        async with (
            remote(folder, operations + WARM_COUNT, 1) as one,
            running("two", folder, one.address) as two,
        ):
            await one.publish("next")
            await holds(two, 1, timeout_s=60)
            times_ms = [await _one(one, two, number) for number in range(2, one.item_count + 1)][
                WARM_COUNT:
            ]
    times_ms.sort()
    return {
        "operations": len(times_ms),
        "p50_ms": round(statistics.median(times_ms), 1),
        "p95_ms": round(times_ms[int(len(times_ms) * 0.95)], 1),
        "max_ms": round(times_ms[-1], 1),
    }


async def _one(one: RemoteNode, two: BenchNode, count: int) -> float:
    await asyncio.sleep(PAUSE_S)
    arrived = asyncio.create_task(_arrival_s(two, count))
    _, started_s = await one.publish("next")
    return (await arrived - started_s) * 1000


async def _arrival_s(node: BenchNode, count: int) -> float:
    await holds(node, count, timeout_s=60)
    return time.perf_counter()
