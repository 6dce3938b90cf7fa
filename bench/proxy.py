"""A loopback proxy between two nodes that counts the bytes it carries, whatever they say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager

HOST = "127.0.0.1"


class Proxy:
    """Where to connect instead of a node, and what went through since it was made.

    Attributes:
        port: Connections to it go on to the node.
        byte_count: Payload of TCP in both directions; headers are not in it.
        byte_count_in: Of those, what came in with connections and went on to the node.
        connection_count: Connections it was asked to carry.
    """

    def __init__(self) -> None:
        self.port = 0
        self.byte_count = 0
        self.byte_count_in = 0
        self.connection_count = 0
        self._ends: dict[asyncio.Transport, asyncio.Future[None]] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int) -> None:
        """Take connections, each for that port of this machine, from now on."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Entrance(self, port), HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Take no more, and end those there are."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        ends = dict(self._ends)
        for transport in ends:
            transport.abort()
        await asyncio.gather(*ends.values())

    def spawn(self, doing: Coroutine[None, None, None]) -> None:
        """Run something that `stop` ends."""
        task = asyncio.get_running_loop().create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def opened(self, transport: asyncio.Transport) -> None:
        """Take note of an end that `stop` has to close."""
        self._ends[transport] = asyncio.get_running_loop().create_future()

    def closed(self, transport: asyncio.Transport) -> None:
        """Take note that it is closed."""
        self._ends.pop(transport).set_result(None)


class _End(asyncio.Protocol):
    """One end of a connection; what it reads goes to the other end, no faster than that takes it.

    asyncio calls `pause_writing` when more than 64 KiB wait for an end: that bounds what is held.
    """

    def __init__(self, proxy: Proxy) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None
        self._proxy = proxy

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._proxy.opened(transport)

    def data_received(self, data: bytes) -> None:
        self._proxy.byte_count += len(data)
        assert self.other is not None
        assert self.other.transport is not None
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        assert self.transport is not None
        self._proxy.closed(self.transport)
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _Entrance(_End):
    """The end that a connection comes in at: nothing is read before there is another end."""

    def __init__(self, proxy: Proxy, port: int) -> None:
        super().__init__(proxy)
        self._port = port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._proxy.connection_count += 1
        self._proxy.spawn(self._connect(self.transport))

    def data_received(self, data: bytes) -> None:
        self._proxy.byte_count_in += len(data)
        super().data_received(data)

    async def _connect(self, transport: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        exit_ = _End(self._proxy)
        exit_.other = self
        try:
            await loop.create_connection(lambda: exit_, HOST, self._port)
        except OSError:
            transport.close()
            return
        self.other = exit_
        if transport.is_closing():  # it gave up meanwhile
            assert exit_.transport is not None
            exit_.transport.close()
        else:
            transport.resume_reading()


@asynccontextmanager
async def proxy(port: int) -> AsyncGenerator[Proxy, None]:
    """Carry connections to a port of this machine in the block."""
    found = Proxy()
    await found.start(port)
    try:
        yield found
    finally:
        await found.stop()
