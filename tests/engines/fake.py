"""A fast fake engine in its own process: raw uvloop protocol, vLLM's dialect, its failures too.

    python -m tests.engines.fake --port 0 --tokens 50 --pace-ms 0 --model fake

It prints one line, `READY <port>`, and serves until it is killed. A request chooses its failure
with the header `x-fake` or a model named `NAME!FAULT`: `busy` (503), `busy-event` (200, first SSE
event is the 503), `die` (the process exits at the request), `die-midstream` (exits after half the
tokens), `error-event` (an error event after half), `cut` (closes the connection after half),
`hang` (accepts, never answers), `hang-midstream`, `garbage`. `--fault die` makes it the default.
Faults apply to work (`/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`) only: `/health`
answers 200 all the while, as the real one does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop

FAULTS = (
    "busy",
    "busy-event",
    "die",
    "die-midstream",
    "error-event",
    "cut",
    "hang",
    "hang-midstream",
    "garbage",
)
PROMPT_TOKENS = 12
WORDS = ("node", "peer", "model", "request", "route", "answer", "token", "stream")


@dataclass
class Options:
    """What one fake engine does."""

    model: str = "fake"
    tokens: int = 32
    pace_s: float = 0.0
    fault: str = ""
    requests: int = 0
    running: int = 0
    aborted: int = 0
    cache: dict[tuple[Any, ...], list[bytes]] = field(default_factory=dict)


class Engine(asyncio.Protocol):
    """One connection; requests on it are answered in order, one at a time."""

    def __init__(self, options: Options, loop: asyncio.AbstractEventLoop) -> None:
        self.options = options
        self.loop = loop
        self.buffer = b""
        self.busy = False
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.busy:
            self.options.running -= 1
            self.options.aborted += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self._next()

    def _next(self) -> None:
        while not self.busy and not self.closed:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end].decode("latin-1")
            length, chunked = _body_length(head)
            start = end + 4
            if chunked:
                stop = self.buffer.find(b"0\r\n\r\n", start)
                if stop < 0:
                    return
                body = _unchunk(self.buffer[start : stop + 5])
                self.buffer = self.buffer[stop + 5 :]
            else:
                if len(self.buffer) < start + length:
                    return
                body = self.buffer[start : start + length]
                self.buffer = self.buffer[start + length :]
            self._serve(head, body)

    def _serve(self, head: str, body: bytes) -> None:
        method, path, _ = head.split(" ", 2)
        path = path.partition("?")[0]
        if method == "GET":
            self._get(path)
            return
        try:
            request = json.loads(body)
        except ValueError:
            self._json(400, _error(400, "the body is not JSON"))
            return
        self.options.requests += 1
        model, _, fault = str(request.get("model", "")).partition("!")
        fault = _header(head, "x-fake") or fault or self.options.fault
        if model not in {self.options.model, ""}:
            self._json(404, _error(404, f"The model `{model}` does not exist."))
        elif fault in {"busy", "die", "hang", "garbage"}:
            self._fault(fault)
        elif path in {"/v1/chat/completions", "/v1/completions"}:
            self._complete(request, fault, chat=path.endswith("chat/completions"))
        elif path == "/v1/embeddings":
            self._json(200, _embeddings(request, self.options.model))
        else:
            self._json(404, _error(404, "Not Found"))

    def _get(self, path: str) -> None:
        if path == "/v1/models":
            card = {
                "id": self.options.model,
                "object": "model",
                "created": 1,
                "owned_by": "fake",
                "max_model_len": 4096,
            }
            self._json(200, {"object": "list", "data": [card]})
        elif path == "/metrics":
            self._raw(200, _metrics(self.options).encode(), "text/plain; version=0.0.4")
        elif path == "/health":
            self._raw(200, b"", "text/plain")
        elif path == "/fake":
            counts = {"requests": self.options.requests, "aborted": self.options.aborted}
            self._json(200, counts | {"running": self.options.running})
        else:
            self._json(404, _error(404, "Not Found"))

    def _fault(self, fault: str) -> None:
        if fault == "die":
            os._exit(1)
        if fault == "busy":
            self._json(503, _error(503, "Too many queued requests"))
        elif fault == "garbage":
            self.transport.write(b"\x00\xffthis is not HTTP\r\n\r\n")
            self.transport.close()
        else:
            self._begin()  # hang: the connection stays open and silent

    def _complete(self, request: dict[str, Any], fault: str, *, chat: bool) -> None:
        tokens = _wanted_tokens(request, self.options.tokens)
        if not request.get("stream"):
            if fault:  # whatever breaks a stream half-way breaks a plain answer too
                self._json(500, _error(500, "EngineCore encountered an issue"))
            else:
                self._begin()
                delay_s = self.options.pace_s * tokens
                self.loop.call_later(delay_s, self._whole, _answer(tokens, self.options, chat=chat))
            return
        usage = request.get("stream_options") or {}
        key = (
            tokens,
            bool(usage.get("include_usage")),
            bool(usage.get("continuous_usage_stats")),
            chat,
        )
        events = self.options.cache.get(key)
        if events is None:
            events = _events(tokens, self.options, usage, chat=chat)
            self.options.cache[key] = events
        self._begin()
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        if fault == "busy-event":
            events = [_event(_error(503, "Too many queued requests")), _chunk(b"data: [DONE]\n\n")]
            fault = ""
        if self.options.pace_s or fault:
            self._paced(events, 0, fault)
        else:
            self.transport.write(b"".join(events) + b"0\r\n\r\n")
            self._end()

    def _paced(self, events: list[bytes], at: int, fault: str) -> None:
        if self.closed:
            return
        if fault and at >= len(events) // 2:
            self._break(fault)
            return
        if at == len(events):
            self.transport.write(b"0\r\n\r\n")
            self._end()
            self._next()
            return
        self.transport.write(events[at])
        self.loop.call_later(self.options.pace_s, self._paced, events, at + 1, fault)

    def _break(self, fault: str) -> None:
        if fault == "die-midstream":
            os._exit(1)
        if fault == "cut":
            self.transport.close()
        elif fault == "error-event":
            self.transport.write(
                _event(_error(500, "EngineCore encountered an issue"))
                + _chunk(b"data: [DONE]\n\n")
                + b"0\r\n\r\n"
            )
            self._end()
        # hang-midstream: silence

    def _whole(self, answer: dict[str, Any]) -> None:
        if not self.closed:
            self._json(200, answer)
            self._end()
            self._next()

    def _begin(self) -> None:
        self.busy = True
        self.options.running += 1

    def _end(self) -> None:
        self.busy = False
        self.options.running -= 1

    def _json(self, status: int, value: object) -> None:
        self._raw(status, json.dumps(value).encode(), "application/json")

    def _raw(self, status: int, body: bytes, kind: str) -> None:
        reason = {200: "OK", 400: "Bad Request", 404: "Not Found", 503: "Service Unavailable"}
        self.transport.write(
            f"HTTP/1.1 {status} {reason.get(status, 'Error')}\r\ncontent-type: {kind}\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )


@dataclass(frozen=True)
class FakeEngine:
    """A running fake engine."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """SIGKILL it, as the kernel would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def fake_engine(
    *, model: str = "fake", tokens: int = 32, pace_ms: float = 0.0, fault: str = ""
) -> Iterator[FakeEngine]:
    """Run a fake engine for the time of a `with` block."""
    command = [sys.executable, "-m", "tests.engines.fake", "--port", "0", "--model", model]
    command += ["--tokens", str(tokens), "--pace-ms", str(pace_ms), "--fault", fault]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            word, port = process.stdout.readline().split()
            assert word == "READY"
            yield FakeEngine(process, int(port))
        finally:
            process.kill()


