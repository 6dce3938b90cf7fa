"""The HTTP client against a real socket: answers, refusals, events, and a world that breaks."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.client import (
    ApiProblem,
    BadAnswer,
    Client,
    ConnectionCut,
    Event,
    Http,
    NodeUnreachable,
    Request,
    parse_events,
    problem_of,
    query_string,
    quoted,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Answers each request on each connection with the next scripted bytes; `None` closes."""

    def __init__(self, *scripts: list[bytes | None]) -> None:
        self.requests: list[bytes] = []
        self.closed = threading.Event()
        self._scripts = scripts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        self._listener.close()
        self._thread.join(5)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        for script in self._scripts:
            connection, _ = self._listener.accept()
            with connection, connection.makefile("rb") as lines:
                for answer in script:
                    head = b""
                    while not head.endswith(b"\r\n\r\n"):
                        head += lines.readline()
                    lengths = [
                        one for one in head.split(b"\r\n") if b"content-length" in one.lower()
                    ]
                    body = lines.read(int(lengths[0].split(b":")[1])) if lengths else b""
                    self.requests.append(head + body)
                    if answer is None:
                        break
                    connection.sendall(answer)
                connection.shutdown(socket.SHUT_RDWR)
            self.closed.set()


@contextmanager
def serving(*scripts: list[bytes | None]) -> Iterator[Server]:
    server = Server(*scripts)
    try:
        yield server
    finally:
        server.stop()


def test_one_connection_serves_many_requests() -> None:
    with serving([OK, OK]) as server:
        client = Client(server.url, operator_token="t0ken")
        assert client.get("/v1/models", {"tag": ["a", "b"], "gpu": True, "none": None}) == {}
        assert client.post("/v1/keys", {"name": "ä"}) == {}
        client.close()
    first, second = server.requests
    assert first.startswith(b"GET /v1/models?tag=a&tag=b&gpu=true HTTP/1.1\r\n")
    assert b"Authorization: Bearer t0ken\r\n" in second
    assert second.endswith(b'{"name":"\\u00e4"}')


def test_a_connection_the_node_closed_while_idle_is_opened_anew() -> None:
    with serving([OK], [OK]) as server:
        client = Client(server.url)
        client.get("/a")
        assert server.closed.wait(5)
        client.get("/b")
        client.close()
    assert len(server.requests) == 2


def test_a_write_that_breaks_off_is_never_sent_twice() -> None:
    with serving([None]) as server:
        with pytest.raises(NodeUnreachable, match="try again"):
            Client(server.url).post("/v1/models", {})
        assert len(server.requests) == 1


def test_no_node_says_how_to_start_one() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    with pytest.raises(NodeUnreachable, match="hansa run"):
        Client(url).get("/v1/node")


@pytest.mark.parametrize("url", ["", "localhost:8420", "ftp://a", "http://", "http://a:port"])
def test_a_url_that_cannot_be_a_nodes_is_refused(url: str) -> None:
    with pytest.raises(NodeUnreachable, match="not a node's URL"):
        Http(url)


def test_a_refusal_carries_the_nodes_code_and_every_bad_field() -> None:
    problem = {
        "status": 422,
        "code": "invalid-record",
        "detail": "2 fields are wrong",
        "problems": [{"field": "name", "value": 3, "message": "must be text"}],
    }
    body = json.dumps(problem).encode()
    head = f"HTTP/1.1 422 No\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with (
        serving([head + body]) as server,
        Client(server.url) as client,
        pytest.raises(ApiProblem) as caught,
    ):
        client.post("/v1/models", {})
    assert caught.value.code == "invalid-record"
    assert caught.value.status == 422
    assert caught.value.problems == (problem["problems"][0],)  # type: ignore[index]


def test_a_refusal_in_openais_shape_is_understood() -> None:
    error = problem_of(429, b'{"error": {"code": "rate-limited", "message": "slow down"}}')
    assert isinstance(error, ApiProblem)
    assert (error.code, str(error), error.status) == ("rate-limited", "slow down", 429)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff", b"null"])
def test_a_refusal_that_is_no_problem_is_a_bad_answer(body: bytes) -> None:
    assert isinstance(problem_of(502, body), BadAnswer)


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<ht>"]
)
def test_what_is_not_a_node_is_said_to_be_none(answer: bytes) -> None:
    with serving([answer]) as server, Client(server.url) as client, pytest.raises(BadAnswer):
        client.get("/v1/node")


def test_events_come_one_by_one_and_a_cut_stream_is_an_error() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    text = b'event: progress\ndata: {"done": 1}\n\n'
    chunk = f"{len(text):x}\r\n".encode() + text + b"\r\n"
    with serving([head + chunk]) as server:
        events = Http(server.url).events(Request("POST", "/v1/serving"))
        assert next(events) == Event("progress", {"done": 1})
        with pytest.raises(ConnectionCut, match="try again"):
            next(events)


def test_event_lines_are_read_as_the_standard_says() -> None:
    lines = [b": comment\n", b"data: [1,\r\n", b"data: 2]\r\n", b"\r\n", b"event: end\n",
             b"data:{}\n", b"\n", b"event: lost\n", b"\n", b"data: 3\n"]  # fmt: skip
    assert list(parse_events(lines)) == [Event("message", [1, 2]), Event("end", {})]


@given(st.lists(st.binary(max_size=20).map(lambda raw: raw + b"\n"), max_size=8))
def test_any_lines_give_events_or_a_bad_answer(lines: list[bytes]) -> None:
    with suppress(BadAnswer):
        list(parse_events(lines))


def test_an_endless_event_is_refused() -> None:
    with pytest.raises(BadAnswer, match="1 MiB"):
        list(parse_events(iter([b"data: " + b"x" * (2 << 20)])))


def test_queries_and_segments_are_escaped() -> None:
    assert query_string({"text": "a&b c", "n": 3, "no": False}) == "text=a%26b+c&n=3&no=false"
    assert quoted("anna/my model") == "anna%2Fmy%20model"
