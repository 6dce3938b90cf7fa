"""One suite for the replica's storage port: SQLite, and the fake that simulations trust."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from crdt import (
    LOCAL,
    AccountId,
    BodyRules,
    Capability,
    Commit,
    Cursor,
    EntryType,
    Item,
    ItemId,
    OperationId,
    PeerId,
    RecordKind,
    Replica,
    Scope,
    Storage,
    Usage,
    make_entry,
)
from node.catalogue import CatalogueStore
from node.storage import SqliteReader, open_storage
from node.storage.memory import MemoryDisk, MemoryStorage
from tests.writers import NETWORK, AnyBody, LaneReceipts, Writer, make_receipt

ANN = Writer("ann")
BOB = Writer("bob")
HIRED = make_entry(
    network=NETWORK, type=EntryType.ADD_KEY, account=ANN.account, predecessor=ANN.genesis.id,
    signer=ANN.key, key=BOB.key.public, capabilities=Capability.MAINTAINER,
)  # fmt: skip
FIRED = make_entry(
    network=NETWORK, type=EntryType.REVOKE, account=ANN.account, predecessor=HIRED.id,
    signer=ANN.key, key=BOB.key.public,
)  # fmt: skip
PEER = PeerId("peer")
MIB = 1024 * 1024


@dataclass
class Store:
    """A store, what reads it, and how to close and open it again."""

    kind: str
    path: Path
    disk: MemoryDisk
    storage: Storage
    reader: CatalogueStore

    def reopen(self) -> None:
        self.close()
        self.open()

    def open(self) -> None:
        if self.kind == "sqlite":
            self.storage = open_storage(self.path, NETWORK)
            self.reader = SqliteReader(self.path, NETWORK)
        else:
            self.storage = self.reader = MemoryStorage(self.disk)

    def close(self) -> None:
        for one in (self.storage, self.reader):
            if not isinstance(one, MemoryStorage):
                one.close()  # type: ignore[attr-defined]

    def accept(self, *items: Item, rules: BodyRules | None = None) -> None:
        replica = Replica(NETWORK, self.storage, rules or AnyBody(), LaneReceipts())
        accepted = replica.accept(items, source=LOCAL, now_ms=0)
        assert not accepted.faults


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    empty = MemoryStorage(MemoryDisk(b"e" * 16))
    made = Store(request.param, tmp_path / "registry.sqlite3", empty.disk, empty, empty)
    made.open()
    yield made
    made.close()


def test_an_empty_store(store: Store) -> None:
    assert store.storage.last_n == 0
    assert len(store.storage.epoch) == 16
    assert store.storage.known([ItemId(b"x" * 32)]) == set()
    assert store.storage.items_after(0, bytes_max=MIB).done
    assert store.storage.ids_after(0, count_max=9).next_n == 0
    assert store.reader.record(ANN.record()) is None
    assert store.reader.account(ANN.account) is None
    assert store.reader.counts().items == 0


def test_what_was_committed_is_there_after_reopening(store: Store) -> None:
    put = ANN.put()
    receipt = make_receipt(ANN.account, b"lane", 5, key=ANN.key)
    store.accept(ANN.genesis, put, receipt)
    epoch = store.storage.epoch
    store.reopen()
    storage = store.storage
    ids = [ANN.genesis.id, put.id, receipt.id]
    assert storage.epoch == epoch
    assert storage.last_n == 3
    assert storage.known([*ids, ItemId(b"x" * 32)]) == set(ids)
    assert storage.account(ANN.account) == store.reader.account(ANN.account)
    assert storage.register(ANN.record()).heads == (put.id,)
    assert storage.operations([OperationId(put.id), OperationId(ANN.genesis.id)]) == {
        put.id: ANN.opened(put)
    }
    page = storage.items_after(0, bytes_max=MIB)
    assert (page.raws, page.next_n, page.done) == (
        (ANN.genesis.raw, put.raw, receipt.raw), 3, True,
    )  # fmt: skip


def test_pages_stop_at_their_bound_and_go_on_from_there(store: Store) -> None:
    puts = [ANN.put(b"x" * 1000, slug=f"s{i}") for i in range(5)]
    store.accept(ANN.genesis, *puts)
    size = len(puts[0].raw)
    seen: list[bytes] = []
    n, done = 0, False
    while not done:
        page = store.storage.items_after(n, bytes_max=2 * size)
        assert 1 <= len(page.raws) <= 3
        seen += page.raws
        n, done = page.next_n, page.done
    assert seen == [ANN.genesis.raw, *(put.raw for put in puts)]
    assert len(store.storage.items_after(1, bytes_max=1).raws) == 1
    ids = store.storage.ids_after(2, count_max=2)
    assert (ids.ids, ids.next_n, ids.done) == ((puts[1].id, puts[2].id), 4, False)


def test_items_by_id_in_the_order_asked_and_bounded(store: Store) -> None:
    puts = [ANN.put(b"x" * 1000, slug=f"s{i}") for i in range(3)]
    store.accept(ANN.genesis, *puts)
    ids = [puts[2].id, ItemId(b"?" * 32), puts[0].id, puts[1].id]
    found = store.storage.raws(ids, bytes_max=2 * len(puts[0].raw))
    assert list(found) == [puts[2].id, puts[0].id]
    assert list(store.storage.raws(ids[:1], bytes_max=1)) == ids[:1]


def test_a_superseded_receipt_leaves_a_gap_and_cursors_only_grow(store: Store) -> None:
    low, high = (make_receipt(ANN.account, b"lane", rank, key=ANN.key) for rank in (1, 2))
    store.accept(ANN.genesis, low)
    assert store.storage.last_n == 2
    store.accept(high)
    assert store.storage.last_n == 3
    page = store.storage.items_after(2, bytes_max=MIB)
    assert (page.ids, page.next_n) == ((high.id,), 3)
    assert store.storage.known([low.id]) == set()
    store.reopen()
    assert store.storage.last_n == 3
    store.accept(ANN.put())
    assert store.storage.last_n == 4


def test_what_was_dropped_leaves_a_gap_at_the_end_too(store: Store) -> None:
    """Numbers are never given twice, or whoever has read past one would miss what gets it."""
    puts = [ANN.put(b"one"), ANN.put(b"two", slug="other")]
    store.accept(ANN.genesis, *puts)
    store.storage.prune(ANN.record("other"), [OperationId(puts[1].id)])
    store.reopen()
    assert store.storage.last_n == 3
    store.accept(ANN.put(b"three", slug="more"))
    assert store.storage.items_after(3, bytes_max=MIB).next_n == 4


def test_a_page_that_ends_in_a_gap_is_done(store: Store) -> None:
    puts = [ANN.put(b"one"), ANN.put(b"two", slug="other")]
    store.accept(ANN.genesis, *puts)
    store.storage.prune(ANN.record("other"), [OperationId(puts[1].id)])
    for after_n in (0, 2, 3):
        for page in (
            store.storage.items_after(after_n, bytes_max=MIB),
            store.storage.ids_after(after_n, count_max=9),
        ):
            assert (page.done, page.next_n) == (True, 3)


def test_cursors_move_with_the_commit(store: Store) -> None:
    assert store.storage.cursor(PEER) is None
    store.storage.commit(Commit(cursors={PEER: Cursor(b"e" * 16, 7)}))
    store.storage.commit(Commit(cursors={PEER: Cursor(b"f" * 16, 3)}))
    store.reopen()
    assert store.storage.cursor(PEER) == Cursor(b"f" * 16, 3)


def test_a_records_state_its_conflicts_and_its_versions(store: Store) -> None:
    first = ANN.put(b"one")
    left, right = ANN.put(b"left", cites=(first,)), ANN.put(b"right", cites=(first,))
    store.accept(ANN.genesis, first, left, right)
    state = store.reader.record(ANN.record())
    assert state is not None
    winner, loser = sorted((left, right), key=lambda item: item.id, reverse=True)
    assert state.operation.id == winner.id
    assert state.body == winner.body
    assert state.conflicts == (loser.id,)
    assert state.heads == tuple(sorted((left.id, right.id)))
    assert (state.slug, state.account, state.deleted) == ("thing", ANN.account, False)
    assert [entry.body for entry in store.reader.versions(ANN.record())] == [
        b"right", b"left", b"one",
    ]  # fmt: skip
    entry = store.reader.version(OperationId(first.id))
    assert entry is not None
    assert (entry.body, entry.n) == (b"one", 2)


def test_a_deleted_record_shows_its_tombstone_and_keeps_its_versions(store: Store) -> None:
    put = ANN.put()
    gone = ANN.delete(cites=(put,))
    store.accept(ANN.genesis, put, gone)
    state = store.reader.record(ANN.record())
    assert state is not None
    assert state.deleted
    assert state.operation.id == gone.id
    assert state.body == b""
    assert [entry.operation.id for entry in store.reader.versions(ANN.record())] == [put.id]
    assert store.reader.version(OperationId(gone.id)) is None
    assert store.reader.counts().records == 0
    assert store.reader.item(gone.id) == gone


def test_finding_by_slug_and_by_account(store: Store) -> None:
    store.accept(ANN.genesis, BOB.genesis, ANN.put(), BOB.put(), ANN.put(slug="other"))
    everybody = (b"\0" * 32, b"\xff" * 32)
    both = store.reader.records_of_slug("thing", *everybody)
    assert set(both) == {ANN.record(), BOB.record()}
    assert store.reader.records_of_slug("thing", ANN.account, ANN.account) == [ANN.record()]
    assert store.reader.records_of_slug("none", *everybody) == []
    assert set(store.reader.records_of(ANN.account)) == {ANN.record(), ANN.record("other")}


def test_slugs_are_found_among_more_accounts_than_one_query_asks_for(store: Store) -> None:
    writers = [Writer(f"writer {number}") for number in range(260)]
    last = max(writers, key=lambda one: one.account)
    store.accept(*(one.genesis for one in writers), last.put())
    assert store.reader.records_of_slug("thing", b"\0" * 32, b"\xff" * 32) == [last.record()]


def test_a_new_record_that_shows_nothing_takes_no_other_records_number(store: Store) -> None:
    """Found by reading: a dead key's record had its number given again, and the next one failed."""
    store.accept(ANN.genesis, HIRED, FIRED)
    late = ANN.put(slug="late", key=BOB.key, account_heads=(HIRED.id,))
    store.accept(late)
    store.accept(ANN.put(slug="one"), ANN.put(slug="two"))
    store.reopen()
    store.accept(ANN.put(slug="three"))
    slugs = ("late", "one", "two", "three")
    assert store.reader.records_of(ANN.account) == [ANN.record(slug) for slug in slugs]
    assert [store.reader.record(ANN.record(slug)) is not None for slug in slugs] == [
        False, True, True, True,
    ]  # fmt: skip


