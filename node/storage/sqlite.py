"""The replicated log in SQLite: what the replica writes and reads, from one thread.

`SqliteStorage` implements `crdt.Storage`. One writer; every commit is synced (see `migrations`), so
what was acknowledged survives a power cut. Reads of the rest of the node go through `reader.py`,
which has a connection of its own and never waits for this one.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from crdt import (
    Account,
    AccountId,
    Admission,
    Commit,
    Cursor,
    Entry,
    EntryType,
    Item,
    ItemId,
    ItemKind,
    LogPage,
    NetworkId,
    Operation,
    OperationId,
    PeerId,
    RecordChange,
    RecordId,
    Register,
    Scope,
    Slot,
    SlotStanding,
    Usage,
    Written,
    account_of,
    parse_entry,
    parse_operation,
    unpack_item,
)
from node.storage.cards import CardKey, CardRow, CardShelf, row_of
from node.storage.epochs import EPOCH_BYTES, find_mark, renew_mark, settled
from node.storage.errors import StorageFault
from node.storage.migrations import SCHEMA_FOLDER, open_database, storage_faults, transaction
from node.storage.scoping import in_scope
from node.storage.views import SearchViews
from registry import RegistryRules

CARD_KEY = """
    SELECT (SELECT max(n) FROM item_v1
        WHERE record_number = (SELECT number FROM record_v1 WHERE id = ?)), (
        SELECT count(*) FROM entry_v1
        WHERE account = (SELECT account FROM record_v1 WHERE id = ?))"""
OF_RECORD = "record_number = (SELECT number FROM record_v1 WHERE id = ?)"
"""What narrows item_v1 to one record; its index is on small numbers that only grow."""
CARD_ROW = "SELECT last_n, entry_count, content, count, snapshot FROM card_v1 WHERE record = ?"
PARAMETER_COUNT_MAX = 500
"""Ids in one SELECT; SQLite's own bound is 999 on old builds."""
OF_ACCOUNT = "account_number = (SELECT number FROM account_v1 WHERE id = ?)"
"""What narrows record_v1 to one account's."""
_RECORDS_OF = f"SELECT id FROM record_v1 WHERE {OF_ACCOUNT} ORDER BY number"  # noqa: S608 - ours
_INSERT_ITEM = """
    INSERT INTO item_v1 (n, id, kind, record, raw, record_number)
    VALUES (?, ?, ?, ?, ?, coalesce(?, (SELECT number FROM record_v1 WHERE id = ?)))"""
_INSERT_ACCOUNT = "INSERT INTO account_v1 (id, root_key, recovery_key) VALUES (?, ?, ?)"
_INSERT_ENTRY = "INSERT INTO entry_v1 (account, id) VALUES (?, ?)"
_INSERT_PRUNED = "INSERT INTO pruned_v1 (id, record) VALUES (?, ?)"
_INSERT_STALE = "INSERT OR IGNORE INTO stale_v1 (record) VALUES (?)"
_LAST_NUMBER = "SELECT max(number) FROM record_v1"
_INSERT_RECORD = """
    INSERT INTO record_v1
        (number, id, kind, account, slug, heads, deleted, tips, era, void_count, card_count,
        account_number)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT number FROM account_v1 WHERE id = ?))"""
_UPSERT_RECORD = f"""{_INSERT_RECORD}
    ON CONFLICT (id) DO UPDATE SET heads = excluded.heads, deleted = excluded.deleted,
    tips = excluded.tips, era = excluded.era, void_count = excluded.void_count,
    card_count = excluded.card_count"""
_REGISTER = "SELECT heads, deleted, tips, era, void_count, card_count FROM record_v1 WHERE id = ?"
_UPSERT_LAST_N = """
    INSERT INTO meta_v1 (key, value) VALUES ('last_n', ?)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value"""
_UPSERT_META = """
    INSERT INTO meta_v1 (key, value) VALUES (?, ?)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value"""
