"""The proxy that counts what two sides of a comparison say to each other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from bench.proxy import HOST, proxy

MANY = os.urandom(3_000_000)
"""More than sockets and buffers hold, so that each end has to wait for the other."""
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[int]:
    """Serve connections in the block, all of them to their end; yield the port."""
    ended: list[asyncio.Future[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ended.append(end)
        try:
            await handler(reader, writer)
            writer.close()
            await writer.wait_closed()
        finally:
            end.set_result(None)

    server = await asyncio.start_server(handle, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*ended)


async def test_bytes_of_both_directions_are_carried_and_counted() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()

    async with served(echo) as port, proxy(port) as between:
        reader, writer = await asyncio.open_connection(HOST, between.port)
        reading = asyncio.create_task(reader.readexactly(len(MANY)))
        writer.write(MANY)
        await writer.drain()
        assert await reading == MANY
        assert between.byte_count == 2 * len(MANY)
        assert between.byte_count_in == len(MANY)
        assert between.connection_count == 1
        writer.close()
        await writer.wait_closed()


async def test_what_one_side_does_not_read_is_not_taken_from_the_other() -> None:
    may_read = asyncio.Event()
    found: list[bytes] = []

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await may_read.wait()
        found.append(await reader.readexactly(len(MANY) * 10))

    async with served(slow) as port, proxy(port) as between:
        reader, writer = await asyncio.open_connection(HOST, between.port)
        sending = asyncio.create_task(send(writer, MANY * 10))
        before = -1
        while between.byte_count != before:  # until nothing moves any more
            before = between.byte_count
            await asyncio.wait([sending], timeout=0.2)
        assert before < len(MANY) * 10
        may_read.set()
        await sending
        assert await reader.read() == b""
        assert found == [MANY * 10]
        writer.close()
        await writer.wait_closed()


async def test_a_side_that_ends_ends_the_other() -> None:
    async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")

    async with served(short) as port, proxy(port) as between:
        reader, writer = await asyncio.open_connection(HOST, between.port)
        assert await reader.read() == b"bye"
        assert (between.byte_count, between.byte_count_in) == (3, 0)
        writer.close()
        await writer.wait_closed()


async def test_where_nobody_listens_the_connection_ends() -> None:
    async with served(lambda _reader, _writer: asyncio.sleep(0)) as port:
        pass
    async with proxy(port) as between:
        reader, writer = await asyncio.open_connection(HOST, between.port)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
