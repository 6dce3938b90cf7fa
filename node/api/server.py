"""The HTTP server: one middleware that names, bounds, admits, measures and explains requests.

Handlers declare what they need with `@operation`; here that is enforced, so that a handler starts
with a body within its bound and a caller who may call. Whatever goes wrong is answered as
`application/problem+json`, or in OpenAI's shape on the routes of that dialect.
"""

from __future__ import annotations

import asyncio
import errno
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import structlog
from aiohttp import web

from crdt import HansaError, WorldFault
from node.api.bodies import DEPTH_MAX
from node.api.errors import (
    BadRequest,
    BodyTimeout,
    BodyTooLarge,
    MethodNotAllowed,
    NotFound,
    WrongContentType,
)
from node.api.guard import Guard
from node.api.operations import REQUEST_ID, Auth, Operation, operation_of
from node.api.problems import CONTENT_TYPE, problem_document
from node.driver import Stopping
from node.gate import SERVER_LOGGER, Gate, GateLimits
from node.metrics import Metrics

MIB = 1 << 20
FIELD_BYTES_MAX = 16 * 1024
"""One header with its name: a signed operation travels in one."""
REQUEST_ID_HEADER = "Hansa-Request-Id"
REQUEST_ID_SHAPE = re.compile(r"[A-Za-z0-9_-]{8,64}")
LAST_WORDS_S = 0.5
"""After the grace, or when all calls have ended, for what is in the sockets."""
UNDECLARED = Operation(summary="", description="", tag="")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
"""A page elsewhere must not frame the documentation, nor a browser guess at our JSON's type.
No CORS header: programs in browsers of other origins are not let in by accident."""
logger = structlog.stdlib.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PortInUse(WorldFault):
    """The API's port is taken."""

    code = "port-in-use"


class CannotListen(WorldFault):
    """The API's address cannot be bound."""

    code = "cannot-listen"


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """Bounds of the API.

    Attributes:
        body_bytes_max: Of JSON bodies; a route may declare another bound.
        body_bytes_top: The greatest bound of any route.
        json_depth_max: Deepest nesting of a JSON body.
        body_s: A body has this long to arrive whole.
        idle_s: Idle connections are closed after this.
        connection_count_max: When so many are open, a newcomer takes the place of the one that has
            asked nothing for longest.
        head_s: A new connection has this long until the head of its first request is whole.
    """

    body_bytes_max: int = MIB
    body_bytes_top: int = 64 * MIB
    json_depth_max: int = 32
    body_s: float = 30.0
    idle_s: float = 75.0
    connection_count_max: int = 512
    head_s: float = 10.0


