"""The search views: columns, sets and words derived from each record's winner.

They follow the log lazily, in its own order, so that ingest is not held to their speed, and can be
rebuilt at any time. Losing their last transactions costs nothing but doing them again, so theirs
are not synced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from crdt import CardEngineFault, RecordId, RecordKind, RemoteFault, open_checkpoint, unpack_item
from node.storage.cards import CardShelf
from node.storage.migrations import storage_faults, transaction
from registry import SearchRow, decode_record, projection

_COLUMNS = (
    "kind", "account", "name", "name_key", "tags", "description", "type", "framework", "license",
    "quantization", "status", "parameters", "context", "price", "requires_gpu", "min_vram_gb",
    "min_memory_mb", "updated_at",
)  # fmt: skip
_INSERT_VIEW = (
    f"INSERT INTO view_v1 (number, {', '.join(_COLUMNS)}) "  # noqa: S608 - names of ours
    f"VALUES (?{', ?' * len(_COLUMNS)})"
)
_INSERT_WORDS = "INSERT INTO words_v1 (rowid, name, tags, description) VALUES (?, ?, ?, ?)"
_DELETE_WORDS = (
    "INSERT INTO words_v1 (words_v1, rowid, name, tags, description) "
    "SELECT 'delete', number, name, tags, description FROM view_v1 WHERE number = ?"
)
_UPSERT_CARD = """
    INSERT INTO card_v1 (record, last_n, entry_count, content, count, snapshot)
    VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (record) DO UPDATE SET last_n = excluded.last_n,
    entry_count = excluded.entry_count, content = excluded.content, count = excluded.count,
    snapshot = excluded.snapshot"""
_INSERT_MARK = "INSERT OR IGNORE INTO mark_v1 (property, value, number) VALUES (?, ?, ?)"
_RECORD = """
    SELECT record_v1.number, record_v1.kind, record_v1.account, record_v1.deleted,
        record_v1.era = substr(record_v1.heads, 1, 32), item_v1.raw, view_v1.number IS NOT NULL
    FROM record_v1 LEFT JOIN item_v1 ON item_v1.id = substr(record_v1.heads, 1, 32)
    LEFT JOIN view_v1 ON view_v1.number = record_v1.number
    WHERE record_v1.id = ?"""
TAG_SEPARATOR = "\n"
"""Tags have no control characters, so this separates them for the words' index."""


class SearchViews:
    """Keeps the views behind the log, on the writer's connection."""

    def __init__(self, database: sqlite3.Connection, path: Path | str, cards: CardShelf) -> None:
        self._database = database
        self._cards = cards
        self._path = path
        with storage_faults(path):
            row: tuple[int] | None = database.execute(
                "SELECT value FROM meta_v1 WHERE key = 'projected_n'"
            ).fetchone()
        self._projected_n = row[0] if row else 0

    def project(self, last_n: int, count_max: int) -> bool:
        """Bring at most so many operations into the views; whether more are left.

        Raises:
            StorageFault: the views are as they were.
        """
        with storage_faults(self._path):
            stale: list[tuple[bytes]] = self._database.execute(
                "SELECT record FROM stale_v1 ORDER BY number LIMIT ?", (count_max,)
            ).fetchall()
        if self._projected_n >= last_n and not stale:
            return False
        with storage_faults(self._path):
            rows: list[tuple[int, bytes]] = self._database.execute(
                "SELECT n, record FROM item_v1 WHERE n > ? AND record IS NOT NULL "
                "ORDER BY n LIMIT ?",
                (self._projected_n, count_max),
            ).fetchall()
        is_all = len(rows) < count_max
        projected_n = last_n if is_all else rows[-1][0]
        records = [*(record for _, record in rows), *(record for (record,) in stale)]
        self._write(dict.fromkeys(records), stale, projected_n)
        return not is_all or len(stale) == count_max

    def rebuild(self) -> None:
        """Empty the views; `project` fills them again."""
        with transaction(self._database, self._path):
            # The contents go with the index, or 'delete' commands would miss their words.
            self._database.execute("INSERT INTO words_v1 (words_v1) VALUES ('delete-all')")
            self._database.execute("DELETE FROM view_v1")
            self._database.execute("DELETE FROM mark_v1")
            self._database.execute("DELETE FROM card_v1")
            self._database.execute("DELETE FROM meta_v1 WHERE key = 'projected_n'")
        self._projected_n = 0

    def _write(self, records: Iterable[bytes], stale: list[tuple[bytes]], projected_n: int) -> None:
        with storage_faults(self._path):
            self._database.execute("PRAGMA synchronous = NORMAL")
        try:
            with transaction(self._database, self._path):
                for record in records:
                    self._show(record)
                self._database.executemany("DELETE FROM stale_v1 WHERE record = ?", stale)
                self._database.execute(
                    "INSERT INTO meta_v1 (key, value) VALUES ('projected_n', ?) "
                    "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                    (projected_n,),
                )
        finally:
            with storage_faults(self._path):
                self._database.execute("PRAGMA synchronous = FULL")
        self._projected_n = projected_n

    def _show(self, record: bytes) -> None:
        """Replace what the views say of one record."""
        execute = self._database.execute
        row = execute(_RECORD, (record,)).fetchone()
        number, kind, account, deleted, is_checkpoint, raw, is_shown = row
        if is_shown:
            execute(_DELETE_WORDS, (number,))
            execute("DELETE FROM view_v1 WHERE number = ?", (number,))
            execute("DELETE FROM mark_v1 WHERE number = ?", (number,))
        if deleted or raw is None:
            return
        try:
            body = unpack_item(raw).body
            facts = open_checkpoint(body).facts if is_checkpoint else body
            shown = self._with_card(record, projection(decode_record(RecordKind(kind), facts)))
        except RemoteFault:
            # Admitted under rules that have since become stricter: kept, and not found.
            return
        tags = TAG_SEPARATOR.join(shown.tags)
        execute(_INSERT_VIEW, (number, *_columns(shown, account, tags)))
        execute(_INSERT_WORDS, (number, shown.name, tags, shown.description))
        self._database.executemany(_INSERT_MARK, [(*mark, number) for mark in marks(shown)])

    def _with_card(self, record: bytes, row: SearchRow) -> SearchRow:
        """Return a row with what the record's card says, and keep the card."""
        try:
            card = self._cards.row(RecordId(record))
        except CardEngineFault:
            return row  # the record is found by its facts; reading the card says what is wrong
        if card is None:
            return row
        content = card.content.canonical_json()
        values = (record, *card.key, content, card.count, card.snapshot)
        self._database.execute(_UPSERT_CARD, values)
        return replace(row, description=card.content.text, tags=card.content.tags)


def marks(row: SearchRow) -> list[tuple[str, str]]:
    """Return a record's values of the properties that are sets."""
    return [
        *(("tag", value) for value in row.tags),
        *(("capability", value) for value in row.capabilities),
        *(("region", value) for value in row.regions),
        *(("segment", value) for value in row.segments),
    ]


def _columns(row: SearchRow, account: bytes, tags: str) -> tuple[object, ...]:
    values = {name: getattr(row, name, None) for name in _COLUMNS}
    values |= {"kind": int(row.kind), "account": account, "tags": tags}
    return tuple(values[name] for name in _COLUMNS)
