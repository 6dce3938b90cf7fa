"""The replica: decides what is in the set, and what each record's state then is.

Synchronous and without a clock. It reads and writes through the `Storage` port, and asks two
judges that live in higher layers: `BodyRules` (what a record may say) and `ReceiptRules` (what a
receipt may say). A batch is judged in order, each item seeing those before it, and committed whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypeAlias

from crdt.accounts import Account, open_genesis
from crdt.errors import (
    CausalFault,
    MalformedBytes,
    MissingAccount,
    MissingItems,
    NotAuthorised,
    RemoteFault,
)
from crdt.ids import AccountId, ItemId, NetworkId, OperationId, PeerId, RecordId
from crdt.items import Item, ItemKind
from crdt.maxima import Slot, Standing, stands_over
from crdt.operations import Operation, OperationType, open_operation
from crdt.pending import PendingItems, Waiting
from crdt.registers import Register, heads_after, register_of

PENDING_COUNT_MAX = 256
PENDING_BYTES_MAX = 1024 * 1024
ACCOUNT_CACHE_COUNT_MAX = 8192
LOCAL = PeerId("")
"""The source of what this node's own callers publish: never kept waiting."""


class Status(Enum):
    """What became of an item."""

    NEW = "new"
    KNOWN = "known"
    PENDING = "pending"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one given item.

    Attributes:
        missing: For `PENDING`: what it waits for.
        fault: For `REJECTED`: why.
    """

    id: ItemId
    status: Status
    missing: tuple[ItemId, ...] = ()
    fault: RemoteFault | None = None


Subject: TypeAlias = Account | Operation | Slot


@dataclass(frozen=True, slots=True)
class Admission:
    """An item that is now in the set, and what it turned out to be."""

    item: Item
    subject: Subject


@dataclass(frozen=True, slots=True)
class RecordChange:
    """A record's state after a batch."""

    record: RecordId
    operation: Operation
    register: Register


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far we have read a peer's store: everything up to `n` of `epoch`."""

    epoch: bytes
    n: int


@dataclass(frozen=True, slots=True)
class Commit:
    """What one batch writes, all of it or nothing."""

    admissions: tuple[Admission, ...] = ()
    changes: tuple[RecordChange, ...] = ()
    cursors: Mapping[PeerId, Cursor] = field(default_factory=dict[PeerId, Cursor])


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

    def operations(self, ids: Collection[OperationId]) -> dict[OperationId, Operation]:
        """Return those of `ids` that are operations in the store."""
        ...

    def heads(self, record: RecordId) -> tuple[OperationId, ...]:
        """Return a record's heads; none when it is unknown."""
        ...

    def account(self, account: AccountId) -> Account | None:
        """Return an account that is in the store."""
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

    def items_after(self, n: int, *, bytes_max: int) -> LogPage:
        """Return whole items that arrived after `n`: at least one if there is one."""
        ...

    def ids_after(self, n: int, *, count_max: int) -> LogPage:
        """Return only the ids of what arrived after `n`."""
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
        faults: Who sent what turned out invalid.
    """

    outcomes: tuple[Outcome, ...]
    admitted: tuple[Admission, ...]
    changes: tuple[RecordChange, ...]
    faults: tuple[tuple[PeerId, RemoteFault], ...]


class Replica:
    """One node's copy of the set: judge, remember, never take back."""

    def __init__(
        self,
        network: NetworkId,
        storage: Storage,
        body_rules: BodyRules,
        receipt_rules: ReceiptRules,
    ) -> None:
        self.network = network
        self.storage = storage
        self.pending = PendingItems(count_max=PENDING_COUNT_MAX, bytes_max=PENDING_BYTES_MAX)
        self._body_rules = body_rules
        self._receipt_rules = receipt_rules
        self._accounts: dict[AccountId, Account] = {}

    def accept(
        self,
        items: Sequence[Item],
        *,
        source: PeerId,
        now_ms: int,
        cursors: Mapping[PeerId, Cursor] | None = None,
    ) -> Accepted:
        """Judge a batch and commit what is valid, together with `cursors`.

        Never raises for what is in the batch: that is in the outcomes.

        Raises:
            WorldFault: the store could not write; nothing was changed.
        """
        batch = _Batch(self, {item.id for item in items})
        faults: list[tuple[PeerId, RemoteFault]] = []
        outcomes: list[Outcome] = []
        try:
            for item in items:
                outcome = batch.judge(item)
                outcomes.append(outcome)
                if outcome.fault is not None:
                    faults.append((source, outcome.fault))
                elif outcome.status is Status.NEW:
                    faults += batch.judge_released(item.id)
                elif outcome.missing:
                    self.pending.add(Waiting(item, source, frozenset(outcome.missing), now_ms))
            admitted = tuple(batch.admissions.values())
            changes = batch.changes()
            if admitted or cursors:
                self.storage.commit(Commit(admitted, changes, cursors or {}))
        except BaseException:
            batch.put_back()
            raise
        finally:
            self.pending.forget(LOCAL)
        return Accepted(
            tuple(batch.settled(outcome) for outcome in outcomes), admitted, changes, tuple(faults)
        )

    def account(self, account: AccountId) -> Account | None:
        """Return an account of the set, from a bounded memory of those used lately."""
        found = self._accounts.get(account)
        if found is None:
            found = self.storage.account(account)
            if found is not None:
                if len(self._accounts) >= ACCOUNT_CACHE_COUNT_MAX:
                    self._accounts.clear()
                self._accounts[account] = found
        return found

    def check_body(self, operation: Operation, body: bytes) -> None:
        """Check A's last part: what the body says, by the type of the operation."""
        if operation.type is OperationType.PUT:
            self._body_rules.check_put(operation, body)
        elif operation.type is not OperationType.DELETE:
            raise MalformedBytes(f"{operation.type.name} has no effect on wire version 0")
        elif body:
            raise MalformedBytes("a delete has no body")

    def slot_of(self, item: Item, account_of: Callable[[AccountId], Account | None]) -> Slot:
        """Return where a receipt competes; raises as `ReceiptRules.judge` does."""
        return self._receipt_rules.judge(item, account_of)


