"""Each guard of guards.py against the fault it answers, on a bare library host as on ours.

`bare` tests show that the fault is still there in the installed version; when one of them fails
after an upgrade, its guard can go.
"""

from __future__ import annotations

import gc
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
import trio.testing
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.protocol_muxer import multiselect_communicator
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub, ValidationResult
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.stream_muxer.mplex.mplex import MPLEX_PROTOCOL_ID, Mplex
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils.varint import read_delim
from multiaddr import Multiaddr

from node.network import guards
from tests.node.network.swarms import LOOPBACK, seed_of

# The library forgets sockets of failed handshakes; the collector closes them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
TOPIC = "t"
ECHO = TProtocol("/test/echo")
BREAK = TProtocol("/test/break")


def guarded(name: str) -> Any:
    host = guards.make_host(seed_of(name), 8)
    host.set_stream_handler(ECHO, _echo)
    host.set_stream_handler(BREAK, _break)
    return host


def bare(name: str, **options: Any) -> Any:
    host: Any = new_host(key_pair=create_new_key_pair(seed_of(name)), **options)
    host.set_stream_handler(ECHO, _echo)
    host.set_stream_handler(BREAK, _break)
    return host


async def _echo(stream: Any) -> None:
    await stream.write(await stream.read(16))


async def _break(stream: Any) -> None:
    raise ValueError("a handler's bug")


@asynccontextmanager
async def listening(host: Any) -> AsyncGenerator[Any, None]:
    async with host.run(listen_addrs=[Multiaddr(LOOPBACK)]):
        yield info_from_p2p_addr(host.get_addrs()[0])


@asynccontextmanager
async def gossiping(host: Any, pubsub: Any) -> AsyncGenerator[Any, None]:
    async with (
        listening(host) as info,
        background_trio_service(pubsub),
        background_trio_service(pubsub.router),
    ):
        await pubsub.wait_until_ready()
        await pubsub.subscribe(TOPIC)
        yield info


async def echoes(client: Any, peer: ID) -> bool:
    with trio.fail_after(5):
        stream = await client.new_stream(peer, [ECHO])
        await stream.write(b"hello")
        return bool(await stream.read(5) == b"hello")


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        with trio.fail_after(20):
            await main()

    try:
        trio.run(limited)
    finally:
        gc.collect()


class Judge:
    """Records penalties and deliveries, and judges frames."""

    def __init__(self) -> None:
        self.points: list[int] = []
        self.delivered: list[bytes] = []
        self.allowed = 10**9
        self.changed = trio.Event()

    def penalise(self, _peer: ID, points: int, _why: str) -> None:
        self.points.append(points)
        self.changed.set()

    def within_rate(self, _peer: ID) -> bool:
        self.allowed -= 1
        return self.allowed >= 0

    def deliver(self, _forwarder: ID, message: Any) -> None:
        self.delivered.append(message.data)
        self.changed.set()

    def pubsub(self, host: Any) -> Any:
        return guards.make_pubsub(
            host,
            {TOPIC},
            penalise=self.penalise,
            within_rate=self.within_rate,
            deliver=self.deliver,
        )

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.changed = trio.Event()
            await self.changed.wait()


def test_a_handler_that_raises_ends_a_bare_host_and_not_ours() -> None:
    async def attack(victim: Any) -> None:
        client = guarded("client")
        async with listening(victim) as info, listening(client):
            await client.connect(info)
            with suppress(Exception):  # the victim may reset it while it is being opened
                stream = await client.new_stream(info.peer_id, [BREAK])
                await stream.write(b"x")
            # What the victim answers shows that it has had time to break.
            assert await echoes(client, info.peer_id)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert await echoes(client, info.peer_id)

    run(lambda: attack(guarded("victim")))
    with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever its nursery raises
        run(lambda: attack(bare("victim")))


def test_plaintext_and_mplex_are_refused() -> None:
    key_pair = create_new_key_pair(seed_of("client"))
    plain = {TProtocol(PLAINTEXT_PROTOCOL_ID): InsecureTransport(key_pair)}

    async def connects(victim: Any, client: Any) -> bool:
        async with listening(victim) as info, listening(client):
            try:
                await client.connect(info)
            except Exception:
                return False
            return await echoes(client, info.peer_id)

    async def main() -> None:
        assert await connects(bare("victim"), bare("client", sec_opt=plain)), "the fault is gone"
        assert not await connects(guarded("victim"), bare("client", sec_opt=plain))
        mplex = {TProtocol(MPLEX_PROTOCOL_ID): Mplex}
        assert not await connects(guarded("victim"), bare("client", muxer_opt=mplex))

    run(main)


