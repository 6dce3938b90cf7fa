"""Clients and recorders that the network's tests share."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

from crdt import PeerId, make_genesis, network_id
from crdt.frames import encode_ops
from crdt.signed import SigningKey
from node.network import NetworkClient, NetworkSettings, PeerRefused

NETWORK = network_id("tests")
LOOPBACK = "/ip4/127.0.0.1/tcp/0"


def seed_of(name: str) -> bytes:
    """Return a seed per name."""
    return hashlib.sha256(name.encode()).digest()


def ops_frame(name: str) -> bytes:
    """Return a gossip frame that every node accepts: one account."""
    root, recovery = SigningKey(seed_of(name)), SigningKey(seed_of(f"{name} recovery"))
    return encode_ops([make_genesis(NETWORK, root, recovery.public)], NETWORK)


class Recorder:
    """Handlers that keep what happened and let a test wait for it."""

    def __init__(self) -> None:
        self.connected: set[PeerId] = set()
        self.lost: list[PeerId] = []
        self.frames: list[tuple[str, PeerId, PeerId, bytes]] = []
        self.asked: list[tuple[PeerId, bytes]] = []
        self._changed = asyncio.Event()

    def peer_connected(self, peer: PeerId, address: str) -> None:
        assert peer not in self.connected, "a peer connects once before it is lost"
        self.connected.add(peer)
        self._changed.set()

    def addresses_changed(self) -> None:
        self._changed.set()

    def peer_lost(self, peer: PeerId) -> None:
        self.connected.remove(peer)
        self.lost.append(peer)
        self._changed.set()

    def gossip(self, topic: str, author: PeerId, forwarder: PeerId, data: bytes) -> None:
        self.frames.append((topic, author, forwarder, data))
        self._changed.set()

    async def answer(self, peer: PeerId, protocol: str, payload: bytes) -> bytes:
        self.asked.append((peer, payload))
        self._changed.set()
        if payload == b"refuse":
            raise PeerRefused("the test refuses this")
        if payload == b"fail":
            raise ValueError("a bug")
        if payload == b"hang":
            await asyncio.sleep(3600)
        return payload[::-1]

    def forget(self) -> None:
        """Drop what happened, but not who is connected."""
        self.frames.clear()
        self.asked.clear()
        self.lost.clear()

    async def until(self, condition: Callable[[], object], *, timeout_s: float = 20) -> None:
        """Wait until something holds, looked at after everything that happens."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def settings_for(name: str, *bootstrap: str) -> NetworkSettings:
    """Return settings on loopback with fast pings."""
    return NetworkSettings(
        node_seed=seed_of(name),
        network=NETWORK,
        listen=(LOOPBACK,),
        bootstrap=bootstrap,
        ping_interval_s=0.5,
        ping_timeout_s=0.4,
    )


async def start(name: str, *bootstrap: str) -> tuple[NetworkClient, Recorder]:
    """Start a node's network."""
    recorder = Recorder()
    client = NetworkClient(settings_for(name, *bootstrap), recorder)
    await client.start()
    return client, recorder
