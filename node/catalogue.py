"""The catalogue: what the rest of the node reads and writes the replicated state through.

Writes go to the driver and return once they are on the disk; gossip follows. Reads are answered at
once from a snapshot of the store. Everything is called from the event loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Protocol

from crdt import (
    Account,
    AccountId,
    Card,
    Item,
    ItemId,
    NetworkId,
    OperationId,
    Outcome,
    RecordChange,
    RecordId,
    RecordKind,
    Register,
    SyncStatus,
    UserFault,
    record_id,
)
from node.storage import Counts, RecordLog, RecordState, VersionEntry
from registry import Page, Query, decode_record

PUBLISH_COUNT_MAX = 1000
"""Items in one call; a caller with more calls again."""
PREFIX_LENGTH_MIN = 8
"""Fewer hex digits of an account name too many accounts (registry.references)."""
RECEIPT_COUNT_MAX = 10_000
SUBJECT_COUNT_MAX = 500
PRUNE_RECORD_COUNT = 100
"""Records that are pruned in one go, while other writes wait."""


class AmbiguousSlug(UserFault):
    """An owner's prefix and a slug fit more than one record."""

    code = "ambiguous-reference"


class CatalogueStore(Protocol):
    """The reads that a catalogue needs; `SqliteReader` and `MemoryStorage` have them."""

    def record(self, record: RecordId) -> RecordState | None:
        """Return a record as it stands."""
        ...

    def card(self, record: RecordId) -> Card | None:
        """Return what a record's card says; None when its facts say it all."""
        ...

    def register(self, record: RecordId) -> Register | None:
        """Return a record's state by ids, also of one that does not show."""
        ...

    def record_log(self, record: RecordId, after: int, *, bytes_max: int) -> RecordLog:
        """Return a record's operations that arrived after `after`, whole and bounded."""
        ...

    def account(self, account: AccountId) -> Account | None:
        """Return an account."""
        ...

    def item(self, id_: ItemId) -> Item | None:
        """Return any item of the log."""
        ...

    def versions(self, record: RecordId) -> list[VersionEntry]:
        """Return a record's puts, newest arrival first."""
        ...

    def version(self, operation: OperationId) -> VersionEntry | None:
        """Return one put."""
        ...

    def records_of_slug(self, slug: str, first: bytes, last: bytes) -> list[RecordId]:
        """Return the records with this slug of accounts in first..last."""
        ...

    def records_of(self, account: AccountId) -> list[RecordId]:
        """Return every record an account has written."""
        ...

    def records_in_eras(self, after: int, count_max: int) -> list[tuple[int, RecordId]]:
        """Return records that a checkpoint stands for, with their numbers, from one number on."""
        ...

    def record_page(
        self, account: AccountId, after: int, count_max: int
    ) -> list[tuple[int, RecordId, RecordKind, str]]:
        """Return an account's records numbered over `after`: number, id, kind and slug."""
        ...

    def receipts(
        self, subjects: Sequence[bytes] | None, period: int | None, count_max: int
    ) -> list[Item]:
        """Return the receipts that stand."""
        ...

    def search(self, query: Query) -> Page:
        """Return a page of what a query finds."""
        ...

    def counts(self) -> Counts:
        """Return how much is stored."""
        ...


class Publisher(Protocol):
    """The writes that a catalogue needs; `Driver` has them."""

    async def publish(self, items: Sequence[bytes]) -> list[Outcome]:
        """Judge, store and gossip items; return once they are durable."""
        ...

    async def prune(self, records: Sequence[RecordId]) -> int:
        """Drop what the eras of these records stand for; return how many operations."""
        ...

    def subscribe(self, callback: Callable[[Sequence[RecordChange]], None]) -> Callable[[], None]:
        """Call back with every batch of changed records; return how to stop."""
        ...

    def sync_status(self) -> SyncStatus:
        """Return how far the node has read its peers."""
        ...


