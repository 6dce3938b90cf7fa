"""A swarm writes: from the first of many writes, at every node, until every node has all on disk.

Each node and each network child is a process. Every node dials a few others, drawn from a seed,
so that the network is neither a star nor a mesh of all with all.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from bench.remote import RemoteNode, remote

DIAL_COUNT = 3
TIMEOUT_S = 150.0


def run(nodes: int = 20, operations: int = 1_000, singly: int = 0) -> dict[str, Any]:
    """Return the seconds until every one of so many nodes holds all new operations.

    Args:
        nodes: Each writes its share.
        operations: In all; a multiple of `nodes`.
        singly: 1 for writes of one operation each, one after the other; 0 for one write a node.
    """
    return asyncio.run(_swarm(nodes, operations, "singly" if singly else "all"))


async def _swarm(nodes: int, operations: int, how: str) -> dict[str, Any]:
    assert operations % nodes == 0, f"operations is not a multiple of {nodes}"
    begun_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        async with asyncio.timeout(TIMEOUT_S), swarm(Path(scratch), nodes, operations) as members:
            ready_s, cpu_begun_s = time.perf_counter(), cpu_s(members)
            told = await asyncio.gather(*(one.publish(how) for one in members))
            started_s = min(moment for _, moment in told)
            everything = nodes + operations
            ended_s = await asyncio.gather(*(one.held_s(everything) for one in members))
            cpu_used_s = cpu_s(members) - cpu_begun_s
    return {
        "nodes": nodes,
        "operations": operations,
        "seconds": round(max(ended_s) - started_s, 2),
        "cpu_s": round(cpu_used_s, 1),
        "median_s": round(sorted(ended_s)[nodes // 2] - started_s, 2),
        "start_s": round(ready_s - begun_s, 1),
    }


@asynccontextmanager
async def swarm(
    folder: Path, nodes: int, operations: int, *, seed: int = 7
) -> AsyncGenerator[list[RemoteNode], None]:
    """Run so many connected nodes until the block ends, each with an account and a share to write.

    Every node has the others' accounts when the block begins, so gossip is under way.
    """
    rng = random.Random(seed)
    async with AsyncExitStack() as stack:
        members: list[RemoteNode] = []
        for number in range(nodes):
            dialled = rng.sample(members, min(DIAL_COUNT, len(members)))
            members.append(
                await stack.enter_async_context(
                    remote(
                        folder, operations, nodes, *(one.address for one in dialled),
                        name=f"node-{number}", share=(number, nodes),
                    )
                )
            )  # fmt: skip
        for one in members:
            await one.publish("next")
        await asyncio.gather(*(one.held_s(nodes) for one in members))
        yield members


def cpu_s(members: list[RemoteNode]) -> float:
    """Return the seconds of CPU that nodes and their network children have taken so far."""
    processes = [psutil.Process(one.process.pid) for one in members]
    processes += [child for one in processes for child in one.children()]
    return sum(times.user + times.system for times in (one.cpu_times() for one in processes))
