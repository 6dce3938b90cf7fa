"""What a replica needs of the rest of the node, and what passes between them.

A store, and two judges that live in higher layers: of records' bodies, and of receipts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from crdt.accounts import Account
from crdt.cards.seeds import Seed
from crdt.entries import Entry
from crdt.errors import OverQuota, RemoteFault
from crdt.ids import AccountId, ItemId, OperationId, PeerId, RecordId
from crdt.items import Item
from crdt.maxima import Slot, Standing
from crdt.operations import Operation
from crdt.quotas import Usage
from crdt.registers import Register

if TYPE_CHECKING:
    from crdt.scopes import Scope

LOCAL = PeerId("")
"""The source of what this node's own callers publish: never kept waiting."""


class Status(Enum):
    """What became of an item."""

    NEW = "new"
    KNOWN = "known"
    PENDING = "pending"
    REJECTED = "rejected"
    DECLINED = "declined"
    """Valid for all we know, and of an era that this node has dropped (check C)."""
    OVER_QUOTA = "over-quota"
    """Valid for all we know, and more than this node takes of its account (check C)."""


class Outcome(NamedTuple):
    """What became of one given item.

    Attributes:
        missing: For `PENDING`: what it waits for.
        fault: For `REJECTED`: why.
        over: For `OVER_QUOTA`: which quota, and what to do.
    """

    id: ItemId
    status: Status
    missing: tuple[ItemId, ...] = ()
    fault: RemoteFault | None = None
    over: OverQuota | None = None


Subject: TypeAlias = Entry | Operation | Slot


class Admission(NamedTuple):
    """An item that is now in the set, and what it turned out to be."""

    item: Item
    subject: Subject


class RecordChange(NamedTuple):
    """A record's state after a batch.

    Attributes:
        operation: The winner; when nothing shows, any operation of the record.
        is_new: The store knew nothing of the record before, so it need not look. It is not said of
            every one: not when its account changed in the batch, nor when nothing shows.
    """

    record: RecordId
    operation: Operation
    register: Register
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far we have read a peer's store: everything up to `n` of `epoch`."""

    epoch: bytes
    n: int


@dataclass(frozen=True, slots=True)
class Commit:
    """What one batch writes, all of it or nothing.

    Attributes:
        unpruned: Records whose dropped operations are wanted again: the store forgets that it
            dropped them, and every cursor, so that peers are read from their beginning.
        passed_over: Accounts of which something was not taken, for their quota; told of by
            `Storage.passed_over` until `take_up`.
    """

    admissions: tuple[Admission, ...] = ()
    changes: tuple[RecordChange, ...] = ()
    cursors: Mapping[PeerId, Cursor] = field(default_factory=dict[PeerId, Cursor])
    unpruned: tuple[RecordId, ...] = ()
    passed_over: tuple[AccountId, ...] = ()


@dataclass(frozen=True, slots=True)
class LogPage:
    """A stretch of the store in order of arrival.

    Attributes:
        next_n: The cursor after it.
        done: Nothing comes after it.
    """

    ids: tuple[ItemId, ...]
    raws: tuple[bytes, ...]
    next_n: int
    done: bool