def test_a_new_record_whose_account_changes_in_its_batch_takes_no_other_records_number(
    store: Store,
) -> None:
    store.accept(ANN.genesis, HIRED, ANN.put(slug="one"), FIRED, ANN.put(slug="two"))
    store.accept(ANN.put(slug="three"))
    records = {ANN.record(slug) for slug in ("one", "two", "three")}
    assert set(store.reader.records_of(ANN.account)) == records
    assert all(store.reader.record(record) for record in records)


def test_receipts_by_subject_and_period(store: Store) -> None:
    one, two = (make_receipt(ANN.account, lane, 1, key=ANN.key) for lane in (b"one", b"two"))
    store.accept(ANN.genesis, one, two)
    every = store.reader.receipts(None, None, 9)
    assert {item.id for item in every} == {one.id, two.id}
    subject = b"one".ljust(32, b"\0")
    assert [item.id for item in store.reader.receipts([subject], None, 9)] == [one.id]
    assert store.reader.receipts([subject], 2, 9) == []
    assert len(store.reader.receipts(None, 1, 1)) == 1
    assert store.reader.counts().receipts == 2


def test_a_records_log_in_pages_and_from_a_cursor(store: Store) -> None:
    first, other = ANN.put(b"x" * 1000), ANN.put(slug="other")
    second = ANN.put(b"y" * 1000, cites=(first,))
    gone = ANN.delete(cites=(second,))
    store.accept(ANN.genesis, first, other, second, gone)
    log = store.reader.record_log(ANN.record(), 0, bytes_max=MIB)
    assert log.items == ((2, first.raw), (4, second.raw), (5, gone.raw))
    assert (log.next_n, log.done) == (5, True)
    page = store.reader.record_log(ANN.record(), 0, bytes_max=1)
    assert (page.items, page.next_n, page.done) == (((2, first.raw),), 2, False)
    rest = store.reader.record_log(ANN.record(), 2, bytes_max=MIB)
    assert [n for n, _ in rest.items] == [4, 5]
    nothing = store.reader.record_log(ANN.record(), 5, bytes_max=MIB)
    assert (nothing.items, nothing.next_n, nothing.done) == ((), 5, True)
    unknown = store.reader.record_log(BOB.record(), 0, bytes_max=MIB)
    assert (unknown.items, unknown.done) == ((), True)


