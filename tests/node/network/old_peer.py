# pyright: reportUnknownMemberType=false, reportCallIssue=false
# (py-libp2p's signatures are partly untyped, and trio's are variadic)
"""A peer of the version before this: it speaks what the code of c412e87 spoke, and nothing else.

A frozen, minimal implementation that shares no code with the product's frames: requests are taken
apart here, answers are the bytes that the old code wrote (`tests/wire/old_frames.hex`) or the same
shape put together here. What it does not understand it refuses, and remembers: a newer node must
never ask it such a thing. On trio, in a thread of the test, over the real libp2p.
"""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgpack  # noqa: TID251 - frozen: what the product's codec does today must not matter here
import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.tools.anyio_service import background_trio_service
from multiaddr.multiaddr import Multiaddr

from node.network import guards
from tests.node.network.guard_hosts import doors_for
from tests.node.network.swarms import LOOPBACK, seed_of
from tests.wire.encoding_again import Refused, decode_plainly
from tests.wire.old_frames import EPOCH, LAST_N, OLD
from tests.writers import NETWORK

PREFIX = f"/hansa/{NETWORK.hex()[:16]}"
SYNC, ADVERTS = f"{PREFIX}/sync/0", f"{PREFIX}/adverts/0"
OPS_TOPIC = f"{PREFIX}/ops/0"
Script = Callable[["OldPeer"], Awaitable[None]]


def _old_items() -> dict[bytes, bytes]:
    """Return the old store: items by id, in order."""
    page = decode_plainly(OLD["page of items"], 2**20)
    ids = decode_plainly(OLD["page of ids"], 2**20)[8]
    return dict(zip(ids, page[7], strict=True))


ITEMS = _old_items()


@dataclass
class OldPeer:
    """What the old peer has met.

    Attributes:
        asked: Requests that it understood, in order: their tags.
        strange: Requests and gossip that it did not.
        gossiped: Items that came by gossip.
        victim: The peer that it is connected to, once it is.
    """

    asked: list[str] = field(default_factory=list)
    strange: list[bytes] = field(default_factory=list)
    gossiped: list[bytes] = field(default_factory=list)
    address: str = ""
    host: Any = None
    pubsub: Any = None
    changed: trio.Event = field(default_factory=trio.Event)

    def answer(self, raw: bytes) -> bytes | None:
        """Return the answer to a request, or None: no answer to this."""
        try:
            parts = decode_plainly(raw, 64 * 1024)
        except Refused:
            parts = ()
        match parts:
            case ("after", 0, network, bytes(epoch), int(n), 0 | 1 as mode) if network == NETWORK:
                self.asked.append("after")
                if epoch == EPOCH and n == LAST_N:
                    return OLD["page at the end"]
                return OLD["page of ids" if mode else "page of items"]
            case ("fetch", 0, network, tuple(ids)) if network == NETWORK:
                self.asked.append("fetch")
                found = [ITEMS[id_] for id_ in ids if id_ in ITEMS]
                absent = [id_ for id_ in ids if id_ not in ITEMS]
                return bytes(msgpack.packb(["items", 0, NETWORK, found, absent]))
            case ("adverts?", 0, network) if network == NETWORK:
                self.asked.append("adverts?")
                return OLD["adverts"]
            case _:
                self.strange.append(raw)
                return None

    def hear(self, raw: bytes) -> None:
        """Take in a gossip frame."""
        try:
            parts = decode_plainly(raw, 60 * 1024)
        except Refused:
            parts = ()
        match parts:
            case ("ops", 0, network, tuple(items)) if network == NETWORK:
                self.gossiped += items
            case _:
                self.strange.append(raw)
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    async def serve(self, stream: Any) -> None:
        """Answer requests on a stream: u32 length and the request; u32 and the answer."""
        while True:
            length = int.from_bytes(await _exactly(stream, 4), "big")
            answer = self.answer(await _exactly(stream, length))
            if answer is None:
                await stream.write(b"\xff\xff\xff\xff")
            else:
                await stream.write(len(answer).to_bytes(4, "big") + answer)

    async def ask(self, protocol: str, request: bytes) -> bytes | None:
        """Return what the node answers to these bytes; None: no answer to this."""
        (victim,) = self.host.get_connected_peers()
        stream = await self.host.new_stream(victim, [TProtocol(protocol)])
        await stream.write(len(request).to_bytes(4, "big") + request)
        length = int.from_bytes(await _exactly(stream, 4), "big")
        found = None if length == 0xFFFFFFFF else await _exactly(stream, length)
        await stream.close()
        return found

    async def until_connected(self) -> ID:
        """Wait for a peer; the library has no event for it."""
        while not self.host.get_connected_peers():  # noqa: ASYNC110
            await trio.sleep(0.01)
        peer: ID = self.host.get_connected_peers()[0]
        return peer

    async def until_meshed(self) -> None:
        """Wait until the node hears our topic; the library has no event for it."""
        while not self.pubsub.router.mesh.get(OPS_TOPIC):  # noqa: ASYNC110
            await trio.sleep(0.01)


async def _exactly(stream: Any, length: int) -> bytes:
    found = bytearray()
    while len(found) < length:
        part = await stream.read(length - len(found))
        if not part:
            raise EOFError("the stream ended")
        found += part
    return bytes(found)


async def _nothing(_peer: OldPeer) -> None:
    """Only be there."""


@asynccontextmanager
async def old_peer(
    name: str, *, dials: str | None = None, script: Script = _nothing
) -> AsyncGenerator[OldPeer, None]:
    """Run an old peer until the block ends; its script must have ended well by then."""
    ended = threading.Event()
    started: queue.Queue[OldPeer | BaseException] = queue.Queue()

    async def main() -> None:
        peer = OldPeer()
        peer.host = guards.make_host(seed_of(name), 8, doors_for(24))
        for protocol in (SYNC, ADVERTS):
            peer.host.set_stream_handler(TProtocol(protocol), peer.serve)
        peer.pubsub = guards.make_pubsub(
            peer.host,
            {OPS_TOPIC},
            penalise=lambda *_: None,
            within_rate=lambda _: True,
            deliver=lambda _, message: peer.hear(bytes(message.data)),
        )
        async with (
            peer.host.run(listen_addrs=[Multiaddr(LOOPBACK)]),
            background_trio_service(peer.pubsub),
            background_trio_service(peer.pubsub.router),
        ):
            await peer.pubsub.wait_until_ready()
            await peer.pubsub.subscribe(OPS_TOPIC)
            peer.address = str(peer.host.get_addrs()[0])
            if dials is not None:
                await peer.host.connect(info_from_p2p_addr(Multiaddr(dials)))
            started.put(peer)
            with trio.fail_after(30):
                await script(peer)
                await trio.to_thread.run_sync(ended.wait, abandon_on_cancel=True)
            with trio.CancelScope(shield=True):
                for other in peer.host.get_connected_peers():
                    await guards.close_sockets(peer.host, other)

    def run() -> None:
        try:
            trio.run(main)
        except BaseException as error:
            started.put(error)
            raise

    thread = asyncio.create_task(asyncio.to_thread(run))
    try:
        peer = await asyncio.to_thread(started.get)
        if isinstance(peer, BaseException):
            raise peer
        yield peer
    finally:
        ended.set()
        await thread
        gc.collect()  # the library forgets sockets; better here than in another test
