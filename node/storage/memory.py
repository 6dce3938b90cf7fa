"""The log's store in memory: the honest fake behind simulations and fast tests.

It keeps the same promises as the SQLite store (one contract suite runs against both). A
`MemoryDisk` outlives the `MemoryStorage` opened on it, as a file outlives its process.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from crdt import (
    Account,
    AccountId,
    Card,
    Commit,
    Cursor,
    Entry,
    Item,
    ItemId,
    ItemKind,
    LogPage,
    Operation,
    OperationId,
    PeerId,
    RecordChange,
    RecordId,
    RecordKind,
    Register,
    Scope,
    Slot,
    SlotStanding,
    Usage,
    Written,
    account_of,
)
from node.storage.cards import CardKey, CardRow, CardShelf
from node.storage.errors import StorageFull
from node.storage.memory_search import search_states
from node.storage.states import Counts, RecordLog, RecordState, VersionEntry, facts_in, is_version
from registry import Page, Query, RegistryRules


@dataclass(slots=True)
class MemoryDisk:
    """What is on the disk.

    Attributes:
        mark: What it notes of the mark beside it (`epochs.py`).
        failing_commits: So many commits from now on find the disk full.
    """

    epoch: bytes
    items: dict[int, Item] = field(default_factory=dict[int, Item])
    numbers: dict[ItemId, int] = field(default_factory=dict[ItemId, int])
    operations: dict[OperationId, Operation] = field(default_factory=dict[OperationId, Operation])
    entries: dict[AccountId, list[Entry]] = field(default_factory=dict[AccountId, list[Entry]])
    records: dict[RecordId, RecordChange] = field(default_factory=dict[RecordId, RecordChange])
    slots: dict[bytes, tuple[SlotStanding, Slot]] = field(
        default_factory=dict[bytes, tuple[SlotStanding, Slot]]
    )
    pruned: dict[ItemId, RecordId] = field(default_factory=dict[ItemId, RecordId])
    cursors: dict[PeerId, Cursor] = field(default_factory=dict[PeerId, Cursor])
    last_n: int = 0
    failing_commits: int = 0
    usage: dict[AccountId, Usage] = field(default_factory=dict[AccountId, Usage])
    mark: bytes = b""

    @property
    def accounts(self) -> dict[AccountId, Account]:
        """Every account, with its entries."""
        return {id_: account_of(entries) for id_, entries in self.entries.items()}


class MemoryStorage:
    """The replica's port and the catalogue's reads, over a `MemoryDisk`."""

    def __init__(self, disk: MemoryDisk) -> None:
        self.disk = disk

    @property
    def epoch(self) -> bytes:
        """What names this store."""
        return self.disk.epoch

    @property
    def last_n(self) -> int:
        """The newest arrival's number."""
        return self.disk.last_n

    def known(self, ids: Collection[ItemId]) -> set[ItemId]:
        """Return which of `ids` are in the store."""
        return {id_ for id_ in ids if id_ in self.disk.numbers}

    def all_ids(self) -> bytes:
        """Return the ids of every item that is in the store or was dropped, 32 bytes each."""
        return b"".join([*self.disk.numbers, *self.disk.pruned])

    def scoped_ids(self, scope: Scope) -> bytes:
        """Return those of all ids that are in a scope."""
        kept = [id_ for id_ in self.disk.numbers if self._is_in(id_, scope)]
        records = self.disk.records
        dropped = [
            id_
            for id_, record in self.disk.pruned.items()
            if scope.wants(records[record].operation)
        ]
        return b"".join([*kept, *dropped])

    def _is_in(self, id_: ItemId, scope: Scope | None) -> bool:
        operation = self.disk.operations.get(OperationId(id_))
        return scope is None or operation is None or scope.wants(operation)

    def operations(self, ids: Collection[OperationId]) -> dict[OperationId, Operation]:
        """Return those of `ids` that are operations in the store."""
        return {id_: self.disk.operations[id_] for id_ in ids if id_ in self.disk.operations}

    def record_operations(self, record: RecordId) -> list[Operation]:
        """Return every operation of a record that is in the store."""
        return [one for one in self.disk.operations.values() if one.record == record]

    def register(self, record: RecordId) -> Register | None:
        """Return a record's state; None when it is unknown."""
        change = self.disk.records.get(record)
        return change.register if change else None

    def account(self, account: AccountId) -> Account | None:
        """Return an account that is in the store."""
        entries = self.disk.entries.get(account)
        return account_of(entries) if entries else None

    def pruned(self, ids: Collection[ItemId]) -> set[ItemId]:
        """Return which of `ids` were in the store and were dropped."""
        return {id_ for id_ in ids if id_ in self.disk.pruned}

    def pruned_count(self, record: RecordId) -> int:
        """Return how many operations of a record were dropped."""
        return sum(one == record for one in self.disk.pruned.values())

    def prune(self, record: RecordId, ids: Sequence[OperationId]) -> None:
        """Drop operations of a record for good, and remember that they were dropped."""
        self._check_disk()
        for id_ in ids:
            account = self.disk.operations.pop(id_).account
            item = self.disk.items.pop(self.disk.numbers.pop(ItemId(id_)))
            self.disk.usage[account] = self.usage(account).plus(-1, -len(item.raw))
            self.disk.pruned[ItemId(id_)] = record

    def usage(self, account: AccountId) -> Usage:
        """Return how many operations of an account are in the store, and of how many bytes."""
        return self.disk.usage.get(account, Usage())

    def passed_over(self) -> list[AccountId]:
        """Return the accounts of which something was not taken, for their quota."""
        return sorted(id_ for id_, usage in self.disk.usage.items() if usage.passed_over)

    def take_up(self, accounts: Sequence[AccountId]) -> None:
        """Forget that they were passed over, and every cursor."""
        self._check_disk()
        for account in accounts:
            self.disk.usage[account] = self.usage(account)._replace(passed_over=False)
        self.disk.cursors.clear()

    def standing(self, slot: bytes) -> SlotStanding | None:
        """Return what stands in a slot."""
        found = self.disk.slots.get(slot)
        return found[0] if found else None

    def cursor(self, peer: PeerId) -> Cursor | None:
        """Return how far we have read a peer."""
        return self.disk.cursors.get(peer)

    def raws(self, ids: Sequence[ItemId], *, bytes_max: int) -> dict[ItemId, bytes]:
        """Return items by id, in the order asked, until `bytes_max` would be passed (but one)."""
        found: dict[ItemId, bytes] = {}
        size = 0
        for id_ in ids:
            item = self.item(id_)
            if item is None:
                continue
            size += len(item.raw)
            if found and size > bytes_max:
                break
            found[id_] = item.raw
        return found

    def items_after(self, n: int, *, bytes_max: int, scope: Scope | None = None) -> LogPage:
        """Return whole items that arrived after `n`: at least one if there is one."""
        ids: list[ItemId] = []
        raws: list[bytes] = []
        size = 0
        next_n = n
        for number in sorted(number for number in self.disk.items if number > n):
            item = self.disk.items[number]
            if not self._is_in(item.id, scope):
                next_n = number
                continue
            size += len(item.raw)
            if raws and size > bytes_max:
                break
            next_n = number
            ids.append(item.id)
            raws.append(item.raw)
        else:
            next_n = max(n, self.disk.last_n)  # what comes last may have been dropped
        return LogPage(tuple(ids), tuple(raws), next_n, next_n >= self.disk.last_n)

    def ids_after(self, n: int, *, count_max: int, scope: Scope | None = None) -> LogPage:
        """Return only the ids of what arrived after `n`."""
        numbers = sorted(number for number in self.disk.items if number > n)[:count_max]
        is_all = len(numbers) < count_max
        next_n = max(n, self.disk.last_n) if is_all else numbers[-1]
        found = (self.disk.items[number].id for number in numbers)
        ids = tuple(id_ for id_ in found if self._is_in(id_, scope))
        return LogPage(ids, (), next_n, next_n >= self.disk.last_n)

    def commit(self, commit: Commit) -> None:
        """Write a batch, all of it or nothing."""
        self._check_disk()
        disk = self.disk
        for admission in commit.admissions:
            disk.last_n += 1
            item, subject = admission.item, admission.subject
            disk.items[disk.last_n] = item
            disk.numbers[item.id] = disk.last_n
            if isinstance(subject, Entry):
                disk.entries.setdefault(subject.account, []).append(subject)
            elif isinstance(subject, Operation):
                disk.operations[subject.id] = subject
                usage = self.usage(subject.account)
                disk.usage[subject.account] = usage.plus(1, len(item.raw))
            else:
                old = disk.slots.get(subject.slot)
                if old is not None:
                    del disk.items[disk.numbers.pop(old[0].id)]
                disk.slots[subject.slot] = (SlotStanding(subject.rank, item.id), subject)
        for change in commit.changes:
            disk.records[change.record] = change
        if commit.unpruned:
            disk.cursors.clear()
            disk.pruned = {
                id_: one for id_, one in disk.pruned.items() if one not in commit.unpruned
            }
        disk.cursors.update(commit.cursors)
        for account in commit.passed_over:
            if account in disk.entries:
                disk.usage[account] = self.usage(account)._replace(passed_over=True)

    def _check_disk(self) -> None:
        if self.disk.failing_commits:
            self.disk.failing_commits -= 1
            raise StorageFull("memory")

    def item(self, id_: ItemId) -> Item | None:
        """Return any item of the log."""
        number = self.disk.numbers.get(id_)
        return None if number is None else self.disk.items[number]

    def record(self, record: RecordId) -> RecordState | None:
        """Return a record as it stands."""
        change = self.disk.records.get(record)
        if change is None or change.register.winner is None:
            return None
        winner = change.operation
        n = self.disk.numbers[ItemId(winner.id)]
        return RecordState(
            id=record,
            kind=winner.kind,
            account=winner.account,
            slug=winner.slug,
            operation=winner,
            body=facts_in(winner, self.disk.items[n].body),
            register=change.register,
            n=n,
        )

    def record_log(self, record: RecordId, after: int, *, bytes_max: int) -> RecordLog:
        """Return a record's operations that arrived after `after`, whole and bounded."""
        mine = [one.id for one in self.disk.operations.values() if one.record == record]
        numbers = sorted(self.disk.numbers[ItemId(id_)] for id_ in mine)
        left = [n for n in numbers if n > after]
        found: list[tuple[int, bytes]] = []
        size = 0
        for n in left:
            size += len(self.disk.items[n].raw)
            if found and size > bytes_max:
                break
            found.append((n, self.disk.items[n].raw))
        return RecordLog(tuple(found), found[-1][0] if found else after, len(found) == len(left))

    def versions(self, record: RecordId) -> list[VersionEntry]:
        """Return a record's puts, newest arrival first."""
        puts = (
            self.version(operation.id)
            for operation in self.disk.operations.values()
            if operation.record == record
        )
        return sorted((put for put in puts if put is not None), key=lambda put: -put.n)

    def version(self, operation: OperationId) -> VersionEntry | None:
        """Return one put."""
        found = self.disk.operations.get(operation)
        if found is None or not is_version(found):
            return None
        n = self.disk.numbers[ItemId(operation)]
        return VersionEntry(found, facts_in(found, self.disk.items[n].body), n)

    def card_key(self, record: RecordId) -> CardKey:
        """Return what a record's card would be derived from now."""
        arrivals = reversed(self.disk.operations.values())
        last = next((one for one in arrivals if one.record == record), None)
        if last is None:
            return CardKey(0, 0)
        entries = self.disk.entries.get(last.account, [])
        return CardKey(self.disk.numbers[ItemId(last.id)], len(entries))

    def written(self, record: RecordId, after_n: int = 0) -> list[Written]:
        """Return a record's operations that arrived after `after_n`, with bodies, in that order."""
        found: list[Written] = []
        for one in reversed(self.disk.operations.values()):  # the newest first
            n = self.disk.numbers[ItemId(one.id)]
            if n <= after_n:
                break
            if one.record == record:
                found.append(Written(one, self.disk.items[n].body))
        return found[::-1]

    def card_row(self, record: RecordId) -> CardRow | None:
        """Return nothing: this store keeps no derived cards."""
        assert len(record) == 32
        return None

    def card(self, record: RecordId) -> Card | None:
        """Return what a record's card says; None when its facts say it all."""
        return CardShelf(self, RegistryRules().seed_of).card(record)

    def records_of_slug(self, slug: str, first: bytes, last: bytes) -> list[RecordId]:
        """Return the records with this slug of accounts in first..last, at most 16."""
        found = [
            change.record
            for change in self.disk.records.values()
            if change.register.winner is not None
            and change.operation.slug == slug
            and first <= change.operation.account <= last
        ]
        return found[:16]

    def registers(self, records: Collection[RecordId]) -> dict[RecordId, Register]:
        """Return the states of those records that are known."""
        known = self.disk.records
        return {record: known[record].register for record in records if record in known}

    def records_of(self, account: AccountId) -> list[RecordId]:
        """Return every record an account has written."""
        changes = self.disk.records.values()
        return [change.record for change in changes if change.operation.account == account]

    def records_in_eras(self, after: int, count_max: int) -> list[tuple[int, RecordId]]:
        """Return records that a checkpoint stands for, with their numbers, from one number on."""
        numbered = enumerate(self.disk.records.values(), 1)
        found = [(n, one.record) for n, one in numbered if n > after and one.register.era]
        return found[:count_max]

    def record_page(
        self, account: AccountId, after: int, count_max: int
    ) -> list[tuple[int, RecordId, RecordKind, str]]:
        """Return an account's records numbered over `after`: number, id, kind and slug."""
        found = [
            (number, change.record, change.operation.kind, change.operation.slug)
            for number, change in enumerate(self.disk.records.values(), 1)
            if change.operation.account == account and number > after
        ]
        return found[:count_max]

    def receipts(
        self, subjects: Sequence[bytes] | None, period: int | None, count_max: int
    ) -> list[Item]:
        """Return the receipts that stand."""
        found = [
            self.disk.items[self.disk.numbers[standing.id]]
            for _, (standing, slot) in sorted(self.disk.slots.items())
            if (subjects is None or slot.subject in subjects)
            and (period is None or slot.period == period)
        ]
        return found[:count_max]

    def search(self, query: Query) -> Page:
        """Return a page of the records that a query finds."""
        states = (self.record(record) for record in self.disk.records)
        live = (state for state in states if state is not None and not state.deleted)
        return search_states(live, query, self.card)

    def project(self, count_max: int) -> bool:
        """Nothing to do: searches look at the records themselves."""
        assert count_max > 0
        return False

    def counts(self) -> Counts:
        """Return how much is stored."""
        kinds = [item.kind for item in self.disk.items.values()]
        live = [
            change.operation.kind
            for change in self.disk.records.values()
            if change.register.winner is not None and not change.register.deleted
        ]
        return Counts(
            items=len(kinds),
            accounts=kinds.count(ItemKind.ACCOUNT),
            records=len(live),
            models=live.count(RecordKind.MODEL),
            agents=live.count(RecordKind.AGENT),
            receipts=kinds.count(ItemKind.RECEIPT),
            bytes=sum(len(item.raw) for item in self.disk.items.values()),
        )
