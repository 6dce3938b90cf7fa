"""A holder that speaks TLS under the right key, and garbage after that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from crdt import HansaError, ManifestDigest
from node.builds import HolderHung, TlsHolder
from node.builds import transfer as transfer_module
from node.peer import (
    NodeKey,
    PeerEndpoint,
    PeerMisbehaved,
    PeerRefused,
    PeerSession,
    PeerUnreachable,
)
from tests.node.builds.swarm import NETWORK

DIGEST = ManifestDigest(b"\x05" * 32)
KEY = NodeKey(b"\x01" * 32)
CALLER = PeerSession(NodeKey(b"\x02" * 32), NETWORK)


@asynccontextmanager
async def answering(raw: bytes, *, close: bool = True) -> AsyncIterator[PeerEndpoint]:
    """A TLS server that answers every request with these bytes."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(raw)
            await writer.drain()
            if not close:
                await ended.wait()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=KEY.server_context())
    port = server.sockets[0].getsockname()[1]
    try:
        yield PeerEndpoint(KEY.peer, "127.0.0.1", port, KEY.certificate_sha256)
    finally:
        ended.set()
        server.close()
        await asyncio.sleep(0)


async def manifest(endpoint: PeerEndpoint) -> bytes:
    holder = TlsHolder(endpoint, CALLER.grant)
    try:
        return await asyncio.to_thread(holder.manifest, DIGEST)
    finally:
        holder.close()


OK = b"HTTP/1.1 200 OK\r\n"
GARBAGE: list[tuple[bytes, type[HansaError]]] = [
    (b"", PeerMisbehaved),
    (b"\x00\xff\r\n\r\n", PeerMisbehaved),
    (b"SSH-2.0-OpenSSH_9\r\n\r\n", PeerMisbehaved),
    (b"HTTP/1.1 abc\r\n\r\n", PeerMisbehaved),
    (b"HTTP/1.1 \xb2\xb2\xb2 x\r\ncontent-length: 1\r\n\r\nx", PeerMisbehaved),
    (OK + b"x" * 9000, PeerMisbehaved),
    (OK + b"\r\n", PeerMisbehaved),
    (OK + b"Content-Length: -1\r\n\r\n", PeerMisbehaved),
    (OK + b"Content-Length: 1e3\r\n\r\n", PeerMisbehaved),
    (OK + b"Content-Length: 99999999999999\r\n\r\nx", PeerMisbehaved),
    (OK + b"Content-Length: 9999999999999999999999\r\n\r\nx", PeerMisbehaved),
    (OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", PeerMisbehaved),
    (OK + b"Content-Length: 5\r\n\r\nhel", PeerMisbehaved),
    (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", PeerMisbehaved),
    (OK + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", PeerMisbehaved),
    (OK + b"no colon\r\nContent-Length: 5\r\n\r\nhello", PeerMisbehaved),
    (b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n", PeerRefused),
    (b"HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\ngone", PeerRefused),
    (b"HTTP/1.1 206 Partial\r\nContent-Length: 5\r\n\r\nhello", PeerRefused),
]


@pytest.mark.parametrize(("raw", "fault"), GARBAGE)
async def test_garbage_is_a_fault_of_the_holder(raw: bytes, fault: type[HansaError]) -> None:
    async with answering(raw) as endpoint:
        with pytest.raises(fault):
            await manifest(endpoint)


async def test_a_plain_answer_is_read() -> None:
    async with answering(OK + b"Content-Length: 5\r\n\r\nhello") as endpoint:
        assert await manifest(endpoint) == b"hello"


@pytest.mark.parametrize("raw", [b"", OK, OK + b"Content-Length: 5\r\n\r\nhe"])
async def test_silence_is_a_hung_holder(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer_module, "SILENCE_S", 0.05)
    async with answering(raw, close=False) as endpoint:
        with pytest.raises(HolderHung):
            await manifest(endpoint)


async def test_closing_ends_a_call_that_is_under_way() -> None:
    async with answering(OK, close=False) as endpoint:
        holder = TlsHolder(endpoint, CALLER.grant)
        started = time.monotonic()
        calling = asyncio.create_task(asyncio.to_thread(holder.manifest, DIGEST))
        async with asyncio.timeout(5):
            while not holder.is_connected:  # noqa: ASYNC110 - a thread's state, not an event
                await asyncio.sleep(0)
        await asyncio.to_thread(holder.close)
        with pytest.raises(HansaError):
            await calling
        assert time.monotonic() - started < transfer_module.SILENCE_S / 2


async def test_nobody_listening_is_unreachable() -> None:
    async with answering(b"") as endpoint:
        pass
    with pytest.raises(PeerUnreachable, match=str(endpoint.port)):
        await manifest(endpoint)
