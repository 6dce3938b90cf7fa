"""A fresh node joins over the real transport: from its start until it holds every record."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.ingest import make_items
from bench.peers import NETWORK, holds, running

BATCH = 250


def run(records: int = 10_000, accounts: int = 100) -> dict[str, Any]:
    """Return the seconds from the newcomer's start, and from its first connection, to the end."""
    return asyncio.run(_join(records, accounts))


async def _join(records: int, accounts: int) -> dict[str, Any]:
    raws = [item.raw for item in make_items(NETWORK, records, accounts)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        async with running("old", folder) as old:
            for start in range(0, len(raws), BATCH):
                await old.catalogue.publish(raws[start : start + BATCH])
            started_s = time.perf_counter()
            async with running("new", folder, *old.client.addresses) as new:
                listening_s = time.perf_counter()
                await holds(new, len(raws), timeout_s=300)
                ended_s = time.perf_counter()
    return {
        "records": records,
        "items": len(raws),
        "join_s": round(ended_s - started_s, 2),
        "of_which_start_s": round(listening_s - started_s, 2),
        "items_per_s": round(len(raws) / (ended_s - listening_s)),
    }
