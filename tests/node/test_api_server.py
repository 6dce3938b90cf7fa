"""The HTTP border: wrong bodies of every kind, request ids, the description and its page."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from aiohttp import web

from node.api.operations import operation
from node.api.server import ApiLimits, ApiServer, PortInUse
from node.metrics import Metrics
from tests.node.api_support import TOKEN, running_api

SEARCH = "/v1/models/search"


@pytest.fixture
async def api(tmp_path):
    async with running_api(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"", 400, "bad-json"),
        (b"{", 400, "bad-json"),
        (b"[]", 400, "bad-json"),
        (b'"x"', 400, "bad-json"),
        (b'{"q": "\xff"}', 400, "bad-json"),
        (b'{"q": NaN}', 400, "bad-json"),
        (b'{"q": "a", "q": "b"}', 400, "bad-json"),
        (b"[" * 100_000, 400, "bad-json"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, 400, "bad-json"),
        (b'{"nonsense": 1}', 422, "bad-query"),
        (b'{"limit": "ten"}', 422, "bad-query"),
        (b'{"limit": 1e400}', 400, "bad-json"),
        (b"x" * 10_000_000, 413, "body-too-large"),
    ],
)
async def test_bad_bodies_are_refused_with_a_code(api, raw, status, code):
    found, problem = await api.ask("POST", SEARCH, raw=raw)
    assert (found, problem["code"], problem["status"]) == (status, code, status)
    assert api.headers["Content-Type"].startswith("application/problem+json")


async def test_brackets_inside_strings_are_not_nesting(api):
    status, _ = await api.ask("POST", SEARCH, value={"q": "[{" * 60 + '"'})
    assert status == 200


async def test_a_long_chunked_body_is_cut_off(api):
    async def pieces():
        for _ in range(200):
            yield b" " * 65536

    async with api.session.post(
        SEARCH, data=pieces(), headers={"Content-Type": "application/json"}
    ) as answer:
        assert answer.status == 413


async def test_other_content_types_and_encodings_are_415(api):
    for headers in ({"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}):
        status, problem = await api.ask("POST", SEARCH, raw=b"{}", headers=headers)
        assert (status, problem["code"]) == (415, "wrong-content-type")


async def test_a_body_that_never_ends_is_408(api):
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    writer.write(
        b"POST /v1/models/search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 10\r\n\r\n{"
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    writer.close()
    await writer.wait_closed()


async def test_bytes_that_are_no_http_are_not_logged(api, caplog):
    for sent in (b"GET /" + b"a" * 20_000, b"GET / HTTP/1.1\r\nX: y\x00\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
        writer.write(sent)
        assert b" 400 " in await reader.readline()
        writer.close()
    assert caplog.records == []


async def test_idle_connections_keep_nobody_out(tmp_path):
    async with running_api(tmp_path, ApiLimits(connection_count_max=3)) as made:
        idle = [await asyncio.open_connection("127.0.0.1", made.server.port) for _ in range(3)]
        status, _answer = await made.ask("POST", SEARCH, raw=b"{}")
        assert status == 200
        assert await idle[0][0].read() == b"", "the first of them had to go"
        for _reader, writer in idle:
            writer.close()


async def test_unknown_paths_and_methods_are_problems(api):
    status, problem = await api.ask("GET", "/v1/nothing")
    assert (status, problem["code"]) == (404, "not-found")
    status, problem = await api.ask("PATCH", "/v1/models")
    assert (status, problem["code"], api.headers["Allow"]) == (
        405, "method-not-allowed", "GET, POST"
    )  # fmt: skip


async def test_a_request_id_is_kept_if_it_is_one_and_made_otherwise(api):
    await api.ask("GET", "/v1/models", headers={"Hansa-Request-Id": "abcdefgh-1"})
    assert api.headers["Hansa-Request-Id"] == "abcdefgh-1"
    for bad in ("short", "x" * 65, "spaces are bad"):
        await api.ask("GET", "/v1/models", headers={"Hansa-Request-Id": bad})
        assert api.headers["Hansa-Request-Id"] != bad


async def test_a_taken_port_is_named_with_its_setting(api):
    other = ApiServer(
        "127.0.0.1", api.server.port, api.server._guard, Metrics(), api.server._limits
    )
    with pytest.raises(PortInUse, match=r"set api\.port"):
        await other.start()


async def test_a_bug_is_a_500_without_its_text(api, monkeypatch):
    def fails(_query):
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(api.catalogue, "search", fails)
    status, problem = await api.ask("GET", "/v1/models")
    assert (status, problem["code"]) == (500, "bug")
    assert "secret" not in json.dumps(problem)


async def test_the_description_is_openapi_and_complete(api):
    status, document = await api.ask("GET", "/openapi.json")
    assert (status, document["openapi"]) == (200, "3.1.0")
    text = json.dumps(document)
    names = set(document["components"]["schemas"])
    used = {one.split('"')[0] for one in text.split("#/components/schemas/")[1:]}
    assert used <= names
    declared = {route.path for route in api.server.routes if route.path.startswith("/v1")}
    assert declared <= set(document["paths"])
    ids = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(ids) == len(set(ids))


async def test_the_page_needs_nothing_from_elsewhere(api):
    for path in ("/docs", "/docs/docs.js", "/docs/docs.css"):
        async with api.session.get(path) as answer:
            text = await answer.text()
            assert answer.status == 200
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert "http://" not in text
            assert "https://" not in text


async def test_the_token_and_keys_are_told_apart(api):
    guard = api.server._guard
    key, _ = api.access.create("agent", now_s=1)

    class Request:
        def __init__(self, given):
            self.headers = {"Authorization": given}

    from node.api.errors import Unauthenticated

    assert (await guard.api_key(Request(f"Bearer {key}"))).name == "agent"
    assert await guard.api_key(Request(f"Bearer {TOKEN}")) is None
    await guard.operator(Request(f"Bearer {TOKEN}"))
    for given in ("", "Bearer", f"Bearer {key}x", f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}é"):
        with pytest.raises(Unauthenticated):
            await guard.api_key(Request(given))
    with pytest.raises(Unauthenticated):
        await guard.operator(Request(f"Bearer {key}"))


@pytest.mark.parametrize(("depth", "status"), [(4, 422), (5, 400)])
async def test_nesting_is_bounded_by_the_setting(tmp_path, depth, status):
    async with running_api(tmp_path, ApiLimits(json_depth_max=4)) as made:
        raw = b'{"a":' * depth + b"1" + b"}" * depth
        found, problem = await made.ask("POST", SEARCH, raw=raw)
        assert found == status
        assert ("nests deeper than 4" in problem["detail"]) is (status == 400)


async def test_a_stop_lets_a_stream_end_and_refuses_what_comes_after(api):
    """A streaming call is not cut by a stop; a new request on an open connection is refused."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    @operation(summary="Stream", tag="test", responses={200: "text/plain"})
    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one ")
        begun.set()
        await go_on.wait()
        await response.write(b"two")
        return response

    server = ApiServer("127.0.0.1", 0, api.server._guard, Metrics(), ApiLimits())
    server.add_routes([web.get("/stream", stream)])
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 404")
    async with aiohttp.ClientSession(server.url) as session, session.get("/stream") as answer:
        await begun.wait()
        stopping = asyncio.create_task(server.stop(grace_s=10))
        await asyncio.sleep(0)
        writer.write(b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b'"stopping"' in await reader.readuntil(b"}")
        go_on.set()
        assert await answer.text() == "one two"
    await stopping
    assert await reader.read() == b""
    writer.close()