def test_closed_inbound_connections_give_their_slots_back() -> None:
    limit = 4

    async def served(victim: Any) -> int:
        async with listening(victim) as info:
            for count in range(2 * limit):
                client = guarded(f"client {count}")
                async with listening(client):
                    try:
                        with trio.fail_after(5):
                            await client.connect(info)
                            assert await echoes(client, info.peer_id)
                    except Exception:
                        return count
                    muxed = victim.get_network().get_connections()[0].muxed_conn
                    await client.disconnect(info.peer_id)
                    await muxed.event_closed.wait()
                    await trio.testing.wait_all_tasks_blocked(0.02)
            return 2 * limit

    config = _limited(limit)

    async def main() -> None:
        assert await served(bare("victim", connection_config=config)) == limit, "the fault is gone"
        victim = bare("victim", connection_config=config)
        guards.free_inbound_slots(victim)
        assert await served(victim) == 2 * limit

    run(main)


def _limited(count: int) -> ConnectionConfig:
    return ConnectionConfig(
        min_connections=0, low_watermark=0, high_watermark=count, max_connections=count
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"\x0a" + b"\xff" * 10,
        b"\xff" * 30,
        b"\x80\x80\x80\x08" + b"x" * 100,
    ],
    ids=["not protobuf", "endless length", "16 MiB"],
)
def test_broken_gossip_costs_its_sender_and_nobody_else(raw: bytes) -> None:
    async def main() -> None:
        judge = Judge()
        victim, client = guarded("victim"), guarded("client")
        async with gossiping(victim, judge.pubsub(victim)) as info, listening(client):
            await client.connect(info)
            stream = await client.new_stream(
                info.peer_id, [TProtocol(name) for name in guards.MESH_PROTOCOLS]
            )
            await stream.write(raw)
            await stream.close()
            await trio.testing.wait_all_tasks_blocked(0.1)
            assert await echoes(client, info.peer_id)

    run(main)


def _message(client: Any, data: bytes, number: int, topics: list[str] | None = None) -> Any:
    message = rpc_pb2.Message(
        data=data,
        topicIDs=topics or [TOPIC],
        from_id=client.get_id().to_bytes(),
        seqno=number.to_bytes(8, "big"),
    )
    content = b"libp2p-pubsub:" + message.SerializeToString()
    message.signature = client.get_private_key().sign(content)
    message.key = client.get_public_key().serialize()
    return message


def _garbage_key() -> Any:
    return rpc_pb2.Message(
        data=b"x",
        topicIDs=[TOPIC],
        from_id=b"\x12\x20" + b"A" * 32,
        seqno=b"\4" * 8,
        signature=b"z" * 64,
        key=b"\xff" * 4,
    )


def test_a_garbage_key_ends_a_bare_pubsub_and_not_ours() -> None:
    async def attack(victim: Any, pubsub: Any) -> None:
        async with gossiping(victim, pubsub):
            sender = guarded("client").get_id()
            await pubsub.push_msg(sender, _garbage_key())

    async def main() -> None:
        judge, victim = Judge(), guarded("victim")
        await attack(victim, judge.pubsub(victim))
        assert judge.points == [20]
        other = guarded("victim")
        with pytest.raises(BaseException):  # noqa: B017, PT011 - it ends the service's nursery
            await attack(other, Pubsub(other, guards.make_router()))

    run(main)


def test_messages_out_of_bounds_or_rate_are_dropped_and_counted() -> None:
    async def main() -> None:
        judge, victim, client = Judge(), guarded("victim"), guarded("client")
        pubsub = judge.pubsub(victim)
        async with gossiping(victim, pubsub):
            sender = client.get_id()
            await pubsub.push_msg(sender, _message(client, b"x" * 65537, 1))
            await pubsub.push_msg(sender, _message(client, b"x", 2, [TOPIC, "u"]))
            assert (judge.delivered, judge.points) == ([], [20, 20])
            await pubsub.push_msg(sender, _message(client, b"fits", 3))
            judge.allowed = 0
            await pubsub.push_msg(sender, _message(client, b"too many", 4))
            assert (judge.delivered, judge.points) == ([b"fits"], [20, 20, 1])

    run(main)


def test_a_validator_that_raises_and_a_kept_verdict_let_nothing_through() -> None:
    async def main() -> None:
        judge, victim, client = Judge(), guarded("victim"), guarded("client")
        pubsub = judge.pubsub(victim)

        def judged(_forwarder: ID, message: Any) -> bool:
            if message.data == b"raise":
                raise ValueError("a bug in a validator")
            return bool(message.data == b"good")

        async with gossiping(victim, pubsub):
            pubsub.set_topic_validator(TOPIC, judged, False)
            sender = client.get_id()
            await pubsub.push_msg(sender, _message(client, b"raise", 1))
            assert pubsub.manager.is_running
            # As if 120 s had passed: the message is not "seen" any more, the verdict still kept.
            message = _message(client, b"bad", 2)
            pubsub.validation_cache.put(pubsub.get_message_id(message), ValidationResult(True, 0))
            await pubsub.push_msg(sender, message)
            assert judge.delivered == []
            await pubsub.push_msg(sender, _message(client, b"good", 3))
            assert judge.delivered == [b"good"]

    run(main)


