"""What the library's relay lets strangers do, and ours does not.

A test that says "the fault is gone" after an upgrade means that the library's may be enough.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb
from libp2p.relay.circuit_v2.protocol import CircuitV2Protocol
from libp2p.relay.circuit_v2.resources import RelayLimits as LibraryLimits
from libp2p.tools.anyio_service import background_trio_service

from node.network.access_rules import AccessRules
from node.network.circuits import RelayLimits
from node.network.relay import HOP, STOP, Relay, read_message, write_message
from node.network.relayed import Relayed
from tests.node.network.guard_hosts import Judge, doors_for, guarded, listening, run

# The library forgets sockets of failed handshakes; the collector closes them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
OK, RESERVE, CONNECT = pb.OK, pb.HopMessage.RESERVE, pb.HopMessage.CONNECT
Serving = Callable[..., Any]


@asynccontextmanager
async def library(
    host: Any, *, reservations: int = 8, circuit_s: int = 60, circuit_bytes: int = 1 << 20
) -> AsyncGenerator[None, None]:
    """Let the library serve as a relay on a host."""
    limits = LibraryLimits(
        duration=circuit_s, data=circuit_bytes, max_circuit_conns=2, max_reservations=reservations
    )
    protocol = CircuitV2Protocol(host, limits, allow_hop=True)
    async with background_trio_service(protocol):
        await protocol.event_started.wait()
        yield


@asynccontextmanager
async def ours(
    host: Any, *, reservations: int = 8, circuit_s: float = 60, circuit_bytes: int = 1 << 20
) -> AsyncGenerator[None, None]:
    """Serve as a relay on a host."""
    limits = RelayLimits(
        reservation_count_max=reservations, reservation_group_count_max=reservations,
        circuit_s=circuit_s, circuit_bytes_max=circuit_bytes,
    )  # fmt: skip
    relay = Relay(host, limits, penalise=Judge().penalise, group_of_peer=str, unix_s=lambda: 1000.0)
    host.set_stream_handler(HOP, relay.serve)
    yield


async def signal(client: Any, relay: ID, kind: Any, peer: ID | None = None) -> tuple[Any, int]:
    """Say one word to a relay and return the stream and the answer's status."""
    stream = await client.new_stream(relay, [HOP])
    message = pb.HopMessage(type=kind)
    if peer is not None:
        message.peer.id = peer.to_bytes()
    await write_message(stream, message)
    return stream, int((await read_message(stream, pb.HopMessage)).status)


async def take_and_echo(stream: Any) -> None:
    """Be a callee: take the call, and send back what comes."""
    await read_message(stream, pb.StopMessage)
    await write_message(stream, pb.StopMessage(type=pb.StopMessage.STATUS, status=OK))
    while chunk := await stream.read(1024):
        await stream.write(chunk)


@asynccontextmanager
async def town(serving: Serving, *names: str, **limits: Any) -> AsyncGenerator[Any, None]:
    """Run a relay and peers that are connected to it; gives the relay's id and the peers."""
    relay = guarded("relay")
    async with AsyncExitStack() as stack:
        info = await stack.enter_async_context(listening(relay))
        await stack.enter_async_context(serving(relay, **limits))
        peers: list[Any] = []
        for name in names:
            peer = guarded(name)
            await stack.enter_async_context(listening(peer))
            peer.set_stream_handler(STOP, take_and_echo)
            await peer.connect(info)
            peers.append(peer)
        yield info.peer_id, *peers


async def ends(stream: Any, *, within_s: float) -> bool:
    """Whether a stream on which nothing comes ends in some time."""
    with trio.move_on_after(within_s):
        try:
            return bool(await stream.read(1024) == b"")
        except Exception:
            return True
    return False


def both(judge: Callable[[Serving], Awaitable[bool]]) -> None:
    """Check that something holds of our relay, and not of the library's."""

    async def main() -> None:
        assert not await judge(library), "the fault is gone"
        assert await judge(ours)

    run(main)


def test_nobody_takes_all_reservations_with_made_up_peers() -> None:
    async def honest_is_served(serving: Serving) -> bool:
        async with town(serving, "attacker", "honest", reservations=3) as (relay, bad, good):
            for number in range(8):
                made_up = ID(b"\x00\x24\x08\x01\x12\x20" + bytes([number]) * 32)
                await signal(bad, relay, RESERVE, made_up)
            return (await signal(good, relay, RESERVE))[1] == OK

    both(honest_is_served)


def test_the_end_of_one_circuit_ends_no_other() -> None:
    async def second_lives(serving: Serving) -> bool:
        async with town(serving, "caller", "b", "c") as (relay, caller, *callees):
            streams: list[Any] = []
            for callee in callees:
                assert (await signal(callee, relay, RESERVE))[1] == OK
                stream, status = await signal(caller, relay, CONNECT, callee.get_id())
                assert status == OK
                streams.append(stream)
            await streams[0].reset()
            if await ends(streams[1], within_s=4):
                return False
            await streams[1].write(b"still there")
            return bool(await streams[1].read(1024) == b"still there")

    both(second_lives)


def test_a_circuit_on_which_nobody_speaks_ends_in_time() -> None:
    async def in_time(serving: Serving) -> bool:
        async with town(serving, "caller", "b", circuit_s=1) as (relay, caller, callee):
            await signal(callee, relay, RESERVE)
            stream, status = await signal(caller, relay, CONNECT, callee.get_id())
            assert status == OK
            return await ends(stream, within_s=4)

    both(in_time)


def test_what_a_relay_adds_to_a_circuit_is_never_mixed_into_its_bytes() -> None:
    async def only_its_own(serving: Serving) -> bool:
        async with town(serving, "caller", "b", circuit_bytes=64) as (relay, caller, callee):
            await signal(callee, relay, RESERVE)
            stream, status = await signal(caller, relay, CONNECT, callee.get_id())
            assert status == OK
            heard = bytearray()
            try:
                await stream.write(b"x" * 65)
                with trio.fail_after(5):
                    while chunk := await stream.read(1024):
                        heard += chunk
            except Exception:
                return not heard.strip(b"x")
            return not heard.strip(b"x")

    both(only_its_own)


def test_calls_are_taken_only_from_a_relay_that_was_asked_to_be_one() -> None:
    async def takes(victim: Any, info: Any) -> bool:
        stranger = guarded("stranger")
        async with listening(stranger):
            await stranger.connect(info)
            try:
                stream = await stranger.new_stream(info.peer_id, [STOP])
                await write_message(stream, pb.StopMessage(
                    type=pb.StopMessage.CONNECT, peer=pb.PeerId(id=guarded("x").get_id().to_bytes())
                ))  # fmt: skip
                with trio.fail_after(5):
                    return bool((await read_message(stream, pb.StopMessage)).status == OK)
            except Exception:
                return False

    async def main() -> None:
        victim = guarded("victim")
        protocol = CircuitV2Protocol(victim)
        async with listening(victim) as info, background_trio_service(protocol):
            await protocol.event_started.wait()
            assert await takes(victim, info), "the fault is gone"
        victim, judge = guarded("victim"), Judge()
        relayed = Relayed(
            victim, doors_for(8), AccessRules.parse((), ()), penalise=judge.penalise,
            where=lambda _peer: "", candidates=list, changed=lambda _addresses: None,
            called=lambda _peer: None,
        )  # fmt: skip
        async with listening(victim) as info:
            victim.set_stream_handler(STOP, relayed.serve)
            assert not await takes(victim, info)
            assert judge.points

    run(main)
