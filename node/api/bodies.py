"""Reading JSON from outside: size, then text, then depth, then shape; all bad fields at once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar, cast

from aiohttp import web
from pydantic import BaseModel, ValidationError

from node.api.errors import BadFields, BadJson
from node.api.problems import shown

M = TypeVar("M", bound=BaseModel)
DEPTH_MAX_DEFAULT = 32
DEPTH_MAX = web.RequestKey("hansa_json_depth_max", int)
"""Where the server notes the setting."""


def parse_json(raw: bytes, *, depth_max: int = DEPTH_MAX_DEFAULT) -> Any:
    """Return the JSON value in `raw`.

    Raises:
        BadJson: not UTF-8, not JSON, nested too deeply, a name twice in an object, or a number
            that is not finite.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadJson(f"the body is not UTF-8: byte {error.start} is wrong") from error
    _check_depth(text, depth_max)
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
        )
    except BadJson:
        raise
    except (ValueError, RecursionError) as error:
        raise BadJson(f"the body is not JSON: {error}") from error


def parse_object(raw: bytes, *, depth_max: int = DEPTH_MAX_DEFAULT) -> dict[str, Any]:
    """Return the JSON object in `raw`.

    Raises:
        BadJson: it is something else.
    """
    value = parse_json(raw, depth_max=depth_max)
    if not isinstance(value, dict):
        raise BadJson(f"the body is a JSON {_kind(value)}; an object is expected")
    return cast("dict[str, Any]", value)


async def object_of(request: web.Request) -> dict[str, Any]:
    """Return the request's body as a JSON object, nested no deeper than the node's setting.

    Raises:
        BadJson: it is something else.
    """
    depth_max = request.get(DEPTH_MAX, DEPTH_MAX_DEFAULT)
    return parse_object(await request.read(), depth_max=depth_max)


async def body_as(request: web.Request, model: type[M]) -> M:
    """Return the request's JSON body as `model`.

    Raises:
        BadJson: it cannot be read.
        BadFields: with every bad field.
    """
    return checked(model, await object_of(request), what="the body")


def query_as(request: web.Request, model: type[M]) -> M:
    """Return the request's query parameters as `model`; a name given twice makes a list.

    Raises:
        BadFields: with every bad parameter.
    """
    values: dict[str, Any] = {}
    for name in request.query:
        given = request.query.getall(name)
        values[name] = given if len(given) > 1 else given[0]
    return checked(model, values, what="the query")


def checked(model: type[M], values: Mapping[str, Any], *, what: str) -> M:
    """Return `values` as `model`, or raise BadFields with every bad one."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems: list[dict[str, object]] = [
            {
                "field": ".".join(str(part) for part in one["loc"]),
                "value": None if one["type"] == "missing" else shown(one["input"]),
                "message": one["msg"].removeprefix("Value error, "),
            }
            for one in error.errors(include_url=False)
        ]
        raise BadFields(what, problems) from error


def _check_depth(text: str, depth_max: int) -> None:
    """Refuse deep nesting before the parser recurses into it."""
    if text.count("[") + text.count("{") <= depth_max:
        return
    depth, in_string, escaped = 0, False, False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            if depth > depth_max:
                raise BadJson(f"the body nests deeper than {depth_max} levels")
        elif character in "]}":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadJson(f"the name {twice[:80]!r} stands twice in one object")
    return found


def _no_constant(text: str) -> NoReturn:
    raise BadJson(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise BadJson(f"the number {text[:40]} is too large")
    return value


def _kind(value: object) -> str:
    kinds: dict[type, str] = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")
