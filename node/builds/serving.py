"""Serving builds to peers: manifest, tables, and ranges of the stream.

1 MiB slices are read in threads, one ahead of what is being sent. Never aiohttp's FileResponse:
over TLS its fallback reads 16 KiB at a time, six to eight times slower (builds.md).
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

from aiohttp import web

from crdt import ManifestDigest, PeerId
from node.builds.errors import UnknownBuild
from node.builds.store import BuildStore, Holding
from node.peer import caller_of

SLICE_BYTES = 1024 * 1024
RANGE_BYTES_MAX = 16 * 1024 * 1024
"""The longest run (exchange.py); a client asks again for more."""
SLOT_COUNT = 8
SLOTS_PER_PEER = 4
SEND_S = 30.0
"""A reader that does not take a slice within this time is let go."""
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{1,15})")
_DIGEST = "{digest:[0-9a-f]{64}}"


class BuildServing:
    """The peer routes of a store.

    Args:
        executor: Where files are read.
    """

    def __init__(self, store: BuildStore, executor: Executor) -> None:
        self._store = store
        self._executor = executor
        self._busy: dict[PeerId, int] = {}

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the `PeerServer`."""
        base = f"/peer/v1/builds/{_DIGEST}"
        return [
            web.get(f"{base}/manifest", self.manifest, allow_head=False),
            web.get(base + r"/tables/{number:\d{1,4}}", self.table, allow_head=False),
            web.get(f"{base}/data", self.data, allow_head=False),
        ]

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        """Answer with the sealed manifest."""
        holding = await self._open(request)
        if holding is None:
            return _not_here()
        return web.Response(body=holding.sealed.raw, content_type="application/octet-stream")

    async def table(self, request: web.Request) -> web.StreamResponse:
        """Answer with one chunk table."""
        holding = await self._open(request)
        number = int(request.match_info["number"])
        if holding is None or number >= len(holding.tables):
            return _not_here()
        return web.Response(body=holding.tables[number], content_type="application/octet-stream")

    async def data(self, request: web.Request) -> web.StreamResponse:
        """Answer with a range of the stream, if a slot is free."""
        holding = await self._open(request)
        if holding is None:
            return _not_here()
        bounds = _bounds(request.headers.get("Range", ""), holding.chunks.size)
        if bounds is None:
            return _problem(
                416,
                "bad-range",
                f"ask for `Range: bytes=first-last` within {holding.chunks.size} bytes, "
                f"at most {RANGE_BYTES_MAX} at once",
            )
        caller = caller_of(request)
        mine = self._busy.get(caller, 0)
        if mine >= SLOTS_PER_PEER or sum(self._busy.values()) >= SLOT_COUNT:
            return _problem(503, "slots-busy", "all upload slots are busy; try later")
        self._busy[caller] = mine + 1
        try:
            return await self._send(request, holding, *bounds)
        finally:
            self._busy[caller] -= 1
            if not self._busy[caller]:
                del self._busy[caller]

    async def _open(self, request: web.Request) -> Holding | None:
        digest = ManifestDigest(bytes.fromhex(request.match_info["digest"]))
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self._store.open, digest)
        except UnknownBuild:
            return None

    async def _send(
        self, request: web.Request, holding: Holding, start: int, length: int
    ) -> web.StreamResponse:
        end = start + length - 1
        response = web.StreamResponse(status=206)
        response.content_type = "application/octet-stream"
        response.content_length = length
        response.headers["Content-Range"] = f"bytes {start}-{end}/{holding.chunks.size}"
        await response.prepare(request)
        loop = asyncio.get_running_loop()
        slices = _slices(holding, start, length)
        ahead = loop.run_in_executor(self._executor, _read, next(slices))
        try:
            for following in slices:
                piece = await ahead
                ahead = loop.run_in_executor(self._executor, _read, following)
                async with asyncio.timeout(SEND_S):
                    await response.write(piece)
            async with asyncio.timeout(SEND_S):
                await response.write(await ahead)
        except (TimeoutError, OSError):
            if request.transport is not None:
                request.transport.abort()  # a half-sent range cannot be mended; they ask again
            raise
        finally:
            ahead.cancel()
        await response.write_eof()
        return response


def _slices(holding: Holding, start: int, length: int) -> Iterator[tuple[Path, int, int]]:
    for path, offset, size in holding.pieces(start, length):
        for at in range(0, size, SLICE_BYTES):
            yield path, offset + at, min(SLICE_BYTES, size - at)


def _read(piece: tuple[Path, int, int]) -> bytes:
    path, offset, length = piece
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        raw = os.pread(descriptor, length, offset)
    finally:
        os.close(descriptor)
    if len(raw) != length:
        raise OSError(f"{path} ends before byte {offset + length}; the build is damaged")
    return raw


def _bounds(header: str, size: int) -> tuple[int, int] | None:
    """Return (start, length) of a range we serve."""
    found = _RANGE.fullmatch(header)
    if found is None:
        return None
    first, last = int(found[1]), int(found[2])
    if not first <= last < size or last - first >= RANGE_BYTES_MAX:
        return None
    return first, last - first + 1


def _not_here() -> web.Response:
    return _problem(404, "unknown-build", "this build is not complete on this node")


def _problem(status: int, code: str, detail: str) -> web.Response:
    return web.json_response({"status": status, "code": code, "detail": detail}, status=status)
