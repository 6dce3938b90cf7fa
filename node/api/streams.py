"""Server-sent events: progress and changes, one JSON document an event."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from crdt import HansaError
from node.api.errors import TooMany
from node.api.operations import request_id_of
from node.api.problems import problem_document
from node.driver import Stopping

KEEP_ALIVE_S = 15.0
"""A comment this often keeps proxies from closing a silent stream (most wait 60 s)."""


class EventStream:
    """An open event stream; the client's leaving cancels the handler."""

    def __init__(self, response: web.StreamResponse) -> None:
        self.response = response

    async def send(self, event: str, data: Any) -> None:
        """Send one event; waits while the client reads slowly."""
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        await self.response.write(f"event: {event}\ndata: {text}\n\n".encode())


class Streams:
    """Opens event streams, a bounded number at once."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._open: set[asyncio.Task[Any]] = set()
        self._ending = False

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    @asynccontextmanager
    async def open(self, request: web.Request) -> AsyncGenerator[EventStream]:
        """Yield an event stream; an error of the block is sent as its last event, `error`.

        Raises:
            TooMany: the node's bound is reached.
        """
        if len(self._open) >= self._count_max:
            raise TooMany(f"{self._count_max} event streams are open; try again later")
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
                "Hansa-Request-Id": request_id_of(request),
            }
        )
        await response.prepare(request)
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        alive = asyncio.create_task(_keep_alive(response))
        stream = EventStream(response)
        try:
            yield stream
        except HansaError as error:
            await stream.send("error", _problem(error, request))
        except asyncio.CancelledError:
            if not self._ending:
                raise
            task.uncancel()
            await stream.send("error", _problem(Stopping("the node is stopping"), request))
        finally:
            alive.cancel()
            self._open.discard(task)
        await response.write_eof()

    def end_all(self) -> None:
        """End every open stream with a last word: the node stops, and one would wait for ever."""
        self._ending = True
        for task in self._open:
            task.cancel()


def _problem(error: HansaError, request: web.Request) -> dict[str, Any]:
    _status, document = problem_document(
        error, request_id=request_id_of(request), instance=request.path
    )
    return document


async def _keep_alive(response: web.StreamResponse) -> None:
    while True:
        await asyncio.sleep(KEEP_ALIVE_S)
        await response.write(b": keep-alive\n\n")
