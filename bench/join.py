"""A fresh node joins over the real transport: from its start until it holds every record.

The two nodes are separate processes, and so are their network children.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.peers import holds, running
from bench.remote import remote


def run(records: int = 10_000, accounts: int = 100) -> dict[str, Any]:
    """Return the seconds from the newcomer's start, and from its first connection, to the end."""
    return asyncio.run(_join(records, accounts))


async def _join(records: int, accounts: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        async with remote(folder, records, accounts) as old:
            await old.publish("all")
            started_s = time.perf_counter()
            async with running("two", folder, old.address) as new:
                listening_s = time.perf_counter()
                await holds(new, old.item_count, timeout_s=300)
                ended_s = time.perf_counter()
            items = old.item_count
    return {
        "records": records,
        "items": items,
        "seconds": round(ended_s - started_s, 2),
        "of_which_start_s": round(listening_s - started_s, 2),
        "items_per_s": round(items / (ended_s - listening_s)),
    }
