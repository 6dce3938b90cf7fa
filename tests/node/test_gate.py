"""The gate of a port: who gets a place, who keeps it, and who has to go; on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from node.gate import Gate, GateLimits
from node.peer import NodeKey

KEY = NodeKey(b"\x01" * 32)
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
Run = Callable[[Callable[[], Awaitable[None]]], None]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    def on_loop(main: Callable[[], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(asyncio.wait_for(_awaited(main), 20))

    return on_loop


async def _awaited(main: Callable[[], Awaitable[None]]) -> None:
    await main()


class Asked(asyncio.Protocol):
    """Says "held" to b"work" and lets go at b"rest"; reads a body from b"body" until b"end"."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._body = contextlib.ExitStack()

    def connection_lost(self, exc: Exception | None) -> None:
        self._body.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data == b"work":
            self._gate.working(self._transport)
            self._transport.write(b"held")
        elif data == b"rest":
            self._gate.waiting(self._transport)
            self._transport.write(b"done")
        elif data == b"body":
            self._body.enter_context(self._gate.reading(self._transport))
            self._transport.write(b"more")
        elif data.startswith(b"x"):
            if data.endswith(b"end"):
                self._body.close()
            self._transport.write(b"here")


class Port:
    def __init__(self, gate: Gate, number: int) -> None:
        self.gate = gate
        self._number = number
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self, source: str = "127.0.0.1", *, tls: bool = False) -> Connection:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        made = await asyncio.open_connection(
            "127.0.0.1", self._number, local_addr=(source, 0), ssl=context if tls else None
        )
        self._writers.append(made[1])
        return made

    async def busy(self, **options: object) -> Connection:
        made = await self.connect(**options)
        assert await say(made, b"work") == b"held"
        return made

    async def close(self) -> None:
        await self.gate.stop_listening()
        await self.gate.close()
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def say(connection: Connection, what: bytes) -> bytes:
    connection[1].write(what)
    return await connection[0].readexactly(4)


async def is_closed(connection: Connection) -> bool:
    try:
        return await connection[0].read() == b""
    except ConnectionError:
        return True


@asynccontextmanager
async def port(count_max: int, *, tls: bool = False, **limits: float) -> AsyncIterator[Port]:
    gate = Gate(GateLimits(count_max, **limits))
    number = await gate.bind("127.0.0.1", 0)
    gate.start(lambda: Asked(gate), KEY.server_context() if tls else None)
    made = Port(gate, number)
    try:
        yield made
    finally:
        await made.close()
        assert gate.count == 0


def test_a_newcomer_takes_the_place_of_who_waits_longest(run: Run) -> None:
    async def main() -> None:
        async with port(2) as here:
            first, second = await here.connect(), await here.connect()
            third = await here.busy()
            assert await is_closed(first)
            assert await say(second, b"work") == b"held"
            assert await say(third, b"rest") == b"done"
            assert here.gate.count == 2

    run(main)


def test_who_is_being_served_keeps_its_place(run: Run) -> None:
    async def main() -> None:
        async with port(2) as here:
            served = [await here.busy(), await here.busy()]
            assert await is_closed(await here.connect()), "everybody is busy"
            assert await say(served[0], b"rest") == b"done"
            newcomer = await here.busy()
            assert await is_closed(served[0]), "it had been served, and waited"
            assert await say(served[1], b"work") == b"held"
            assert await say(newcomer, b"work") == b"held"

    run(main)


def test_an_address_with_all_its_places_makes_room_among_its_own(run: Run) -> None:
    async def main() -> None:
        async with port(10, address_count_max=2) as here:
            other = await here.connect("127.0.0.2")
            mine = [await here.connect() for _ in range(2)]
            last = await here.busy()
            assert await is_closed(mine[0])
            assert await say(other, b"work") == b"held"
            assert await say(mine[1], b"work") == b"held"
            assert await is_closed(await here.connect())
            assert await say(last, b"work") == b"held"

    run(main)


def test_who_asks_nothing_is_closed_in_time_and_who_asked_is_not(run: Run) -> None:
    async def main() -> None:
        async with port(3, head_s=0.2) as here:
            asked, silent, slow = await here.busy(), await here.connect(), await here.connect()
            slow[1].write(b"wo")
            assert await is_closed(silent)
            assert await is_closed(slow)
            assert await say(asked, b"rest") == b"done"
            assert here.gate.count == 1

    run(main)


def test_a_handshake_that_does_not_end_is_counted_and_makes_room(run: Run) -> None:
    async def main() -> None:
        async with port(2, tls=True) as here:
            silent = [await here.connect() for _ in range(2)]
            good = await here.busy(tls=True)
            assert await is_closed(silent[0])
            other = await here.busy(tls=True)
            assert await is_closed(silent[1])
            assert here.gate.count == 2
            assert [await say(one, b"rest") for one in (good, other)] == [b"done"] * 2

    run(main)


def test_a_handshake_that_does_not_end_is_closed_in_time(run: Run) -> None:
    async def main() -> None:
        async with port(2, tls=True, head_s=0.2) as here:
            begun = await here.connect()
            begun[1].write(b"\x16\x03\x01\xff\xff\x01")
            assert await is_closed(begun)
            assert await is_closed(await here.connect())

    run(main)


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x03\x00\x02\x01\x00", b""])
def test_what_is_no_handshake_gives_its_place_back(run: Run, sent: bytes) -> None:
    async def main() -> None:
        async with port(1, tls=True) as here:
            bad = await here.connect()
            bad[1].write(sent)
            bad[1].write_eof()
            await is_closed(bad)
            good = await here.busy(tls=True)
            assert here.gate.count == 1
            assert await say(good, b"rest") == b"done"

    run(main)


def test_of_bodies_that_are_too_much_together_the_greatest_goes(run: Run) -> None:
    async def main() -> None:
        async with port(9, body_bytes_max=1000) as here:
            great, small, done = [await here.busy() for _ in range(3)]
            for one in (great, small, done):
                assert await say(one, b"body") == b"more"
            assert await say(done, b"x" * 800 + b"end") == b"here", "what was read counts no more"
            assert await say(great, b"x" * 700) == b"here"
            assert await say(small, b"x" * 200) == b"here"
            assert await say(small, b"x" * 200) == b"here"
            assert await is_closed(great)
            assert await say(small, b"x" * 500) == b"here", "its place is free again"
            assert await say(done, b"work") == b"held"

    run(main)


def test_a_taken_port_is_an_error_and_leaves_nothing_open(run: Run) -> None:
    async def main() -> None:
        gate = Gate(GateLimits(1))
        number = await gate.bind("127.0.0.1", 0)
        with pytest.raises(OSError, match="in use"):
            await Gate(GateLimits(1)).bind("127.0.0.1", number)
        await gate.stop_listening()

    run(main)
