"""Reads of the replicated log for the rest of the node, on a connection of their own.

Snapshots, never waiting for the writer; used from one thread (the event loop's). Every query is
bounded, so none holds the loop for long.
"""
# ruff: noqa: S608 - the SQL is put together from constants of ours; every value is a parameter.

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crdt import (
    Account,
    AccountId,
    Card,
    Item,
    ItemId,
    ItemKind,
    NetworkId,
    Operation,
    OperationId,
    RecordId,
    RecordKind,
    Register,
    WeighedCache,
    Written,
    parse_operation,
    record_id,
    unpack_item,
)
from node.storage.cards import CardKey, CardRow, CardShelf, row_of
from node.storage.migrations import open_reader, storage_faults
from node.storage.queries import (
    FACET_TOTAL_MAX,
    FACETS,
    Statement,
    decode_cursor,
    encode_cursor,
    statement_of,
    words,
)
from node.storage.sqlite import (
    CARD_KEY,
    CARD_ROW,
    OF_ACCOUNT,
    OF_RECORD,
    PARAMETER_COUNT_MAX,
    read_account,
    register_in,
)
from node.storage.states import Counts, RecordLog, RecordState, VersionEntry, facts_in, is_version
from registry import Facets, Hit, Page, Query, RegistryRules, decode_record

VERSION_COUNT_MAX = 1000
"""Versions of one record in one answer, newest first; older ones are reached by their ids."""
RECORD_COUNT_MAX = 10_000
ACCOUNT_COUNT_MAX = 4096
"""Accounts looked at for one prefix of an id: to make so many with one takes 2**44 hashes."""
ACCOUNT_WEIGHT_MAX = 2**20
"""Ids of 80 bytes: an account of 10 000 forks takes 0.1 s to read, and weighs a sixth of this."""


