"""HTTP to one node, kept alive between calls: plain requests, and streams of events.

The standard library's client, not aiohttp: a command makes a few requests in a row, and starts
a quarter of a second sooner without an event loop to import.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from node.client.errors import ApiProblem, BadAnswer, ConnectionCut, NodeUnreachable

ANSWER_BYTES_MAX = 64 << 20
"""A statement carries its evidence; ten thousand lanes are about 10 MB."""
EVENT_BYTES_MAX = 1 << 20
READ_BYTES = 64 * 1024
CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 60.0
"""The slowest plain request is a publish on a full disk queue: seconds."""
EVENT_GAP_S = 900.0
"""Longest silence inside an event stream: loading a model of many gigabytes says nothing."""

Query = Mapping[str, str | int | bool | Iterable[str] | None]


@dataclass(frozen=True, slots=True)
class Request:
    """One request, complete but for the headers that prove who sends it.

    Attributes:
        path: Absolute, already quoted, without the query.
        query: The query string as it is sent, without `?`.
    """

    method: str
    path: str
    query: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def target(self) -> str:
        """The path with its query, as the request line has it."""
        return f"{self.path}?{self.query}" if self.query else self.path


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: status, headers with lower-case names, and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            BadAnswer: it is not.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise BadAnswer(
                f"the node answered {self.body[:60]!r} where JSON was expected; is it a Hansa node?"
            ) from error


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event: its name (`message` if unnamed) and its data as JSON."""

    name: str
    data: Any


