"""Swarms agree whatever happens to them, and the simulator would notice if they did not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import crdt.replica
import crdt.sync
from crdt import Effect, Item, PeerId, RecordChange, encode
from crdt.progress import PeerProgress
from crdt.replica import _Batch
from node.storage.memory import MemoryStorage
from tests.sim.checkers import check_agreement, check_safety, views
from tests.sim.independent import Violation
from tests.sim.liars import LIARS
from tests.sim.scenario import live
from tests.sim.swarm import Swarm, Weather
from tests.writers import NETWORK, Writer

N0, N1, N2 = PeerId("n0"), PeerId("n1"), PeerId("n2")
ANN = Writer("ann")


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


def any_life_fails() -> bool:
    for seed in range(1, 30):
        try:
            live(seed, 4, 40)
        except AssertionError:
            return True
    return False


def test_a_planted_fold_of_winners_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug the rule warns of: whoever shows goes on showing while it is a head."""
    honest = _Batch.changes

    def sticky(batch: _Batch) -> tuple[RecordChange, ...]:
        storage = batch._replica.storage
        assert isinstance(storage, MemoryStorage)
        changes: list[RecordChange] = []
        for change in honest(batch):
            before = storage.disk.records.get(change.record)
            heads = change.register.heads
            if before is None or before.register.winner not in heads:
                changes.append(change)
                continue
            winner = before.register.winner
            others = tuple(head for head in heads if head != winner)
            register = replace(
                change.register, winner=winner, conflicts=others, deleted=before.register.deleted
            )
            changes.append(RecordChange(change.record, before.operation, register))
        return tuple(changes)

    monkeypatch.setattr(_Batch, "changes", sticky)
    assert any_life_fails()


def test_a_planted_skip_of_what_a_page_lists_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_self: object, _peer: PeerProgress, _now_ms: int) -> list[Effect]:
        return []

    monkeypatch.setattr(crdt.sync.SyncMachine, "_fetch", never)
    assert any_life_fails()


def test_a_planted_unchecked_signature_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crdt.replica, "open_operation", lambda item, network: ANN.opened(item))
    swarm = Swarm(1, 1)
    put = ANN.put()
    forged = crdt.pack_item(put.kind, crdt.Signed(put.signed.content, b"\0" * 64), put.body)
    swarm.publish(N0, [ANN.genesis, forged])
    with pytest.raises(Violation, match="unauthentic"):
        check_safety(swarm)


def test_views_leave_liars_out() -> None:
    swarm = Swarm(1, 2)
    swarm.nodes[N1].liar = LIARS[0]
    assert set(views(swarm)) == {N0}
