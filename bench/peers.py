"""Nodes for the benchmarks: a store, a driver and the real network, without HTTP around them."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.ingest import NoReceipts
from crdt import PeerId, Replica, SyncMachine, network_id
from node.catalogue import Catalogue
from node.driver import Driver, Refused
from node.network import NetworkClient, NetworkSettings
from node.storage import SqliteReader, open_storage
from registry import RegistryRules

NETWORK = network_id("bench")


class DriverHandlers:
    """Hands what the network reports to the driver."""

    def __init__(self) -> None:
        self.driver: Driver | None = None

    def peer_connected(self, peer: PeerId, address: str) -> None:  # noqa: ARG002
        """Pass it on."""
        if self.driver is not None:
            self.driver.peer_connected(peer)

    def addresses_changed(self) -> None:
        """Nothing: only real nodes have relays."""
        return

    def peer_lost(self, peer: PeerId) -> None:
        """Pass it on."""
        if self.driver is not None:
            self.driver.peer_lost(peer)

    def gossip(self, topic: str, author: PeerId, forwarder: PeerId, data: bytes) -> None:  # noqa: ARG002
        """Pass it on; only the topic of items is used here."""
        if self.driver is not None:
            self.driver.gossip(author, forwarder, data)

    async def answer(self, peer: PeerId, protocol: str, payload: bytes) -> bytes:
        """Let the driver answer catch-up requests, and nobody any others."""
        if self.driver is None or not protocol.endswith(("/sync/0", "/compare/0")):
            raise Refused(f"a benchmark node does not answer {protocol}")
        return await self.driver.answer(peer, payload)


@dataclass(frozen=True, slots=True)
class BenchNode:
    """A node's log and its network."""

    catalogue: Catalogue
    client: NetworkClient


@asynccontextmanager
async def running(name: str, folder: Path, *bootstrap: str) -> AsyncGenerator[BenchNode, None]:
    """Run a node until the block ends."""
    path = folder / f"{name}.sqlite3"
    storage = open_storage(path, NETWORK)
    reader = SqliteReader(path, NETWORK)
    handlers = DriverHandlers()
    seed = hashlib.sha256(name.encode()).digest()
    settings = NetworkSettings(seed, NETWORK, listen=("/ip4/127.0.0.1/tcp/0",), bootstrap=bootstrap)
    client = NetworkClient(settings, handlers)
    replica = Replica(NETWORK, storage, RegistryRules(), NoReceipts())
    machine = SyncMachine(replica, random.Random(name))
    driver = handlers.driver = Driver(machine, storage, client, NETWORK)
    await driver.start()
    try:
        await client.start()
        yield BenchNode(Catalogue(driver, reader, NETWORK), client)
    finally:
        await client.stop()
        await driver.stop()
        reader.close()
        storage.close()


async def holds(node: BenchNode, count: int, *, timeout_s: float) -> None:
    """Return when a node's log holds so many items."""
    changed = asyncio.Event()
    unsubscribe = node.catalogue.subscribe(lambda _changes: changed.set())
    try:
        async with asyncio.timeout(timeout_s):
            while node.catalogue.counts()["items"] < count:
                await changed.wait()
                changed.clear()
    finally:
        unsubscribe()