_OPERATION = int(ItemKind.OPERATION)
PAGE_COUNT_MAX = 4096
"""Items in a page of the log: what one answer can carry."""
_OPERATIONS = f"SELECT raw FROM item_v1 WHERE {OF_RECORD} ORDER BY n"  # noqa: S608 - ours
_OPERATIONS_SINCE = f"SELECT raw FROM item_v1 WHERE {OF_RECORD} AND n > ? ORDER BY n"  # noqa: S608
_REGISTERS = "SELECT heads, deleted, tips, era, void_count, card_count, id FROM record_v1"
_LOG = """
    SELECT item_v1.raw FROM entry_v1 JOIN item_v1 ON item_v1.id = entry_v1.id
    WHERE entry_v1.account = ? ORDER BY entry_v1.number"""
_USAGE = "SELECT operation_count, byte_count, passed_over FROM account_v1 WHERE id = ?"
_PASSED_OVER = "SELECT id FROM account_v1 WHERE passed_over ORDER BY number"
_ADD_USAGE = """
    UPDATE account_v1 SET operation_count = operation_count + ?, byte_count = byte_count + ?
    WHERE id = ?"""
_PASS_OVER = "UPDATE account_v1 SET passed_over = ? WHERE id = ?"
_UPSERT_SLOT = """
    INSERT INTO slot_v1 (slot, rank, id, subject, period) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (slot) DO UPDATE SET rank = excluded.rank, id = excluded.id,
    subject = excluded.subject, period = excluded.period"""
_UPSERT_CURSOR = """
    INSERT INTO cursor_v1 (peer, epoch, n) VALUES (?, ?, ?)
    ON CONFLICT (peer) DO UPDATE SET epoch = excluded.epoch, n = excluded.n"""


