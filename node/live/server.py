"""The WebSocket port on 127.0.0.1 that stock Yjs editors connect to."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, cast

from aiohttp import WSCloseCode, WSMsgType, web

from node.gate import SERVER_LOGGER, Gate, GateLimits
from node.live.admission import Admission, make_room
from node.live.connections import Connection
from node.live.errors import LiveCannotListen, LivePortInUse, SessionBroken, UpdateRefused
from node.live.pace import Pace, PaceLimits
from node.live.publishing import Publisher
from node.live.session import CardText, Session

HOST = "127.0.0.1"
"""Nowhere else: whoever connects writes with the user's key."""

CLOSE_REFUSED = 4400
"""y-websocket does not come back after 4400 to 4499: coming back would not help."""

CLOSE_OVER = 4410

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """Bounds of one session.

    Attributes:
        publish_s: At most one signed operation in this time; 0.15 to 0.3 feels live.
        editor_count_max: Windows of one person; each gets every keystroke of every other.
        socket_count_max: Connections in any state; beyond that a newcomer takes the place of the
            one that has asked for nothing for longest.
        head_s: A new connection has this long to ask for the room.
        message_bytes_max: Of one message. A card's whole text is below.
        queue_bytes_max: What an editor may leave unread before it is cut off; it syncs again.
        drain_s: How long the end of a session waits for what editors are about to send.
        heartbeat_s: An editor that does not answer a ping of this interval is gone.
    """

    publish_s: float = 0.2
    editor_count_max: int = 16
    socket_count_max: int = 64
    head_s: float = 10.0
    message_bytes_max: int = 256 * 1024
    queue_bytes_max: int = 8 * 1024 * 1024
    drain_s: float = 1.0
    heartbeat_s: float = 20.0
    pace: PaceLimits = field(default_factory=PaceLimits)


