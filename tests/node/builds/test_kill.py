"""A fetching process is killed with SIGKILL; the next one goes on from what was verified."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from aiohttp import web

from node.builds import FetchProgress
from tests.node.builds.folders import PUBLISHER, make_folder, tree
from tests.node.builds.swarm import Node, nodes

BIG = 40_000_000
STOP_AFTER = 3


async def start_fetcher(folder: Path, holder: Node, digest: bytes) -> asyncio.subprocess.Process:
    endpoint = holder.endpoint
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.node.builds.fetcher", str(folder), (b"\x01" * 32).hex(),
        endpoint.host, str(endpoint.port), digest.hex(),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.slow
async def test_kill_minus_nine_loses_no_verified_chunk(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source", size=BIG)
    async with nodes(tmp_path, 2) as ((a, b), holders):
        sealed = await a.builds.pack(source, PUBLISHER)
        asked = 0
        stalled = asyncio.Event()

        def stall(request: web.Request) -> None:
            """Cut every run after the first few, so that the victim is caught halfway."""
            nonlocal asked
            asked += "/data" in request.path
            if asked > STOP_AFTER and not stalled.is_set():
                stalled.set()
            if stalled.is_set() and not released:
                assert request.transport is not None
                request.transport.abort()
                raise web.HTTPInternalServerError

        released = False
        await a.listen(stall)
        holders.append(a.endpoint)
        folder = b.store.folder
        victim = await start_fetcher(folder, a, sealed.digest)
        try:
            async with asyncio.timeout(30):
                await stalled.wait()
        finally:
            victim.send_signal(signal.SIGKILL)
        async with asyncio.timeout(10):
            assert await victim.wait() == -signal.SIGKILL
        journal = folder / "partial" / sealed.digest.hex() / "journal"
        kept = journal.stat().st_size // 4
        assert 0 < kept < sealed.manifest.chunk_count
        released = True
        seen: list[FetchProgress] = []
        path = await b.builds.fetch(sealed.digest, seen.append)
        assert tree(path) == tree(source)
        first = next(item for item in seen if item.phase == "fetching")
        assert first.bytes_verified >= (kept - 8) * 1024 * 1024
        assert seen[-1].bytes_wasted == 0
