"""Whole logs on real network children: nodes without their HTTP side."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from crdt import (
    AccountId,
    BodyRules,
    ReceiptRules,
    Replica,
    SigningKey,
    SyncLimits,
    SyncMachine,
    peer_id_of,
)
from node.adverts import Adverts
from node.app import Node, _Handlers
from node.catalogue import Catalogue
from node.driver import Driver
from node.membership import Membership, MembershipSettings
from node.network import NetworkClient
from node.storage import SqliteReader, open_storage
from tests.node.links import NoProjection
from tests.node.network.swarms import seed_of, settings_for
from tests.writers import NETWORK, AnyBody, LaneReceipts


class _NothingServed:
    def endpoints(self) -> Sequence[Any]:
        return ()

    def builds(self) -> Sequence[Any]:
        return ()

    def offers(self) -> Sequence[Any]:
        return ()


@dataclass
class Running:
    """A node without its HTTP side."""

    network: NetworkClient
    catalogue: Catalogue
    adverts: Adverts
    membership: Membership


@asynccontextmanager
async def running(
    name: str,
    folder: Path,
    *bootstrap: str,
    bodies: BodyRules | None = None,
    receipts: ReceiptRules | None = None,
) -> AsyncIterator[Running]:
    """Run a node from a folder until the block ends."""
    storage = open_storage(folder / f"{name}.sqlite3", NETWORK)
    reader = SqliteReader(folder / f"{name}.sqlite3", NETWORK)
    node = SimpleNamespace(network_id=NETWORK)
    settings = replace(settings_for(name, *bootstrap), network=NETWORK)
    network = NetworkClient(settings, _Handlers(cast("Node", node)))
    replica = Replica(NETWORK, storage, bodies or AnyBody(), receipts or LaneReceipts())
    limits = SyncLimits(catch_up_ms=300, retry_ms=50)
    machine = SyncMachine(replica, random.Random(1), limits)
    node.driver = Driver(machine, NoProjection(), network, NETWORK)
    node.adverts = Adverts(
        key=SigningKey(seed_of(name)),
        operator=AccountId(bytes(32)),
        network=NETWORK,
        sources=_NothingServed(),
        transport=network,
    )
    node.membership = Membership(
        network=NETWORK,
        own=peer_id_of(SigningKey(seed_of(name)).public),
        transport=network,
        path=folder / f"{name}.book",
        settings=MembershipSettings(bootstrap=bootstrap),
        own_addresses=lambda: network.addresses,
        rng=random.Random(1),
    )
    await node.driver.start()
    await node.membership.start()
    await network.start()
    await node.adverts.start()
    try:
        yield Running(
            network, Catalogue(node.driver, reader, NETWORK), node.adverts, node.membership
        )
    finally:
        await node.adverts.stop()
        await node.membership.stop()
        await node.driver.stop()
        await network.stop()
        reader.close()
        storage.close()