def test_the_state_of_a_record_by_ids(store: Store) -> None:
    assert store.reader.register(ANN.record()) is None
    put = ANN.put()
    store.accept(ANN.genesis, put)
    register = store.reader.register(ANN.record())
    assert register is not None
    assert register.facts == register.heads == (put.id,)


def in_pages(store: Store, scope: Scope) -> tuple[set[bytes], set[bytes]]:
    """Return what pages of items, and of ids, hold of a scope."""
    items: set[bytes] = set()
    ids: set[bytes] = set()
    n = 0
    while True:
        page = store.storage.items_after(n, bytes_max=1000, scope=scope)
        assert page.next_n > n or page.done
        assert len(page.ids) == len(page.raws)
        items |= set(page.ids)
        n = page.next_n
        if page.done:
            break
    n = 0
    while True:
        page = store.storage.ids_after(n, count_max=3, scope=scope)
        assert len(page.ids) <= 3
        ids |= set(page.ids)
        n = page.next_n
        if page.done:
            return items, ids


def test_a_scope_is_of_kinds_and_owners_and_always_of_accounts_and_receipts(store: Store) -> None:
    agent = RecordKind.AGENT
    common = [ANN.genesis, BOB.genesis, make_receipt(ANN.account, b"lane", 5, key=ANN.key)]
    models = [ANN.put(slug="m"), BOB.put(slug="m")]
    agents = [ANN.put(slug="a", kind=agent), BOB.put(slug="a", kind=agent)]
    store.accept(*common, *models, *agents)
    anns = frozenset([ANN.account])
    for scope, wanted in (
        (Scope(), [*models, *agents]),
        (Scope(frozenset([agent])), agents),
        (Scope(owners=anns), [models[0], agents[0]]),
        (Scope(frozenset([agent]), anns), [agents[0]]),
        (Scope(owners=frozenset([AccountId(b"x" * 32)])), []),
    ):
        ids = {item.id for item in [*common, *wanted]}
        assert in_pages(store, scope) == (ids, ids)
        raw = store.storage.scoped_ids(scope)
        found = [raw[at : at + 32] for at in range(0, len(raw), 32)]
        assert sorted(found) == sorted(ids)


