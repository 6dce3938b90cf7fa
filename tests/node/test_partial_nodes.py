"""Nodes that want a part only, over SQLite and the real drivers: what each holds and says."""

from __future__ import annotations

from pathlib import Path

from crdt import PeerId, RecordKind, Scope
from node.api.node_views import sync_view
from node.driver import Driver
from tests.node.links import connect, eventually, running
from tests.writers import Writer

ANN, BEN = Writer("ann"), Writer("ben")
AGENTS_OF_ANN = Scope(frozenset([RecordKind.AGENT]), frozenset([ANN.account]))
MODEL, AGENT = RecordKind.MODEL, RecordKind.AGENT
Drivers = dict[PeerId, Driver]


def works(slug: str) -> list[bytes]:
    """A model and an agent of either of two people."""
    return [who.put(slug=slug, kind=kind).raw for who in (ANN, BEN) for kind in (MODEL, AGENT)]


async def test_a_partial_node_holds_its_part_and_others_complete_themselves_elsewhere(
    tmp_path: Path,
) -> None:
    drivers: Drivers = {}
    first = [ANN.genesis.raw, BEN.genesis.raw, *works("one"), *works("two")]
    async with (
        running("a", tmp_path, drivers) as whole,
        running("b", tmp_path, drivers, scope=AGENTS_OF_ANN) as part,
    ):
        await whole.catalogue.publish(first)
        connect(whole, part)
        await eventually(part.catalogue, 4)
        # By gossip, too; what is not wanted has passed when what is wanted and came later is here.
        await whole.catalogue.publish(works("three"))
        await whole.catalogue.publish([ANN.put(slug="four", kind=AGENT).raw])
        await eventually(part.catalogue, 6)
        slugs = ("one", "two", "three", "four")
        assert all(part.catalogue.record(ANN.record(slug, AGENT)) for slug in slugs)
        assert part.catalogue.record(ANN.record("one", MODEL)) is None
        assert part.catalogue.record(BEN.record("one", AGENT)) is None

        said = sync_view(part.driver.sync_status())
        assert (said.partial, said.kinds, said.owners) == (True, ["agent"], [ANN.account.hex()])
        seen = sync_view(whole.driver.sync_status())
        assert (seen.partial, seen.kinds, seen.owners) == (False, ["model", "agent"], [])
        assert [(one.peer, one.partial) for one in seen.items] == [("b", True)]
        assert [(one.peer, one.partial) for one in said.items] == [("a", False)]

        async with running("c", tmp_path, drivers) as late:
            connect(part, late)
            await eventually(late.catalogue, 6)
            connect(whole, late)
            await eventually(late.catalogue, 15)


async def test_a_node_that_wants_more_than_before_gets_the_rest_after_a_restart(
    tmp_path: Path,
) -> None:
    drivers: Drivers = {}
    async with running("a", tmp_path, drivers) as whole:
        await whole.catalogue.publish([ANN.genesis.raw, BEN.genesis.raw, *works("one")])
        for scope, count in (
            (AGENTS_OF_ANN, 3),
            (Scope(frozenset([AGENT])), 4),
            (Scope(owners=frozenset([ANN.account])), 5),
            (Scope(), 6),
        ):
            async with running("b", tmp_path, drivers, scope=scope) as part:
                connect(whole, part)
                await eventually(part.catalogue, count)
                assert part.catalogue.counts()["items"] == count
                whole.driver.peer_lost(part.name)