class Storage(Protocol):
    """What a replica needs of a store. Two implementations, one contract suite."""

    @property
    def epoch(self) -> bytes:
        """16 random bytes chosen when the store was made: cursors into another are void."""
        ...

    @property
    def last_n(self) -> int:
        """The newest arrival's number; 0 when empty."""
        ...

    def known(self, ids: Collection[ItemId]) -> set[ItemId]:
        """Return which of `ids` are in the store."""
        ...

    def all_ids(self) -> bytes:
        """Return the ids of every item that is in the store or was dropped, 32 bytes each."""
        ...

    def scoped_ids(self, scope: Scope) -> bytes:
        """Return those of `all_ids` that are in a scope."""
        ...

    def operations(self, ids: Collection[OperationId]) -> dict[OperationId, Operation]:
        """Return those of `ids` that are operations in the store."""
        ...

    def record_operations(self, record: RecordId) -> list[Operation]:
        """Return every operation of a record that is in the store, in any order."""
        ...

    def register(self, record: RecordId) -> Register | None:
        """Return a record's state; None when it is unknown."""
        ...

    def registers(self, records: Collection[RecordId]) -> dict[RecordId, Register]:
        """Return the states of those records that are known."""
        ...

    def records_of(self, account: AccountId) -> list[RecordId]:
        """Return every record of an account, those that do not show among them."""
        ...

    def account(self, account: AccountId) -> Account | None:
        """Return an account that is in the store, with all of its entries."""
        ...

    def usage(self, account: AccountId) -> Usage:
        """Return how many operations of an account are in the store, and of how many bytes."""
        ...

    def passed_over(self) -> list[AccountId]:
        """Return the accounts of which something was not taken, for their quota."""
        ...

    def take_up(self, accounts: Sequence[AccountId]) -> None:
        """Forget that they were passed over, and every cursor: peers are read anew.

        Raises:
            WorldFault: nothing was forgotten.
        """
        ...

    def pruned(self, ids: Collection[ItemId]) -> set[ItemId]:
        """Return which of `ids` were in the store and were dropped."""
        ...

    def pruned_count(self, record: RecordId) -> int:
        """Return how many operations of a record were dropped."""
        ...

    def prune(self, record: RecordId, ids: Sequence[OperationId]) -> None:
        """Drop operations of a record for good, and remember that they were dropped.

        Raises:
            WorldFault: nothing was dropped.
        """
        ...

    def standing(self, slot: bytes) -> Standing | None:
        """Return what stands in a slot."""
        ...

    def cursor(self, peer: PeerId) -> Cursor | None:
        """Return how far we have read a peer."""
        ...

    def raws(self, ids: Sequence[ItemId], *, bytes_max: int) -> dict[ItemId, bytes]:
        """Return items by id, in the order asked, until `bytes_max` would be passed (but one)."""
        ...

    def items_after(self, n: int, *, bytes_max: int, scope: Scope | None = None) -> LogPage:
        """Return whole items that arrived after `n`: at least one if there is one.

        Of a scope only those in it: perhaps none, for so many arrivals are looked at and no more.
        """
        ...

    def ids_after(self, n: int, *, count_max: int, scope: Scope | None = None) -> LogPage:
        """Return only the ids of what arrived after `n`; with a scope, as `items_after`."""
        ...

    def commit(self, commit: Commit) -> None:
        """Write a batch durably, all of it or nothing.

        Raises:
            WorldFault: it could not be written; the store is as it was.
        """
        ...


class BodyRules(Protocol):
    """What a record's body may say; the registry implements it."""

    def check_put(self, operation: Operation, body: bytes) -> None:
        """Return if a put with this body is valid for every node.

        Raises:
            RemoteFault: it is not; a pure function of the arguments.
        """
        ...

    def seed_of(self, operation: Operation, body: bytes) -> Seed:
        """Return what the body of a valid put would begin a card with."""
        ...


class ReceiptRules(Protocol):
    """What a receipt may say; royalties implements it."""

    def judge(self, item: Item, account_of: Callable[[AccountId], Account | None]) -> Slot:
        """Return where a valid receipt competes.

        Raises:
            MissingAccount: a party's account is not known here yet.
            RemoteFault: it is not valid.
        """
        ...


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a batch did.

    Attributes:
        outcomes: One for each given item, in order.
        admitted: What is new in the set, in order, those that had waited among them.
        changes: The states of the records that changed.
        faults: Who answers for what turned out invalid.
        unpruned: Records whose dropped operations are wanted again.
    """

    outcomes: tuple[Outcome, ...]
    admitted: tuple[Admission, ...]
    changes: tuple[RecordChange, ...]
    faults: tuple[tuple[PeerId, RemoteFault], ...]
    unpruned: tuple[RecordId, ...] = ()
