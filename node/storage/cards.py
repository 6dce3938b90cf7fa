"""What records' cards say, worked out when somebody looks.

A card is a function of its record's operations and its account's entries, and both only grow, so
two numbers tell whether an answer is still good. Documents are kept for a few records in use; for
the others the store has a snapshot to go on from (`card_v1`), written by who follows the log.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from crdt import (
    Account,
    AccountId,
    Card,
    CardDocument,
    CardPart,
    OperationId,
    OperationType,
    RecordId,
    Register,
    SeedOf,
    Written,
    card_parts,
    open_card,
    resolve,
)

DOCUMENT_COUNT_MAX = 64
"""A live document costs 7 to 27 KB (crdt.md), one of the largest cards 20 MB."""
CONTENT_COUNT_MAX = 1024
"""Contents are small: a description, some tags, some evaluations."""


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

    def written(self, record: RecordId, after: int = 0) -> list[Written]:
        """Return a record's operations that arrived after `after`, with their bodies."""
        ...

    def account(self, account: AccountId) -> Account | None:
        """Return an account with its entries."""
        ...

    def card_row(self, record: RecordId) -> CardRow | None:
        """Return the card as it was kept, perhaps of an earlier state."""
        ...


@dataclass(slots=True)
class _Shelved:
    """A document that is kept.

    Attributes:
        ids: Of its parts.
        era: The record's, then.
        is_whole: Every card operation of the era is a part and counts; nothing is void.
    """

    key: CardKey
    parts: list[CardPart]
    document: CardDocument
    ids: set[OperationId]
    era: bytes
    is_whole: bool


class CardShelf:
    """Cards by record, for one thread: the documents behind them are not for two."""

    def __init__(self, source: CardSource, seed_of: SeedOf) -> None:
        self._source = source
        self._seed_of = seed_of
        self._contents: OrderedDict[RecordId, tuple[CardKey, Card]] = OrderedDict()
        self._documents: OrderedDict[RecordId, _Shelved] = OrderedDict()

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
            self._contents.move_to_end(record)
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
        self._contents[record] = (key, content)
        self._contents.move_to_end(record)
        while len(self._contents) > CONTENT_COUNT_MAX:
            self._contents.popitem(last=False)
        return content

    def _document(self, record: RecordId, key: CardKey, row: CardRow | None) -> _Shelved:
        # Out of the shelf while it is worked on: a document that failed is not used again.
        shelved = self._documents.pop(record, None)
        if shelved is None or not (shelved.key == key or self._grow(record, key, shelved)):
            shelved = self._anew(record, key, row, shelved)
        self._documents[record] = shelved
        while len(self._documents) > DOCUMENT_COUNT_MAX:
            self._documents.popitem(last=False)
        return shelved

    def _anew(
        self, record: RecordId, key: CardKey, row: CardRow | None, old: _Shelved | None
    ) -> _Shelved:
        """Return the document after looking at all of the record's operations."""
        written = self._source.written(record)
        account = self._source.account(written[0].operation.account)
        assert account is not None, "a record's account is known"
        operations = [one.operation for one in written]
        resolution = resolve(operations, lambda one: account.standing(one.account_head, one.key))
        parts = card_parts(written, resolution, self._seed_of)
        document = _grown(old, parts) or _restored(row, parts) or CardDocument.of(parts)
        register = resolution.register
        is_whole = bool(register.card_count) and not register.void_count
        ids = {part.id for part in parts}
        return _Shelved(key, parts, document, ids, register.era, is_whole)

    def _grow(self, record: RecordId, key: CardKey, shelved: _Shelved) -> bool:
        """Bring a document up to date by what is new alone, if that is all that changed.

        It is while nothing of the era is void, before and after: then every card operation counts.
        """
        if not shelved.is_whole or key.entry_count != shelved.key.entry_count:
            return False
        written = self._source.written(record, shelved.key.last_n)
        register = self._source.register(record)  # after: what is void among them shows in it
        if register is None or register.void_count or register.era != shelved.era:
            return False
        new = [_card_part(one) for one in written if _is_new_card(one, shelved)]
        ids = {part.id for part in new}
        if not all(id_ in ids or id_ in shelved.ids for part in new for id_ in part.table):
            return False  # a seed that was not needed before
        shelved.parts += sorted(new, key=lambda part: part.order)
        document = shelved.document.extended(new)
        if document is None:
            shelved.parts.sort(key=lambda part: part.order)
            document = CardDocument.of(shelved.parts)
        shelved.key, shelved.document = key, document
        shelved.ids |= ids
        return True


def _is_new_card(one: Written, shelved: _Shelved) -> bool:
    operation = one.operation
    return (
        operation.type is OperationType.CARD
        and operation.era == shelved.era
        and operation.id not in shelved.ids
    )


def _card_part(one: Written) -> CardPart:
    operation = one.operation
    return CardPart(operation.id, operation.depth, operation.key, open_card(one.body), True)


def _grown(shelved: _Shelved | None, parts: list[CardPart]) -> CardDocument | None:
    """Return a document that is here already, grown by what is new at its end."""
    if shelved is None or _names(parts[: len(shelved.parts)]) != _names(shelved.parts):
        return None
    return shelved.document.extended(parts[len(shelved.parts) :])


def _names(parts: list[CardPart]) -> list[tuple[bytes, bool]]:
    return [(part.id, part.effective) for part in parts]


def _restored(row: CardRow | None, parts: list[CardPart]) -> CardDocument | None:
    """Return the document of a snapshot, grown by what came after it."""
    if row is None or row.count > len(parts):
        return None
    document = CardDocument.restored(row.snapshot, parts[: row.count])
    return document.extended(parts[row.count :]) if document is not None else None