def completion_tokens(request_max: int | None, tokens: int) -> int:
    """Return how many completion tokens the fake bills for a request with such a `max_tokens`."""
    return tokens if request_max is None else min(tokens, request_max)


def _wanted_tokens(request: dict[str, Any], tokens: int) -> int:
    wanted = request.get("max_completion_tokens") or request.get("max_tokens")
    return completion_tokens(int(wanted) if wanted else None, tokens)


def _usage(done: int) -> dict[str, int]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "total_tokens": PROMPT_TOKENS + done,
        "completion_tokens": done,
    }


def _answer(tokens: int, options: Options, *, chat: bool) -> dict[str, Any]:
    text = "".join(f"{WORDS[i % len(WORDS)]} " for i in range(tokens))
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    return {
        "id": "chatcmpl-fake" if chat else "cmpl-fake",
        "object": "chat.completion" if chat else "text_completion",
        "created": 1700000000,
        "model": options.model,
        "choices": [choice],
        "usage": _usage(tokens),
    }


def _events(tokens: int, options: Options, usage: dict[str, Any], *, chat: bool) -> list[bytes]:
    include = bool(usage.get("include_usage"))
    continuous = include and bool(usage.get("continuous_usage_stats"))

    def event(choices: list[dict[str, Any]], done: int) -> bytes:
        value: dict[str, Any] = {
            "id": "chatcmpl-fake" if chat else "cmpl-fake",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": 1700000000,
            "model": options.model,
            "choices": choices,
        }
        if continuous and choices:
            value["usage"] = _usage(done) | {"completion_tokens_details": None}
        elif include and not choices:
            value |= {"usage": _usage(done), "system_fingerprint": "fake-0"}
        if chat and choices and choices[0]["delta"].get("role"):
            # As vLLM 0.32.0 has it: in the first event of a chat, usage is not the last member.
            value |= {"prompt_token_ids": None, "prompt_text": None}
        return _event(value)

    def piece(text: str, first: bool = False, finish: str | None = None) -> list[dict[str, Any]]:
        if not chat:
            return [{"index": 0, "text": text, "finish_reason": finish}]
        delta: dict[str, Any] = {"role": "assistant", "content": ""} if first else {}
        if text:
            delta["content"] = text
        return [{"index": 0, "delta": delta, "finish_reason": finish}]

    events = [event(piece("", first=True), 0)] if chat else []
    for i in range(tokens):
        finish = "stop" if i == tokens - 1 else None
        events.append(event(piece(f"{WORDS[i % len(WORDS)]} ", finish=finish), i + 1))
    if include:
        events.append(event([], tokens))
    return [*events, _chunk(b"data: [DONE]\n\n")]


