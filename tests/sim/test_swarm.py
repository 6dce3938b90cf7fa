"""Swarms agree whatever happens to them, and the simulator would notice if they did not."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import crdt.reconcile.comparing
import crdt.reconcile.sketches
from crdt import Cursor, Item, PeerId, RemoteFault, Scope, SyncLimits, encode, unpack_item
from crdt.answering import Answering
from crdt.frames import CatchUp
from tests.crdt.replicas import accept, new_replica
from tests.sim import worlds
from tests.sim.checkers import Watch, check_agreement, check_safety, views
from tests.sim.disks import Torn, copy_of
from tests.sim.independent import Violation
from tests.sim.liars import LIARS, RANGE_LIARS
from tests.sim.mutations import mutated_item
from tests.sim.scenario import live, prune, store_copied
from tests.sim.swarm import Clock, Swarm, Weather
from tests.writers import NETWORK, Writer

N0, N1, N2 = PeerId("n0"), PeerId("n1"), PeerId("n2")
ANN = Writer("ann")
N1_EPOCH = b"of n1 and no one"
ERAS = {worlds.put: 30, worlds.checkpoint: 40, worlds.rotate: 40}
"""Moves that make eras, and end them."""


def chain(count: int, body: bytes = b"body") -> list[Item]:
    """Ann's genesis and a line of versions, each citing the last."""
    items = [ANN.put(body)]
    for number in range(1, count):
        items.append(ANN.put(body + b"%d" % number, cites=(items[-1],)))
    return [ANN.genesis, *items]


@pytest.mark.parametrize("seed", range(1, 7))
def test_lives_of_small_swarms_end_in_agreement(seed: int) -> None:
    live(seed, 5, 40)


