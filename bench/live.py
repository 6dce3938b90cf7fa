"""Live propagation: from a publish at one node until others, over libp2p, have it on disk.

The nodes are separate processes, and so are their network children. With more than two the time
is that of the slowest node, in a network where most have it from others than the writer.
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
from bench.swarm import cpu_s, swarm

PAUSE_S = 0.1
"""Between publishes: ten a second, half of what a topic's pace lets through."""
WARM_COUNT = 10
"""First publishes, not counted: the gossip mesh forms with a heartbeat."""


def run(operations: int = 100, nodes: int = 2) -> dict[str, Any]:
    """Return the median and the 95th percentile in milliseconds, at the slowest node."""
    if nodes == 2:
        return _figures(asyncio.run(_between_two(operations)))
    times_ms, cpu_ms = asyncio.run(_at_the_slowest(operations, nodes))
    return {
        "name": f"live-{nodes}",
        "nodes": nodes,
        **_figures(times_ms),
        "cpu_ms": round(cpu_ms, 2),
    }


def _figures(times_ms: list[float]) -> dict[str, Any]:
    times_ms.sort()
    return {
        "operations": len(times_ms),
        "p50_ms": round(statistics.median(times_ms), 1),
        "p95_ms": round(times_ms[int(len(times_ms) * 0.95)], 1),
        "max_ms": round(times_ms[-1], 1),
    }


async def _between_two(operations: int) -> list[float]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        async with (
            remote(folder, operations + WARM_COUNT, 1) as one,
            running("two", folder, one.address) as two,
        ):
            await one.publish("next")
            await holds(two, 1, timeout_s=60)
            times_ms = [await _one(one, two, number) for number in range(2, one.item_count + 1)]
    return times_ms[WARM_COUNT:]


async def _one(one: RemoteNode, two: BenchNode, count: int) -> float:
    await asyncio.sleep(PAUSE_S)
    arrived = asyncio.create_task(_arrival_s(two, count))
    _, started_s = await one.publish("next")
    return (await arrived - started_s) * 1000


async def _arrival_s(node: BenchNode, count: int) -> float:
    await holds(node, count, timeout_s=60)
    return time.perf_counter()


async def _at_the_slowest(operations: int, nodes: int) -> tuple[list[float], float]:
    """Publish at each node in turn, and see when the last one has it.

    Returns:
        Milliseconds of each, and milliseconds of CPU that a node takes for one, idling included.
    """
    rounds = -(-(operations + WARM_COUNT) // nodes)
    times_ms: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        async with swarm(Path(scratch), nodes, rounds * nodes) as members:
            begun_s = cpu_s(members)
            for number in range(rounds * nodes):
                await asyncio.sleep(PAUSE_S)
                _, started_s = await members[number % nodes].publish("next")
                count = nodes + number + 1
                ended_s = await asyncio.gather(*(one.held_s(count) for one in members))
                times_ms.append((max(ended_s) - started_s) * 1000)
            used_s = cpu_s(members) - begun_s
    return times_ms[WARM_COUNT:][:operations], used_s * 1000 / len(times_ms) / nodes
