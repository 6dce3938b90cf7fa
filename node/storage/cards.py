"""What records' cards say, worked out when somebody looks.

A card is a function of its record's operations and its account's entries, and both only grow, so
two numbers tell whether an answer is still good. Documents are kept for a few records in use; for
the others the store has a snapshot to go on from (`card_v1`), written by who follows the log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from crdt import (
    Account,
    AccountId,
    Card,
    CardDocument,
    CardPart,
    RecordId,
    Register,
    SeedOf,
    WeighedCache,
    Written,
    card_parts,
    card_parts_since,
    resolve,
)
from crdt.cards.updates import content_bytes_of, pieces_of

DOCUMENT_BYTES_MAX = 64 << 20
"""Some 2000 documents of 30 KB, or 3 of the largest cards."""
CONTENT_BYTES_MAX = 16 << 20
"""A description, some tags, some evaluations: 4 MiB in the largest cards."""
_DOCUMENT_BYTES = 8192
"""An empty document; one costs 7 to 27 KB in practice."""
_PIECE_BYTES = 512
"""What a struct or a range takes: as it was read, where it is woven, and in the engine."""


class CardKey(NamedTuple):
    """What a card was derived from: its record's newest operation, and its account's entries."""

    last_n: int
    entry_count: int


@dataclass(frozen=True, slots=True)
class CardRow:
    """A card as it was derived once.

    Attributes:
        count: Parts in the snapshot, in canonical order.
    """

    key: CardKey
    content: Card
    count: int
    snapshot: bytes


def row_of(values: tuple[Any, ...]) -> CardRow:
    """Return the card in a row of `last_n, entry_count, content, count, snapshot`."""
    found: dict[str, Any] = json.loads(values[2])
    content = Card(found["text"], tuple(found["tags"]), found["evals"])
    return CardRow(CardKey(values[0], values[1]), content, values[3], values[4])


class CardSource(Protocol):
    """What cards are derived from, and where they are kept."""

    def register(self, record: RecordId) -> Register | None:
        """Return a record's state by ids."""
        ...

    def card_key(self, record: RecordId) -> CardKey:
        """Return what its card would be derived from now."""
        ...

    def written(self, record: RecordId, after_n: int = 0) -> list[Written]:
        """Return the operations of a record that arrived after `after_n`, with their bodies."""
        ...

    def account(self, account: AccountId) -> Account | None:
        """Return an account with its entries."""
        ...

    def card_row(self, record: RecordId) -> CardRow | None:
        """Return the card as it was kept, perhaps of an earlier state."""
        ...


@dataclass(slots=True)
class _Shelved:
    """A document with what it is of.

    Attributes:
        era: The record's, if all of its operations counted then; None if some were void.
    """

    key: CardKey
    era: bytes | None
    parts: list[CardPart]
    document: CardDocument
    bytes: int


class CardShelf:
    """Cards by record, for one thread: the documents behind them are not for two."""

    def __init__(self, source: CardSource, seed_of: SeedOf) -> None:
        self._source = source
        self._seed_of = seed_of
        self._contents: WeighedCache[RecordId, tuple[CardKey, Card]] = WeighedCache(
            CONTENT_BYTES_MAX
        )
        self._documents: WeighedCache[RecordId, _Shelved] = WeighedCache(DOCUMENT_BYTES_MAX)

    def card(self, record: RecordId) -> Card | None:
        """Return what a record's card says; None when its description and tags are its facts'.

        Raises:
            CardEngineFault: the document could not be made.
        """
        register = self._source.register(record)
        if register is None or not register.has_card:
            return None
        key = self._source.card_key(record)
        known = self._contents.get(record)
        if known is not None and known[0] == key:
            return known[1]
        row = self._source.card_row(record)
        if row is not None and row.key == key:
            return self._keep(record, key, row.content)
        return self._keep(record, key, self._document(record, key, row).document.content())

    def document(self, record: RecordId) -> CardDocument:
        """Return a known record's document to edit from, also before its first card operation.

        Raises:
            CardEngineFault: the document could not be made.
        """
        key = self._source.card_key(record)
        return self._document(record, key, self._source.card_row(record)).document

    def row(self, record: RecordId) -> CardRow | None:
        """Return a record's card as it is to be kept; None when it has none."""
        content = self.card(record)
        if content is None:
            return None
        key = self._source.card_key(record)
        row = self._source.card_row(record)
        if row is not None and row.key == key:
            return row
        shelved = self._document(record, key, row)
        return CardRow(key, content, len(shelved.parts), shelved.document.snapshot())

    def _keep(self, record: RecordId, key: CardKey, content: Card) -> Card:
        self._contents.put(record, (key, content), _content_bytes(content))
        return content

    def _document(self, record: RecordId, key: CardKey, row: CardRow | None) -> _Shelved:
        shelved = self._documents.get(record)
        if shelved is None or shelved.key != key:
            # What is shelved may grow, and is not to be used again if that fails.
            self._documents.drop(record)
            shelved = self._longer(record, shelved, key) or self._anew(record, row, key)
            self._documents.put(record, shelved, shelved.bytes)
        return shelved

    def _longer(self, record: RecordId, shelved: _Shelved | None, key: CardKey) -> _Shelved | None:
        """Return what is shelved with what arrived since, looking at that alone; None if amiss.

        That is enough while every operation of the era counts: so it did, and so it does.
        """
        if shelved is None or shelved.era is None:
            return None
        written = self._source.written(record, shelved.key.last_n)
        register = self._source.register(record)  # after: what is void among them shows in it
        if register is None or register.void_count or register.era != shelved.era:
            return None
        if key.entry_count != shelved.key.entry_count:
            return None
        new = card_parts_since(shelved.parts, written, shelved.era)
        if new is None:
            return None
        document = shelved.document.extended(new)
        parts = [*shelved.parts, *new]
        if document is None:  # something new comes before something old
            parts.sort(key=lambda part: part.order)
            document = CardDocument.of(parts)
        size = shelved.bytes + sum(map(_part_bytes, new))
        return _Shelved(key, shelved.era, parts, document, size)

    def _anew(self, record: RecordId, row: CardRow | None, key: CardKey) -> _Shelved:
        """Return the document after looking at all of the record's operations."""
        written = self._source.written(record)
        account = self._source.account(written[0].operation.account)
        assert account is not None, "a record's account is known"
        operations = [one.operation for one in written]
        resolution = resolve(operations, lambda one: account.standing(one.account_head, one.key))
        parts = card_parts(written, resolution, self._seed_of)
        document = _restored(row, parts) or CardDocument.of(parts)
        size = _DOCUMENT_BYTES + sum(map(_part_bytes, parts))
        register = resolution.register
        era = None if register.void_count else register.era
        return _Shelved(key, era, parts, document, size)


def _part_bytes(part: CardPart) -> int:
    return _PIECE_BYTES * (1 + pieces_of(part.update)) + 4 * content_bytes_of(part.update)


def _content_bytes(content: Card) -> int:
    evals = sum(len(str(entries)) for entries in content.evals.values())
    return 1024 + 4 * (len(content.text) + sum(map(len, content.tags)) + evals)


def _restored(row: CardRow | None, parts: list[CardPart]) -> CardDocument | None:
    """Return the document of a snapshot, grown by what came after it."""
    if row is None or row.count > len(parts):
        return None
    document = CardDocument.restored(row.snapshot, parts[: row.count])
    return document.extended(parts[row.count :]) if document is not None else None
