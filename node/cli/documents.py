"""Records as people write them: a JSON or TOML file, and `--set FIELD=VALUE` over it. Pure."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from typing import Any, cast

NESTING_MAX = 16
"""The deepest record nests four."""


def parse_document(raw: bytes, name: str) -> dict[str, Any]:
    """Return the table in a file: TOML if its name says so, JSON otherwise.

    Raises:
        UnreadableFile: it is neither; the message has the line and the column.
    """
    from node.cli.errors import UnreadableFile

    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"{name} is not UTF-8 text (byte {error.start})") from error
    try:
        found: Any = (
            tomllib.loads(text)
            if name.endswith(".toml")
            else json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
        )
    except RecursionError as error:
        raise UnreadableFile(f"{name} is nested too deeply to be a record") from error
    except ValueError as error:
        kind = "TOML" if name.endswith(".toml") else "JSON"
        raise UnreadableFile(f"{name} is not {kind}: {error}") from error
    if not isinstance(found, dict):
        raise UnreadableFile(f"{name} holds a {type(found).__name__}; a record is an object")
    return cast("dict[str, Any]", found)


def parse_assignments(texts: Sequence[str]) -> dict[str, Any]:
    """Return the fields that `FIELD=VALUE` texts set; a dot reaches into a nested field.

    A value that is JSON is taken as JSON (`8`, `true`, `["chat"]`); anything else is text.

    Raises:
        BadUsage: a text has no `=`, or reaches into what is not an object.
    """
    from node.cli.errors import BadUsage

    found: dict[str, Any] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        names = path.strip().split(".")
        if not equals or not all(names) or len(names) > NESTING_MAX:
            raise BadUsage(f"--set {text!r} is not FIELD=VALUE; write for example name='My model'")
        inner = found
        for name in names[:-1]:
            step: Any = inner.setdefault(name, {})
            if not isinstance(step, dict):
                raise BadUsage(f"--set {text!r} reaches into {name}, which was set to a value")
            inner = cast("dict[str, Any]", step)
        inner[names[-1]] = _value(value)
    return found


def merged(document: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Return a document with an RFC 7396 merge patch applied: null removes, objects merge."""
    result = dict(document)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            inner = result.get(name)
            base = cast("dict[str, Any]", inner) if isinstance(inner, dict) else {}
            result[name] = merged(base, cast("dict[str, Any]", value))
        else:
            result[name] = value
    return result


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r} is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number JSON knows")