class Http:
    """One kept-alive connection to a node. Not for several threads at once."""

    def __init__(self, url: str) -> None:
        """Take a base URL such as `http://127.0.0.1:8420`; nothing is connected yet.

        Raises:
            NodeUnreachable: the URL cannot be one of a node.
        """
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise NodeUnreachable(
                f"{url!r} is not a node's URL; give one like http://127.0.0.1:8420"
            )
        self.url = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = kind(parts.hostname, port, timeout=CONNECT_TIMEOUT_S)
        self._is_cut = False

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()

    def cut(self) -> None:
        """End for good what another thread asks here: it fails as if the node had gone away.

        The only method for another thread than the one that asks.
        """
        self._is_cut = True
        waiting: socket.socket | None = self._connection.sock
        if waiting is not None:
            with contextlib.suppress(OSError):  # it was closed meanwhile
                waiting.shutdown(socket.SHUT_RDWR)

    def send(self, request: Request, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Answer:
        """Send a request and return its successful answer.

        Raises:
            NodeUnreachable, ConnectionCut: the world.
            ApiProblem: the node refused it.
            BadAnswer: the answer makes no sense.
        """
        response = self._begin(request, timeout_s)
        body = self._read_all(response)
        headers = {name.lower(): value for name, value in response.getheaders()}
        if response.status >= 300:
            raise problem_of(response.status, body)
        return Answer(response.status, headers, body)

    def events(self, request: Request) -> Iterator[Event]:
        """Send a request and yield the events of its answer as they come, until it ends.

        Raises:
            The same as `send`; a stream that breaks off raises ConnectionCut.
        """
        response = self._begin(request, EVENT_GAP_S)
        if response.status >= 300:
            raise problem_of(response.status, self._read_all(response))
        try:
            # Not readline: http.client's hides a chunked answer that breaks off.
            yield from parse_events(_lines(iter(lambda: response.read1(READ_BYTES), b"")))
        except (OSError, HTTPException) as error:
            raise ConnectionCut(f"the node at {self.url} broke off: {error}; try again") from error
        finally:
            self.close()

    def _begin(self, request: Request, timeout_s: float) -> HTTPResponse:
        if self._is_stale():
            self.close()
        try:
            return self._exchange(request, timeout_s)
        except (OSError, HTTPException) as error:
            self.close()
            raise self._explained(error) from error

    def _is_stale(self) -> bool:
        """Whether the node closed the idle connection; not a retry, which could write twice."""
        idle: socket.socket | None = self._connection.sock
        return idle is not None and bool(select.select([idle], [], [], 0)[0])

    def _exchange(self, request: Request, timeout_s: float) -> HTTPResponse:
        headers = {"Accept": "application/json, text/event-stream", **request.headers}
        if self._connection.sock is None:
            self._connection.timeout = CONNECT_TIMEOUT_S
            self._connection.connect()
        if self._is_cut:
            # Looked at when there is a socket that `cut` finds: one of the two happens.
            raise ConnectionAbortedError("it was cut off here")
        connected = cast("socket.socket", self._connection.sock)
        connected.settimeout(timeout_s)
        self._connection.request(
            request.method,
            self._prefix + request.target,
            body=request.body or None,
            headers=headers,
        )
        return self._connection.getresponse()

    def _read_all(self, response: HTTPResponse) -> bytes:
        try:
            body = response.read(ANSWER_BYTES_MAX + 1)
        except (OSError, HTTPException) as error:
            self.close()
            raise ConnectionCut(f"the node at {self.url} broke off: {error}; try again") from error
        if len(body) > ANSWER_BYTES_MAX:
            self.close()
            raise BadAnswer(
                f"the answer is over {size_text(ANSWER_BYTES_MAX)}; ask for less at once"
            )
        return body

    def _explained(self, error: Exception) -> Exception:
        if isinstance(error, TimeoutError | socket.timeout):
            return NodeUnreachable(f"the node at {self.url} does not answer in time; see its log")
        if isinstance(error, ConnectionRefusedError | socket.gaierror):
            return NodeUnreachable(
                f"no node answers at {self.url}; start one with `hansa run`, or give --node URL"
            )
        if isinstance(error, OSError):
            return NodeUnreachable(f"the node at {self.url} cannot be reached: {error}; try again")
        return BadAnswer(f"{self.url} does not speak HTTP as a node does: {error!r}")


def size_text(byte_count: int) -> str:
    """Return a byte count in MiB, for messages."""
    return f"{byte_count >> 20} MiB"


def query_string(query: Query) -> str:
    """Return a query string; lists repeat their name, `None` is left out, booleans are words."""
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        if value is None:
            continue
        if isinstance(value, bool):
            pairs.append((name, "true" if value else "false"))
        elif isinstance(value, str | int):
            pairs.append((name, str(value)))
        else:
            pairs.extend((name, one) for one in value)
    return urlencode(pairs)


def problem_of(status: int, body: bytes) -> ApiProblem | BadAnswer:
    """Return the error that a refusal's body describes (application/problem+json, or OpenAI's)."""
    try:
        found: Any = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return BadAnswer(f"HTTP {status} without a reason ({body[:80]!r}); is it a Hansa node?")
    return problem_from(status, cast("dict[str, Any]", found))


def problem_from(status: int, found: Mapping[str, Any]) -> ApiProblem:
    """Return the error that a problem document says, in whichever of the two shapes."""
    inner = found.get("error")
    if isinstance(inner, dict):
        openai = cast("dict[str, Any]", inner)
        found = {"code": openai.get("code"), "detail": openai.get("message")}
    problems = found.get("problems")
    listed = cast("list[Any]", problems) if isinstance(problems, list) else []
    return ApiProblem(
        status=status,
        code=str(found.get("code") or f"http-{status}"),
        message=str(found.get("detail") or found.get("title") or f"HTTP {status}"),
        problems=[cast("dict[str, Any]", one) for one in listed if isinstance(one, dict)],
        document=found,
    )


def parse_events(lines: Iterable[bytes]) -> Iterator[Event]:
    """Yield the events in the lines of a `text/event-stream`, as the HTML standard reads them.

    Raises:
        BadAnswer: an event is too long, or its data is not JSON.
    """
    name, data, length = "message", list[str](), 0
    for raw in lines:
        length += len(raw)
        if length > EVENT_BYTES_MAX:
            raise BadAnswer(f"an event of over {size_text(EVENT_BYTES_MAX)}; at most that is read")
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if data:
                yield Event(name, _event_json("\n".join(data)))
            name, data, length = "message", [], 0
        elif line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        yield from (line + b"\n" for line in whole)
        if len(rest) > EVENT_BYTES_MAX:
            yield rest  # too long for any event: parse_events refuses it


def _event_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadAnswer(f"an event's data is not JSON: {text[:80]!r}") from error
