"""Library hosts for the guards' tests: bare ones, ours, and what an attacker does to them."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils.varint import encode_varint_prefixed
from multiaddr.multiaddr import Multiaddr

from node.network import guards
from node.network.access_rules import AccessRules
from node.network.doors import Doors
from tests.node.network.swarms import LOOPBACK, seed_of

TOPIC = "t"
ECHO = TProtocol("/test/echo")
BREAK = TProtocol("/test/break")
WAIT = TProtocol("/test/wait")
MESH = [TProtocol(name) for name in guards.MESH_PROTOCOLS]


def guarded(name: str) -> Any:
    """Return one of our hosts."""
    return _with_handlers(guards.make_host(seed_of(name), 8, doors_for(24)))


def doors_for(count_max: int) -> Doors:
    """Return doors that let anybody in, up to a number."""
    return Doors(AccessRules.parse((), ()), count_max=count_max, group_count_max=count_max)


def bare(name: str, **options: Any) -> Any:
    """Return a host as the library makes it."""
    return _with_handlers(new_host(key_pair=create_new_key_pair(seed_of(name)), **options))


def bare_pubsub(host: Any) -> Any:
    """Return a pubsub service as the library makes it, with our router."""
    return Pubsub(host, guards.make_router(), strict_signing=True)


def _with_handlers(host: Any) -> Any:
    host.set_stream_handler(ECHO, _echo)
    host.set_stream_handler(BREAK, _break)
    host.set_stream_handler(WAIT, _wait)
    return host


async def _echo(stream: Any) -> None:
    await stream.write(await stream.read(16))


async def _break(stream: Any) -> None:
    raise ValueError("a handler's bug")


async def _wait(stream: Any) -> None:
    await trio.sleep_forever()


@asynccontextmanager
async def listening(host: Any) -> AsyncGenerator[Any, None]:
    """Run a host on loopback; gives its address."""
    async with host.run(listen_addrs=[Multiaddr(LOOPBACK)]):
        yield info_from_p2p_addr(host.get_addrs()[0])


@asynccontextmanager
async def gossiping(host: Any, pubsub: Any) -> AsyncGenerator[Any, None]:
    """Run a host with a pubsub service that is subscribed to `TOPIC`."""
    async with (
        listening(host) as info,
        background_trio_service(pubsub),
        background_trio_service(pubsub.router),
    ):
        await pubsub.wait_until_ready()
        await pubsub.subscribe(TOPIC)
        yield info


async def echoes(client: Any, peer: ID) -> bool:
    """Whether a peer still answers."""
    with trio.fail_after(5):
        stream = await client.new_stream(peer, [ECHO])
        await stream.write(b"hello")
        return bool(await stream.read(5) == b"hello")


def muxed_of(host: Any, peer: ID | None = None) -> Any:
    """Return the multiplexed connection that a host has to a peer, or to its only one."""
    return host.get_network().get_connections(peer)[0].muxed_conn


async def until(condition: Callable[[], object], *, timeout_s: float = 5) -> None:
    """Wait for something that the library tells nobody."""
    with trio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110 - the library has no event for it
            await trio.sleep(0.01)


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a test's hosts, in bounded time."""

    async def limited() -> None:
        with trio.fail_after(20):
            await main()

    try:
        trio.run(limited)
    finally:
        gc.collect()


class Judge:
    """Records penalties and deliveries."""

    def __init__(self) -> None:
        self.points: list[int] = []
        self.delivered: list[bytes] = []
        self.allowed = 10**9

    def penalise(self, _peer: ID, points: int, _why: str) -> None:
        self.points.append(points)

    def within_rate(self, _peer: ID) -> bool:
        self.allowed -= 1
        return self.allowed >= 0

    def deliver(self, _forwarder: ID, message: Any) -> None:
        self.delivered.append(message.data)

    def pubsub(self, host: Any) -> Any:
        """Return our pubsub service, reporting here."""
        return guards.make_pubsub(
            host,
            {TOPIC},
            penalise=self.penalise,
            within_rate=self.within_rate,
            deliver=self.deliver,
        )


def message_of(author: Any, data: bytes, number: int, topics: list[str] | None = None) -> Any:
    """Return a gossip message, signed."""
    message = rpc_pb2.Message(
        data=data,
        topicIDs=topics or [TOPIC],
        from_id=author.get_id().to_bytes(),
        seqno=number.to_bytes(8, "big"),
    )
    content = b"libp2p-pubsub:" + message.SerializeToString()
    message.signature = author.get_private_key().sign(content)
    message.key = author.get_public_key().serialize()
    return message


def with_garbage_key() -> Any:
    """Return a gossip message whose key is none."""
    return rpc_pb2.Message(
        data=b"x",
        topicIDs=[TOPIC],
        from_id=b"\x12\x20" + b"A" * 32,
        seqno=b"\4" * 8,
        signature=b"z" * 64,
        key=b"\xff" * 4,
    )


async def send_gossip(client: Any, peer: ID, *messages: Any, raw: bytes = b"") -> None:
    """Send one pubsub RPC with some messages, or raw bytes in its place."""
    stream = await client.new_stream(peer, MESH)
    rpc = rpc_pb2.RPC(publish=messages).SerializeToString()
    await stream.write(raw or encode_varint_prefixed(rpc))


async def subscribed(pubsub: Any) -> Any:
    """Return the library's own queue of what arrives."""
    return await pubsub.subscribe(TOPIC)


def queued(subscription: Any) -> list[bytes]:
    """Return what a subscription holds, without waiting."""
    found: list[bytes] = []
    while True:
        try:
            found.append(subscription.receive_channel.receive_nowait().data)
        except trio.WouldBlock:
            return found