def test_a_page_of_a_scope_that_is_not_there_goes_on_to_the_end(store: Store) -> None:
    store.accept(ANN.genesis, *(ANN.put(slug=f"s{number}") for number in range(20)))
    page = store.storage.items_after(1, bytes_max=MIB, scope=Scope(frozenset([RecordKind.AGENT])))
    assert (page.raws, page.next_n, page.done) == ((), 21, True)
    page = store.storage.ids_after(1, count_max=5, scope=Scope(frozenset([RecordKind.AGENT])))
    assert (page.ids, page.next_n, page.done) == ((), 6, False)


def test_what_was_dropped_is_in_the_scope_that_it_was_in(store: Store) -> None:
    put = ANN.put()
    store.accept(ANN.genesis, put, ANN.put(b"next", cites=(put,)))
    store.storage.prune(ANN.record(), [OperationId(put.id)])
    models, agents = Scope(frozenset([RecordKind.MODEL])), Scope(frozenset([RecordKind.AGENT]))
    assert len(store.storage.scoped_ids(models)) == 3 * 32
    assert store.storage.scoped_ids(agents) == ANN.genesis.id


def test_what_an_account_has_stored_is_counted_and_pruning_gives_it_back(store: Store) -> None:
    puts = [ANN.put(b"x" * 500, slug="a")]
    for number in range(3):
        puts.append(ANN.put(b"%d" % number, slug="a", cites=(puts[-1],)))
    store.accept(ANN.genesis, *puts, BOB.genesis, BOB.put(b"other"))
    assert store.storage.usage(ANN.account) == Usage(4, sum(len(one.raw) for one in puts))
    assert store.storage.usage(AccountId(b"?" * 32)) == Usage()
    store.storage.prune(ANN.record("a"), [OperationId(one.id) for one in puts[:2]])
    store.reopen()
    left = Usage(2, sum(len(one.raw) for one in puts[2:]))
    assert store.storage.usage(ANN.account) == left
    assert store.storage.usage(BOB.account).operations == 1


def test_who_was_passed_over_is_remembered_until_it_is_taken_up_and_cursors_go(
    store: Store,
) -> None:
    store.accept(ANN.genesis, BOB.genesis)
    store.storage.commit(Commit(cursors={PEER: Cursor(b"p" * 16, 7)}, passed_over=(BOB.account,)))
    store.reopen()
    assert store.storage.passed_over() == [BOB.account]
    assert store.storage.usage(BOB.account) == Usage(0, 0, passed_over=True)
    assert store.storage.cursor(PEER) is not None
    store.storage.take_up([BOB.account])
    store.reopen()
    assert store.storage.passed_over() == []
    assert store.storage.cursor(PEER) is None