def test_one_seed_twice_is_one_history_and_two_seeds_are_two() -> None:
    first, again, other = (live(seed, 4, 20).history for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_a_history_is_the_same_in_every_process() -> None:
    """Nothing hangs on the order of a set, which Python draws anew for each process."""
    command = [sys.executable, "-m", "tests.sim", "--seed", "7", "--nodes", "4"]
    root = Path(__file__).resolve().parents[2]
    outputs = {
        subprocess.run(
            command,
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize("old", [(N0,), (N1, N2)])
def test_nodes_of_two_versions_agree_and_blame_nobody(old: tuple[PeerId, ...]) -> None:
    """Stores of both hold something when they meet, so that the newer would rather compare."""
    swarm = Swarm(5, 4, limits=SyncLimits(compare_ms=20_000))
    for one, other in itertools.combinations(swarm.nodes, 2):
        swarm.cut(one, other)
    for name, node in swarm.nodes.items():
        node.is_old = name in old
        writer = Writer(f"of {name}")
        swarm.publish(name, [writer.genesis, writer.put(b"body")])
    swarm.heal()
    swarm.run(120_000)
    check_agreement(swarm)
    assert len(swarm.nodes[N0].disk.items) == 8
    assert swarm.dropped == []


def test_a_write_reaches_everybody_by_gossip_at_once() -> None:
    swarm = Swarm(1, 4)
    swarm.run(100)
    swarm.publish(N0, chain(1))
    swarm.run(100)
    check_agreement(swarm)


def test_a_late_joiner_gets_everything_by_catch_up() -> None:
    swarm = Swarm(1, 2)
    swarm.publish(N0, chain(300, b"x" * 3000))
    swarm.run(5_000)
    late = swarm.add_node()
    swarm.run(5_000)
    check_agreement(swarm)
    status = swarm.nodes[late].machine.status()  # type: ignore[union-attr]
    assert all(peer.synced for peer in status.peers)


def test_catch_up_resumes_after_a_crash_where_it_stopped() -> None:
    swarm = Swarm(1, 1, weather=Weather(delay_ms=(50, 50)))
    items = chain(300, b"x" * 3000)
    swarm.publish(N0, items)
    late = swarm.add_node()
    disk = swarm.nodes[late].disk
    while disk.last_n < 100:
        swarm.run(10)
    swarm.crash(late)
    assert 0 < disk.cursors[N0].n == disk.last_n < len(items)
    before = disk.last_n
    swarm.run(1_000)  # what was under way is lost
    swarm.start(late)
    asked: list[int] = []
    swarm.nodes[N0].liar = lambda raw, _rng: (asked.append(len(raw)), raw)[1]
    swarm.run(20_000)
    swarm.nodes[N0].liar = None
    check_agreement(swarm)
    total = sum(len(item.raw) for item in items)
    # The first answers are not sent again: about the rest, and not the whole.
    assert sum(asked) < total * (len(items) - before) / len(items) + 10_000


def test_gossip_that_was_lost_comes_by_catch_up() -> None:
    swarm = Swarm(1, 3, weather=Weather(loss=1.0))
    swarm.publish(N0, chain(5))
    swarm.run(1_000)
    assert not swarm.nodes[N1].disk.items
    swarm.heal()
    swarm.run(60_000)
    check_agreement(swarm)


def test_an_item_too_big_for_gossip_is_fetched() -> None:
    swarm = Swarm(1, 3)
    swarm.run(1_000)
    swarm.publish(N0, [ANN.genesis, ANN.put(b"x" * 65_000)])
    swarm.run(1_000)
    check_agreement(swarm)


def test_a_store_made_anew_is_read_from_the_beginning() -> None:
    swarm = Swarm(1, 2)
    items = chain(3)
    swarm.publish(N0, items)
    swarm.run(1_000)
    swarm.crash(N0)
    lost = swarm.nodes[N0].disk
    swarm.nodes[N0].disk = type(lost)(b"n" * 16)
    swarm.start(N0)
    swarm.run(60_000)
    check_agreement(swarm)
    swarm.publish(N0, [ANN.put(b"after", cites=(items[-1],))])
    swarm.run(60_000)
    check_agreement(swarm)


@pytest.mark.parametrize("liar", LIARS, ids=lambda liar: liar.__name__)
def test_a_lying_peer_hides_nothing_that_an_honest_one_shows(liar: Callable[..., bytes]) -> None:
    swarm = Swarm(2, 3)
    swarm.nodes[N1].liar = liar
    swarm.publish(N0, chain(50, b"x" * 3000))
    swarm.run(10_000)
    swarm.cut(N0, N1)
    late = swarm.add_node()
    swarm.run(200_000)
    check_safety(swarm)
    check_agreement(swarm)
    assert len(swarm.nodes[late].disk.operations) == 50


def test_a_full_disk_loses_nothing_that_was_acknowledged() -> None:
    swarm = Swarm(1, 2)
    swarm.run(1_000)
    swarm.nodes[N0].disk.failing_commits = 1
    assert swarm.publish(N0, chain(1)) == ()
    swarm.nodes[N1].disk.failing_commits = 1
    swarm.publish(N0, chain(2))
    swarm.run(120_000)
    check_agreement(swarm)


def test_an_honest_peer_is_never_dropped() -> None:
    for seed in range(4):
        swarm = Swarm(seed, 4, weather=Weather(loss=0.3, copies=0.3, delay_ms=(1, 2_000)))
        for item in chain(20):
            swarm.publish(swarm.rng.choice(sorted(swarm.nodes)), [ANN.genesis, item])
            swarm.run(200)
        swarm.heal()
        swarm.run(60_000)
        assert not swarm.dropped


def waits_and_is_wrong(eve: Writer, count: int) -> tuple[Item, bytes]:
    """A good write, and a gossip frame of bad ones that wait for it: found bad when it comes."""
    cause = eve.put(b"cause %d" % count)
    wrong = [
        eve.put(b"wrong %d" % number, cites=(cause,), depth=9, timestamp_s=number).raw
        for number in range(count)
    ]
    return cause, encode(["ops", 0, NETWORK, wrong])


def test_who_passed_gossip_on_does_not_pay_for_it_when_its_cause_is_fetched() -> None:
    swarm, eve = Swarm(1, 4), Writer("eve")
    swarm.nodes[N1].liar = lambda raw, _rng: raw
    cause, frame = waits_and_is_wrong(eve, 24)
    swarm.run(1_000)
    swarm.inject(N1, encode(["ops", 0, NETWORK, [eve.genesis.raw]]), list(swarm.nodes))
    swarm.run(200)
    swarm.inject(N1, frame, [N2])
    swarm.run(200)
    swarm.weather = Weather(loss=1.0)
    swarm.publish(N2, [eve.genesis, cause])
    swarm.run(1_000)
    swarm.weather = Weather()
    swarm.run(120_000)
    check_safety(swarm)
    assert {peer for _, peer, _ in swarm.dropped} <= {N1}


def test_who_gossips_a_cause_does_not_pay_for_what_waited_for_it() -> None:
    swarm, eve = Swarm(1, 4), Writer("eve")
    swarm.nodes[N1].liar = lambda raw, _rng: raw
    swarm.run(1_000)
    swarm.inject(N1, encode(["ops", 0, NETWORK, [eve.genesis.raw]]), list(swarm.nodes))
    for count in range(2, 16):
        cause, frame = waits_and_is_wrong(eve, count)
        swarm.inject(N1, frame, list(swarm.nodes))
        swarm.run(200)
        swarm.publish(N0, [eve.genesis, cause])
        swarm.run(200)
    check_safety(swarm)
    assert {peer for _, peer, _ in swarm.dropped} == {N1}


def test_what_one_does_not_hear_comes_when_it_does() -> None:
    swarm = Swarm(1, 2)
    swarm.run(1_000)
    swarm.cut_one_way(N0, N1)
    swarm.publish(N0, chain(3))
    swarm.publish(N1, [ANN.genesis, ANN.put(b"other", slug="other")])
    swarm.run(60_000)
    assert not swarm.nodes[N1].disk.records.get(ANN.record())
    assert ANN.record("other") in swarm.nodes[N0].disk.records
    swarm.heal()
    swarm.run(120_000)
    check_agreement(swarm)


@pytest.mark.parametrize("torn", list(Torn))
def test_a_node_that_dies_in_a_commit_has_all_of_it_or_nothing(torn: Torn) -> None:
    swarm = Swarm(1, 2)
    swarm.run(1_000)
    swarm.nodes[N0].fate.next_commit = torn
    assert swarm.publish(N0, chain(2)) == ()
    assert swarm.nodes[N0].machine is None
    assert len(swarm.nodes[N0].disk.items) == (3 if torn is Torn.WHOLE else 0)
    swarm.heal()
    swarm.run(120_000)
    check_safety(swarm)
    check_agreement(swarm)
    assert len(swarm.nodes[N1].disk.items) == len(swarm.nodes[N0].disk.items)


def test_clocks_that_differ_and_jump_hold_nobody_up() -> None:
    swarm = Swarm(1, 3)
    swarm.nodes[N1].clock = Clock(0.9, 86_400_000)
    swarm.nodes[N2].clock = Clock(1.1)
    swarm.publish(N0, chain(3))
    for name in (N1, N2, N0):
        swarm.run(1_000)
        swarm.jump(name, 3_600_000)
    swarm.publish(N1, [ANN.put(b"late", slug="late")])
    swarm.run(60_000)
    check_agreement(swarm)


def test_pruned_nodes_show_the_same() -> None:
    """Found: a page of a store whose newest items were dropped was never done."""
    lives = [live(seed, 4, 60, emphasis=ERAS, more_steps={prune: 30}) for seed in range(5)]
    assert any(one.options.pruning for one in lives)


# The checkers


def test_a_disk_that_is_one_commit_older_is_a_loss() -> None:
    """The worst that a disk can do is to forget what it said is safe."""
    swarm = Swarm(1, 1)
    swarm.publish(N0, chain(1))
    older = copy_of(swarm.nodes[N0].disk)
    swarm.publish(N0, chain(2))
    check_safety(swarm)
    swarm.crash(N0)
    swarm.nodes[N0].disk = older
    swarm.start(N0)
    with pytest.raises(Violation, match="lost"):
        check_safety(swarm)


def test_a_loss_is_a_loss_though_another_node_has_it() -> None:
    swarm = Swarm(1, 2)
    swarm.run(1_000)
    older = copy_of(swarm.nodes[N0].disk)
    swarm.publish(N0, chain(1))
    swarm.run(1_000)
    check_safety(swarm)
    swarm.nodes[N0].disk = older
    with pytest.raises(Violation, match="lost"):
        check_safety(swarm)


def test_an_item_in_other_bytes_is_noticed() -> None:
    swarm, watch = Swarm(1, 1), Watch()
    put = ANN.put()
    for item in (ANN.genesis, put):
        watch.note(item, ANN.account)
    swarm.publish(N0, [ANN.genesis, put])
    disk = swarm.nodes[N0].disk
    check_safety(swarm, watch)
    (n,) = (n for n, item in disk.items.items() if item.id == put.id)
    disk.items[n] = put._replace(raw=b"\xdc\x00\x05" + put.raw[1:])
    with pytest.raises(Violation, match="unauthentic"):
        check_safety(swarm, Watch(watch.signed, watch.people))


def test_an_effect_without_its_cause_is_noticed() -> None:
    swarm = Swarm(1, 1)
    swarm.publish(N0, chain(2))
    disk = swarm.nodes[N0].disk
    swarm.nodes[N0].acknowledged.clear()
    del disk.items[disk.numbers.pop(chain(1)[1].id)]
    with pytest.raises(Violation, match="effect before cause"):
        check_safety(swarm)


def test_equal_sets_that_show_different_states_are_noticed() -> None:
    swarm = Swarm(1, 2)
    swarm.publish(N0, chain(2))
    swarm.run(1_000)
    check_safety(swarm)
    records = swarm.nodes[N1].disk.records
    change = records[ANN.record()]
    records[ANN.record()] = change._replace(register=change.register._replace(deleted=True))
    with pytest.raises(Violation, match="divergence"):
        check_safety(swarm)


def test_an_honest_peer_that_was_dropped_is_noticed() -> None:
    swarm = Swarm(1, 2)
    swarm.dropped.append((N0, N1, "no reason"))
    with pytest.raises(Violation, match="honest peer dropped"):
        check_safety(swarm)


def test_no_mutation_of_an_item_is_admitted() -> None:
    rng = random.Random(5)
    items = [*chain(3), ANN.delete(cites=(chain(3)[-1],))]
    for _ in range(500):
        raw = mutated_item(rng.choice(items).raw, rng)
        assert raw not in {item.raw for item in items}
        replica = new_replica()
        accept(replica, *items[:2])
        with suppress(RemoteFault):
            accepted = accept(replica, unpack_item(raw))
            assert accepted.admitted == ()


def test_views_leave_liars_out() -> None:
    swarm = Swarm(1, 2)
    swarm.nodes[N1].liar = LIARS[0]
    assert set(views(swarm)) == {N0}


def test_a_copied_store_is_compared_and_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was restored or copied has another epoch: cursors are void, what it holds is not."""
    pages: list[int] = []
    honest = Answering._page

    def counted(self: Answering, request: CatchUp, scope: Scope) -> bytes:
        pages.append(request.after_n)
        return honest(self, request, scope)

    swarm = Swarm(3, 2)
    items = chain(300)
    swarm.publish(N0, items[:290])
    swarm.run(60_000)
    check_agreement(swarm)
    swarm.crash(N0)
    swarm.nodes[N0].disk.epoch = b"c" * 16  # a copy
    swarm.publish(N1, items[290:])
    monkeypatch.setattr(Answering, "_page", counted)
    swarm.start(N0)
    swarm.run(10_000)
    check_agreement(swarm)
    there = swarm.nodes[N1].disk.cursors[N0]
    assert (there.epoch, there.n) == (b"c" * 16, swarm.nodes[N0].disk.last_n)
    # The one page that showed the new epoch, and those that follow once a cursor is known.
    assert all(n == 0 or n >= 290 for n in pages)
    assert pages.count(0) <= 1


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What stores of another epoch than N1's were asked for: "page", "ranges" or "take"."""
    made: list[str] = []
    for method, name in (("_page", "page"), ("_ranged", "ranges"), ("_taken", "take")):
        honest = getattr(Answering, method)

        def noted(self: Answering, *given: Any, honest: Any = honest, name: str = name) -> Any:
            if self._replica.storage.epoch != N1_EPOCH:
                made.append(name)
            return honest(self, *given)

        monkeypatch.setattr(Answering, method, noted)
    return made


def parted_and_copied(swarm: Swarm, *, shared: int, apart: int) -> None:
    """Let two nodes hold much of the same, each something of its own, and N1 have no cursor."""
    items, ben = chain(shared + apart), Writer("ben")
    swarm.publish(N0, items[:shared])
    swarm.run(60_000)
    swarm.cut(N0, N1)
    swarm.publish(N0, items[shared:])
    swarm.publish(N1, [ben.genesis, *(ben.put(b"%d" % n, slug=f"s{n}") for n in range(apart))])
    swarm.run(5_000)
    swarm.crash(N1)
    swarm.nodes[N1].disk.epoch = N1_EPOCH
    swarm.nodes[N1].disk.cursors.clear()  # as when N0 is new to it
    swarm.start(N1)
    swarm.copy_store(N0)


def test_what_a_sketch_keeps_back_is_found_by_ranges(requests: list[str]) -> None:
    swarm = Swarm(5, 2)
    swarm.nodes[N0].censors = True
    parted_and_copied(swarm, shared=300, apart=90)
    requests.clear()
    swarm.heal()
    swarm.run(10_000)
    check_agreement(swarm)
    assert requests.count("ranges") >= 2
    assert "take" in requests
    # N1 reads on from where the ranges ended; N0, whose cursor holds, from where it was.
    there = swarm.nodes[N1].disk.cursors[N0]
    assert (there.epoch, there.n) == (swarm.nodes[N0].disk.epoch, swarm.nodes[N0].disk.last_n)
    assert not swarm.dropped


def test_what_is_too_much_for_a_sketch_is_found_by_ranges(
    requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crdt.reconcile.comparing, "CELL_COUNT_MAX", 64)
    monkeypatch.setattr(crdt.reconcile.sketches, "CELL_COUNT_MAX", 64)
    swarm = Swarm(6, 2)
    parted_and_copied(swarm, shared=300, apart=90)
    requests.clear()
    swarm.heal()
    swarm.run(10_000)
    check_agreement(swarm)
    assert {"ranges", "take"} <= set(requests)
    assert swarm.nodes[N1].disk.cursors[N0].n == swarm.nodes[N0].disk.last_n


@pytest.mark.parametrize("liar", RANGE_LIARS, ids=lambda liar: liar.__name__)
def test_who_lies_about_ranges_is_read_by_cursor(
    liar: Callable[..., bytes], requests: list[str]
) -> None:
    """A lie about ranges costs what the liar tells, and nothing of what its pages do."""
    swarm = Swarm(7, 2)
    parted_and_copied(swarm, shared=300, apart=90)
    swarm.nodes[N0].liar = liar
    requests.clear()
    swarm.heal()
    swarm.run(10_000)
    assert "ranges" in requests
    held, known = swarm.nodes[N1].disk, {item.id for item in swarm.acknowledged}
    assert known <= held.operations.keys() | held.entries.keys()
    assert requests.count("ranges") < 40


def test_a_store_that_is_written_to_all_the_while_is_compared_to_the_end(
    requests: list[str],
) -> None:
    swarm = Swarm(8, 2, weather=Weather(delay_ms=(200, 400)))
    swarm.nodes[N0].censors = True
    parted_and_copied(swarm, shared=300, apart=90)
    requests.clear()
    swarm.heal()
    swarm.weather = Weather(delay_ms=(200, 400))
    carla = Writer("carla")
    swarm.publish(N0, [carla.genesis])
    for number in range(60):
        swarm.publish(N0, [carla.put(b"%d" % number, slug=f"c{number}")])
        swarm.run(100)
    assert requests.count("ranges") >= 3
    assert "take" in requests
    assert "page" not in requests, "the ranges came to their end"
    swarm.run(60_000)
    check_agreement(swarm)


@pytest.mark.parametrize("seed", range(1, 5))
def test_lives_with_copied_stores_end_in_agreement(seed: int) -> None:
    live(seed, 4, 40, more_steps={store_copied: 12})


def test_what_a_cursor_has_passed_by_is_found_by_the_proof() -> None:
    """A cursor that lies, by a bug or a peer that left something out, is made good in time."""
    swarm = Swarm(4, 2)
    items = chain(20)
    swarm.cut(N0, N1)
    swarm.publish(N0, items)
    swarm.run(5_000)  # what is gossiped reaches nobody
    disk = swarm.nodes[N0].disk
    swarm.crash(N1)
    swarm.nodes[N1].disk.cursors[N0] = Cursor(disk.epoch, disk.last_n)
    swarm.heal()
    swarm.run(120_000)
    assert not swarm.nodes[N1].disk.operations
    swarm.publish(N1, [Writer("ben").genesis])
    swarm.run(1_000_000)
    check_agreement(swarm)
    assert len(swarm.nodes[N1].disk.operations) == 20
