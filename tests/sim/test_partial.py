"""Swarms in which some want a part only: they get all of it and no more, and mislead nobody."""

from __future__ import annotations

import pytest

from crdt import (
    EVERYTHING,
    AccountId,
    Item,
    ItemKind,
    PeerId,
    RecordKind,
    RequestReceived,
    Scope,
    SyncMachine,
    sha3,
)
from crdt.answering import Answering
from crdt.frames import CatchUp, encode_request
from crdt.operations import parse_operation
from crdt.reconcile.frames import AskRanges, Compare
from tests.sim.checkers import check_agreement
from tests.sim.swarm import STORM, Swarm, Weather
from tests.writers import NETWORK, Writer, make_receipt

N0, N1, N2, N3 = (PeerId(f"n{number}") for number in range(4))
ANN, BEN = Writer("ann"), Writer("ben")
OF_ANN = Scope(owners=frozenset([ANN.account]))
AGENTS = Scope(kinds=frozenset([RecordKind.AGENT]))


def works(writer: Writer, count: int, kind: RecordKind = RecordKind.MODEL) -> list[Item]:
    """Records of one version and of two."""
    found: list[Item] = []
    for number in range(count):
        slug = f"{kind.name.lower()}{number}"
        found.append(writer.put(b"first", slug=slug, kind=kind))
        if number % 3 == 0:
            found.append(writer.put(b"second", slug=slug, kind=kind, cites=(found[-1],)))
    return found


ITEMS = [
    ANN.genesis,
    BEN.genesis,
    *works(ANN, 12),
    *works(BEN, 30),
    *works(ANN, 6, RecordKind.AGENT),
    *works(BEN, 9, RecordKind.AGENT),
    make_receipt(BEN.account, b"lane", 1, key=BEN.key),
]


def expected(scope: Scope, items: list[Item] = ITEMS) -> set[bytes]:
    return {
        item.id
        for item in items
        if item.kind is not ItemKind.OPERATION or scope.wants(parse_operation(item, NETWORK))
    }


def held(swarm: Swarm, name: PeerId) -> set[bytes]:
    return {item.id for item in swarm.nodes[name].disk.items.values()}


@pytest.mark.parametrize("scope", [OF_ANN, AGENTS, OF_ANN.both(AGENTS)])
@pytest.mark.parametrize("by", ["catch-up", "gossip"])
def test_a_part_is_had_whole_and_nothing_else(scope: Scope, by: str) -> None:
    swarm = Swarm(1, 2)
    if by == "catch-up":
        swarm.publish(N0, ITEMS)
        swarm.run(1_000)
    name = swarm.add_node(scope)
    if by == "gossip":
        swarm.publish(N0, ITEMS)
    swarm.run(60_000)
    assert held(swarm, name) == expected(scope)
    assert held(swarm, N1) == expected(EVERYTHING)
    assert not swarm.dropped


@pytest.mark.parametrize("seed", range(6))
def test_parts_are_had_in_any_weather(seed: int) -> None:
    swarm = Swarm(seed, 2, weather=STORM)
    name, other = swarm.add_node(OF_ANN), swarm.add_node(AGENTS)
    for at in range(0, len(ITEMS), 7):
        swarm.publish(swarm.rng.choice([N0, N1]), ITEMS[: at + 7])
        swarm.run(swarm.rng.randint(10, 3_000))
        if swarm.rng.random() < 0.2:
            swarm.crash(name)
            swarm.start(name)
    swarm.publish(N0, ITEMS)
    swarm.heal()
    swarm.run(300_000)
    assert held(swarm, name) == expected(OF_ANN)
    assert held(swarm, other) == expected(AGENTS)
    assert held(swarm, N0) == held(swarm, N1) == expected(EVERYTHING)


def test_who_meets_a_partial_node_first_is_complete_in_the_end() -> None:
    swarm = Swarm(2, 1)
    swarm.publish(N0, ITEMS)
    part = swarm.add_node(OF_ANN)
    swarm.run(30_000)
    swarm.crash(N0)
    late = swarm.add_node()
    swarm.run(30_000)
    assert held(swarm, late) == expected(OF_ANN)
    status = swarm.nodes[late].machine
    assert status is not None
    (peer,) = status.status().peers
    assert (peer.peer, peer.partial) == (part, True)
    # It has read all that the partial one has, and does not take that for everything.
    assert status._fresh_until_ms < 0
    swarm.start(N0)
    swarm.run(30_000)
    assert held(swarm, late) == expected(EVERYTHING)


def test_partial_nodes_alone_give_each_other_what_both_want() -> None:
    swarm = Swarm(3, 1)
    swarm.nodes[N0].scope = AGENTS
    swarm.crash(N0)
    swarm.start(N0)
    swarm.publish(N0, ITEMS)  # what a node publishes itself, it holds
    name = swarm.add_node(OF_ANN)
    swarm.run(30_000)
    assert held(swarm, N0) == expected(EVERYTHING)
    assert held(swarm, name) == expected(OF_ANN)


