"""The OpenAI dialect over this node: chat completions, completions and embeddings.

`GET /v1/models` is the registry's listing, which carries the same models in OpenAI's shape too.
"""

from __future__ import annotations

import json
import secrets
from typing import Any, TypedDict

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from inference import Route
from node.api.operations import REQUEST_ID, Auth, operation
from node.gateway import Consumer, EngineCut, EngineRefused, Task
from node.gateway.calls import CALL_BYTES_MAX, ModelCall, parse_call
from node.gateway.consumer import Answer
from node.gateway.errors import openai_error

ROUTE_HEADER = "Hansa-Route"
CONSIDERED_COUNT_MAX = 5
"""Alternatives named in the route header; a header is not the place for all of them."""


class ModelCallBody(BaseModel):
    """A call in OpenAI's dialect; members that are not named here go to the engine as they are."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)
    model: str
    """An id, `owner/slug`, `owner/slug@^1.2`, or a requirement such as `any:llm?caps=tools`."""
    stream: bool = False
    hansa: dict[str, Any] | None = None
    """Wishes for routing: `price_input_max`, `price_output_max`, `regions`, `quantizations`."""


class ModelAnswer(BaseModel):
    """The engine's answer as it gave it, in OpenAI's shape."""

    model_config = ConfigDict(extra="allow")
    object: str


class RouteView(BaseModel):
    """Who serves a call, under which terms, and who was passed over."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)
    peer: str
    record: str
    version: str
    build: str
    engine: str
    device: str
    quantization: str
    attempts: int
    score_ms: float
    """Expected milliseconds, with the price turned into time; lower is better."""
    terms: dict[str, float]
    considered: list[dict[str, Any]]
    refused: list[dict[str, Any]]


class _Declared(TypedDict):
    tag: str
    auth: Auth
    request: type[BaseModel]
    responses: dict[int, type[BaseModel] | str | None]
    errors: tuple[int, ...]
    body_bytes_max: int


_CALL: _Declared = {
    "tag": "calls",
    "auth": Auth.API_KEY,
    "request": ModelCallBody,
    "responses": {200: ModelAnswer},
    "errors": (400, 404, 502, 503),
    "body_bytes_max": CALL_BYTES_MAX,
}


class OpenAIRoutes:
    """Handlers for model calls, for programs that know OpenAI's client and nothing of Hansa."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
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

    @operation(summary="Chat with a model", **_CALL)
    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer a chat in OpenAI's dialect, streaming or not, by whichever peer serves it best.

        `model` is an id, `owner/slug`, `owner/slug@^1.2` or `any:llm?caps=tools`. The header
        `Hansa-Route` of the answer says who served it and why.
        """
        return await self._call(Task.CHAT, request)

    @operation(summary="Complete a prompt", **_CALL)
    async def completions(self, request: web.Request) -> web.StreamResponse:
        """Complete a prompt in OpenAI's dialect, streaming or not."""
        return await self._call(Task.COMPLETIONS, request)

    @operation(summary="Embed texts", **_CALL)
    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        """Embed texts in OpenAI's dialect."""
        return await self._call(Task.EMBEDDINGS, request)

    @operation(
        summary="Explain a route",
        tag="calls",
        auth=Auth.API_KEY,
        request=ModelCallBody,
        responses={200: RouteView},
        errors=(400, 404, 503),
        body_bytes_max=CALL_BYTES_MAX,
    )
    async def explain(self, request: web.Request) -> web.StreamResponse:
        """Return the route that a chat call with this body would take now, with every term."""
        route = self._consumer.explain(parse_call(Task.CHAT, await request.read()))
        return web.json_response(route_document(route, attempts=0, considered_max=1000))

    async def _call(self, task: Task, request: web.Request) -> web.StreamResponse:
        if self._draining:
            raise EngineRefused("this node is stopping; ask another")
        request_id = request.get(REQUEST_ID) or secrets.token_hex(8)
        call = parse_call(task, await request.read())
        try:
            async with self._consumer.answer(call, request_id=request_id) as answer:
                return await _passed_on(request, call, answer)
        except EngineRefused as error:
            if not (error.fatal and error.body):
                raise
            return web.Response(
                body=error.body, status=error.status, content_type="application/json"
            )
        except StreamCut as cut:
            return cut.response


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