class SqliteStorage:
    """The store behind a replica; open with `open_storage`."""

    def __init__(self, database: sqlite3.Connection, path: Path | str, network: NetworkId) -> None:
        self.path = path
        self.network = network
        self._database = database
        self._epoch = _settle(database, path)
        self._last_n = _last_n_of(database, path)
        self._views = SearchViews(database, path, CardShelf(self, RegistryRules().seed_of))

    @property
    def epoch(self) -> bytes:
        """16 random bytes: of this file, until it is copied or put back (`epochs.py`)."""
        return self._epoch

    @property
    def last_n(self) -> int:
        """The newest arrival's number."""
        return self._last_n

    def close(self) -> None:
        """Close the file; what was committed is safe."""
        with storage_faults(self.path):
            # If the disk is full, the mark is as it was, or the next start takes another epoch.
            with suppress(StorageFault), transaction(self._database, self.path):
                self._database.execute(_UPSERT_META, ("mark", renew_mark(self.path)))
            self._database.close()

    def known(self, ids: Collection[ItemId]) -> set[ItemId]:
        """Return which of `ids` are in the store."""
        return {ItemId(id_) for (id_,) in self._by_ids("SELECT id FROM item_v1", list(ids))}

    def all_ids(self) -> bytes:
        """Return the ids of every item that is in the store or was dropped, 32 bytes each."""
        rows = self._all("SELECT id FROM item_v1 UNION ALL SELECT id FROM pruned_v1")
        return b"".join([id_ for (id_,) in rows])

    def scoped_ids(self, scope: Scope) -> bytes:
        """Return those of all ids that are in a scope; half a second for a million."""
        kept, values = in_scope(scope)
        dropped, _ = in_scope(scope, record="r.id = i.record")
        rows = self._all(
            f"SELECT id FROM item_v1 AS i WHERE {kept} "  # noqa: S608 - ours
            f"UNION ALL SELECT id FROM (SELECT *, {_OPERATION} AS kind FROM pruned_v1) AS i "
            f"WHERE {dropped}",
            *values,
            *values,
        )
        return b"".join([id_ for (id_,) in rows])

    def operations(self, ids: Collection[OperationId]) -> dict[OperationId, Operation]:
        """Return those of `ids` that are operations in the store."""
        rows = self._by_ids("SELECT raw FROM item_v1", list(ids), f"AND kind = {_OPERATION}")
        found = (parse_operation(unpack_item(raw), self.network) for (raw,) in rows)
        return {operation.id: operation for operation in found}

    def record_operations(self, record: RecordId) -> list[Operation]:
        """Return every operation of a record that is in the store, in order of arrival."""
        rows = self._all(_OPERATIONS, record)
        return [parse_operation(unpack_item(raw), self.network) for (raw,) in rows]

    def register(self, record: RecordId) -> Register | None:
        """Return a record's state; None when it is unknown."""
        row = self._one(_REGISTER, record)
        return register_in(row) if row else None

    def card_key(self, record: RecordId) -> CardKey:
        """Return what a record's card would be derived from now."""
        row = self._one(CARD_KEY, record, record)
        assert row is not None, "an aggregate has a row"
        return CardKey(row[0] or 0, row[1])

    def written(self, record: RecordId, after_n: int = 0) -> list[Written]:
        """Return a record's operations that arrived after `after_n`, with bodies, in order."""
        rows = self._all(_OPERATIONS_SINCE, record, after_n)
        items = (unpack_item(raw) for (raw,) in rows)
        return [Written(parse_operation(item, self.network), item.body) for item in items]

    def card_row(self, record: RecordId) -> CardRow | None:
        """Return a record's card as it was kept, perhaps of an earlier state."""
        row = self._one(CARD_ROW, record)
        return row_of(row) if row else None

    def registers(self, records: Collection[RecordId]) -> dict[RecordId, Register]:
        """Return the states of those records that are known."""
        rows = self._by_ids(_REGISTERS, list(records))
        return {RecordId(row[6]): register_in(row[:6]) for row in rows}

    def records_of(self, account: AccountId) -> list[RecordId]:
        """Return every record of an account, those that do not show among them."""
        rows = self._all(_RECORDS_OF, account)
        return [RecordId(id_) for (id_,) in rows]

    def account(self, account: AccountId) -> Account | None:
        """Return an account that is in the store, with all of its entries."""
        return read_account(self._all, account, self.network)

    def pruned(self, ids: Collection[ItemId]) -> set[ItemId]:
        """Return which of `ids` were in the store and were dropped."""
        return {ItemId(id_) for (id_,) in self._by_ids("SELECT id FROM pruned_v1", list(ids))}

    def pruned_count(self, record: RecordId) -> int:
        """Return how many operations of a record were dropped."""
        row = self._one("SELECT count(*) FROM pruned_v1 WHERE record = ?", record)
        assert row is not None, "a count has a row"
        return int(row[0])

    def prune(self, record: RecordId, ids: Sequence[OperationId]) -> None:
        """Drop operations of a record for good, and remember that they were dropped.

        Raises:
            StorageFault: nothing was dropped.
        """
        with transaction(self._database, self.path):
            row = self._one("SELECT account FROM record_v1 WHERE id = ?", record)
            assert row is not None, "a record with operations has a row"
            sizes = [size for (size,) in self._by_ids("SELECT length(raw) FROM item_v1", ids)]
            self._database.execute(_ADD_USAGE, (-len(sizes), -sum(sizes), row[0]))
            self._database.executemany("DELETE FROM item_v1 WHERE id = ?", [(id_,) for id_ in ids])
            self._database.executemany(_INSERT_PRUNED, [(id_, record) for id_ in ids])
            # The newest may be among them: its number is not given again.
            self._database.execute(_UPSERT_LAST_N, (self._last_n,))

    def usage(self, account: AccountId) -> Usage:
        """Return how many operations of an account are in the store, and of how many bytes."""
        row = self._one(_USAGE, account)
        return Usage(row[0], row[1], bool(row[2])) if row else Usage()

    def passed_over(self) -> list[AccountId]:
        """Return the accounts of which something was not taken, for their quota."""
        return [AccountId(id_) for (id_,) in self._all(_PASSED_OVER)]

    def take_up(self, accounts: Sequence[AccountId]) -> None:
        """Forget that they were passed over, and every cursor: peers are read anew.

        Raises:
            StorageFault: nothing was forgotten.
        """
        with transaction(self._database, self.path):
            self._database.executemany(_PASS_OVER, [(0, account) for account in accounts])
            self._database.execute("DELETE FROM cursor_v1")

    def standing(self, slot: bytes) -> SlotStanding | None:
        """Return what stands in a slot."""
        row = self._one("SELECT rank, id FROM slot_v1 WHERE slot = ?", slot)
        return SlotStanding(row[0], ItemId(row[1])) if row else None

    def cursor(self, peer: PeerId) -> Cursor | None:
        """Return how far we have read a peer."""
        row = self._one("SELECT epoch, n FROM cursor_v1 WHERE peer = ?", peer)
        return Cursor(row[0], row[1]) if row else None

    def raws(self, ids: Sequence[ItemId], *, bytes_max: int) -> dict[ItemId, bytes]:
        """Return items by id, in the order asked, until `bytes_max` would be passed (but one)."""
        found: dict[ItemId, bytes] = {}
        size = 0
        for id_ in ids:
            row = self._one("SELECT raw FROM item_v1 WHERE id = ?", id_)
            if row is None:
                continue
            size += len(row[0])
            if found and size > bytes_max:
                break
            found[id_] = row[0]
        return found

    def items_after(self, n: int, *, bytes_max: int, scope: Scope | None = None) -> LogPage:
        """Return whole items that arrived after `n`: at least one if there is one.

        Of a scope only those in it, of the next `PAGE_COUNT_MAX` arrivals.
        """
        wanted, values = in_scope(scope)
        looked_at = 0
        ids: list[ItemId] = []
        raws: list[bytes] = []
        size = 0
        next_n = n
        is_full = False
        with storage_faults(self.path):
            # The cursor is closed on the way out, or it would keep a read transaction open.
            rows = self._database.execute(
                f"SELECT n, id, CASE WHEN {wanted} THEN raw END FROM item_v1 AS i "  # noqa: S608
                "WHERE n > ? ORDER BY n LIMIT ?",
                (*values, n, PAGE_COUNT_MAX),
            )
            for row in rows:
                looked_at += 1
                if row[2] is None:
                    next_n = row[0]
                    continue
                size += len(row[2])
                if raws and size > bytes_max:
                    is_full = True
                    break
                next_n = row[0]
                ids.append(ItemId(row[1]))
                raws.append(row[2])
            rows.close()
        if not is_full and looked_at < PAGE_COUNT_MAX:
            next_n = max(n, self._last_n)  # what comes last may have been dropped
        return LogPage(tuple(ids), tuple(raws), next_n, next_n >= self._last_n)

    def ids_after(self, n: int, *, count_max: int, scope: Scope | None = None) -> LogPage:
        """Return only the ids of what arrived after `n`; of a scope, of as many arrivals."""
        wanted, values = in_scope(scope)
        with storage_faults(self.path):
            rows = self._database.execute(
                f"SELECT n, CASE WHEN {wanted} THEN id END FROM item_v1 AS i "  # noqa: S608
                "WHERE n > ? ORDER BY n LIMIT ?",
                (*values, n, count_max),
            ).fetchall()
        is_all = len(rows) < count_max
        next_n: int = max(n, self._last_n) if is_all else rows[-1][0]
        ids = tuple(ItemId(row[1]) for row in rows if row[1] is not None)
        return LogPage(ids, (), next_n, next_n >= self._last_n)

    def commit(self, commit: Commit) -> None:
        """Write a batch durably, all of it or nothing.

        Raises:
            StorageFault: it could not be written; the store is as it was.
        """
        n = self._last_n
        database = self._database
        with transaction(database, self.path):
            # In this order: records carry their accounts' numbers, and items their records'.
            for admission in commit.admissions:
                if isinstance(admission.subject, Entry):
                    self._enter(admission.subject)
            numbers = self._write_records(commit.changes)
            database.executemany(_INSERT_ITEM, _item_rows(n + 1, commit.admissions, numbers))
            for admission in commit.admissions:
                if isinstance(admission.subject, Slot):
                    self._stand(admission.item, admission.subject)
            database.executemany(_INSERT_STALE, _stale_rows(commit))
            self._unprune(commit.unpruned)
            database.executemany(_ADD_USAGE, _usage_rows(commit.admissions))
            database.executemany(_PASS_OVER, [(1, account) for account in commit.passed_over])
            cursors = [(peer, cursor.epoch, cursor.n) for peer, cursor in commit.cursors.items()]
            database.executemany(_UPSERT_CURSOR, cursors)
        self._last_n = n + len(commit.admissions)

    def project(self, count_max: int) -> bool:
        """Bring at most so many operations into the search views; whether more are left."""
        return self._views.project(self._last_n, count_max)

    def rebuild_views(self) -> None:
        """Empty the search views; `project` fills them again from the log."""
        self._views.rebuild()

    def _write_records(self, changes: Sequence[RecordChange]) -> dict[RecordId, int]:
        """Write the states of records; return the numbers of those that are said to be new.

        The table is asked for its last number each time: among the others are new ones too.
        """
        new = [change for change in changes if change.is_new]
        (last,) = self._database.execute(_LAST_NUMBER).fetchone()
        numbers = {change.record: n for n, change in enumerate(new, (last or 0) + 1)}
        rows = [_record_row(numbers[change.record], change) for change in new]
        self._database.executemany(_INSERT_RECORD, rows)
        rows = [_record_row(None, change) for change in changes if not change.is_new]
        self._database.executemany(_UPSERT_RECORD, rows)
        return numbers

    def _enter(self, entry: Entry) -> None:
        """Add an account, or an entry to one."""
        if entry.predecessor is None:
            row = (entry.account, entry.key, entry.recovery_key)
            self._database.execute(_INSERT_ACCOUNT, row)
        else:
            self._database.execute(_INSERT_ENTRY, (entry.account, entry.id))

    def _unprune(self, records: Sequence[RecordId]) -> None:
        """Forget that operations were dropped, and how far peers were read: they are wanted."""
        if records:
            rows = [(record,) for record in records]
            self._database.executemany("DELETE FROM pruned_v1 WHERE record = ?", rows)
            self._database.execute("DELETE FROM cursor_v1")

    def _stand(self, item: Item, slot: Slot) -> None:
        """Put a receipt in its slot. What it supersedes leaves after it came, so n only grows."""
        old = self.standing(slot.slot)
        if old is not None:
            self._database.execute("DELETE FROM item_v1 WHERE id = ?", (old.id,))
        row = (slot.slot, slot.rank, item.id, slot.subject, slot.period)
        self._database.execute(_UPSERT_SLOT, row)

    def _one(self, query: str, *parameters: object) -> tuple[Any, ...] | None:
        with storage_faults(self.path):
            row: tuple[Any, ...] | None = self._database.execute(query, parameters).fetchone()
        return row

    def _all(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with storage_faults(self.path):
            return self._database.execute(query, parameters).fetchall()

    def _by_ids(
        self, select: str, ids: Sequence[bytes], condition: str = ""
    ) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(ids), PARAMETER_COUNT_MAX):
            some = ids[start : start + PARAMETER_COUNT_MAX]
            marks = ",".join("?" * len(some))
            query = f"{select} WHERE id IN ({marks}) {condition}"
            with storage_faults(self.path):
                rows: list[tuple[Any, ...]] = self._database.execute(query, some).fetchall()
            yield from rows