class _Batch:
    """The items of one call, judged over the store: what they add is seen at once, and only here.

    Dropping a batch undoes it: nothing of the replica is touched until it is committed.
    """

    def __init__(self, replica: Replica, ids: set[ItemId]) -> None:
        self.admissions: dict[ItemId, Admission] = {}
        self._replica = replica
        self._known = replica.storage.known(ids)
        self._looked_up = set(ids)
        self._accounts: dict[AccountId, Account] = {}
        self._operations: dict[OperationId, Operation] = {}
        self._heads: dict[RecordId, frozenset[OperationId]] = {}
        self._standing: dict[bytes, tuple[Standing, ItemId]] = {}
        self._released: list[Waiting] = []

    def judge(self, item: Item) -> Outcome:
        """Return what becomes of an item, and admit it if it is valid and new."""
        if self._is_known(item.id):
            return Outcome(item.id, Status.KNOWN)
        try:
            subject = self._subject_of(item)
        except MissingItems as missing:
            ids = tuple(ItemId(id_) for id_ in sorted(set(missing.ids)))
            return Outcome(item.id, Status.PENDING, missing=ids)
        except RemoteFault as fault:
            return Outcome(item.id, Status.REJECTED, fault=fault)
        return Outcome(item.id, Status.NEW if self._admit(item, subject) else Status.KNOWN)

    def judge_released(self, arrived: ItemId) -> list[tuple[PeerId, RemoteFault]]:
        """Judge again what waited for an admitted item, and what waited for that, and so on."""
        faults: list[tuple[PeerId, RemoteFault]] = []
        queue = [arrived]
        while queue:
            for waiting in self._replica.pending.release(queue.pop(0)):
                self._released.append(waiting)
                outcome = self.judge(waiting.item)
                if outcome.status is Status.NEW:
                    queue.append(waiting.item.id)
                elif outcome.fault is not None:
                    faults.append((waiting.source, outcome.fault))
                elif outcome.status is Status.PENDING:
                    again = Waiting(
                        waiting.item, waiting.source, frozenset(outcome.missing), waiting.since_ms
                    )
                    self._replica.pending.add(again)
        return faults

    def settled(self, outcome: Outcome) -> Outcome:
        """Return an outcome as it is at the end: what came later in the batch may have freed it."""
        if outcome.status is Status.PENDING and outcome.id in self.admissions:
            return Outcome(outcome.id, Status.NEW)
        return outcome

    def put_back(self) -> None:
        """Let what was released wait again: the commit failed, so nothing has arrived."""
        for waiting in self._released:
            self._replica.pending.add(waiting)

    def changes(self) -> tuple[RecordChange, ...]:
        """Return the new state of every record that the batch touched, in a stable order."""
        needed = {id_ for heads in self._heads.values() for id_ in heads} - set(self._operations)
        known = {**self._replica.storage.operations(needed), **self._operations}
        changes: list[RecordChange] = []
        for record, heads in self._heads.items():
            register = register_of((known[id_] for id_ in heads), is_root=self._is_root)
            changes.append(RecordChange(record, known[register.winner], register))
        return tuple(changes)

    def _is_known(self, id_: ItemId) -> bool:
        if id_ in self.admissions:
            return True
        if id_ not in self._looked_up:  # one that was released, not given
            self._looked_up.add(id_)
            self._known |= self._replica.storage.known([id_])
        return id_ in self._known

    def _is_root(self, operation: Operation) -> bool:
        account = self._account(operation.account)
        assert account is not None, "an admitted operation's account is known"
        return operation.key == account.root_key

    def _account(self, id_: AccountId) -> Account | None:
        return self._accounts.get(id_) or self._replica.account(id_)

    def _subject_of(self, item: Item) -> Subject:
        """Check A and check B: return what a valid item is."""
        network = self._replica.network
        if item.kind is ItemKind.ACCOUNT:
            return open_genesis(item, network)
        if item.kind is ItemKind.RECEIPT:
            return self._replica.slot_of(item, self._account)
        operation = open_operation(item, network)
        self._replica.check_body(operation, item.body)
        self._check_causes(operation)
        return operation

    def _check_causes(self, operation: Operation) -> None:
        """Check B: the cited account entries grant it, and the predecessors are as claimed."""
        account = self._account(operation.account)
        if account is None:
            raise MissingAccount((operation.account,))
        if operation.account_heads != account.heads:
            raise CausalFault("the operation does not cite its account's genesis and that alone")
        if not account.may_write_facts(operation.key):
            raise NotAuthorised(
                f"key {operation.key.hex()[:16]} may not write for account "
                f"{operation.account.hex()[:16]}"
            )
        depth = 1
        if operation.predecessors:
            depth += max(one.depth for one in self._predecessors(operation))
        elif operation.type is OperationType.DELETE:
            raise CausalFault("a delete cites what it deletes")
        if operation.depth != depth:
            raise CausalFault(f"depth {operation.depth} where its predecessors give {depth}")

    def _predecessors(self, operation: Operation) -> list[Operation]:
        wanted = [id_ for id_ in operation.predecessors if id_ not in self._operations]
        stored = self._replica.storage.operations(wanted) if wanted else {}
        found: list[Operation] = []
        missing: list[OperationId] = []
        for id_ in operation.predecessors:
            one = self._operations.get(id_) or stored.get(id_)
            if one is None:
                missing.append(id_)
            elif one.record != operation.record:
                raise CausalFault("a predecessor is of another record")
            else:
                found.append(one)
        if any(self._is_known(ItemId(id_)) for id_ in missing):
            raise CausalFault("a predecessor is not an operation")
        if missing:
            raise MissingItems(tuple(missing))
        return found

    def _admit(self, item: Item, subject: Subject) -> bool:
        """Take an item into the batch; False for a receipt that a greater one stands over."""
        if isinstance(subject, Slot):
            return self._admit_receipt(item, subject)
        self.admissions[item.id] = Admission(item, subject)
        if isinstance(subject, Account):
            self._accounts[subject.id] = subject
        else:
            self._operations[subject.id] = subject
            heads = self._heads.get(subject.record)
            if heads is None:
                heads = frozenset(self._replica.storage.heads(subject.record))
            self._heads[subject.record] = heads_after(heads, subject)
        return True

    def _admit_receipt(self, item: Item, slot: Slot) -> bool:
        mine = self._standing.get(slot.slot)
        standing = mine[0] if mine else self._replica.storage.standing(slot.slot)
        if not stands_over(slot.rank, item.id, standing):
            return False
        if mine is not None:
            del self.admissions[mine[1]]
        self.admissions[item.id] = Admission(item, slot)
        self._standing[slot.slot] = (Standing(slot.rank, item.id), item.id)
        return True
