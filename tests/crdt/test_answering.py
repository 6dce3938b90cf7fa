"""What comparisons may cost whoever answers them: budgets, moments, and no more copies than two."""

from __future__ import annotations

import pytest

from crdt import EVERYTHING, PeerId
from crdt.answering import Answering
from crdt.heavywork import BURST, PEER_BURST, PEER_COUNT_MAX, PEER_RATE_S, HeavyWork
from crdt.ids import ItemId
from crdt.reconcile.frames import AskRanges, Ranged, Take, decode_picked, decode_ranged
from crdt.reconcile.idset import IdSet
from crdt.reconcile.keys import comparison_key
from crdt.reconcile.moments import MOMENT_MS, Moments
from node.storage.memory import MemoryDisk
from tests.crdt.replicas import accept, new_replica
from tests.writers import NETWORK, Writer

ANN = Writer("ann")
ONE, OTHER = PeerId("one"), PeerId("other")
NONCE = b"n" * 16


class Bench:
    """Something that answers, and holds what is given to it."""

    def __init__(self, count: int) -> None:
        self.disk = MemoryDisk(b"e" * 16)
        self.replica = new_replica(self.disk)
        accept(self.replica, ANN.genesis)
        self.count = 0
        self.write(count)
        self.answering = Answering(self.replica, b"s" * 32)

    def write(self, count: int) -> None:
        slugs = range(self.count, self.count + count)
        accept(self.replica, *(ANN.put(b"%d" % n, slug=f"s{n}") for n in slugs))
        self.count += count

    def ranges(self, n: int = 0, *, peer: PeerId = ONE, now_ms: int = 0) -> Ranged | None:
        asked = AskRanges(NONCE, n, 0, (0,))
        raw = self.answering.answer(peer, asked, now_ms)
        return decode_ranged(raw, NETWORK) if raw is not None else None


def told(bench: Bench, n: int = 0, *, peer: PeerId = ONE, now_ms: int = 0) -> Ranged:
    found = bench.ranges(n, peer=peer, now_ms=now_ms)
    assert found is not None
    return found


def test_a_set_that_is_written_to_is_told_of_as_it_was_until_it_is_old() -> None:
    bench = Bench(40)
    first = told(bench)
    assert (first.held.last_n, first.held.count) == (41, 41)
    bench.write(5)
    # To whoever goes on, and to whoever begins: reading by cursor brings the rest.
    assert told(bench, 41) == first
    assert told(bench, peer=OTHER).held.last_n == 41
    later = told(bench, now_ms=MOMENT_MS)
    assert later.held.last_n == 46
    assert told(bench, 41, now_ms=MOMENT_MS).held == first.held  # one more is kept


def test_no_more_than_two_sets_are_kept_whoever_asks() -> None:
    bench = Bench(40)
    for number in range(4):
        told(bench, now_ms=number * MOMENT_MS)
        bench.write(1)
    gone = told(bench, 41, now_ms=4 * MOMENT_MS)
    assert gone.parts == ()
    moments = Moments()
    rows = IdSet(bytes(32)).rows()
    kept = [moments.keep(b"e" * 16, n, rows, n) for n in range(1, 5)]
    assert [moments.named(b"e" * 16, n) for n in range(1, 5)] == [None, None, *kept[2:]]
    assert moments.named(b"f" * 16, 4) is None


def test_a_set_that_has_not_changed_is_not_copied_again() -> None:
    bench = Bench(40)
    told(bench)
    moments = bench.answering._moments_of(EVERYTHING)
    before = moments.recent(bench.disk.epoch, 41, 0)
    told(bench, now_ms=10 * MOMENT_MS)
    assert moments.recent(bench.disk.epoch, 41, 10 * MOMENT_MS) is before


def test_the_digest_of_a_moment_is_made_once_for_each_key() -> None:
    moments = Moments()
    moment = moments.keep(b"e" * 16, 1, IdSet(bytes(range(64))).rows(), 0)
    keys = [comparison_key(NETWORK, bytes([n]) * 16, b"b" * 16) for n in range(100)]
    assert [moment.held(keys[0])[1], moment.held(keys[0])[1]] == [2, 0]
    for key in keys:
        moment.held(key)
    assert len(moment.digests) <= 64


def test_one_peer_spends_its_own_budget_and_not_the_others() -> None:
    work = HeavyWork()
    assert work.may(ONE, 0)
    work.owe(ONE, PEER_BURST, 0)
    assert not work.may(ONE, 0)
    assert work.may(OTHER, 0)
    assert not work.may(ONE, 10)
    assert work.may(ONE, 2_000 * 1000 // PEER_RATE_S)
    for number in range(2 * PEER_COUNT_MAX):
        work.may(PeerId(f"p{number}"), 10**9)
    assert len(work._by_peer) == PEER_COUNT_MAX


def test_all_peers_together_have_a_budget_as_well() -> None:
    work = HeavyWork()
    work.owe(ONE, BURST, 0)
    assert not work.may(OTHER, 0)


def test_a_peer_that_asks_for_the_same_ranges_for_ever_is_refused_and_another_is_not() -> None:
    bench = Bench(60)
    asked = 0
    while bench.ranges() is not None:
        asked += 1
        assert asked < 10 * PEER_BURST
    assert bench.ranges() is None
    assert bench.ranges(peer=OTHER) is not None
    assert bench.ranges(now_ms=1_000) is not None


def test_what_ranges_cost_follows_from_what_was_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdt.answering._HASHED_IDS_A_TOKEN", 1)
    bench = Bench(60)
    spent: list[float] = []
    monkeypatch.setattr(HeavyWork, "owe", lambda _self, _peer, amount, _now: spent.append(amount))
    told(bench)
    told(bench)
    # To sort, then to hash for the digest and for the parts; the second time only the parts.
    assert [round(amount) for amount in spent] == [0, 122, 61]


def test_what_is_taken_is_what_was_listed() -> None:
    bench = Bench(10)
    (part,) = told(bench).parts
    ids = {ItemId(id_) for id_ in bench.replica.storage.known(list(bench.disk.numbers))}
    marks = part.marks  # type: ignore[union-attr]
    raw = bench.answering.answer(ONE, Take(NONCE, 0, tuple((0, mark) for mark in marks)), 0)
    assert raw is not None
    picked = decode_picked(raw, NETWORK)
    assert ({item.id for item in picked.items}, picked.absent) == (ids, ())
    raw = bench.answering.answer(ONE, Take(NONCE, 0, ((0, 7), (0, marks[0]))), 0)
    assert raw is not None
    assert decode_picked(raw, NETWORK).absent == (7,)