def open_storage(path: Path | str, network: NetworkId) -> SqliteStorage:
    """Return the store in the file at `path`, made or migrated as needed.

    Raises:
        StorageFault: as `open_database`.
    """
    database = open_database(path, SCHEMA_FOLDER / "registry")
    return SqliteStorage(database, path, network)


def split_heads(raw: bytes) -> tuple[OperationId, ...]:
    """Return the ids in a `heads` column, the winner first."""
    return tuple(OperationId(raw[start : start + 32]) for start in range(0, len(raw), 32))


def register_in(row: tuple[Any, ...]) -> Register:
    """Return the state in a row of `heads, deleted, tips, era, void_count, card_count`."""
    facts = split_heads(row[0])
    tips = split_heads(row[2]) if row[2] is not None else tuple(sorted(facts))
    return Register(
        winner=facts[0] if facts else None,
        conflicts=facts[1:],
        deleted=bool(row[1]),
        heads=tips,
        era=row[3],
        void_count=row[4],
        card_count=row[5],
    )


def read_account(
    rows_of: Callable[..., list[tuple[Any, ...]]], account: AccountId, network: NetworkId
) -> Account | None:
    """Return an account and its entries, read with a function that runs a query."""
    found = rows_of("SELECT root_key, recovery_key FROM account_v1 WHERE id = ?", account)
    if not found:
        return None
    root, recovery = found[0]
    genesis = Entry(
        ItemId(account), EntryType.GENESIS, account, None, root, root, recovery_key=recovery
    )
    later = (parse_entry(unpack_item(raw), network) for (raw,) in rows_of(_LOG, account))
    return account_of((genesis, *later))


