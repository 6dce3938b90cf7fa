"""Declaring a route: what it takes and answers, who may call it, how big its body may be.

`@operation(...)` hangs an `Operation` on an aiohttp handler. The server enforces it (`server.py`),
and the OpenAPI document is generated from it (`openapi.py`), so the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias, TypeVar, cast

from aiohttp import web
from pydantic import BaseModel

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
H = TypeVar("H", bound=Callable[..., Awaitable[web.StreamResponse]])
_ATTRIBUTE = "__hansa_operation__"
REQUEST_ID = web.RequestKey("hansa_request_id", str)
"""Where the server notes the id of a request."""


class Auth(Enum):
    """Who may call a route; the server checks it before the handler runs."""

    NONE = "anybody"
    OPERATOR = "the operator's token"
    API_KEY = "an API key or the operator's token"
    CREATOR = "a request signed with a creator's key"


@dataclass(frozen=True, slots=True)
class Operation:
    """What is declared of a route.

    Attributes:
        request: The JSON body's shape, or None without one.
        body_required: Whether the body may be left out.
        request_types: Content types the body may have.
        responses: Shape by status; None for an empty body, a string for a content type that is
            not JSON (`text/event-stream`).
        query: The query parameters' shape.
        errors: Statuses answered with a problem, beside those that any route may give.
        body_bytes_max: Bound of the body; None for the API's own.
        reads_body: The handler reads its body itself, as a stream within `body_bytes_max`.
    """

    summary: str
    description: str
    tag: str
    auth: Auth = Auth.NONE
    request: type[BaseModel] | None = None
    body_required: bool = True
    request_types: tuple[str, ...] = ("application/json",)
    responses: Mapping[int, type[BaseModel] | str | None] = field(
        default_factory=dict[int, "type[BaseModel] | str | None"]
    )
    query: type[BaseModel] | None = None
    errors: tuple[int, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body_bytes_max: int | None = None
    reads_body: bool = False


def operation(
    *,
    summary: str,
    tag: str,
    auth: Auth = Auth.NONE,
    request: type[BaseModel] | None = None,
    body_required: bool = True,
    request_types: tuple[str, ...] = ("application/json",),
    responses: Mapping[int, type[BaseModel] | str | None] | None = None,
    query: type[BaseModel] | None = None,
    errors: tuple[int, ...] = (),
    headers: Mapping[str, str] | None = None,
    body_bytes_max: int | None = None,
    reads_body: bool = False,
) -> Callable[[H], H]:
    """Return a decorator that declares an aiohttp handler; its docstring is the description.

    Args:
        headers: Request headers of the route's own, each with what it is for.
    """

    def decorate(handler: H) -> H:
        declared = Operation(
            summary=summary,
            description=_paragraphs(handler.__doc__ or ""),
            tag=tag,
            auth=auth,
            request=request,
            body_required=body_required,
            request_types=request_types,
            responses=responses or {},
            query=query,
            errors=errors,
            headers=headers or {},
            body_bytes_max=body_bytes_max,
            reads_body=reads_body,
        )
        setattr(handler, _ATTRIBUTE, declared)
        return handler

    return decorate


def operation_of(handler: object) -> Operation | None:
    """Return what a handler declared, or None."""
    return cast("Operation | None", getattr(handler, _ATTRIBUTE, None))


def request_id_of(request: web.Request) -> str:
    """Return the id that stands on every log line about a request, and goes with it to peers."""
    return request[REQUEST_ID]


def _paragraphs(docstring: str) -> str:
    lines = [line.strip() for line in docstring.split("Raises:", maxsplit=1)[0].splitlines()]
    return "\n".join(lines).strip()