def test_a_wider_scope_finds_what_a_narrower_one_has_passed_by() -> None:
    swarm = Swarm(4, 2)
    swarm.publish(N0, ITEMS)
    name = swarm.add_node(OF_ANN)
    swarm.run(60_000)
    for scope in (EVERYTHING, AGENTS, EVERYTHING):
        swarm.crash(name)
        swarm.nodes[name].scope = scope
        swarm.start(name)
        swarm.run(60_000)
    assert held(swarm, name) == expected(EVERYTHING)
    check_agreement(swarm)


def test_only_what_is_wanted_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[int] = []
    honest = Answering._page

    def weighed(self: Answering, request: CatchUp, scope: Scope) -> bytes:
        raw = honest(self, request, scope)
        pages.append(len(raw))
        return raw

    monkeypatch.setattr(Answering, "_page", weighed)
    sizes: dict[bool, int] = {}
    for scope in (EVERYTHING, OF_ANN.both(AGENTS)):
        swarm = Swarm(5, 1)
        swarm.publish(N0, ITEMS)
        pages.clear()
        swarm.add_node(scope)
        swarm.run(5_000)
        sizes[scope.is_all] = max(pages)
    assert sizes[False] < sizes[True] / 4


def test_a_peer_that_knows_no_scopes_is_read_whole_and_the_rest_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = Answering.answer

    def older(self: Answering, peer: PeerId, request: object, now_ms: int) -> bytes | None:
        return None if isinstance(request, Scope) else honest(self, peer, request, now_ms)  # type: ignore[arg-type]

    monkeypatch.setattr(Answering, "answer", older)
    swarm = Swarm(6, 1)
    swarm.publish(N0, ITEMS)
    name = swarm.add_node(AGENTS)
    swarm.run(60_000)
    assert held(swarm, name) == expected(AGENTS)
    assert not swarm.dropped


@pytest.mark.parametrize("censors", [False, True])
def test_the_part_is_what_is_compared(censors: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a cursor has passed by is found by the proof, over the part alone; by ranges, too."""
    asked: list[int] = []
    for method in ("_ranged", "_taken"):
        honest = getattr(Answering, method)

        def noted(self: Answering, *given: object, honest: object = honest) -> object:
            asked.append(self._replica.ids_in(self.scope_of(N1)).rows().shape[0])
            return honest(self, *given)  # type: ignore[operator]

        monkeypatch.setattr(Answering, method, noted)
    swarm = Swarm(7, 1)
    swarm.nodes[N0].censors = censors
    swarm.crash(N0)
    swarm.start(N0)
    swarm.publish(N0, ITEMS)
    name = swarm.add_node(OF_ANN)
    swarm.run(60_000)
    # New writes, and a cursor that has passed by them.
    more = works(ANN, 16, RecordKind.AGENT)[8:] + works(BEN, 60)[40:]
    swarm.crash(name)
    swarm.publish(N0, more)
    swarm.run(5_000)  # what is gossiped reaches nobody
    disk = swarm.nodes[name].disk
    (cursor_name,) = disk.cursors
    disk.cursors.clear()
    swarm.start(name)
    swarm.run(10_000)
    assert held(swarm, name) == expected(OF_ANN, ITEMS + more)
    assert set(disk.cursors) == {cursor_name}
    assert bool(asked) == censors
    if censors:
        assert set(asked) == {len(expected(OF_ANN, ITEMS + more))}


def test_scopes_that_strangers_make_up_cost_a_bounded_amount() -> None:
    swarm = Swarm(8, 1)
    swarm.publish(N0, ITEMS)
    machine = swarm.nodes[N0].machine
    assert isinstance(machine, SyncMachine)
    other = swarm.add_node()
    for number in range(30):
        scope = Scope(owners=frozenset([AccountId(sha3(b"%d" % number))]))
        for frame in (scope, Compare(b"n" * 16), AskRanges(b"n" * 16, 0, 0, (0,))):
            machine.handle(RequestReceived(other, 1, encode_request(frame, NETWORK)), now_ms=9)
    assert len(machine._replica._ids) <= 4
    assert len(machine._answering._moments) <= 4
    assert len(machine._answering._scopes) <= 1


def test_a_scope_that_was_lost_on_the_way_is_said_again() -> None:
    swarm = Swarm(9, 1, weather=Weather(loss=0.5))
    swarm.publish(N0, ITEMS)
    name = swarm.add_node(AGENTS)
    swarm.run(30_000)
    swarm.heal()
    swarm.run(120_000)
    assert held(swarm, name) == expected(AGENTS)
    machine = swarm.nodes[name].machine
    assert machine is not None
    assert all(peer.heeds for peer in machine._peers.values())