class SqliteReader:
    """Answers the catalogue's questions; open with the path of an existing store."""

    def __init__(self, path: Path | str, network: NetworkId) -> None:
        self.path = path
        self.network = network
        self.database: sqlite3.Connection = open_reader(path)
        self._cards = CardShelf(self, RegistryRules().seed_of)
        self._accounts: WeighedCache[AccountId, tuple[int | None, Account]] = WeighedCache(
            ACCOUNT_WEIGHT_MAX
        )

    def close(self) -> None:
        """Close the connection."""
        self.database.close()

    def record(self, record: RecordId) -> RecordState | None:
        """Return a record as it stands, deleted or not; None when nothing is known of it."""
        row = self.one(
            "SELECT kind, account, slug, heads, deleted, tips, era, void_count, card_count "
            "FROM record_v1 WHERE id = ?",
            record,
        )
        if row is None:
            return None
        register = register_in(row[3:])
        if register.winner is None:
            return None
        found = self._item(register.winner)
        assert found is not None, "a record's winner is in the log"
        n, item = found
        operation = parse_operation(item, self.network)
        return RecordState(
            id=record,
            kind=RecordKind(row[0]),
            account=AccountId(row[1]),
            slug=row[2],
            operation=operation,
            body=facts_in(operation, item.body),
            register=register,
            n=n,
        )

    def register(self, record: RecordId) -> Register | None:
        """Return a record's state by ids, also of one that does not show."""
        row = self.one(
            "SELECT heads, deleted, tips, era, void_count, card_count FROM record_v1 WHERE id = ?",
            record,
        )
        return register_in(row) if row else None

    def card_key(self, record: RecordId) -> CardKey:
        """Return what a record's card would be derived from now."""
        row = self.one(CARD_KEY, record, record)
        assert row is not None, "an aggregate has a row"
        return CardKey(row[0] or 0, row[1])

    def written(self, record: RecordId, after_n: int = 0) -> list[Written]:
        """Return a record's operations that arrived after `after_n`, with bodies, in order."""
        query = f"SELECT raw FROM item_v1 WHERE {OF_RECORD} AND n > ? ORDER BY n"
        rows = self.all(query, record, after_n)
        items = (unpack_item(raw) for (raw,) in rows)
        return [Written(parse_operation(item, self.network), item.body) for item in items]

    def card_row(self, record: RecordId) -> CardRow | None:
        """Return a record's card as it was kept, perhaps of an earlier state."""
        row = self.one(CARD_ROW, record)
        return row_of(row) if row else None

    def card(self, record: RecordId) -> Card | None:
        """Return what a record's card says; None when its facts say it all."""
        return self._cards.card(record)

    def record_log(self, record: RecordId, after: int, *, bytes_max: int) -> RecordLog:
        """Return a record's operations that arrived after `after`: at least one if there is one.

        They are whole, and in order of arrival until `bytes_max` would be passed.
        """
        found: list[tuple[int, bytes]] = []
        size, done = 0, True
        with storage_faults(self.path):
            # The cursor is closed on the way out, or it would keep a read transaction open.
            query = f"SELECT n, raw FROM item_v1 WHERE {OF_RECORD} AND n > ? ORDER BY n"
            rows = self.database.execute(query, (record, after))
            for n, raw in rows:
                size += len(raw)
                if found and size > bytes_max:
                    done = False
                    break
                found.append((n, raw))
            rows.close()
        return RecordLog(tuple(found), found[-1][0] if found else after, done)

    def account(self, account: AccountId) -> Account | None:
        """Return an account, from a bounded memory as long as no entry was added."""
        row = self.one("SELECT max(number) FROM entry_v1 WHERE account = ?", account)
        last = row[0] if row is not None else None
        known = self._accounts.get(account)
        if known is not None and known[0] == last:
            return known[1]
        found = read_account(self.all, account, self.network)
        if found is not None:
            # An entry that came in between is in it, and is read once more the next time.
            self._accounts.put(account, (last, found), found.weight)
        return found

    def item(self, id_: ItemId) -> Item | None:
        """Return any item of the log."""
        found = self._item(id_)
        return found[1] if found else None

    def versions(self, record: RecordId) -> list[VersionEntry]:
        """Return a record's puts, newest arrival first, at most `VERSION_COUNT_MAX`."""
        rows = self.all(
            f"SELECT n, raw FROM item_v1 WHERE {OF_RECORD} ORDER BY n DESC LIMIT ?",
            record,
            VERSION_COUNT_MAX,
        )
        entries = (self._entry(n, raw) for n, raw in rows)
        return [entry for entry in entries if entry is not None]

    def version(self, operation: OperationId) -> VersionEntry | None:
        """Return one put by its operation's id."""
        row = self.one(
            "SELECT n, raw FROM item_v1 WHERE id = ? AND kind = ?",
            operation,
            int(ItemKind.OPERATION),
        )
        return self._entry(*row) if row else None

    def records_of_slug(self, slug: str, first: bytes, last: bytes) -> list[RecordId]:
        """Return the records called `slug` of accounts whose ids lie in first..last, at most 16."""
        found: list[RecordId] = []
        accounts = [
            AccountId(id_)
            for (id_,) in self.all(
                "SELECT id FROM account_v1 WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
                first,
                last,
                ACCOUNT_COUNT_MAX,
            )
        ]
        # Their ids follow from the slug, so no index of slugs is needed.
        step = PARAMETER_COUNT_MAX // len(RecordKind)
        for start in range(0, len(accounts), step):
            ids = [
                record_id(self.network, kind, account, slug)
                for account in accounts[start : start + step]
                for kind in RecordKind
            ]
            marks = ",".join("?" * len(ids))
            rows = self.all(
                f"SELECT id FROM record_v1 WHERE id IN ({marks}) AND heads <> x''", *ids
            )
            found += [RecordId(row[0]) for row in rows]
        return found[:16]

    def records_of(self, account: AccountId) -> list[RecordId]:
        """Return every record an account has written, at most `RECORD_COUNT_MAX`."""
        rows = self.all(
            f"SELECT id FROM record_v1 WHERE {OF_ACCOUNT} ORDER BY number LIMIT ?",
            account,
            RECORD_COUNT_MAX,
        )
        return [RecordId(row[0]) for row in rows]

    def records_in_eras(self, after: int, count_max: int) -> list[tuple[int, RecordId]]:
        """Return records that a checkpoint stands for, with their numbers, from one number on."""
        rows = self.all(
            "SELECT number, id FROM record_v1 WHERE number > ? AND era <> x'' "
            "ORDER BY number LIMIT ?",
            after,
            count_max,
        )
        return [(row[0], RecordId(row[1])) for row in rows]

    def record_page(
        self, account: AccountId, after: int, count_max: int
    ) -> list[tuple[int, RecordId, RecordKind, str]]:
        """Return an account's records numbered over `after`: number, id, kind and slug."""
        rows = self.all(
            f"SELECT number, id, kind, slug FROM record_v1 WHERE {OF_ACCOUNT} AND number > ? "
            "ORDER BY number LIMIT ?",
            account,
            after,
            count_max,
        )
        return [(row[0], RecordId(row[1]), RecordKind(row[2]), row[3]) for row in rows]

    def receipts(
        self, subjects: Sequence[bytes] | None, period: int | None, count_max: int
    ) -> list[Item]:
        """Return the receipts that stand, by what they are about and when they count."""
        query = (
            "SELECT item_v1.raw FROM slot_v1 JOIN item_v1 ON item_v1.id = slot_v1.id "
            "WHERE (? IS NULL OR slot_v1.period = ?)"
        )
        parameters: list[object] = [period, period]
        if subjects is not None:
            marks = ",".join("?" * len(subjects))
            query += f" AND slot_v1.subject IN ({marks})"
            parameters += subjects
        rows = self.all(f"{query} ORDER BY slot_v1.slot LIMIT ?", *parameters, count_max)
        return [unpack_item(row[0]) for row in rows]

    def search(self, query: Query) -> Page:
        """Return a page of the records that a query finds.

        Raises:
            BadQuery: its cursor is not one of this query.
        """
        after = decode_cursor(query)
        if query.text and not words(query.text):
            return Page((), 0)
        statement = statement_of(query)
        total = self.all(f"SELECT count(*) FROM {statement.source}", *statement.parameters)[0][0]
        rows = self._rows(statement, after, query.limit + 1)
        hits: list[Hit] = []
        for number, value in rows[: query.limit]:
            hit = self._hit(number, score=value if isinstance(value, float) else 0.0)
            if hit is not None:
                hits.append(hit)
        cursor = None
        if len(rows) > query.limit:
            number, value = rows[query.limit - 1]
            cursor = encode_cursor(query, value, number)
        return Page(tuple(hits), total, cursor, self._facets(statement, total))

    def _rows(
        self, statement: Statement, after: tuple[float | int | str, int] | None, count: int
    ) -> list[tuple[int, Any]]:
        """Return (number, sort value) of a page, in order."""
        order, compare = ("DESC", "<") if statement.downward else ("ASC", ">")
        inner = f"SELECT v.number AS number, {statement.sort} AS value FROM {statement.source}"
        query, parameters = f"SELECT number, value FROM ({inner})", list(statement.parameters)
        if after is not None:
            query += f" WHERE (value, number) {compare} (?, ?)"
            parameters += after
        query += f" ORDER BY value {order}, number {order} LIMIT ?"
        rows = self.all(query, *parameters, count)
        return [(row[0], row[1]) for row in rows]

    def _facets(self, statement: Statement, total: int) -> Facets | None:
        if total > FACET_TOTAL_MAX:
            return None
        counts: dict[str, dict[str, int]] = {}
        for name in FACETS:
            rows = self.all(
                f"SELECT v.{name}, count(*) FROM {statement.source} AND v.{name} IS NOT NULL "
                f"GROUP BY v.{name} ORDER BY count(*) DESC, v.{name} LIMIT 100",
                *statement.parameters,
            )
            counts[name] = {row[0]: row[1] for row in rows}
        return Facets(counts)

    def _hit(self, number: int, *, score: float) -> Hit | None:
        row = self.one("SELECT id FROM record_v1 WHERE number = ?", number)
        state = self.record(RecordId(row[0])) if row else None
        if state is None or state.deleted:
            return None  # the views follow the log a moment later
        return Hit(
            record=state.id,
            kind=state.kind,
            account=state.account,
            slug=state.slug,
            operation=state.operation.id,
            value=decode_record(state.kind, state.body),
            score=score,
        )

    def counts(self) -> Counts:
        """Return how much is in the store."""
        by_kind = dict(self.all("SELECT kind, count(*) FROM item_v1 GROUP BY kind"))
        live = dict(
            self.all(
                "SELECT kind, count(*) FROM record_v1 WHERE deleted = 0 AND heads <> x'' "
                "GROUP BY kind"
            )
        )
        pages = self.one("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        return Counts(
            items=sum(by_kind.values()),
            accounts=by_kind.get(int(ItemKind.ACCOUNT), 0),
            records=sum(live.values()),
            models=live.get(int(RecordKind.MODEL), 0),
            agents=live.get(int(RecordKind.AGENT), 0),
            receipts=by_kind.get(int(ItemKind.RECEIPT), 0),
            bytes=pages[0] if pages else 0,
        )

    def one(self, query: str, *parameters: object) -> tuple[Any, ...] | None:
        """Return a query's first row."""
        with storage_faults(self.path):
            row: tuple[Any, ...] | None = self.database.execute(query, parameters).fetchone()
        return row

    def all(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return a query's rows; the query has a limit."""
        with storage_faults(self.path):
            return self.database.execute(query, parameters).fetchall()

    def _item(self, id_: bytes) -> tuple[int, Item] | None:
        row = self.one("SELECT n, raw FROM item_v1 WHERE id = ?", id_)
        return (row[0], unpack_item(row[1])) if row else None

    def _entry(self, n: int, raw: bytes) -> VersionEntry | None:
        item = unpack_item(raw)
        operation: Operation = parse_operation(item, self.network)
        if not is_version(operation):
            return None
        return VersionEntry(operation, facts_in(operation, item.body), n)
