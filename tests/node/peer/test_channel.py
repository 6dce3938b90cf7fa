"""The HTTPS channel between two real sockets: who gets through, and who does not."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web

from crdt import network_id
from node.peer import (
    NodeKey,
    PeerEndpoint,
    PeerLimits,
    PeerPortInUse,
    PeerServer,
    PeerSession,
    PeerUnreachable,
    WrongPeerKey,
    caller_of,
    client_context,
    make_grant,
    where_it_may_be,
)
from node.peer.grants import HEADER

NETWORK = network_id("test")
SERVER = NodeKey(b"\x01" * 32)
CALLER = NodeKey(b"\x02" * 32)
STRANGER = NodeKey(b"\x03" * 32)


class Served:
    """A running peer server and what its one route saw."""

    def __init__(self, server: PeerServer) -> None:
        self.server = server
        self.seen: list[tuple[str, bytes]] = []

    @property
    def endpoint(self) -> PeerEndpoint:
        return self.server.endpoint("127.0.0.1")

    async def echo(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.seen.append((caller_of(request), body))
        return web.Response(body=body)


async def start(
    key: NodeKey = SERVER, limits: PeerLimits | None = None, **options: object
) -> Served:
    server = PeerServer(key, NETWORK, "127.0.0.1", 0, limits=limits, **options)  # type: ignore[arg-type]
    served = Served(server)
    server.add_routes(
        [web.post("/peer/v1/echo", served.echo), web.get("/peer/v1/echo", served.echo)]
    )
    await server.start()
    return served


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    it = await start()
    yield it
    await it.server.stop(grace_s=0.1)


@pytest.fixture
async def session() -> AsyncIterator[PeerSession]:
    it = PeerSession(CALLER, NETWORK)
    yield it
    await it.close()


async def test_a_peer_is_known_by_its_key_and_its_body_arrives(
    served: Served, session: PeerSession
) -> None:
    for number in range(3):
        async with session.post(served.endpoint, "/peer/v1/echo?n=1", b"%d" % number) as answer:
            assert answer.status == 200
            assert await answer.read() == b"%d" % number
    async with session.get(served.endpoint, "/peer/v1/echo") as answer:
        assert answer.status == 200
    assert served.seen == [
        (CALLER.peer, b"0"),
        (CALLER.peer, b"1"),
        (CALLER.peer, b"2"),
        (CALLER.peer, b""),
    ]


async def test_a_large_body_arrives_whole(served: Served, session: PeerSession) -> None:
    body = bytes(3_000_000)
    async with session.post(served.endpoint, "/peer/v1/echo", body) as answer:
        assert await answer.read() == body


async def test_nothing_is_sent_to_a_server_with_another_key(session: PeerSession) -> None:
    impostor = await start(STRANGER)
    meant = replace(impostor.endpoint, peer=SERVER.peer)
    with pytest.raises(WrongPeerKey, match="another key"):
        async with session.post(meant, "/peer/v1/echo", b"secret"):
            pass
    same_key_other_certificate = replace(impostor.endpoint, certificate_sha256=b"\x00" * 32)
    with pytest.raises(WrongPeerKey, match="another certificate"):
        async with session.post(same_key_other_certificate, "/peer/v1/echo", b"secret"):
            pass
    assert impostor.seen == []
    await impostor.server.stop(grace_s=0.1)


async def test_a_request_without_a_fitting_grant_reaches_no_handler(served: Served) -> None:
    url = served.endpoint.url("/peer/v1/echo")
    used = ""

    def grant(**changes: object) -> str:
        facts = {
            "key": CALLER.signing, "network": NETWORK, "server": SERVER.public,
            "purpose": "POST /peer/v1/echo", "body": b"x", "now_s": served.server._now_s(),
            "nonce": b"n" * 16, **changes,
        }  # fmt: skip
        return make_grant(**facts)  # type: ignore[arg-type]

    used = grant()
    pin = aiohttp.Fingerprint(SERVER.certificate_sha256)
    async with aiohttp.ClientSession() as http:

        async def status(header: str | None) -> tuple[int, str]:
            headers = {} if header is None else {"Hansa-Grant": header}
            async with http.post(url, data=b"x", headers=headers, ssl=pin) as answer:
                return answer.status, (await answer.read()).decode()

        assert await status(used) == (200, "x")
        replayed = await status(used)
        assert replayed[0] == 401
        assert "grant-replayed" in replayed[1]
        for header in (
            None, "", "!!", used[:-4], grant(network=network_id("other")),
            grant(server=STRANGER.public), grant(purpose="POST /peer/v1/other"),
            grant(purpose="GET /peer/v1/echo"), grant(body=b"y"),
            grant(now_s=served.server._now_s() - 61), grant(now_s=served.server._now_s() + 600),
        ):  # fmt: skip
            code, text = await status(header)
            assert code == 401, header
            assert "grant-refused" in text, header
    assert len(served.seen) == 1


async def test_a_banned_peer_is_told_so() -> None:
    served = await start(admit=lambda peer: peer != CALLER.peer)
    session = PeerSession(CALLER, NETWORK)
    async with session.post(served.endpoint, "/peer/v1/echo", b"") as answer:
        assert answer.status == 403
    assert served.seen == []
    await session.close()
    await served.server.stop(grace_s=0.1)


async def test_an_oversized_body_is_refused_with_413(session: PeerSession) -> None:
    served = await start(limits=PeerLimits(body_bytes_max=1000))
    async with session.post(served.endpoint, "/peer/v1/echo", b"x" * 1001) as answer:
        assert answer.status == 413
    async with session.post(served.endpoint, "/peer/v1/echo", b"x" * 999) as answer:
        assert answer.status == 200
    await served.server.stop(grace_s=0.1)


async def test_connections_that_never_ask_are_closed_and_counted() -> None:
    served = await start(limits=PeerLimits(header_s=0.2, connection_count_per_address_max=2))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", served.server.port, ssl=context)

    slow = [await connect(), await connect()]
    slow[0][1].write(b"GET /peer/v1/echo HTTP/1.1\r\n")
    third = await connect()  # takes the place of the first, which has waited longest
    third[1].write(b"GET /peer/v1/echo HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await third[0].readline()).startswith(b"HTTP/1.1 401")
    async with asyncio.timeout(5):
        for reader, _writer in slow:
            assert await _end(reader) == b""
    for _reader, writer in [*slow, third]:
        writer.close()
    await served.server.stop(grace_s=0.1)


async def _end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_an_old_tls_version_is_refused(served: Served) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", served.server.port, ssl=context)


async def test_nobody_there_is_unreachable(session: PeerSession, served: Served) -> None:
    endpoint = served.endpoint
    await served.server.stop(grace_s=0.1)
    with pytest.raises(PeerUnreachable, match=str(endpoint.port)):
        async with session.get(endpoint, "/peer/v1/echo"):
            pass


def test_what_is_said_of_a_host_that_does_not_answer_names_the_nat_only_where_one_may_be() -> None:
    assert "behind a NAT" in where_it_may_be("192.168.7.2")
    assert "peer.advertise" in where_it_may_be("fd00::1")
    for host in ("8.8.4.4", "127.0.0.1", "node.example.org"):
        assert where_it_may_be(host) == ""


async def test_a_taken_port_names_the_setting(served: Served) -> None:
    second = PeerServer(SERVER, NETWORK, "127.0.0.1", served.server.port)
    with pytest.raises(PeerPortInUse, match=r"peer\.port"):
        await second.start()


def test_the_certificate_is_the_same_each_time_it_is_made() -> None:
    again = NodeKey(b"\x01" * 32)
    assert again.certificate_der == SERVER.certificate_der
    assert SERVER.certificate_sha256 == hashlib.sha256(again.certificate_der).digest()
    assert again.certificate_der != CALLER.certificate_der


async def test_a_stop_lets_a_body_under_way_arrive() -> None:
    served = await start(now_s=lambda: 1000)
    body = b"x" * 200_000
    grant = make_grant(
        CALLER.signing, NETWORK, SERVER.public, "POST /peer/v1/echo", body,
        now_s=1000, nonce=b"n" * 16,
    )  # fmt: skip
    context = client_context()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.endpoint.port, ssl=context)
    head = (
        f"POST /peer/v1/echo HTTP/1.1\r\nHost: x\r\n{HEADER}: {grant}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body[:1000])
    await writer.drain()
    async with asyncio.timeout(5):
        while not served.server._open_count:  # noqa: ASYNC110 - nothing tells of a beginning
            await asyncio.sleep(0)
    stopping = asyncio.create_task(served.server.stop(grace_s=5))
    await asyncio.sleep(0)
    writer.write(body[1000:])
    answer = await reader.readline()
    assert b"200" in answer
    await stopping
    writer.close()
