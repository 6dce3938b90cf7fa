"""A node of the version before and one of this, over real children: each gets what it understands.

The old one is `old_peer.py`, frozen. It has no comparison, no peer exchange and no stamps.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from crdt import NetworkId, unpack_item
from registry import RegistryRules
from royalties import ReceiptRules
from tests.node.links import eventually
from tests.node.network.logs import Running, running
from tests.node.network.old_peer import ADVERTS, ITEMS, OPS_TOPIC, SYNC, OldPeer, old_peer
from tests.wire.encoding_again import decode_plainly
from tests.wire.old_frames import ABSENT, LAST_N, OLD
from tests.wire.town import model
from tests.writers import NETWORK, Writer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
NEW = Writer("new")
"""Somebody whose items only the new node has."""
LATE = [unpack_item(raw) for raw in decode_plainly(OLD["ops"], 2**16)[3]]


@asynccontextmanager
async def new_node(folder: Path) -> AsyncIterator[Running]:
    """A node of this version that holds two items, so that it would rather compare than read."""
    async with running(
        "new", folder, bodies=RegistryRules(), receipts=ReceiptRules(NetworkId(NETWORK))
    ) as node:
        await node.catalogue.publish([NEW.genesis.raw, NEW.put(model()).raw])
        yield node


async def test_a_new_node_catches_up_from_an_old_one_and_asks_only_what_that_knows(
    tmp_path: Path,
) -> None:
    async with new_node(tmp_path) as node, old_peer("old", dials=node.network.addresses[0]) as old:
        await eventually(node.catalogue, 2 + LAST_N)
        (link,) = node.network.peers()
    assert link.direction == "in"
    assert old.strange == [], "a newer node asks an older one only in its own words"
    assert {"after", "adverts?"} <= set(old.asked)


async def test_a_new_node_dials_an_old_one_keeps_it_and_reads_on_when_it_was_synced(
    tmp_path: Path,
) -> None:
    async with new_node(tmp_path) as node, old_peer("old") as old:
        await node.membership.dial(old.address)
        await eventually(node.catalogue, 2 + LAST_N)
        async with asyncio.timeout(10):
            while old.asked.count("after") < 4:  # noqa: ASYNC110 - what a thread has seen
                await asyncio.sleep(0.01)
        (link,) = node.network.peers()
        assert link.direction == "out"
    assert old.strange == []


async def test_an_old_node_asks_a_new_one_and_gets_what_it_understands(tmp_path: Path) -> None:
    answers: dict[str, bytes | None] = {}

    async def asks(old: OldPeer) -> None:
        for name in ("after, from the beginning", "after, ids since 7", "fetch"):
            answers[name] = await old.ask(SYNC, OLD[name])
        answers["adverts?"] = await old.ask(ADVERTS, OLD["adverts?"])

    async with new_node(tmp_path) as node:
        async with old_peer("old", dials=node.network.addresses[0], script=asks) as old:
            await eventually(node.catalogue, 2 + LAST_N)
            async with asyncio.timeout(10):
                while len(answers) < 4:  # noqa: ASYNC110 - what a thread has seen
                    await asyncio.sleep(0.01)
        assert len(node.network.peers()) <= 1
    page = _read(answers["after, from the beginning"], "page", 9)
    assert {NEW.genesis.raw, NEW.put(model()).raw} <= set(page[7])
    assert page[8] == ()
    ids = _read(answers["after, ids since 7"], "page", 9)
    assert NEW.genesis.id in ids[8], "of another epoch: from the beginning"
    items = _read(answers["fetch"], "items", 5)
    assert ABSENT in items[4]
    assert set(items[3]) <= set(ITEMS.values())
    adverts = _read(answers["adverts?"], "adverts", 4)
    assert len(adverts[3]) >= 1
    assert old.strange == []


async def test_gossip_goes_both_ways_between_the_versions(tmp_path: Path) -> None:
    async def gossips(old: OldPeer) -> None:
        await old.until_meshed()
        await old.pubsub.publish(OPS_TOPIC, OLD["ops"])

    async with new_node(tmp_path) as node:
        async with old_peer("old", dials=node.network.addresses[0], script=gossips) as old:
            await eventually(node.catalogue, 2 + LAST_N + len(LATE))
            put = NEW.put(model(version="2.0.0"), slug="more")
            await node.catalogue.publish([put.raw])
            async with asyncio.timeout(10):
                while put.raw not in old.gossiped:  # noqa: ASYNC110 - what a thread has seen
                    await asyncio.sleep(0.01)
        assert node.catalogue.sync_status().arrivals["gossip"] >= len(LATE)
    assert old.strange == []


def _read(raw: bytes | None, tag: str, count: int) -> tuple[object, ...]:
    """Return an answer's fields as the old version reads them: this tag, version 0, so many."""
    assert raw is not None, "the new node gave no answer"
    parts = decode_plainly(raw, 2**20)
    assert parts[:3] == (tag, 0, NETWORK)
    assert len(parts) == count
    return parts
