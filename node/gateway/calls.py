"""A model call as its client wrote it, checked, and as its engine is to get it. Pure.

Only what routing and accounting need is looked at; the engine judges the rest of the body.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

from node.gateway.errors import BadCall

CALL_BYTES_MAX = 8 * 1024 * 1024
"""A 1 M token prompt is about 4 MB of text."""
MODEL_CHARACTERS_MAX = 512
CHOICE_COUNT_MAX = 128
"""What engines take for `n`; each is paid for."""
_STREAM_OPTIONS = "stream_options"


class Task(Enum):
    """What a call asks for, by the last part of its path."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"


@dataclass(frozen=True, slots=True)
class UsageWish:
    """What the client asked to be told of usage in a stream."""

    final: bool
    every_event: bool


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call, parsed.

    Attributes:
        model: The reference in `model`, as written.
        wishes: The `hansa` member: limits and preferences for routing, never sent to an engine.
        body: Everything else, as the client wrote it.
    """

    task: Task
    model: str
    stream: bool
    usage: UsageWish
    wishes: dict[str, Any]
    body: dict[str, Any]


def parse_call(task: Task, raw: bytes) -> ModelCall:
    """Return the call in a request body.

    Raises:
        BadCall: it is too long, not a JSON object, or a member that we read has a wrong type.
    """
    if len(raw) > CALL_BYTES_MAX:
        raise BadCall(f"the body has {len(raw)} bytes; at most {CALL_BYTES_MAX} are taken")
    try:
        found = json.loads(
            raw, object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite
        )
        if b"\\u" in raw:
            json.dumps(found, ensure_ascii=False).encode()  # an escape can be half a character
    except (ValueError, RecursionError) as error:
        raise BadCall(f"the body is not JSON in UTF-8: {str(error)[:120]}") from error
    if not isinstance(found, dict):
        raise BadCall(f"the body is a JSON {type(found).__name__}, not an object")
    body = cast("dict[str, Any]", found)
    model = body.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= MODEL_CHARACTERS_MAX:
        raise BadCall("`model` must be a reference: an id, owner/slug, or any:llm?caps=chat")
    stream = _boolean(body, "stream")
    if stream and task is Task.EMBEDDINGS:
        raise BadCall("embeddings cannot be streamed; leave `stream` out")
    for name in ("n", "best_of"):
        _check_choices(name, body.get(name))
    wishes = body.pop("hansa", None)
    if wishes is not None and not isinstance(wishes, dict):
        raise BadCall("`hansa` must be an object of wishes for routing")
    return ModelCall(
        task, model, stream, _usage_wish(body), cast("dict[str, Any]", wishes or {}), body
    )


def engine_body(call: ModelCall, served_name: str) -> bytes:
    """Return the body for an engine that serves the model as `served_name`.

    Streams are asked to report usage in every event, so that a cut one can be counted exactly
    (docs/decisions/0004).
    """
    body = {**call.body, "model": served_name}
    if call.stream:
        body[_STREAM_OPTIONS] = {
            **cast("dict[str, Any]", body.get(_STREAM_OPTIONS) or {}),
            "include_usage": True,
            "continuous_usage_stats": True,
        }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _usage_wish(body: dict[str, Any]) -> UsageWish:
    options = body.get(_STREAM_OPTIONS)
    if options is None:
        return UsageWish(final=False, every_event=False)
    if not isinstance(options, dict):
        raise BadCall("`stream_options` must be an object")
    given = cast("dict[str, Any]", options)
    return UsageWish(
        final=_boolean(given, "include_usage"),
        every_event=_boolean(given, "continuous_usage_stats"),
    )


def _check_choices(name: str, value: object) -> None:
    # Engines take "5" and 5.0 for 5; the price of a call is counted from this, so we do not.
    if value is not None and (type(value) is not int or not 1 <= value <= CHOICE_COUNT_MAX):
        raise BadCall(f"`{name}` must be an integer in 1..{CHOICE_COUNT_MAX}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _boolean(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise BadCall(f"`{name}` must be true or false, not {json.dumps(value)[:60]}")
    return value