def _stale_rows(commit: Commit) -> list[tuple[bytes]]:
    """Return the records whose state changed without an operation of theirs in the batch."""
    written = {
        one.subject.record for one in commit.admissions if isinstance(one.subject, Operation)
    }
    return [(change.record,) for change in commit.changes if change.record not in written]


def _usage_rows(admissions: Iterable[Admission]) -> list[tuple[int, int, AccountId]]:
    """Return what a batch adds to each account: operations and bytes."""
    added: dict[AccountId, tuple[int, int]] = {}
    for admission in admissions:
        if isinstance(admission.subject, Operation):
            account = admission.subject.account
            count, size = added.get(account, (0, 0))
            added[account] = count + 1, size + len(admission.item.raw)
    return [(count, size, account) for account, (count, size) in added.items()]


def _item_rows(
    first_n: int, admissions: Iterable[Admission], numbers: Mapping[RecordId, int]
) -> Iterator[tuple[object, ...]]:
    for n, admission in enumerate(admissions, first_n):
        item, subject = admission.item, admission.subject
        if isinstance(subject, Operation):
            record = subject.record
            yield n, item.id, _OPERATION, record, item.raw, numbers.get(record), record
        else:
            yield n, item.id, int(item.kind), None, item.raw, None, None


def _record_row(number: int | None, change: RecordChange) -> tuple[object, ...]:
    operation, register = change.operation, change.register
    facts = register.facts
    is_plain = register.heads == (facts if len(facts) < 2 else tuple(sorted(facts)))
    return (
        number,
        change.record,
        int(operation.kind),
        operation.account,
        operation.slug,
        b"".join(facts),
        int(register.deleted),
        None if is_plain else b"".join(register.heads),
        register.era,
        register.void_count,
        register.card_count,
        operation.account,
    )


def _settle(database: sqlite3.Connection, path: Path | str) -> bytes:
    """Return the store's epoch, another one than before if it is a copy or an older state."""
    with transaction(database, path):
        rows = database.execute("SELECT key, value FROM meta_v1 WHERE key IN ('epoch', 'mark')")
        known: dict[str, bytes] = dict(rows.fetchall())
        before, found = known.get("epoch", b""), find_mark(path)
        fresh = secrets.token_bytes(EPOCH_BYTES)
        epoch = settled(before, noted=known.get("mark", b""), found=found, fresh=fresh)
        if epoch != before or not found:  # else nothing is written: the disk may be full
            database.execute(_UPSERT_META, ("epoch", epoch))
            database.execute(_UPSERT_META, ("mark", renew_mark(path)))
    return epoch


def _last_n_of(database: sqlite3.Connection, path: Path | str) -> int:
    with storage_faults(path):
        row: tuple[int | None] = database.execute("SELECT max(n) FROM item_v1").fetchone()
        kept: tuple[int] | None = database.execute(
            "SELECT value FROM meta_v1 WHERE key = 'last_n'"
        ).fetchone()
    return max(row[0] or 0, kept[0] if kept else 0)
