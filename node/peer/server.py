"""The node's HTTPS port for peers: TLS 1.3 under the node key, and a grant on every request.

Other parts add routes. Before a handler runs, its caller is known, the body was read within its
bounds, and the grant was taken; `caller_of` says who asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler

from crdt import NetworkId, PeerId
from node.gate import SERVER_LOGGER, Gate, GateLimits
from node.peer.errors import GrantRefused, GrantReplayed, PeerPortInUse
from node.peer.grants import HEADER, GrantVerifier
from node.peer.identity import NodeKey, PeerEndpoint

_CALLER = web.RequestKey("hansa_caller", str)


LAST_WORDS_S = 0.5
"""For what is written but not sent when the last request has ended."""


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """Bounds of the peer port.

    Attributes:
        body_bytes_max: A chat request with long context and images is under this.
        body_s: A body has this long to arrive whole.
        connection_count_max: When so many are open, a newcomer takes the place of the one that has
            asked nothing for longest.
        connection_count_per_address_max: The same, among those of one address.
        header_s: A new connection has this long for its handshake and first request head.
        idle_s: A connection that asks nothing for this long is closed.
    """

    connection_count_max: int = 512
    connection_count_per_address_max: int = 64
    body_bytes_max: int = 10 * 1024 * 1024
    body_s: float = 30.0
    header_s: float = 10.0
    idle_s: float = 75.0


def caller_of(request: web.Request) -> PeerId:
    """Return the peer whose grant admitted this request."""
    return PeerId(request[_CALLER])


def _clock_s() -> int:
    return int(time.time())  # noqa: TID251 - this edge owns the clock of the peer port


class PeerServer:
    """Listens for peers. Routes are added before `start`.

    Args:
        admit: Whether a peer may call at all; bans are decided elsewhere.
        now_s: Unix time, for the expiry of grants.
    """

    def __init__(
        self,
        key: NodeKey,
        network: NetworkId,
        host: str,
        port: int,
        *,
        limits: PeerLimits | None = None,
        admit: Callable[[PeerId], bool] = lambda _peer: True,
        now_s: Callable[[], int] = _clock_s,
    ) -> None:
        self._key = key
        self._host = host
        self._port = port
        self._limits = limits or PeerLimits()
        self._admit = admit
        self._now_s = now_s
        self._grants = GrantVerifier(network, key.public)
        self._gate = Gate(
            GateLimits(
                self._limits.connection_count_max,
                self._limits.connection_count_per_address_max,
                self._limits.header_s,
            )
        )
        self._app = web.Application(
            middlewares=[self._counted], client_max_size=self._limits.body_bytes_max
        )
        self._open_count = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port in use: the bound one after `start`, also when 0 was asked for."""
        return self._port

    def add_routes(self, routes: Iterable[web.AbstractRouteDef]) -> None:
        """Serve these routes; their paths start with `/peer/`."""
        assert self._runner is None, "add routes before start()"
        self._app.add_routes(list(routes))

    def endpoint(self, host: str) -> PeerEndpoint:
        """Return what an advert says of this server when peers reach it at `host`."""
        return PeerEndpoint(self._key.peer, host, self._port, self._key.certificate_sha256)

    async def start(self) -> None:
        """Bind and listen.

        Raises:
            PeerPortInUse: the port is taken.
        """
        assert self._runner is None
        runner = web.AppRunner(
            self._app,
            access_log=None,
            logger=SERVER_LOGGER,
            auto_decompress=False,  # a compressed body could be a bomb; no peer of ours sends one
            handler_cancellation=True,
            keepalive_timeout=self._limits.idle_s,
            max_line_size=4096,
            max_field_size=8192,
        )
        await runner.setup()
        server = runner.server
        assert server is not None
        try:
            self._port = await self._gate.bind(self._host, self._port)
        except OSError as error:
            await runner.cleanup()
            if error.errno == errno.EADDRINUSE:
                raise PeerPortInUse(self._host, self._port) from error
            raise
        self._gate.start(server, self._key.server_context())
        self._runner = runner

    async def stop(self, *, grace_s: float = 5.0) -> None:
        """Stop listening, let running answers end for `grace_s`, then close everything."""
        if self._runner is None:
            return
        self._stopping = True
        await self._gate.stop_listening()
        # aiohttp is told of the end only when no request is open: from then on it drops what
        # arrives, also the rest of a body under way.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        server = self._runner.server
        if server is not None:
            server.pre_shutdown()
            await server.shutdown(LAST_WORDS_S)
        await self._runner.cleanup()
        await self._gate.close()
        self._runner = None

    @web.middleware
    async def _counted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._stopping:
            return _refusal(503, "stopping", "this node is stopping; ask another")
        self._open_count += 1
        self._idle.clear()
        self._gate.working(request.transport)
        try:
            return await self._authenticate(request, handler)
        finally:
            self._gate.waiting(request.transport)
            self._open_count -= 1
            if not self._open_count:
                self._idle.set()

    async def _authenticate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            with self._gate.reading(request.transport):
                async with asyncio.timeout(self._limits.body_s):
                    body = await request.read()
        except TimeoutError:
            return _refusal(408, "request-timeout", "the request body did not arrive in time")
        purpose = f"{request.method} {request.raw_path}"
        try:
            caller = self._grants.check(
                request.headers.get(HEADER), purpose, body, now_s=self._now_s()
            )
        except GrantReplayed as error:
            return _refusal(401, error.code, str(error))
        except GrantRefused as error:
            return _refusal(401, error.code, str(error))
        if not self._admit(caller):
            return _refusal(403, "peer-banned", f"peer {caller} is not admitted here for now")
        request[_CALLER] = caller
        return await handler(request)


def _refusal(status: int, code: str, detail: str) -> web.Response:
    return web.json_response({"status": status, "code": code, "detail": detail}, status=status)
