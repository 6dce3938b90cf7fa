"""Who may hold a connection to one of our ports, and for how long without asking for anything.

Accepting is done here and not by `create_server`, which counts nobody before the TLS handshake is
over: a thousand strangers that never finish theirs would take all files of the process.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import cast

BACKLOG = 1024
ACCEPT_PAUSE_S = 0.1
"""Before accepting again when the process is out of files and nobody can be sent away."""
_logger = logging.getLogger(__name__)

Factory = Callable[[], asyncio.Protocol]


def _is_of_ours(line: logging.LogRecord) -> bool:
    """Whether a line is not of bytes that are no HTTP, which aiohttp logs with a traceback each."""
    error = line.exc_info[1] if line.exc_info else None
    return type(error).__module__ != "aiohttp.http_exceptions"


SERVER_LOGGER = logging.getLogger("aiohttp.server")
"""For aiohttp's servers: a stranger's garbage is no event, and must not fill a disk."""
SERVER_LOGGER.addFilter(_is_of_ours)


@dataclass(frozen=True, slots=True)
class GateLimits:
    """Bounds of one port.

    Attributes:
        count_max: Connections at once, those in their TLS handshake among them.
        address_count_max: Of them from one address; 0 for no such bound.
        head_s: From accept until the head of the first request is whole.
        body_bytes_max: Of the bodies under way, all together: they lie in memory before it is known
            whose they are.
    """

    count_max: int
    address_count_max: int = 0
    head_s: float = 10.0
    body_bytes_max: int = 32 << 20


class _Held:
    """One connection: a socket in its handshake, and a transport once that is over."""

    __slots__ = ("address", "sock", "timer", "transport")

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.sock = sock
        self.address = address
        self.transport: asyncio.Transport | None = None
        self.timer: asyncio.TimerHandle | None = None

    def end(self) -> None:
        """Close it at once, whatever it is doing."""
        if self.transport is not None:
            self.transport.abort()
        else:
            with suppress(OSError):  # the handshake then fails, and closes the socket
                self.sock.shutdown(socket.SHUT_RDWR)


class Gate:
    """Accepts the connections of one port and bounds them.

    A connection waits from its start until the head of a request has arrived, and again when that
    is answered. When all places are taken, whoever waits longest goes: so those who only hold
    places keep nobody out, and those who are being served are never cut off for a newcomer. When
    the bodies under way are too much together, the one with most of it goes.
    """

    def __init__(self, limits: GateLimits) -> None:
        self._limits = limits
        self._held: dict[_Held, None] = {}
        self._waiting: dict[_Held, None] = {}  # longest first
        self._reading: dict[_Held, int] = {}  # bytes of a body
        self._reading_bytes = 0
        self._by_transport: dict[object, _Held] = {}
        self._by_address: dict[str, int] = {}
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: list[asyncio.Task[None]] = []

    @property
    def count(self) -> int:
        """Connections held now."""
        return len(self._held)

    async def bind(self, host: str, port: int) -> int:
        """Bind, without accepting anybody yet; return the port, also when 0 was asked for.

        Raises:
            OSError: the address is taken, or not ours to bind.
        """
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        try:
            for family, address in dict.fromkeys((one[0], one[4]) for one in found):
                listener = socket.socket(family, socket.SOCK_STREAM)
                self._listeners.append(listener)
                listener.setblocking(False)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind(address)
                listener.listen(BACKLOG)
        except OSError:
            self._close_listeners()
            raise
        return int(self._listeners[0].getsockname()[1])

    def start(self, factory: Factory, context: ssl.SSLContext | None = None) -> None:
        """Accept connections and give each that gets through to a protocol of its own."""
        self._accepting = [
            asyncio.create_task(self._accept(one, factory, context), name="gate")
            for one in self._listeners
        ]

    def working(self, transport: object) -> None:
        """Note that the head of a request has arrived: this connection stays until it is served."""
        held = self._by_transport.get(transport)
        if held is not None:
            self._waiting.pop(held, None)
            _stop(held)

    def waiting(self, transport: object) -> None:
        """Note that a request is answered: from now on this connection may make room."""
        held = self._by_transport.get(transport)
        if held is not None:
            self._waiting[held] = None

    @contextmanager
    def reading(self, transport: object) -> Generator[None]:
        """Count what a connection sends in the block, in which the body of its request is read."""
        held = self._by_transport.get(transport)
        if held is None:
            yield
            return
        self._reading[held] = 0
        try:
            yield
        finally:
            self._reading_bytes -= self._reading.pop(held, 0)

    async def stop_listening(self) -> None:
        """Accept nobody any more; those who are here stay."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        self._accepting = []
        self._close_listeners()

    async def close(self) -> None:
        """Send away whoever is left."""
        for held in list(self._held):
            self._leave(held)
            held.end()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(
        self, listener: socket.socket, factory: Factory, context: ssl.SSLContext | None
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as error:
                _logger.debug("no connection accepted: %s", error)
                if not self._make_room(self._waiting):
                    await asyncio.sleep(ACCEPT_PAUSE_S)
            else:
                self._admit(sock, str(address[0]), factory, context)
            await asyncio.sleep(0)  # an accept that need not wait lets nobody else run

    def _admit(
        self, sock: socket.socket, address: str, factory: Factory, context: ssl.SSLContext | None
    ) -> None:
        limits = self._limits
        if 0 < limits.address_count_max <= self._by_address.get(address, 0):
            here = {held: None for held in self._waiting if held.address == address}
            if not self._make_room(here):
                sock.close()
                return
        if len(self._held) >= limits.count_max and not self._make_room(self._waiting):
            sock.close()
            return
        held = _Held(sock, address)
        self._held[held] = self._waiting[held] = None
        self._by_address[address] = self._by_address.get(address, 0) + 1
        loop = asyncio.get_running_loop()
        held.timer = loop.call_later(limits.head_s, held.end)
        task = asyncio.create_task(self._connect(held, factory, context), name="gate-handshake")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, held: _Held, factory: Factory, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        timeout_s = None if context is None else self._limits.head_s
        try:
            await loop.connect_accepted_socket(
                lambda: _Guarded(self, held, factory()), held.sock, ssl=context,
                ssl_handshake_timeout=timeout_s,
            )  # fmt: skip
        except OSError as error:  # of TLS too: a handshake that is none, or too slow
            _logger.debug("no handshake with %s: %s", held.address, error)
            self._leave(held)

    def _make_room(self, among: dict[_Held, None]) -> bool:
        """Send away the one of these that waits longest; whether there was one."""
        held = next(iter(among), None)
        if held is None:
            return False
        self._leave(held)
        held.end()
        return True

    def entered(self, held: _Held, transport: asyncio.Transport) -> None:
        """Note that a handshake is over."""
        held.transport = transport
        if held in self._held:
            self._by_transport[transport] = held
        else:
            transport.abort()  # it was sent away a moment ago

    def received(self, held: _Held, count: int) -> None:
        """Note that so many bytes came."""
        if held not in self._reading:
            return
        self._reading[held] += count
        self._reading_bytes += count
        while self._reading_bytes > self._limits.body_bytes_max:
            most = max(self._reading, key=self._reading.__getitem__)
            self._reading_bytes -= self._reading.pop(most)
            most.end()

    def left(self, held: _Held) -> None:
        """Note that a connection has ended."""
        self._leave(held)

    def _leave(self, held: _Held) -> None:
        if held not in self._held:
            return
        _stop(held)
        del self._held[held]
        self._waiting.pop(held, None)
        if held.transport is not None:
            self._by_transport.pop(held.transport, None)
        left = self._by_address[held.address] - 1
        if left:
            self._by_address[held.address] = left
        else:
            del self._by_address[held.address]

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []


def _stop(held: _Held) -> None:
    if held.timer is not None:
        held.timer.cancel()
        held.timer = None


class _Guarded(asyncio.Protocol):
    """Passes one connection's events to the protocol behind the gate."""

    def __init__(self, gate: Gate, held: _Held, inner: asyncio.Protocol) -> None:
        self._gate = gate
        self._held = held
        self._inner = inner
        self._pass_on = inner.data_received
        # Bound once: one step less each time.
        self.eof_received = inner.eof_received  # type: ignore[method-assign]
        self.pause_writing = inner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = inner.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(transport)
        self._gate.entered(self._held, cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        self._gate.received(self._held, len(data))
        self._pass_on(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gate.left(self._held)
        self._inner.connection_lost(exc)