def _embeddings(request: dict[str, Any], model: str) -> dict[str, Any]:
    inputs = request.get("input", "")
    count = len(inputs) if isinstance(inputs, list) else 1
    data = [
        {"object": "embedding", "index": i, "embedding": [0.5, -0.5, 0.25, 0.0]}
        for i in range(count)
    ]
    usage = {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _metrics(options: Options) -> str:
    labels = f'{{engine="0",model_name="{options.model}"}}'
    rows = {
        "num_requests_running": float(options.running),
        "num_requests_waiting": 0.0,
        "kv_cache_usage_perc": 0.25,
        "admission_rejections_total": 0.0,
        "prefix_cache_queries_total": 8.0,
        "prefix_cache_hits_total": 4.0,
        "time_to_first_token_seconds_sum": 0.02 * options.requests,
        "time_to_first_token_seconds_count": float(options.requests),
    }
    lines = [f"# HELP vllm:{name} x\nvllm:{name}{labels} {value}" for name, value in rows.items()]
    return "\n".join(lines) + "\n"


def _error(status: int, message: str) -> dict[str, Any]:
    kinds = {400: "BadRequestError", 404: "NotFoundError", 503: "ServiceUnavailableError"}
    kind = kinds.get(status, "InternalServerError")
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}


def _event(value: object) -> bytes:
    return _chunk(b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n")


def _chunk(raw: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(raw), raw)


def _body_length(head: str) -> tuple[int, bool]:
    length = _header(head, "content-length")
    return (int(length) if length else 0), "chunked" in _header(head, "transfer-encoding").lower()


def _header(head: str, name: str) -> str:
    for line in head.split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.strip().lower() == name:
            return value.strip()
    return ""


def _unchunk(raw: bytes) -> bytes:
    body = b""
    while True:
        size, _, raw = raw.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return body
        body, raw = body + raw[:length], raw[length + 2 :]


async def _serve(port: int, options: Options) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Engine(options, loop), "127.0.0.1", port, backlog=1024
    )
    print("READY", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="a fast fake OpenAI engine")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", default="fake")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--pace-ms", type=float, default=0.0)
    parser.add_argument("--fault", default="", choices=["", *FAULTS])
    given = parser.parse_args()
    options = Options(given.model, given.tokens, given.pace_ms / 1000, given.fault)
    uvloop.run(_serve(given.port, options))


if __name__ == "__main__":
    main()
