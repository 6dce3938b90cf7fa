"""The OpenAPI 3.1 document, generated from the declared routes and their pydantic models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from node.api.operations import Auth, Operation, operation_of
from node.api.problems import CONTENT_TYPE

VERSION = "3.1.0"
REF = "#/components/schemas/{model}"
SECURITY: dict[Auth, list[dict[str, list[str]]]] = {
    Auth.NONE: [],
    Auth.OPERATOR: [{"operatorToken": []}],
    Auth.API_KEY: [{"apiKey": []}, {"operatorToken": []}],
    Auth.CREATOR: [{"signedRequest": []}],
}
SCHEMES: dict[str, Any] = {
    "operatorToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token in `operator.token` in the node's data folder.",
    },
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key made with `hansa keys create` (`hsk_...`).",
    },
    "signedRequest": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`Hansa ...`: the request signed with a creator's key, and for a write the "
        "signed operation in `Hansa-Operation`. docs/wire.md has the bytes; `hansa` makes them.",
    },
}
_PARAMETER = re.compile(r"\{([a-z_]+)(?::(?:[^{}]|\{[^}]*\})*)?\}")
"""A path's variable, with or without an expression, which may have braces of its own."""
ABOUT = (
    "A node of a market of AI models and agents that nobody owns. Reads are open; a creator's "
    "writes are signed by the creator; operator's actions take the operator's token; model calls "
    "take an API key. Errors are `application/problem+json` with a stable `code`."
)


class FieldProblem(BaseModel):
    """One bad field."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    field: str
    """Its path, for example `resource_requirements.min_vcpus`."""
    value: Any = None
    """What was given, shortened."""
    message: str
    """What is wrong, with the bound."""


class Problem(BaseModel):
    """Why a request was refused (RFC 9457)."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    type: str = "about:blank"
    title: str
    status: int
    code: str
    """Stable: programs decide by this."""
    detail: str
    """Names the thing, the value and the next step."""
    instance: str
    request_id: str
    """Stands on every log line about the request."""
    problems: list[FieldProblem] = Field(default_factory=list[FieldProblem])
    """Every bad field, where fields are bad."""


def openapi_document(routes: Iterable[web.RouteDef], *, version: str, url: str) -> dict[str, Any]:
    """Return the document for the declared routes; bare aliases of `/v1` paths are left out."""
    declared = [
        (route, found)
        for route in routes
        if (found := operation_of(route.handler)) is not None and not _is_alias(route, routes)
    ]
    schemas = _schemas([one for _, one in declared])
    paths: dict[str, dict[str, Any]] = {}
    for route, found in declared:
        path = _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(path, route, found)
    return {
        "openapi": VERSION,
        "info": {"title": "Hansa", "version": version, "description": ABOUT},
        "servers": [{"url": url}],
        "tags": [{"name": tag} for tag in dict.fromkeys(one.tag for _, one in declared)],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": schemas, "securitySchemes": SCHEMES},
    }


@dataclass(frozen=True, slots=True)
class RouteRow:
    """One route in a table for people.

    Attributes:
        bare: The path is served without its `/v1` too.
        statuses: All that are declared, successes first.
    """

    tag: str
    method: str
    path: str
    bare: bool
    who: str
    summary: str
    statuses: tuple[int, ...]


def rows_of(routes: Sequence[web.RouteDef]) -> list[RouteRow]:
    """Return a row per declared route, by tag in order of first use; bare aliases have none."""
    served = {(route.method, route.path) for route in routes}
    rows: list[RouteRow] = []
    for route in routes:
        found = operation_of(route.handler)
        if found is None or _is_alias(route, routes):
            continue
        path = _PARAMETER.sub(r"{\1}", route.path)
        bare = route.path.startswith("/v1") and (
            (route.method, route.path.removeprefix("/v1")) in served
        )
        statuses = tuple(sorted({int(status) for status in _responses(found)}))
        rows.append(
            RouteRow(found.tag, route.method, path, bare, found.auth.value, found.summary, statuses)
        )
    tags = list(dict.fromkeys(row.tag for row in rows))
    return sorted(rows, key=lambda row: tags.index(row.tag))


def _is_alias(route: web.RouteDef, routes: Iterable[web.RouteDef]) -> bool:
    return any(
        other.path == f"/v1{route.path}" and other.method == route.method for other in routes
    )


def _operation(path: str, route: web.RouteDef, found: Operation) -> dict[str, Any]:
    name = re.sub(r"[^a-z0-9]+", "_", f"{route.method} {path.removeprefix('/v1')}".lower())
    parameters = [*_path_parameters(path), *_query_parameters(found), *_header_parameters(found)]
    described: dict[str, Any] = {
        "operationId": name.strip("_"),
        "summary": found.summary,
        "description": found.description,
        "tags": [found.tag],
        "security": SECURITY[found.auth],
        "responses": _responses(found),
    }
    if parameters:
        described["parameters"] = parameters
    if found.request is not None or found.reads_body or found.body_bytes_max is not None:
        schema: dict[str, Any] = {"type": "string", "format": "binary"}
        if found.request is not None:
            schema = _ref(found.request)
        described["requestBody"] = {
            "required": found.body_required,
            "content": {kind: {"schema": schema} for kind in found.request_types},
        }
    return described


def _responses(found: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, shape in found.responses.items():
        entry: dict[str, Any] = {"description": _described(status)}
        if isinstance(shape, str):
            entry["content"] = {shape: {"schema": {"type": "string"}}}
        elif shape is not None:
            entry["content"] = {"application/json": {"schema": _ref(shape)}}
        responses[str(status)] = entry
    errors = set(found.errors)
    if found.auth is not Auth.NONE:
        errors.add(401)
    if found.request is not None:
        errors |= {400, 413, 415, 422}
    if found.query is not None:
        errors.add(422)
    for status in sorted(errors):
        responses[str(status)] = {
            "description": _described(status),
            "content": {CONTENT_TYPE: {"schema": _ref(Problem)}},
        }
    return responses


def _described(status: int) -> str:
    from http import HTTPStatus

    return HTTPStatus(status).phrase


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(path)
    ]


def _query_parameters(found: Operation) -> list[dict[str, Any]]:
    if found.query is None:
        return []
    schema = found.query.model_json_schema(ref_template=REF)
    parameters: list[dict[str, Any]] = []
    for name, shape in schema.get("properties", {}).items():
        about = shape.pop("description", "")
        shape.pop("title", None)
        parameters.append(
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "description": about,
                "schema": shape,
            }
        )
    return parameters


def _header_parameters(found: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "header",
            "required": False,
            "description": about,
            "schema": {"type": "string"},
        }
        for name, about in found.headers.items()
    ]


def _schemas(operations: Sequence[Operation]) -> dict[str, Any]:
    models: dict[type[BaseModel], None] = {Problem: None}
    requests: dict[type[BaseModel], None] = {}
    for one in operations:
        if one.request is not None:
            requests[one.request] = None
        if one.query is not None:
            requests[one.query] = None
        for shape in one.responses.values():
            if isinstance(shape, type):
                models[shape] = None
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (model, "validation") for model in {**requests, **models}
    ]
    _, document = models_json_schema(wanted, ref_template=REF)
    schemas: dict[str, Any] = document.get("$defs", {})
    return dict(sorted(schemas.items()))


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}
