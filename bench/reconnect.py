"""A node comes back after others went on without it: from its network's start until it has it all.

The two nodes are separate processes, and so are their network children. What the newcomer already
held is on its disk; nothing of what it missed was gossiped to it.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.peers import holds, running
from bench.remote import remote


def run(held: int = 5_000, missed: int = 1_000, accounts: int = 100) -> dict[str, Any]:
    """Return the seconds until so many missed operations are on disk."""
    return asyncio.run(_reconnect(held, missed, accounts))


async def _reconnect(held: int, missed: int, accounts: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        async with remote(folder, held + missed, accounts) as old:
            await old.publish(str(accounts + held))
            async with running("two", folder, old.address) as new:
                await holds(new, accounts + held, timeout_s=300)
            await old.publish("all")
            started_s = time.perf_counter()
            async with running("two", folder, old.address) as new:
                listening_s = time.perf_counter()
                await holds(new, old.item_count, timeout_s=300)
                ended_s = time.perf_counter()
    return {
        "held": held,
        "missed": missed,
        "seconds": round(ended_s - listening_s, 2),
        "start_s": round(listening_s - started_s, 2),
    }