def test_two_hundred_messages_at_once_are_all_delivered() -> None:
    async def main() -> None:
        judge, victim, client = Judge(), guarded("victim"), guarded("client")
        pubsub = judge.pubsub(victim)
        async with gossiping(victim, pubsub):
            for number in range(200):
                await pubsub.push_msg(client.get_id(), _message(client, b"%d" % number, number))
            assert len(judge.delivered) == 200

    run(main)


def test_the_heartbeat_is_a_second_and_numbers_start_in_nanoseconds() -> None:
    host = guarded("host")
    pubsub = Judge().pubsub(host)
    assert pubsub.router.heartbeat_interval == 1
    assert not pubsub.router.adaptive_gossip_enabled
    assert not pubsub.router.spam_protection_enabled
    assert pubsub.counter > 1_700_000_000 * 10**9


def test_nobody_is_dialled_by_itself() -> None:
    config = guards.make_connection_config(8)
    assert (config.min_connections, config.low_watermark) == (0, 0)


def test_a_peer_that_failed_is_dialled_again_at_once() -> None:
    async def tries(client: Any) -> bool:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"/ip4/127.0.0.1/tcp/{free.getsockname()[1]}"
        victim = guarded("victim")
        info = info_from_p2p_addr(Multiaddr(f"{address}/p2p/{victim.get_id()}"))
        async with listening(client):
            with pytest.raises(Exception, match=r".*"):
                await client.connect(info)
            async with victim.run(listen_addrs=[Multiaddr(address)]):
                try:
                    await client.connect(info)
                except Exception:
                    return False
                return True

    async def main() -> None:
        assert not await tries(bare("client")), "the fault is gone"
        assert await tries(guarded("client"))

    run(main)


class _Bytes:
    """A reader of given bytes that counts what was asked for."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.most = 0

    async def read(self, count: int | None = None) -> bytes:
        assert count is not None
        self.most = max(self.most, count)
        part, self.raw = self.raw[:count], self.raw[count:]
        return part


@pytest.mark.parametrize("raw", [b"\xff\xff\xff\x7f" + b"a" * 5000, b"\x03\xff\xfe\n", b"\x02ab"])
def test_negotiation_reads_short_ascii_lines_only(raw: bytes) -> None:
    guards.bound_negotiation()

    async def main() -> None:
        reader = _Bytes(raw)
        communicator = multiselect_communicator.MultiselectCommunicator(reader)  # type: ignore[arg-type]
        with pytest.raises(multiselect_communicator.MultiselectCommunicatorError):
            await communicator.read()
        assert reader.most <= guards.MULTISTREAM_BYTES_MAX

    run(main)


def test_the_librarys_own_negotiation_reads_any_length() -> None:
    async def main() -> None:
        reader = _Bytes(b"\xff\xff\xff\x7f" + b"a" * 5000)
        with pytest.raises(Exception, match=r".*"):
            await read_delim(reader)  # type: ignore[arg-type]
        assert reader.most > 10**8, "the fault is gone"

    run(main)


def test_a_peer_that_overruns_its_window_or_opens_endless_streams_is_closed() -> None:
    async def overrun(muxed: Any) -> None:
        number = muxed.next_stream_id + 1_000_000 | 1
        await muxed._write_frame(struct.pack("!BBHII", 0, 1, 1, number, 0))
        for _ in range(400):
            await muxed._write_frame(struct.pack("!BBHII", 0, 0, 0, number, 65000) + bytes(65000))

    async def flood(muxed: Any) -> None:
        for number in range(1_000_001, 1_001_001, 2):
            await muxed._write_frame(struct.pack("!BBHII", 0, 1, 1, number, 0))

    async def is_closed(attack: Callable[[Any], Awaitable[None]]) -> None:
        victim, client = guarded("victim"), guarded("client")
        async with listening(victim) as info, listening(client):
            await client.connect(info)
            muxed = client.get_network().get_connections(info.peer_id)[0].muxed_conn
            with trio.move_on_after(10):
                with suppress(Exception):  # the attacker's end of a closed connection
                    await attack(muxed)
                await muxed.event_closed.wait()
            assert muxed.event_closed.is_set()

    async def main() -> None:
        await is_closed(overrun)
        await is_closed(flood)

    run(main)
