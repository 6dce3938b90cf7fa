"""The provider's side of a call: a peer's order and ticket in, this node's engine's bytes out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiohttp import web

from crdt import HansaError, RemoteFault, WorldFault
from node.gateway.calls import ModelCall, Task, UsageWish, engine_body, parse_call
from node.gateway.errors import BadCall, EngineCut, EngineRefused, openai_error
from node.gateway.metering import Metering
from node.gateway.ports import Admitted, Engines, Payee
from node.gateway.upstream import PEER_PATH, EngineUpstream, Opened
from node.peer import caller_of

REQUEST_ID_CHARACTERS_MAX = 64
_EVERYTHING = UsageWish(final=True, every_event=True)


class Provider:
    """Serves peers' calls on this node's engines; its routes go on the peer port."""

    def __init__(self, *, payee: Payee, engines: Engines, upstream: EngineUpstream) -> None:
        self._payee = payee
        self._engines = engines
        self._upstream = upstream
        self._draining = False

    def routes(self) -> list[web.RouteDef]:
        """Return the routes for `PeerServer.add_routes`."""
        return [web.post(PEER_PATH + task.value, self._handler(task)) for task in Task]

    def drain(self) -> None:
        """Refuse new calls from now on; those that run go on."""
        self._draining = True

    def _handler(self, task: Task) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._serve(task, request)

        return handle

    async def _serve(self, task: Task, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if self._draining:
            return refusal(EngineRefused("this node is stopping; ask another"), status=503)
        try:
            call = replace(parse_call(task, body), usage=_EVERYTHING)
            admitted = self._payee.admit(caller_of(request), request.headers, request.path, body)
        except BadCall as error:
            return refusal(error)
        except RemoteFault as error:
            return refusal(error, status=402)
        except WorldFault as error:
            return refusal(error, status=503)
        metering = Metering(call, body)
        try:
            return await self._relayed(request, call, metering, admitted)
        finally:
            # However it ended, and also when it never began: what was set aside is released.
            self._payee.served(admitted, metering.measured())

    async def _relayed(
        self, request: web.Request, call: ModelCall, metering: Metering, admitted: Admitted
    ) -> web.StreamResponse:
        url = self._engines.engine_url(admitted.record)
        if url is None:
            return refusal(EngineRefused("this node does not serve that model now"), status=503)
        # The engine's name for the model, and usage in every event: whatever the peer asked.
        sent = engine_body(call, self._engines.engine_name(admitted.record))
        request_id = request.headers.get("Hansa-Request-Id", "")[:REQUEST_ID_CHARACTERS_MAX]
        try:
            async with self._upstream.open(
                url, call.task.value, sent, request_id=request_id
            ) as opened:
                return await _passed_on(request, opened, metering)
        except EngineRefused as error:
            return refusal(error, status=error.status)


async def _passed_on(
    request: web.Request, opened: Opened, metering: Metering
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": opened.content_type})
    try:
        await response.prepare(request)
        async for piece in metering.passed(opened):
            await response.write(piece)
        await response.write_eof()
    except EngineCut:
        # The status is long sent: a connection that ends early is how the consumer knows.
        if request.transport is not None:
            request.transport.abort()
    return response


def refusal(error: HansaError, *, status: int | None = None) -> web.Response:
    """Return an error as an OpenAI client reads it."""
    found, body = openai_error(error)
    return web.json_response(body, status=status or found)
