"""Talking to one engine: is it up, does it really answer, how loaded is it.

The gateway relays calls itself; this is what the supervisor needs. `Engine` is the port, and
`tests/contract/test_engine.py` holds every implementation to it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

import aiohttp

from inference.adverts import Task
from inference.engines.metrics import EngineLoad, parse_metrics
from inference.errors import EngineFailed, EngineUnavailable

ANSWER_BYTES_MAX = 4 * 2**20
PROOF_TOKENS = 24
PROOF_TIMEOUT_S = 120.0
"""The first request of a big model on a CPU compiles and warms up."""
QUICK_TIMEOUT_S = 5.0
PROMPT = "Say in one sentence what this node does."


@dataclass(frozen=True, slots=True)
class Proof:
    """What an engine was seen to do.

    Attributes:
        tasks: Those it completed a real request for.
        first_token_ms: Time to first token of a warm, unqueued request.
        tokens_per_s_milli: Decode speed of that request, in thousandths; 0 when too short to tell.
    """

    tasks: Task
    first_token_ms: int
    tokens_per_s_milli: int


class Engine(Protocol):
    """A process that serves one model in the OpenAI dialect."""

    async def healthy(self) -> bool:
        """Whether it says that it is up. Not proof that it works."""
        ...

    async def prove(self) -> Proof:
        """Complete real requests and return what was seen.

        Raises:
            EngineFailed: it died, errs, or answers nothing.
        """
        ...

    async def load(self) -> EngineLoad:
        """Return its load now.

        Raises:
            EngineUnavailable: it does not answer.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class OpenAIEngine:
    """An engine behind a loopback URL, for example vLLM."""

    def __init__(self, url: str, model: str, *, proof_timeout_s: float = PROOF_TIMEOUT_S) -> None:
        self.url = url.rstrip("/")
        self.model = model
        self._proof_timeout_s = proof_timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def healthy(self) -> bool:
        """Whether `/health` answers 200."""
        try:
            async with self._client().get(f"{self.url}/health", timeout=_QUICK) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def models(self) -> list[str]:
        """Return the names it serves.

        Raises:
            EngineUnavailable: it does not answer, or not with a list of models.
        """
        value = await self._quick_json("/v1/models")
        rows: Any = value.get("data")
        if not isinstance(rows, list):
            raise EngineUnavailable(f"{self.url}/v1/models does not answer with a list of models")
        return [str(cast("dict[str, Any]", row).get("id")) for row in cast("list[Any]", rows)]

    async def prove(self) -> Proof:
        """Complete a short prompt, a chat twice, or an embedding: whatever the model can do.

        The one-token prompt comes first: on AMX machines without the launcher's cure it is the one
        that kills vLLM, and it kills every engine whose attention has no kernel for the model.
        """
        tasks = Task(0)
        if await self._try("/v1/completions", {"prompt": "a", "max_tokens": 2}):
            tasks |= Task.COMPLETIONS
            chat = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 2}
            if await self._try("/v1/chat/completions", chat):
                tasks |= Task.CHAT
        elif await self._try("/v1/embeddings", {"input": PROMPT}):
            return Proof(Task.EMBEDDINGS, 0, 0)
        if not tasks:
            raise EngineFailed(
                f"the engine at {self.url} is up and serves {self.model} for no task we know"
            )
        first_ms, speed_milli = await self._measure(chat=Task.CHAT in tasks)
        return Proof(tasks, first_ms, speed_milli)

    async def load(self) -> EngineLoad:
        """Return what `/metrics` says."""
        try:
            async with self._client().get(f"{self.url}/metrics", timeout=_QUICK) as answer:
                raw = await answer.content.read(ANSWER_BYTES_MAX)
                if answer.status != 200:
                    raise EngineUnavailable(f"{self.url}/metrics answers {answer.status}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise EngineUnavailable(f"{self.url} does not answer: {_name(error)}") from error
        return parse_metrics(raw.decode("utf-8", "replace"))

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            # No proxy from the environment: an engine is on this machine.
            self._session = aiohttp.ClientSession(trust_env=False, auto_decompress=False)
        return self._session

    async def _try(self, path: str, body: dict[str, Any]) -> bool:
        """Whether the engine can do this at all: a 4xx is a no, anything worse is its death."""
        try:
            async with self._client().post(
                self.url + path,
                json={"model": self.model, "temperature": 0, **body},
                timeout=aiohttp.ClientTimeout(total=self._proof_timeout_s),
            ) as answer:
                raw = await answer.content.read(ANSWER_BYTES_MAX)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise EngineFailed(self._died(path, _name(error))) from error
        if 400 <= answer.status < 500:
            return False
        value = _json_object(raw)
        if answer.status != 200 or "error" in value or not _has_answer(value):
            raise EngineFailed(self._died(path, f"HTTP {answer.status} {_message(value, raw)}"))
        return True

    async def _measure(self, *, chat: bool) -> tuple[int, int]:
        """Stream one answer; return its time to first token and tokens a second (thousandths)."""
        path = "/v1/chat/completions" if chat else "/v1/completions"
        body: dict[str, Any] = {"model": self.model, "temperature": 0, "max_tokens": PROOF_TOKENS}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        body |= {"messages": [{"role": "user", "content": PROMPT}]} if chat else {"prompt": PROMPT}
        started = time.monotonic()
        first = last = 0.0
        tokens, finished = 0, False
        try:
            async with self._client().post(
                self.url + path,
                json=body,
                timeout=aiohttp.ClientTimeout(total=self._proof_timeout_s),
            ) as answer:
                if answer.status != 200:
                    raise EngineFailed(self._died(path, f"HTTP {answer.status} when streaming"))
                async for event in _events(answer.content):
                    if "error" in event:
                        raise EngineFailed(self._died(path, _message(event, b"")))
                    if _has_text(event):
                        last = time.monotonic()
                        first = first or last
                    finished = finished or _is_finished(event)
                    tokens = _completion_tokens(event) or tokens
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise EngineFailed(self._died(path, _name(error))) from error
        if not finished:
            raise EngineFailed(self._died(path, "the stream ended without a finish_reason"))
        first_ms = round(1000 * ((first or time.monotonic()) - started))
        span_s = last - first
        speed = round(1000 * (tokens - 1) / span_s) if tokens > 1 and span_s > 0 else 0
        return max(1, first_ms), min(speed, 10**9)

    async def _quick_json(self, path: str) -> dict[str, Any]:
        try:
            async with self._client().get(self.url + path, timeout=_QUICK) as answer:
                return _json_object(await answer.content.read(ANSWER_BYTES_MAX))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise EngineUnavailable(f"{self.url} does not answer: {_name(error)}") from error

    def _died(self, path: str, what: str) -> str:
        return f"{self.model} failed its first real request ({path}): {what}"


_QUICK = aiohttp.ClientTimeout(total=QUICK_TIMEOUT_S)


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """Yield the JSON objects of a server-sent event stream; `[DONE]` is not one."""
    total = 0
    while line := await content.readline():
        total += len(line)
        if total > ANSWER_BYTES_MAX:
            return
        if line.startswith(b"data: {"):
            yield _json_object(line[6:])


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        value: Any = json.loads(raw)
    except ValueError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _has_answer(value: dict[str, Any]) -> bool:
    return bool(value.get("choices") or value.get("data"))


def _choice(event: dict[str, Any]) -> dict[str, Any]:
    choices: Any = event.get("choices")
    if not isinstance(choices, list) or not choices:
        return {}
    first: Any = cast("list[Any]", choices)[0]
    return cast("dict[str, Any]", first) if isinstance(first, dict) else {}


def _has_text(event: dict[str, Any]) -> bool:
    choice = _choice(event)
    delta: Any = choice.get("delta")
    if isinstance(delta, dict):
        # A token can be half a character: its event has a content, and an empty one.
        return "content" in delta and "role" not in delta
    return "text" in choice


def _is_finished(event: dict[str, Any]) -> bool:
    return _choice(event).get("finish_reason") is not None


def _completion_tokens(event: dict[str, Any]) -> int:
    usage: Any = event.get("usage")
    if not isinstance(usage, dict):
        return 0
    tokens: Any = cast("dict[str, Any]", usage).get("completion_tokens")
    return tokens if isinstance(tokens, int) and tokens > 0 else 0


def _message(value: dict[str, Any], raw: bytes) -> str:
    error: Any = value.get("error")
    if isinstance(error, dict):
        return str(cast("dict[str, Any]", error).get("message"))[:300]
    return raw[:200].decode("utf-8", "replace")


def _name(error: BaseException) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return "no answer in time"
    return f"{type(error).__name__}: {str(error)[:200]}"
