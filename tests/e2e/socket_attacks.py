"""Strangers at a port, a process of their own: `python -m tests.e2e.socket_attacks KIND PORT HOW`.

They know how each port's protocol begins and hold no key that a node would honour. They go on
until their standard input ends, and then print one JSON object: what they did and what became of
it. All has a pace and a count: a node is asked to bear hostile bytes here, not to have more
processors than whoever sends them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import ssl
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

PACE_S = 0.01
"""Between two connections of an attack that opens many: at most 100 a second."""
SLOW_COUNT, SLOW_PACE_S = 200, 0.5
IDLE_COUNT = 1000
ENDLESS_COUNT, ENDLESS_BYTES, ENDLESS_PACE_S = 8, 16 * 1024, 0.02
"""Together 6 MB/s."""
HOARD_BYTES, HOARD_S = 500 << 20, 2.5
PATIENCE_S = 3.0
MULTISTREAM = b"\x13/multistream/1.0.0\n"
NOISE = b"\x07/noise\n"
HUGE_FRAME = b"\x82\xff\x7f" + b"\xff" * 7 + bytes(4)
"""Of a WebSocket: 2**63 - 1 bytes."""
CHUNKED = b"Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"


def request_of(options: argparse.Namespace) -> bytes:
    """Return how a harmless request begins at an HTTP port."""
    return (
        f"GET /{options.room or 'v1/node'} HTTP/1.1\r\nHost: 127.0.0.1:{options.port}\r\n".encode()
    )


def upgrade_of(options: argparse.Namespace) -> bytes:
    """Return a whole request that opens a WebSocket."""
    return request_of(options) + (
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )


def client_hello() -> bytes:
    """Return the first bytes of a real TLS handshake."""
    outgoing = ssl.MemoryBIO()
    tls = tls_context().wrap_bio(ssl.MemoryBIO(), outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def opening_of(options: argparse.Namespace) -> bytes:
    """Return how an honest conversation begins, to be cut anywhere."""
    match options.kind:
        case "api" | "live":
            return request_of(options) + b"Accept: */*\r\nUser-Agent: none\r\n\r\n"
        case "peer":
            return client_hello()
        case _:
            return MULTISTREAM + NOISE + b"\x00\x20" + bytes(32)


def announcements_of(options: argparse.Namespace) -> list[bytes]:
    """Return beginnings that announce more than anybody may send."""
    match options.kind:
        case "api":
            post = f"POST /v1/items HTTP/1.1\r\nHost: 127.0.0.1:{options.port}\r\n".encode()
            typed = post + b"Content-Type: application/json\r\n"
            return [
                typed + b"Content-Length: 999999999999\r\n\r\n",
                typed + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n",
                post + CHUNKED + b"FFFFFFFFFFFFFFFF\r\n",
                post + CHUNKED + b"7FFFFFFF\r\n",
            ]
        case "live":
            upgrade = upgrade_of(options).replace(options.room.encode(), b"guess")
            return [upgrade + HUGE_FRAME, upgrade + b"\x82\xfe\xff\xff" + bytes(4)]
        case "peer":
            return [
                b"\x16\x03\x01\xff\xff\x01\xff\xff\xff",
                b"\x16\x03\x03\x40\x00\x01\x00\x3f\xfc",
            ]
        case _:
            return [
                b"\xff\xff\xff\xff\x7f", MULTISTREAM + b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
                MULTISTREAM + NOISE + b"\xff\xff",
            ]  # fmt: skip


def hoard_of(options: argparse.Namespace) -> tuple[bytes, int]:
    """Return how a request with a body begins, and how many bytes of less than that body follow."""
    path, size = ("v1/items", 1 << 20) if options.kind == "api" else ("peer/v1/x", 10 << 20)
    head = request_of(options).replace(b"GET /v1/node", b"POST /" + path.encode())
    said = f"Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    return head + said.encode(), size - 1


def endless_of(options: argparse.Namespace) -> list[tuple[bytes, bytes]]:
    """Return beginnings, each with what comes behind it for ever."""
    match options.kind:
        case "api" | "peer":
            get = request_of(options)
            post = get.replace(b"GET ", b"POST ", 1)
            chunk = b"%x\r\n" % ENDLESS_BYTES + b" " * ENDLESS_BYTES + b"\r\n"
            return [
                (b"GET /", b"a" * ENDLESS_BYTES),
                (get + b"X: ", b"a" * ENDLESS_BYTES),
                (get, b"X: y\r\n" * (ENDLESS_BYTES // 6)),
                (post + CHUNKED, chunk),
                (b"", (get + b"\r\n") * 50),  # asks, and never reads an answer
            ]
        case "live":
            piece = b"\xfe" + ENDLESS_BYTES.to_bytes(2, "big") + bytes(4 + ENDLESS_BYTES)
            return [
                (upgrade_of(options) + b"\x02\x80" + bytes(4), b"\x00" + piece),  # one long message
                (upgrade_of(options), b"\x89\x80" + bytes(4)),  # pings
                (upgrade_of(options) + HUGE_FRAME, piece),
                (request_of(options), b"X: y\r\n" * (ENDLESS_BYTES // 6)),
            ]
        case _:
            return [
                (b"", MULTISTREAM * 100),
                (MULTISTREAM, b"\x03ls\n" * 200),
                (MULTISTREAM + NOISE, b"\xff\xff" + bytes(65535)),
                (MULTISTREAM, b"\xff\xff\xff\xff\x07" + b"a" * ENDLESS_BYTES),
            ]


class Strangers:
    """An attack on one port."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._rng = random.Random(options.seed)
        self._sources = itertools.cycle(f"127.0.{n // 200 + 1}.{n % 200 + 1}" for n in range(4000))
        self.did: Counter[str] = Counter()

    async def garbage(self) -> None:
        """Send what is nothing, and look at what comes back."""
        await self._one_after_another(lambda: self._rng.randbytes(self._rng.randint(1, 4096)))

    async def truncated(self) -> None:
        """Begin as an honest caller does, and go away in the middle."""
        whole = opening_of(self._options)
        await self._one_after_another(
            lambda: whole[: self._rng.randint(1, len(whole) - 1)], patience_s=0.1
        )

    async def lengths(self) -> None:
        """Announce what nobody may send, and send some of it."""
        kinds = itertools.cycle(announcements_of(self._options))
        await self._one_after_another(lambda: next(kinds) + bytes(32 * 1024))

    async def slow(self) -> None:
        """Send an honest beginning a byte at a time."""
        whole = opening_of(self._options)

        async def drip(connection: Connection) -> None:
            for at in itertools.count():
                connection[1].write(whole[at % len(whole) : at % len(whole) + 1])
                await connection[1].drain()
                await asyncio.sleep(SLOW_PACE_S)

        await self._all_at_once(SLOW_COUNT, drip, again_s=0.2)

    async def idle(self) -> None:
        """Hold connections, and say nothing."""

        async def wait(connection: Connection) -> None:
            while await connection[0].read(4096):
                pass

        await self._all_at_once(IDLE_COUNT, wait, again_s=1)

    async def endless(self) -> None:
        """Send without end, and read nothing."""
        kinds = itertools.cycle(endless_of(self._options))
        tls = tls_context() if self._options.kind == "peer" else None

        async def pour(connection: Connection) -> None:
            begin, more = next(kinds)
            connection[1].write(begin)
            while True:
                connection[1].write(more)
                await connection[1].drain()
                self.did["bytes"] += len(more)
                await asyncio.sleep(ENDLESS_PACE_S)

        await self._all_at_once(ENDLESS_COUNT, pour, again_s=1, tls=tls)

    async def hoard(self) -> None:
        """Send all of a great body but its last byte, and wait."""
        begin, size = hoard_of(self._options)
        tls = tls_context() if self._options.kind == "peer" else None
        body = bytes(size)

        async def keep(connection: Connection) -> None:
            connection[1].write(begin)
            connection[1].write(body)
            await connection[1].drain()
            self.did["bytes"] += size
            while await connection[0].read(4096):
                pass

        count = HOARD_BYTES // size
        # Not as fast as the machine copies bytes: what is tried here is what the node keeps.
        await self._all_at_once(count, keep, again_s=5, each_s=HOARD_S / count, tls=tls)

    async def _one_after_another(
        self, made: Callable[[], bytes], *, patience_s: float = PATIENCE_S
    ) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._short(made(), patience_s))
                await asyncio.sleep(PACE_S)

    async def _short(self, raw: bytes, patience_s: float) -> None:
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(patience_s), self._connection() as (reader, writer):
                writer.write(raw)
                await writer.drain()
                while await reader.read(4096):
                    pass
                self.did["closed by the node"] += 1

    async def _all_at_once(
        self, count: int, each: Callable[[Connection], Awaitable[None]], *, again_s: float,
        each_s: float = PACE_S / 10, tls: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        """Hold so many connections, each anew some time after the node closed it."""

        async def hold(number: int) -> None:
            await asyncio.sleep(number * each_s)
            while True:
                with contextlib.suppress(OSError):
                    async with self._connection(tls) as connection:
                        await each(connection)
                self.did["closed by the node"] += 1
                await asyncio.sleep(again_s)

        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(hold(number))

    @contextlib.asynccontextmanager
    async def _connection(self, tls: ssl.SSLContext | None = None) -> Any:
        connection = await asyncio.open_connection(
            "127.0.0.1", self._options.port, ssl=tls, local_addr=(next(self._sources), 0)
        )
        self.did["connections"] += 1
        try:
            yield connection
        finally:
            connection[1].transport.abort()


ATTACKS = ("garbage", "truncated", "lengths", "slow", "idle", "endless", "hoard")
KINDS = ("api", "peer", "p2p", "live")
SIEGES = [
    (kind, attack)
    for kind in KINDS
    for attack in ATTACKS
    if attack != "hoard" or kind in {"api", "peer"}  # elsewhere strangers send no bodies
]


def tls_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _until_told(attack: Coroutine[Any, Any, None]) -> None:
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(attack)
    told = loop.run_in_executor(None, sys.stdin.read)
    await asyncio.wait([running, told], return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def main() -> None:
    """Attack as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("port", type=int)
    parser.add_argument("attack", choices=ATTACKS)
    parser.add_argument("--room", default="", help="the live session's; only `endless` uses it")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    strangers = Strangers(options)
    os.nice(5)  # the machine is the node's and the probes' first
    asyncio.run(_until_told(getattr(strangers, options.attack)()))
    print(json.dumps(strangers.did))


if __name__ == "__main__":
    main()