class LiveServer:
    """Serves one card to editors for as long as it is entered.

    Leaving it takes in what editors are about to send, publishes everything, and raises if that
    fails.

    Args:
        port: 0 for any free one.
        name: The readable part of the room's name: letters, digits, `.`, `_` and `-`.
        root: The name of the Yjs text that editors bind to.
        origins: Origins of pages elsewhere that may edit.
        notice: Called with a line for the person who edits.
    """

    def __init__(
        self,
        card: CardText,
        port: int = 0,
        *,
        name: str = "card",
        root: str = "text",
        origins: Iterable[str] = (),
        limits: LiveLimits | None = None,
        notice: Callable[[str], None] = _logger.warning,
    ) -> None:
        self._limits = limits or LiveLimits()
        self._port = port
        self._origins = tuple(origins)
        self._notice = notice
        self._room = make_room(name)
        self._card = card
        self._root = root
        self._connections: set[Connection] = set()
        self._seat_count = 0
        self._answered = asyncio.Event()
        self._stopping = asyncio.Event()

    @property
    def url(self) -> str:
        """The address for y-websocket's first argument."""
        return f"ws://{HOST}:{self._port}"

    @property
    def room(self) -> str:
        """The room for y-websocket's second argument. It is a secret."""
        return self._room

    @property
    def port(self) -> int:
        """The port in use."""
        return self._port

    @property
    def editor_count(self) -> int:
        """How many editors are connected."""
        return self._session.editor_count

    @property
    def text(self) -> str:
        """What the editors show."""
        return self._session.text

    def publish_now(self) -> None:
        """Publish what waits without a pause: what stood in the way is gone."""
        self._publisher.hurry()

    async def wait(self) -> None:
        """Wait for a session that cannot go on; without trouble, for ever.

        Raises:
            SessionBroken: it cannot; the card has every edit that was taken.
        """
        await asyncio.shield(self._broken)

    async def __aenter__(self) -> Self:
        """Bind and listen.

        Raises:
            LivePortInUse, LiveCannotListen: the port is taken, or not for us.
        """
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        app = web.Application()
        app.router.add_get("/{room}", self._edit)
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=SERVER_LOGGER,
            shutdown_timeout=self._limits.drain_s,
            max_line_size=4096,
            max_field_size=8192,
        )
        await runner.setup()
        self._runner = runner
        try:
            await self._bind()
        except OSError as error:
            await runner.cleanup()
            if error.errno == errno.EADDRINUSE:
                raise LivePortInUse(HOST, self._port) from error
            raise LiveCannotListen(HOST, self._port, os.strerror(error.errno or 0)) from error
        try:
            self._open()
            server = runner.server
            assert server is not None
            self._gate.start(server)
        except BaseException:
            await self._gate.stop_listening()
            await runner.cleanup()
            await self._gate.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take in, publish, close.

        Raises:
            WorldFault, UserFault: what was typed could not be published.
        """
        self._stopping.set()
        await self._gate.stop_listening()
        try:
            await self._drain()
            await self._close_all()
            self._session.close()
        finally:
            try:
                await self._publisher.stop()
            finally:
                await self._runner.cleanup()
                await self._gate.close()
                if self._broken.done():
                    self._broken.exception()  # whoever did not wait for it has the log

    async def _bind(self) -> None:
        self._gate = Gate(GateLimits(self._limits.socket_count_max, head_s=self._limits.head_s))
        self._port = await self._gate.bind(HOST, self._port)
        self._admission = Admission(self._room, port=self._port, origins=self._origins)

    def _open(self) -> None:
        """Begin to mirror and to publish."""
        self._publisher = Publisher(
            self._card, interval_s=self._limits.publish_s, notice=self._notice
        )
        self._session = Session(
            self._card,
            root=self._root,
            client=secrets.randbits(32),
            edited=self._publisher.edited,
            notice=self._notice,
            broken=self._on_broken,
        )
        self._publisher.start().add_done_callback(self._on_publisher_end)

    def _on_publisher_end(self, task: asyncio.Task[None]) -> None:
        """Typing on while nothing is published any more would be the worst of ends."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._broken.done():
            self._broken.set_exception(error)

    def _on_broken(self, fault: SessionBroken) -> None:
        if not self._broken.done():
            self._notice(str(fault))
            self._broken.set_exception(fault)
        self._answered.set()

    async def _drain(self) -> None:
        """Take in what is on its way: an editor's answer comes behind all that it sent."""
        if self._broken.done():
            return
        self._session.ask_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.drain_s):
                while self._session.waits_for_answers and not self._broken.done():
                    self._answered.clear()
                    await self._answered.wait()

    async def _close_all(self) -> None:
        connections = list(self._connections)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.drain_s):
                await asyncio.gather(*(connection.flush() for connection in connections))
        over = "this live session is over"
        await asyncio.gather(*(connection.close(CLOSE_OVER, over) for connection in connections))

    async def _edit(self, request: web.Request) -> web.StreamResponse:
        refusal = self._admission.refusal(
            host=request.headers.get("Host"),
            origin=request.headers.get("Origin"),
            room=request.match_info["room"],
        )
        if refusal is not None:
            return _refusal(403, refusal)
        if self._stopping.is_set():
            return _refusal(503, "this live session is over")
        if self._seat_count >= self._limits.editor_count_max:
            return _refusal(503, f"{self._seat_count} editors are connected; close one")
        socket = web.WebSocketResponse(
            compress=False,  # a few bytes could unfold to a great many
            heartbeat=self._limits.heartbeat_s,
            max_msg_size=self._limits.message_bytes_max,
            timeout=self._limits.drain_s,
        )
        if not socket.can_prepare(request):
            return _refusal(426, "this is a WebSocket for Yjs editors")
        self._seat_count += 1
        self._gate.working(request.transport)
        try:
            await socket.prepare(request)
            if self._stopping.is_set():
                await socket.close(code=CLOSE_OVER)
            else:
                await self._serve(Connection(socket, queue_bytes_max=self._limits.queue_bytes_max))
        finally:
            self._seat_count -= 1
        return socket

    async def _serve(self, connection: Connection) -> None:
        """Be an editor's other end until it leaves."""
        self._connections.add(connection)
        self._session.join(connection)
        try:
            await self._converse(connection)
        except UpdateRefused as fault:
            self._notice(f"an editor was disconnected: {fault}")
            await connection.close(CLOSE_REFUSED, str(fault))
        except SessionBroken as fault:
            self._on_broken(fault)
            await connection.close(CLOSE_OVER, str(fault))
        finally:
            self._connections.discard(connection)
            self._session.leave(connection)
            self._answered.set()
            await connection.end()

    async def _converse(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        pace = Pace(self._limits.pace, now_s=loop.time())
        async for message in connection.socket:
            if message.type is not WSMsgType.BINARY:
                raise UpdateRefused("Yjs speaks in binary messages, and a text message came")
            raw = cast("bytes", message.data)
            if self._broken.done():
                return
            self._session.receive(connection, raw)
            self._answered.set()
            # Not read meanwhile, so the sender is held up, and nobody else.
            await asyncio.sleep(pace.take(len(raw), now_s=loop.time()))
            if pace.is_flood:
                self._notice("an editor was disconnected: it sends without end")
                await connection.close(WSCloseCode.POLICY_VIOLATION, "too many messages")


def _refusal(status: int, detail: str) -> web.Response:
    response = web.Response(status=status, text=detail + "\n")
    response.force_close()
    return response
