"""Links between nodes on one machine that can be cut: TCP relays on loopback, in a thread.

A node that dials a link reaches its target through it. A cut link is silent, as a cable that is
pulled: what arrives is not read on, nothing is closed, and new connections are taken and get no
answer. When it is mended, what was on its way arrives, unless the nodes have given it up.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any

READ_BYTES = 64 * 1024
"""At most on its way in each direction of a connection, beside the kernel's buffers."""
DIAL_S_MAX = 5.0


class Link:
    """One relay: where it listens, whom it reaches, whether it carries anything now."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.open = asyncio.Event()
        self.open.set()
        self.carried_bytes = 0
        self._target_port = target_port
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close every connection."""
        assert self._server is not None
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            await self.open.wait()
            async with asyncio.timeout(DIAL_S_MAX):
                far, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            writers.append(far_writer)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, far_writer))
                both.create_task(self._pump(far, writer))
        except* (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the target is down, or an end went away: the other end is told by a close
        finally:
            for one in writers:
                one.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes until the end of it, which ends both directions."""
        while True:
            await self.open.wait()
            data = await reader.read(READ_BYTES)
            await self.open.wait()
            if not data:
                raise ConnectionResetError("an end closed")
            writer.write(data)
            await writer.drain()
            self.carried_bytes += len(data)


class Links:
    """All links of a swarm; use as a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._links: dict[tuple[str, str], Link] = {}

    def __enter__(self) -> Links:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for link in self._links.values():
            with suppress(TimeoutError):
                self._do(link.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def add(self, source: str, target: str, target_port: int) -> int:
        """Make a link and return the port by which `source` reaches `target`."""

        async def make() -> Link:
            link = Link(target_port)
            await link.start()
            return link

        link = self._links[source, target] = self._do(make())
        return link.port

    def part(self, side: Iterable[str]) -> int:
        """Cut the links between these nodes and all others; return how many."""
        inside = set(side)
        cut = [link for (a, b), link in self._links.items() if (a in inside) != (b in inside)]
        for link in cut:
            self._loop.call_soon_threadsafe(link.open.clear)
        return len(cut)

    def heal(self) -> None:
        """Mend every link."""
        for link in self._links.values():
            self._loop.call_soon_threadsafe(link.open.set)

    @property
    def carried_bytes(self) -> int:
        """All that links have carried so far."""
        return sum(link.carried_bytes for link in self._links.values())

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)
