"""A fresh node joins over the real transport: from its first dial until all of it can be searched.

The two nodes are separate processes, and so are their network children. What the newcomer takes is
not news: nothing of it is gossiped any more, as for whoever joins a network that has been there.
Starting the process, which imports libp2p, is measured beside.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.peers import BenchNode, holds, running
from bench.remote import remote
from node.collector import settle_collector
from registry import Query

GOSSIPED_S = 8.0
"""The router offers what it had in its last 5 heartbeats of 1 s to whoever comes; then no more."""
LOOK_S = 0.01


def run(records: int = 10_000, accounts: int = 100) -> dict[str, Any]:
    """Return the seconds until all is stored and until all is found, after the network is up."""
    settle_collector()
    return asyncio.run(_join(records, accounts))


async def _join(records: int, accounts: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        async with remote(folder, records, accounts) as old:
            await old.publish("all")
            await asyncio.sleep(GOSSIPED_S)
            started_s = time.perf_counter()
            async with running("two", folder, old.address) as new:
                listening_s = time.perf_counter()
                await holds(new, old.item_count, timeout_s=600)
                stored_s = time.perf_counter()
                await _finds(new, records)
                found_s = time.perf_counter()
            items = old.item_count
    return {
        "records": records,
        "items": items,
        "seconds": round(stored_s - listening_s, 2),
        "searchable_seconds": round(found_s - listening_s, 2),
        "start_s": round(listening_s - started_s, 2),
        "from_start_s": round(found_s - started_s, 2),
        "items_per_s": round(items / (stored_s - listening_s)),
    }


async def _finds(node: BenchNode, count: int) -> None:
    """Return when a search without any condition finds so many records."""
    while node.catalogue.search(Query(limit=1)).total < count:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_S)  # the views follow the log, and tell nobody
