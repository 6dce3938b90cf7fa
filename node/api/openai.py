"""The OpenAI dialect over this node: chat completions, completions and embeddings.

`GET /v1/models` is the registry's listing, which carries the same models in OpenAI's shape too.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web

from crdt import HansaError
from inference import Route
from node.gateway import BadCall, Consumer, EngineCut, EngineRefused, Task
from node.gateway.calls import CALL_BYTES_MAX, ModelCall, parse_call
from node.gateway.consumer import Answer
from node.gateway.errors import openai_error

Authenticate = Callable[[web.Request], Awaitable[object]]
"""Raises one of our errors when the caller may not call models."""
ROUTE_HEADER = "Hansa-Route"
CONSIDERED_COUNT_MAX = 5
"""Alternatives named in the route header; a header is not the place for all of them."""


class OpenAIRoutes:
    """Handlers for model calls, for programs that know OpenAI's client and nothing of Hansa."""

    def __init__(self, consumer: Consumer, authenticate: Authenticate) -> None:
        self._consumer = consumer
        self._authenticate = authenticate
        self._draining = False

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, under `/v1` and bare."""
        return [
            route
            for prefix in ("/v1", "")
            for route in (
                web.post(f"{prefix}/chat/completions", self.chat),
                web.post(f"{prefix}/completions", self.completions),
                web.post(f"{prefix}/embeddings", self.embeddings),
                web.post(f"{prefix}/route/explain", self.explain),
            )
        ]

    def drain(self) -> None:
        """Refuse new calls from now on; those that run go on."""
        self._draining = True

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer a chat, streaming or not."""
        return await self._call(Task.CHAT, request)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        """Complete a prompt, streaming or not."""
        return await self._call(Task.COMPLETIONS, request)

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        """Embed texts."""
        return await self._call(Task.EMBEDDINGS, request)

    async def explain(self, request: web.Request) -> web.StreamResponse:
        """Return the route that a chat call with this body would take, with every term."""
        await self._authenticate(request)
        try:
            route = self._consumer.explain(parse_call(Task.CHAT, await request.read()))
        except HansaError as error:
            return _refused(error)
        return web.json_response(route_document(route, attempts=0, considered_max=1000))

    async def _call(self, task: Task, request: web.Request) -> web.StreamResponse:
        await self._authenticate(request)
        if self._draining:
            return _refused(EngineRefused("this node is stopping; ask another"))
        request_id = str(request.get("request_id") or secrets.token_hex(8))
        try:
            call = parse_call(task, await _body(request))
            async with self._consumer.answer(call, request_id=request_id) as answer:
                return await _passed_on(request, call, answer)
        except EngineRefused as error:
            if error.fatal and error.body:
                return web.Response(
                    body=error.body, status=error.status, content_type="application/json"
                )
            return _refused(error)
        except StreamCut as cut:
            return cut.response
        except HansaError as error:
            return _refused(error)


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) > CALL_BYTES_MAX:
        raise BadCall(f"the body has {request.content_length} bytes; at most {CALL_BYTES_MAX}")
    return await request.read()


async def _passed_on(request: web.Request, call: ModelCall, answer: Answer) -> web.StreamResponse:
    route = json.dumps(route_document(answer.route, attempts=answer.attempts))
    headers = {"Content-Type": answer.content_type, ROUTE_HEADER: route}
    if not call.stream:
        whole = b"".join([piece async for piece in answer.pieces])
        return web.Response(body=whole, headers=headers)
    response = web.StreamResponse(headers={**headers, "Cache-Control": "no-store"})
    await response.prepare(request)
    try:
        async for piece in answer.pieces:
            await response.write(piece)
    except EngineCut as error:
        # The stream has begun, so the error is its last event, and no [DONE] follows it.
        _status, body = openai_error(error)
        await response.write(b"data: " + json.dumps(body).encode() + b"\n\n")
        await response.write_eof()
        raise StreamCut(response) from error
    await response.write_eof()
    return response


class StreamCut(EngineCut):
    """A stream that broke off after its client was told so inside it: the host's failure."""

    def __init__(self, response: web.StreamResponse) -> None:
        super().__init__("the stream broke off")
        self.response = response


def route_document(
    route: Route, *, attempts: int, considered_max: int = CONSIDERED_COUNT_MAX
) -> dict[str, object]:
    """Return a route as JSON: who serves the call, under which terms, and who was passed over."""
    offer = route.offer
    return {
        "peer": route.peer,
        "record": offer.record.hex(),
        "version": offer.version.hex(),
        "build": route.manifest.hex(),
        "engine": offer.engine,
        "device": offer.device,
        "quantization": offer.quantization,
        "attempts": attempts,
        "score_ms": round(route.score_ms, 3),
        "terms": {term.name: round(term.value, 3) for term in route.terms},
        "considered": [
            {"peer": one.candidate.peer, "score_ms": round(one.score_ms, 3)}
            for one in route.considered[:considered_max]
        ],
        "refused": [
            {"peer": one.peer, "reason": one.reason} for one in route.refused[:considered_max]
        ],
    }


def _refused(error: HansaError) -> web.Response:
    status, body = openai_error(error)
    return web.json_response(body, status=status)
