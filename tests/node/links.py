"""Drivers in one event loop, linked by memory instead of a network."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from crdt import (
    EVERYTHING,
    NetworkId,
    PeerId,
    RemoteFault,
    Replica,
    Scope,
    StampJudge,
    SyncLimits,
    SyncMachine,
    Verdict,
    WorkRule,
)
from crdt import check_gossip as judge
from node.catalogue import Catalogue
from node.driver import Driver
from node.network import PUBLISH_BYTES_MAX, REQUEST_BYTES_MAX
from node.stamp_desk import StampDesk
from node.storage import SqliteReader, SqliteStorage, open_storage
from tests.writers import NETWORK, AnyBody, LaneReceipts


class NoProjection:
    """A store without search views."""

    def project(self, count_max: int) -> bool:
        return False


class Unreachable(RemoteFault):
    code = "peer-unreachable"


@dataclass
class Link:
    """The `Transport` of one node: calls the others' drivers directly."""

    name: PeerId
    drivers: dict[PeerId, Driver]
    gossips: bool = True
    banned: list[tuple[PeerId, float]] = field(default_factory=list)
    dropped: asyncio.Event = field(default_factory=asyncio.Event)
    network: NetworkId = NETWORK
    apart: set[frozenset[PeerId]] = field(default_factory=set)
    """Pairs that are not connected any more; shared by links that must agree on it."""

    async def publish(self, topic: str, data: bytes) -> None:
        _require_bound(data, PUBLISH_BYTES_MAX)
        if not self.gossips:
            raise Unreachable("no gossip here")
        if judge(data, self.network) is not Verdict.ACCEPT:
            return
        for peer, driver in self.drivers.items():
            if peer != self.name and self._reaches(peer):
                driver.gossip(self.name, self.name, data)

    async def request(
        self,
        peer: PeerId,
        protocol: str,
        payload: bytes,
        *,
        timeout_s: float,
        answer_bytes_max: int,
    ) -> bytes:
        _require_bound(payload, REQUEST_BYTES_MAX)
        driver = self.drivers.get(peer)
        if driver is None or not self._reaches(peer):
            raise Unreachable(f"{peer} is gone")
        try:
            answer = await asyncio.wait_for(driver.answer(self.name, payload), timeout_s)
        except Exception as fault:  # as over a real network: whatever it is, there is no answer
            raise Unreachable(str(fault)) from fault
        _require_bound(answer, answer_bytes_max)
        return answer

    async def drop(self, peer: PeerId, reason: str) -> None:
        self._part(peer)
        self.dropped.set()

    async def ban(self, peer: PeerId, seconds: float) -> None:
        self.banned.append((peer, seconds))
        self._part(peer)

    def connect(self, peer: PeerId) -> None:
        """Let two nodes know of each other (again)."""
        self.apart.discard(frozenset((self.name, peer)))
        self.drivers[self.name].peer_connected(peer)
        self.drivers[peer].peer_connected(self.name)

    def _reaches(self, peer: PeerId) -> bool:
        return frozenset((self.name, peer)) not in self.apart

    def _part(self, peer: PeerId) -> None:
        if self._reaches(peer):
            self.apart.add(frozenset((self.name, peer)))
            for one, other in ((self.name, peer), (peer, self.name)):
                if one in self.drivers:
                    self.drivers[one].peer_lost(other)


def _require_bound(data: bytes, bytes_max: int) -> None:
    if len(data) > bytes_max:
        raise Unreachable(f"{len(data)} bytes; at most {bytes_max}")


@dataclass
class Running:
    """A driver, its catalogue, and what is under them."""

    name: PeerId
    driver: Driver
    catalogue: Catalogue
    link: Link
    storage: SqliteStorage


@asynccontextmanager
async def running(
    name: str,
    folder: Path,
    drivers: dict[PeerId, Driver],
    *,
    gossips: bool = True,
    searches: bool = False,
    rule: WorkRule | None = None,
    scope: Scope = EVERYTHING,
) -> AsyncIterator[Running]:
    """Run a node's log from a folder until the block ends; with a rule, accounts take work."""
    peer = PeerId(name)
    path = folder / f"{name}.sqlite3"
    storage = open_storage(path, NETWORK)
    reader = SqliteReader(path, NETWORK)
    stamps = StampJudge(NETWORK, rule)
    replica = Replica(NETWORK, storage, AnyBody(), LaneReceipts(), stamps)
    limits = SyncLimits(catch_up_ms=200, retry_ms=20)
    machine = SyncMachine(replica, random.Random(1), limits, scope)
    link = Link(peer, drivers, gossips=gossips)
    desk = StampDesk(NETWORK, stamps, replica.seen)
    driver = Driver(machine, storage if searches else NoProjection(), link, NETWORK, desk)
    await driver.start()
    drivers[peer] = driver
    try:
        yield Running(peer, driver, Catalogue(driver, reader, NETWORK), link, storage)
    finally:
        drivers.pop(peer, None)
        await driver.stop()
        reader.close()
        storage.close()


def connect(one: Running, other: Running) -> None:
    """Let two nodes know of each other."""
    one.driver.peer_connected(other.name)
    other.driver.peer_connected(one.name)


async def eventually(catalogue: Catalogue, count: int) -> None:
    """Return when a catalogue holds so many items; woken by its changes, not by a clock."""
    changed = asyncio.Event()
    unsubscribe = catalogue.subscribe(lambda _changes: changed.set())
    try:
        async with asyncio.timeout(10):
            while catalogue.counts()["items"] < count:
                await changed.wait()
                changed.clear()
    finally:
        unsubscribe()