class ApiServer:
    """Serves the routes that are added before `start`."""

    def __init__(
        self, host: str, port: int, guard: Guard, metrics: Metrics, limits: ApiLimits
    ) -> None:
        self._host = host
        self._port = port
        self._guard = guard
        self._metrics = metrics
        self._limits = limits
        # Only a ceiling: each route's own bound is set on its request.
        self._app = web.Application(
            middlewares=[self._around], client_max_size=limits.body_bytes_top
        )
        self._gate = Gate(GateLimits(limits.connection_count_max, head_s=limits.head_s))
        self._runner: web.AppRunner | None = None
        self._stopping = False
        self._open_count = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.routes: list[web.RouteDef] = []

    @property
    def port(self) -> int:
        """The port in use: the bound one after `start`, also when 0 was asked for."""
        return self._port

    @property
    def url(self) -> str:
        """Where the API answers, as a person on this machine would type it."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{self._port}"

    def add_routes(self, routes: Iterable[web.RouteDef]) -> None:
        """Serve these routes."""
        assert self._runner is None, "add routes before start()"
        added = list(routes)
        self.routes += added
        self._app.add_routes(added)

    async def start(self) -> None:
        """Bind and listen.

        Raises:
            PortInUse, CannotListen: naming the setting to change.
        """
        runner = web.AppRunner(
            self._app,
            access_log=None,
            logger=SERVER_LOGGER,
            auto_decompress=False,  # a compressed body could be a bomb; none is needed
            handler_cancellation=True,
            keepalive_timeout=self._limits.idle_s,
            max_line_size=8190,
            max_field_size=FIELD_BYTES_MAX,
        )
        await runner.setup()
        server = runner.server
        assert server is not None
        try:
            self._port = await self._gate.bind(self._host, self._port)
        except OSError as error:
            await runner.cleanup()
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(
                    f"port {self._port} on {self._host} is in use; "
                    "set api.port (HANSA_API__PORT) to a free one"
                ) from error
            raise CannotListen(
                f"{self._host} port {self._port} cannot be bound ({error.strerror}); "
                "set api.host and api.port"
            ) from error
        self._gate.start(server)
        self._runner = runner

    async def stop(self, *, grace_s: float) -> None:
        """Stop listening, let running calls end for `grace_s`, then close everything.

        Requests that still come over open connections are refused. aiohttp is told of the end only
        after that: from then on it drops what arrives, also the rest of a body under way.
        """
        if self._runner is None:
            return
        self._stopping = True
        await self._gate.stop_listening()
        with suppress(TimeoutError):
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
    async def _around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        declared = operation_of(request.match_info.handler) or UNDECLARED
        route = _route_of(request)
        request_id = _request_id(request)
        request[REQUEST_ID] = request_id
        request[DEPTH_MAX] = self._limits.json_depth_max
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started = time.perf_counter()
        self._metrics.open_requests.inc()
        self._open_count += 1
        self._idle.clear()
        self._gate.working(request.transport)
        status = 499  # what proxies log for a client that left
        try:
            response = await self._answer(request, handler, declared)
            status = response.status
        finally:
            seconds = time.perf_counter() - started
            self._gate.waiting(request.transport)
            self._metrics.open_requests.dec()
            self._open_count -= 1
            if not self._open_count:
                self._idle.set()
            self._metrics.requests.labels(request.method, route, str(status)).inc()
            self._metrics.latency.labels(route).observe(seconds)
            logger.debug(
                "request", method=request.method, route=route, status=status,
                ms=round(seconds * 1000, 1),
            )  # fmt: skip
            structlog.contextvars.unbind_contextvars("request_id")
        return response

    async def _answer(
        self, request: web.Request, handler: Handler, declared: Operation
    ) -> web.StreamResponse:
        try:
            response = await self._handle(request, handler, declared)
        except (HansaError, web.HTTPException) as error:
            return _refusal(request, _ours(request, error), declared)
        except (asyncio.CancelledError, ConnectionResetError):
            raise
        except Exception as error:
            logger.exception("a handler failed", path=request.path)
            return _refusal(request, error, declared)
        if not response.prepared:
            response.headers.update(HEADERS)
            response.headers[REQUEST_ID_HEADER] = request[REQUEST_ID]
        return response

    async def _handle(
        self, request: web.Request, handler: Handler, declared: Operation
    ) -> web.StreamResponse:
        if self._stopping:
            raise Stopping("the node is stopping; ask another one, or later")
        if request.match_info.http_exception is not None:
            return await handler(request)  # raises 404 or 405, before any body is read
        body = b""
        if request.body_exists and not declared.reads_body:
            request, body = await self._bounded(request, declared)
        self._guard.admit(request, declared.auth, body)
        return await handler(request)

    async def _bounded(
        self, request: web.Request, declared: Operation
    ) -> tuple[web.Request, bytes]:
        """Return the request with its body read, within the route's bound and in time."""
        bytes_max = declared.body_bytes_max or self._limits.body_bytes_max
        if (request.content_length or 0) > bytes_max:
            raise BodyTooLarge(bytes_max)
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise WrongContentType("a body is sent as it is, without Content-Encoding")
        kinds = declared.request_types
        if declared.request is not None and request.content_type not in kinds:
            raise WrongContentType(
                f"the body is {request.content_type}; this path takes {' or '.join(kinds)}"
            )
        if request.content_length is None:  # chunked: the length is known at its end
            request = request.clone(client_max_size=bytes_max)
        try:
            with self._gate.reading(request.transport):
                async with asyncio.timeout(self._limits.body_s):
                    return request, await request.read()
        except TimeoutError as error:
            raise BodyTimeout(f"the body did not arrive in {self._limits.body_s:g} s") from error
        except web.HTTPRequestEntityTooLarge as error:
            raise BodyTooLarge(bytes_max) from error
        except web.RequestPayloadError as error:
            raise BadRequest(f"the body is cut or malformed: {error}") from error


def _ours(request: web.Request, error: HansaError | web.HTTPException) -> HansaError:
    """Return aiohttp's own refusals as ours."""
    if isinstance(error, HansaError):
        return error
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return MethodNotAllowed(f"{request.path} takes {allowed}, not {request.method}")
    if isinstance(error, web.HTTPNotFound):
        return NotFound(f"there is no path {request.path[:200]}; /docs lists them")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return BodyTooLarge(MIB)
    return BadRequest(error.reason)


def _refusal(request: web.Request, error: Exception, declared: Operation) -> web.Response:
    status, document = problem_document(
        error, request_id=request[REQUEST_ID], instance=request.path[:200]
    )
    headers = {**HEADERS, REQUEST_ID_HEADER: request[REQUEST_ID]}
    if status == 401:
        headers["WWW-Authenticate"] = "Hansa" if declared.auth is Auth.CREATOR else "Bearer"
    if status == 413 or isinstance(error, Stopping):
        headers["Connection"] = "close"  # the rest of the body is not read
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = str(error).partition(" takes ")[2].partition(", not ")[0]
    extra = getattr(error, "extra", None)
    if isinstance(extra, dict):
        document.update(cast("dict[str, object]", extra))
    content_type = CONTENT_TYPE
    if declared.auth is Auth.API_KEY or _is_openai(request.path):
        kind = "invalid_request_error" if status < 500 else "server_error"
        document = {
            "error": {
                "message": document["detail"],
                "type": "authentication_error" if status == 401 else kind,
                "param": None,
                "code": document["code"],
            }
        }
        content_type = "application/json"
    return web.Response(
        status=status,
        text=json.dumps(document),  # ASCII: what is quoted may hold halves of characters
        content_type=content_type,
        headers=headers,
    )


def _is_openai(path: str) -> bool:
    return path.removeprefix("/v1").startswith(("/chat/", "/completions", "/embeddings"))


def _route_of(request: web.Request) -> str:
    """Return the declared path (`/v1/models/{id}`), so that metrics have few labels."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "(none)"


def _request_id(request: web.Request) -> str:
    given = request.headers.get(REQUEST_ID_HEADER, "")
    return given if REQUEST_ID_SHAPE.fullmatch(given) else secrets.token_hex(8)
