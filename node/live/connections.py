"""The way to one editor: a socket, and what waits to be sent to it."""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import WSCloseCode, web

_REASON_BYTES_MAX = 123  # RFC 6455, section 5.5


class Connection:
    """One editor's socket, and what waits to be sent to it."""

    def __init__(self, socket: web.WebSocketResponse, *, queue_bytes_max: int) -> None:
        self.socket = socket
        self._bytes_max = queue_bytes_max
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()  # bounded by its bytes
        self._queued_bytes = 0
        self._closing: asyncio.Task[None] | None = None
        self._writer = asyncio.create_task(self._write(), name="live-writer")

    def send(self, frame: bytes) -> None:
        """Send a frame behind all others; cut off an editor that does not read."""
        if self._closing is not None:
            return
        self._queued_bytes += len(frame)
        if self._queued_bytes > self._bytes_max:
            self._closing = asyncio.create_task(
                self.close(WSCloseCode.TRY_AGAIN_LATER, "the editor does not read")
            )
            return
        self._queue.put_nowait(frame)

    async def flush(self) -> None:
        """Wait until everything is sent, or nothing more can be."""
        sent = asyncio.create_task(self._queue.join())
        try:
            await asyncio.wait([sent, self._writer], return_when=asyncio.FIRST_COMPLETED)
        finally:
            sent.cancel()

    async def close(self, code: int, reason: str) -> None:
        """Say why, and close."""
        self._writer.cancel()
        message = reason.encode()[:_REASON_BYTES_MAX].decode(errors="ignore").encode()
        with contextlib.suppress(ConnectionError):
            await self.socket.close(code=code, message=message)

    async def end(self) -> None:
        """Let go of everything."""
        self._writer.cancel()
        await asyncio.wait([self._writer])
        if not self._writer.cancelled():
            self._writer.result()
        if self._closing is not None:
            await self._closing

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                frame = await self._queue.get()
                self._queued_bytes -= len(frame)
                await self.socket.send_bytes(frame)
                self._queue.task_done()