class Catalogue:
    """Publish and read accounts, records, versions and agreed receipts."""

    def __init__(self, driver: Publisher, store: CatalogueStore, network: NetworkId) -> None:
        self.network = network
        self._driver = driver
        self._store = store

    async def publish(self, items: Sequence[bytes]) -> list[Outcome]:
        """Judge, store and gossip items; return, once they are durable, what became of each.

        Raises:
            MalformedBytes: an item is not one.
            WorldFault: nothing was stored: the disk, or too much is waiting.
        """
        assert len(items) <= PUBLISH_COUNT_MAX
        return await self._driver.publish(items)

    def record(self, record: RecordId) -> RecordState | None:
        """Return a record as it stands, deleted or not; None when nothing is known of it."""
        return self._store.record(record)

    def card(self, record: RecordId) -> Card | None:
        """Return what a record's card says; None when description and tags are its facts'.

        Raises:
            CardEngineFault: the document could not be made.
        """
        return self._store.card(record)

    def register(self, record: RecordId) -> Register | None:
        """Return a record's state by ids, also of one that does not show; None if unknown."""
        return self._store.register(record)

    def record_log(self, record: RecordId, after: int, *, bytes_max: int) -> RecordLog:
        """Return a record's operations that arrived after `after`: at least one if there is one.

        They are whole, and in order of arrival until `bytes_max` would be passed.
        """
        return self._store.record_log(record, after, bytes_max=bytes_max)

    def account(self, account: AccountId) -> Account | None:
        """Return an account whose genesis is known here."""
        return self._store.account(account)

    def item(self, id_: ItemId) -> Item | None:
        """Return any item of the log as it was signed, to hand on with what relies on it."""
        return self._store.item(id_)

    def versions(self, record: RecordId) -> list[VersionEntry]:
        """Return every put ever made to a record, newest arrival first (at most 1000)."""
        return self._store.versions(record)

    def version(self, record: RecordId, reference: str) -> VersionEntry | None:
        """Return one version by its operation id in hex, or by its semver.

        When concurrent writes gave the same semver, the one of greatest (depth, id) is meant.
        """
        if len(reference) == 64 and not set(reference) - set("0123456789abcdef"):
            entry = self._store.version(OperationId(bytes.fromhex(reference)))
            return entry if entry is not None and entry.operation.record == record else None
        fits = [entry for entry in self.versions(record) if semver_of(entry) == reference]
        return max(fits, key=lambda e: (e.operation.depth, e.operation.id), default=None)

    def search(self, query: Query) -> Page:
        """Return a page of the records that a query finds, and where the next one starts."""
        return self._store.search(query)

    def find_slug(self, owner: str, slug: str) -> RecordState | None:
        """Return the record `owner/slug`, models before agents; owner: account hex or a prefix.

        Raises:
            AmbiguousSlug: the prefix fits accounts that each have such a record.
        """
        digits = set("0123456789abcdef")
        if not PREFIX_LENGTH_MIN <= len(owner) <= 64 or set(owner) - digits:
            return None
        first, last = bytes.fromhex(owner.ljust(64, "0")), bytes.fromhex(owner.ljust(64, "f"))
        found = [self._store.record(id_) for id_ in self._store.records_of_slug(slug, first, last)]
        live = [state for state in found if state is not None and not state.deleted]
        if len({state.account for state in live}) > 1:
            raise AmbiguousSlug(
                f"{owner}/{slug} fits {len(live)} records; write more digits of the owner's id"
            )
        return min(live, key=lambda state: state.kind, default=None)

    def find_record(self, kind: RecordKind, owner: str, slug: str) -> RecordId | None:
        """Return the id of `owner/slug`, also of a deleted record.

        With the owner's whole id the answer follows from the name alone, whether or not anything is
        known of the record; with a prefix only what shows, or is deleted, is found.

        Raises:
            AmbiguousSlug: the prefix fits accounts that each have such a record.
        """
        digits = set("0123456789abcdef")
        if not PREFIX_LENGTH_MIN <= len(owner) <= 64 or set(owner) - digits:
            return None
        if len(owner) == 64:
            return record_id(self.network, kind, AccountId(bytes.fromhex(owner)), slug)
        first, last = bytes.fromhex(owner.ljust(64, "0")), bytes.fromhex(owner.ljust(64, "f"))
        states = [self._store.record(id_) for id_ in self._store.records_of_slug(slug, first, last)]
        found = [state.id for state in states if state is not None and state.kind is kind]
        if len(found) > 1:
            raise AmbiguousSlug(
                f"{owner}/{slug} fits {len(found)} records; write more digits of the owner's id"
            )
        return found[0] if found else None

    def receipts(
        self,
        records: Iterable[RecordId] | None = None,
        *,
        period: int | None = None,
        count_max: int = RECEIPT_COUNT_MAX,
    ) -> list[Item]:
        """Return the agreed receipts that stand, one per lane and day.

        Args:
            records: Only those about these records (`Slot.subject`), or all.
            period: Only those of this day number (`Slot.period`), or all.
        """
        if records is None:
            return self._store.receipts(None, period, count_max)
        subjects = sorted(set(records))
        found: list[Item] = []
        for start in range(0, len(subjects), SUBJECT_COUNT_MAX):
            some = subjects[start : start + SUBJECT_COUNT_MAX]
            found += self._store.receipts(some, period, count_max - len(found))
        return found

    def records_of(self, account: AccountId) -> list[RecordId]:
        """Return every record an account has ever written, deleted ones among them."""
        return self._store.records_of(account)

    async def prune(self) -> tuple[int, int]:
        """Drop, in every record that a checkpoint stands for, what came before it.

        Returns:
            How many records were looked at, and how many operations were dropped. A record whose
            owner's log is frozen is left alone.

        Raises:
            WorldFault: the disk, or too much is waiting; what was dropped stays dropped.
        """
        after, records, dropped = 0, 0, 0
        while found := self._store.records_in_eras(after, PRUNE_RECORD_COUNT):
            after = found[-1][0]
            records += len(found)
            dropped += await self._driver.prune([record for _, record in found])
        return records, dropped

    def record_page(
        self, account: AccountId, after: int, count_max: int
    ) -> list[tuple[int, RecordId, RecordKind, str]]:
        """Return an account's records, void ones too, numbered over `after`, in that order."""
        return self._store.record_page(account, after, count_max)

    def counts(self) -> dict[str, int]:
        """Return how much is stored: items, accounts, records, models, agents, receipts, bytes."""
        return asdict(self._store.counts())

    def subscribe(self, callback: Callable[[Sequence[RecordChange]], None]) -> Callable[[], None]:
        """Call back, on the event loop, with every batch of changed records; return the way out."""
        return self._driver.subscribe(callback)

    def sync_status(self) -> SyncStatus:
        """Return how far the node has read its peers."""
        return self._driver.sync_status()


def semver_of(entry: VersionEntry) -> str:
    """Return the semver that a put's body states."""
    return decode_record(entry.operation.kind, entry.body).version
