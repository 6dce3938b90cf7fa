"""Counting what an engine answers, and taking out the usage a client did not ask for. Pure.

A stream is server-sent events, one JSON document each, ended by `[DONE]`. Events are cut out of
the bytes as they come; every event passes as it is, except that the trailing `usage` member goes
when the client did not ask for it (docs/decisions/0004).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

from node.gateway.calls import UsageWish
from node.gateway.errors import EngineCut

EVENT_BYTES_MAX = 1024 * 1024
"""One event carries a few tokens; logprobs of 20 candidates stay far below this."""
_DONE = b"[DONE]"
_USAGE = b',"usage":'
_TOKENS_MAX = 2**40


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """What a call used, as its engine counted it."""

    input: int = 0
    cached: int = 0
    output: int = 0


class StreamMeter:
    """Follows one stream: what to pass on, what was delivered, and whether it ended well."""

    def __init__(self, wish: UsageWish) -> None:
        self._wish = wish
        self._rest = b""
        self.counts = TokenCounts()
        self.finish_reason: str | None = None
        self.done = False
        self.error: dict[str, Any] | None = None
        self.events = 0

    @property
    def complete(self) -> bool:
        """Whether the engine said why it stopped and ended the stream: `[DONE]` alone is not it."""
        return self.done and self.finish_reason is not None and self.error is None

    def feed(self, raw: bytes) -> bytes:
        """Take bytes of the engine's answer and return what the client is to get of them.

        Raises:
            EngineCut: an event is longer than any event of a model.
        """
        self._rest += raw
        if b"\n\n" not in self._rest:
            self._check_rest()
            return b""
        *events, self._rest = self._rest.split(b"\n\n")
        self._check_rest()
        return b"".join(self._passed(event) for event in events)

    def _check_rest(self) -> None:
        if len(self._rest) > EVENT_BYTES_MAX:
            raise EngineCut(f"the engine sent an event of over {EVENT_BYTES_MAX} bytes")

    def _passed(self, event: bytes) -> bytes:
        data = event.removeprefix(b"data:").strip()
        if not event.startswith(b"data:"):
            return event + b"\n\n"  # comments and event names mean nothing here, and harm nothing
        if data == _DONE:
            self.done = True
            return event + b"\n\n"
        document = json_object(data)
        if document is None:
            return event + b"\n\n"
        self.events += 1
        has_choices = self._note(document)
        if "usage" not in document or self._wish.every_event:
            return event + b"\n\n"
        if has_choices:
            return b"data: " + without_usage(data, document) + b"\n\n"
        return event + b"\n\n" if self._wish.final else b""

    def _note(self, document: dict[str, Any]) -> bool:
        error = document.get("error")
        if isinstance(error, dict):
            self.error = cast("dict[str, Any]", error)
        counts = counts_in(document)
        if counts is not None:
            self.counts = counts
        choices = document.get("choices")
        if not isinstance(choices, list) or not choices:
            return False
        for choice in cast("list[Any]", choices):
            self.finish_reason = _finish_reason(choice) or self.finish_reason
        return True


def without_usage(data: bytes, document: dict[str, Any]) -> bytes:
    """Return an event's JSON without its `usage`, every other byte as it was where that can be."""
    cut = data.rfind(_USAGE)
    if cut > 0 and _is_json(data[cut + len(_USAGE) : -1]):
        return data[:cut] + b"}"
    rest = {name: value for name, value in document.items() if name != "usage"}
    return json.dumps(rest, separators=(",", ":")).encode()  # ASCII: text may hold half characters


def counts_in(document: dict[str, Any]) -> TokenCounts | None:
    """Return the token counts of an answer or event; None if it carries none that make sense."""
    usage = document.get("usage")
    if not isinstance(usage, dict):
        return None
    found = cast("dict[str, Any]", usage)
    details = found.get("prompt_tokens_details")
    cached = cast("dict[str, Any]", details).get("cached_tokens") if details else 0
    numbers = (found.get("prompt_tokens"), cached or 0, found.get("completion_tokens") or 0)
    if not all(type(one) is int and 0 <= one < _TOKENS_MAX for one in numbers):
        return None
    total, cached_tokens, output = cast("tuple[int, int, int]", numbers)
    if cached_tokens > total:
        return None
    return TokenCounts(input=total - cached_tokens, cached=cached_tokens, output=output)


def first_event(raw: bytes) -> dict[str, Any] | None:
    """Return the first whole event's JSON in the first bytes of a stream, if it is there yet."""
    for event in raw.split(b"\n\n")[:-1]:
        if event.startswith(b"data:"):
            return json_object(event.removeprefix(b"data:").strip())
    return None


def finish_reason_in(document: dict[str, Any]) -> str:
    """Return why a whole (not streamed) answer ended."""
    choices = document.get("choices")
    if isinstance(choices, list) and choices:
        return _finish_reason(cast("list[Any]", choices)[0]) or "stop"
    return "stop"


def _finish_reason(choice: object) -> str | None:
    if not isinstance(choice, dict):
        return None
    reason = cast("dict[str, Any]", choice).get("finish_reason")
    return reason if isinstance(reason, str) else None


def json_object(data: bytes | str) -> dict[str, Any] | None:
    """Return the JSON object in `data`, or None if that is not what it holds."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
