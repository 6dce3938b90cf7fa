"""The replica: decides what is in the set, and what each record's state then is.

Synchronous and without a clock. It reads and writes through the ports in `ports.py`. A batch is
judged in order, each item seeing those before it, and committed whole.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from crdt.accounts import Account, Standing
from crdt.caches import WeighedCache
from crdt.cards.bodies import open_card
from crdt.cards.layouts import Layout
from crdt.causes import Declined, Link, check_entry, check_operation
from crdt.checkpoints import open_checkpoint
from crdt.entries import Entry, EntryType, open_entry
from crdt.errors import MalformedBytes, MissingItems, OverQuota, RemoteFault
from crdt.ids import AccountId, ItemId, NetworkId, OperationId, PeerId, RecordId
from crdt.items import ITEM_BYTES_MAX, Item, ItemKind, unpack_item
from crdt.layouts import LayoutCache, Operations, layout_of
from crdt.maxima import Slot, stands_over
from crdt.maxima import Standing as SlotStanding
from crdt.operations import Operation, OperationType, open_operation
from crdt.pending import PendingItems, Waiting
from crdt.ports import (
    LOCAL,
    Accepted,
    Admission,
    BodyRules,
    Commit,
    Cursor,
    Outcome,
    ReceiptRules,
    RecordChange,
    Status,
    Storage,
)
from crdt.quotas import ACCOUNT_COUNT_MAX, Meter, Quotas, Usage
from crdt.registers import NO_HEADS, Heads, Register, follow, heads_of, register_of
from crdt.resolution import Resolution, prunable, resolve
from crdt.scopes import EVERYTHING, Scope
from crdt.stamps import StampBatch, StampJudge, origin_of

if TYPE_CHECKING:
    from crdt.reconcile.idset import IdSet

ID_SET_COUNT_MAX = 4
"""Scopes whose ids are kept, 32 bytes each id: that of everything among them."""
PENDING_COUNT_MAX = 256
PENDING_BYTES_MAX = 1024 * 1024
ACCOUNT_CACHE_WEIGHT_MAX = 1_048_576
"""Some 80 MB: 16 000 accounts of a few entries, or 10 of the longest logs with full keep lists."""
LAYOUT_CACHE_WEIGHT_MAX = 65_536
"""Runs and pairs; 20 MB of the layouts of keystrokes, at 300 bytes each of which weighs two."""
LINK_CACHE_WEIGHT_MAX = 131_072
"""Operations and what they cite: at most 20 MB."""
BEHIND = (
    "it builds on what this node has not taken, because a quota of its account is used up here; "
    "publish at another node, or have this one's operator raise the quota"
)
_QUIET_ENTRIES = frozenset({EntryType.ADD_KEY, EntryType.SET_RECOVERY, EntryType.ADOPT})
"""On the end of a trunk that is not frozen, these change nothing for what was written before."""


class Replica:
    """One node's copy of the set: judge, remember, never take back."""

    def __init__(
        self,
        network: NetworkId,
        storage: Storage,
        body_rules: BodyRules,
        receipt_rules: ReceiptRules,
        stamps: StampJudge | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        self.network = network
        self.quotas = quotas or Quotas()
        self._usages: WeighedCache[AccountId, Usage] = WeighedCache(ACCOUNT_COUNT_MAX)
        self._stamps = stamps or StampJudge(network, None)
        self.storage = storage
        self.pending = PendingItems(count_max=PENDING_COUNT_MAX, bytes_max=PENDING_BYTES_MAX)
        self._body_rules = body_rules
        self._receipt_rules = receipt_rules
        self._accounts: dict[AccountId, Account] = {}
        self._accounts_weight = 0
        self._layouts: LayoutCache = WeighedCache(LAYOUT_CACHE_WEIGHT_MAX)
        self._links: WeighedCache[OperationId, Link] = WeighedCache(LINK_CACHE_WEIGHT_MAX)
        self._ids: OrderedDict[Scope, IdSet] = OrderedDict()

    @property
    def ids(self) -> IdSet:
        """Everything that need not be fetched (`seen`), by ids."""
        return self.ids_in(EVERYTHING)

    def ids_in(self, scope: Scope) -> IdSet:
        """Return what is in a scope and need not be fetched: read once, then kept in step."""
        found = self._ids.pop(scope, None)
        if found is None:
            from crdt.reconcile.idset import IdSet  # brings numpy, which few commands need

            storage = self.storage
            found = IdSet(storage.all_ids() if scope.is_all else storage.scoped_ids(scope))
        self._ids[scope] = found
        if len(self._ids) > ID_SET_COUNT_MAX:
            del self._ids[next(one for one in self._ids if not one.is_all)]
        return found

    def has_ids_in(self, scope: Scope) -> bool:
        """Whether `ids_in` need not be read from the store."""
        return scope in self._ids

    def accept(
        self,
        items: Sequence[Item],
        *,
        source: PeerId,
        now_ms: int,
        cursors: Mapping[PeerId, Cursor] | None = None,
        author: PeerId | None = None,
    ) -> Accepted:
        """Judge a batch and commit what is valid, together with `cursors`.

        Never raises for what is in the batch: that is in the outcomes.

        Args:
            author: Who answers for the items, at once or when what they wait for has come; the
                source, if it is not who passed their gossip on.

        Raises:
            WorldFault: the store could not write; nothing was changed.
        """
        stamps = self._stamps.batch(origin_of(source, author), now_ms)
        meter = Meter(
            self.quotas,
            self._usage,
            now_ms,
            is_by_day=source == LOCAL or author is not None,
        )
        batch = _Batch(self, {item.id for item in items}, stamps, meter)
        faults: list[tuple[PeerId, RemoteFault]] = []
        outcomes: list[Outcome] = []
        try:
            for item in items:
                outcome = batch.judge(item)
                outcomes.append(outcome)
                if outcome.fault is not None:
                    faults.append((author or source, outcome.fault))
                elif outcome.status is Status.NEW:
                    if len(self.pending):
                        faults += batch.judge_released(item.id)
                elif outcome.missing:
                    missing = frozenset(outcome.missing)
                    self.pending.add(Waiting(item, source, author or source, missing, now_ms))
            admitted = tuple(batch.admissions.values())
            changes = batch.changes()
            unpruned = batch.unpruned()
            passed_over = self._newly_passed_over(meter)
            if admitted or cursors or passed_over:
                # Cursors are forgotten when dropped operations are wanted again: none moves then.
                moved = {} if unpruned else cursors or {}
                self.storage.commit(Commit(admitted, changes, moved, unpruned, passed_over))
        except BaseException:
            batch.put_back()
            raise
        finally:
            self.pending.forget(LOCAL)
        self._remember(batch)
        for account, counted in meter.counts.items():
            self._usages.put(account, counted.usage, 1)
        for account in passed_over:
            self._usages.drop(account)
        if unpruned:
            self._ids.clear()
        return Accepted(
            batch.settled(outcomes),
            admitted,
            changes,
            tuple(faults),
            unpruned,
        )

    def seen(self, ids: Collection[ItemId]) -> set[ItemId]:
        """Return which of `ids` need not be fetched: here, dropped here, or over a quota."""
        found = self.storage.known(ids) | self.quotas.passed(ids)
        rest = [id_ for id_ in ids if id_ not in found]
        return found | self.storage.pruned(rest) if rest else found

    def account(self, account: AccountId) -> Account | None:
        """Return an account of the set, from a bounded memory of those used lately."""
        found = self._accounts.get(account)
        if found is None:
            found = self.storage.account(account)
            if found is not None:
                self._keep_account(found)
        return found

    def resolution(self, record: RecordId) -> Resolution:
        """Return what is known of every operation of a record, computed anew."""
        return resolve(self.storage.record_operations(record), self._standing)

    def prune(self, record: RecordId) -> int:
        """Drop what nothing needs while the record's era lasts; return how many operations.

        Nothing is dropped while the account's log is frozen: its epochs may count anew.

        Raises:
            WorldFault: the store could not write; nothing was dropped.
        """
        operations = self.storage.record_operations(record)
        account = self.account(operations[0].account) if operations else None
        if account is None or account.frozen:
            return 0
        ids = prunable(operations, resolve(operations, self._standing))
        if ids:
            self.storage.prune(record, ids)
            self._usages.drop(account.id)
        return len(ids)

    def take_up(self) -> bool:
        """Have peers read anew if there is room again for what was passed over; whether there is.

        Raises:
            WorldFault: the store could not write; nothing has changed.
        """
        accounts = [id_ for id_ in self.storage.passed_over() if self._has_room(id_)]
        if accounts:
            self.storage.take_up(accounts)
            self.quotas.forget_passed()
            for account in accounts:
                self._usages.drop(account)
        return bool(accounts)

    def check_body(self, operation: Operation, body: bytes) -> None:
        """Check A's last part: what the body says, by the type of the operation."""
        match operation.type:
            case OperationType.PUT:
                self._body_rules.check_put(operation, body)
            case OperationType.CARD:
                open_card(body)
            case OperationType.DELETE:
                if body:
                    raise MalformedBytes("a delete has no body")
            case OperationType.CHECKPOINT:
                facts = open_checkpoint(body).facts
                if facts:
                    self._body_rules.check_put(operation, facts)
            case OperationType.UNKNOWN:
                pass

    def slot_of(self, item: Item, account_of: Callable[[AccountId], Account | None]) -> Slot:
        """Return where a receipt competes; raises as `ReceiptRules.judge` does."""
        return self._receipt_rules.judge(item, account_of)

    def layout(
        self,
        operation: Operation,
        operations: Operations,
        body_of: Callable[[OperationId], bytes],
    ) -> Layout:
        """Return the places that cards can refer to in a valid operation, from a bounded memory."""
        return layout_of(
            operation,
            operations=operations,
            body_of=body_of,
            seed_of=self._body_rules.seed_of,
            cache=self._layouts,
        )

    def link(self, id_: OperationId) -> Link | None:
        """Return what an operation of the set cites, from a bounded memory of those walked over."""
        found = self._links.get(id_)
        if found is None:
            operation = self.storage.operations([id_]).get(id_)
            if operation is not None:
                found = Link(operation.depth, operation.predecessors)
                self._links.put(id_, found, 1 + len(found.predecessors))
        return found

    def _has_room(self, account: AccountId) -> bool:
        known = self.account(account)
        return self.quotas.has_room(self._usage(account), len(known.entries) if known else 0)

    def _usage(self, account: AccountId) -> Usage:
        """Return what the store holds of an account, from a bounded memory of those used lately."""
        found = self._usages.get(account)
        if found is None:
            found = self.storage.usage(account)
            self._usages.put(account, found, 1)
        return found

    def _newly_passed_over(self, meter: Meter) -> tuple[AccountId, ...]:
        """Return of which known accounts it must be written down that something was not taken."""
        return tuple(
            account for account in sorted(meter.passed_over) if not self._usage(account).passed_over
        )

    def _standing(self, operation: Operation) -> Standing:
        account = self.account(operation.account)
        assert account is not None, "an admitted operation's account is known"
        return account.standing(operation.account_head, operation.key)

    def _keep_account(self, account: Account) -> None:
        old = self._accounts.pop(account.id, None)
        self._accounts_weight += account.weight - (old.weight if old else 0)
        if self._accounts_weight > ACCOUNT_CACHE_WEIGHT_MAX:
            # But for this one, however heavy it is: its next item asks for it at once.
            self._accounts.clear()
            self._accounts_weight = account.weight
        self._accounts[account.id] = account

    def _remember(self, batch: _Batch) -> None:
        """Take over what a committed batch has made of the accounts."""
        for account in batch.accounts.values():
            self._keep_account(account)
        for scope, ids in self._ids.items():
            ids.discard(batch.superseded)
            added = batch.admissions.items()
            ids.add(id_ for id_, one in added if scope.is_all or scope.wants(one.subject))


class _Batch:
    """The items of one call, judged over the store: what they add is seen at once, and only here.

    Dropping a batch undoes it: nothing of the replica is touched until it is committed.
    """

    def __init__(
        self, replica: Replica, ids: set[ItemId], stamps: StampBatch, meter: Meter
    ) -> None:
        self._stamps = stamps
        self._meter = meter
        self.admissions: dict[ItemId, Admission] = {}
        self.accounts: dict[AccountId, Account] = {}
        self.superseded: list[ItemId] = []
        self._replica = replica
        self._storage = replica.storage
        self._known = replica.storage.known(ids)
        self._looked_up = set(ids)
        self._operations: dict[OperationId, Operation] = {}
        self._heads: dict[RecordId, Heads] = {}
        self._new: set[RecordId] = set()
        self._stale: dict[RecordId, None] = {}
        self._arrived: dict[RecordId, list[Operation]] = {}
        self._resolutions: dict[RecordId, Resolution] = {}
        self._shaken: set[AccountId] = set()
        self._standing: dict[bytes, tuple[SlotStanding, ItemId]] = {}
        self._released: list[Waiting] = []

    def judge(self, item: Item) -> Outcome:
        """Return what becomes of an item, and admit it if it is valid and new."""
        if self._is_known(item.id):
            return Outcome(item.id, Status.KNOWN)
        try:
            is_new = self._take(item)
        except MissingItems as missing:
            ids = tuple(ItemId(id_) for id_ in sorted(set(missing.ids)))
            if self._meter.is_behind(item.id, ids):
                over = OverQuota(BEHIND)
                return Outcome(item.id, Status.OVER_QUOTA, over=over)
            return Outcome(item.id, Status.PENDING, missing=ids)
        except OverQuota as over:
            return Outcome(item.id, Status.OVER_QUOTA, over=over)
        except Declined:
            return Outcome(item.id, Status.DECLINED)
        except RemoteFault as fault:
            return Outcome(item.id, Status.REJECTED, fault=fault)
        return Outcome(item.id, Status.NEW if is_new else Status.KNOWN)

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
                    faults.append((waiting.author, outcome.fault))
                elif outcome.status is Status.PENDING:
                    again = replace(waiting, missing=frozenset(outcome.missing))
                    self._replica.pending.add(again)
        return faults

    def settled(self, outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
        """Return outcomes as they are at the end: what came later in the batch may free some."""
        if not self._released:
            return tuple(outcomes)
        return tuple(
            Outcome(one.id, Status.NEW)
            if one.status is Status.PENDING and one.id in self.admissions
            else one
            for one in outcomes
        )

    def put_back(self) -> None:
        """Let what was released wait again: the commit failed, so nothing has arrived."""
        for waiting in self._released:
            self._replica.pending.add(waiting)

    def changes(self) -> tuple[RecordChange, ...]:
        """Return the new state of every record that the batch touched, in a stable order."""
        self._follow()
        # Of one that shows nothing, any operation: it tells kind, owner and slug.
        needed = {id_ for heads in self._heads.values() for id_ in (heads.facts or heads.heads)}
        known = self.operations(sorted(needed))
        changes = [self._followed(record, heads, known) for record, heads in self._heads.items()]
        return (*changes, *(self._resolved(record) for record in self._stale))

    def unpruned(self) -> tuple[RecordId, ...]:
        """Return the records whose dropped operations are wanted again; ask after `changes`.

        They were dropped for the sake of the checkpoint that the store's era is called by, or of a
        lower one that counted as long as that was not above it. If it does not count any more,
        what it stood for does. And when a fork shows or is settled, epochs may count anew.
        """
        found: list[RecordId] = []
        for record, resolution in self._resolutions.items():
            before = self._storage.register(record)
            if before is None or not before.era or not self._storage.pruned_count(record):
                continue
            owner = next(iter(self._record_operations(record).values())).account
            if owner in self._shaken or before.era not in resolution.checkpoints:
                found.append(record)
        return tuple(found)

    # -- what is known: the store's and what this batch adds

    def account(self, account: AccountId) -> Account | None:
        """Return an account with its entries."""
        found = self.accounts.get(account)
        return self._replica.account(account) if found is None else found

    def operations(self, ids: Collection[OperationId]) -> Mapping[OperationId, Operation]:
        """Return those of `ids` that are operations."""
        known = self._operations
        mine = {id_: known[id_] for id_ in ids if id_ in known}
        if len(mine) == len(ids):
            return mine
        return {**mine, **self._storage.operations([id_ for id_ in ids if id_ not in mine])}

    def link(self, id_: OperationId) -> Link | None:
        """Return what a known operation cites."""
        mine = self._operations.get(id_)
        if mine is not None:
            return Link(mine.depth, mine.predecessors)
        return self._replica.link(id_)

    def seen(self, ids: Collection[ItemId]) -> set[ItemId]:
        """Return those of `ids` that are known, as whatever they are."""
        return {id_ for id_ in ids if self._is_known(id_)}

    def pruned(self, ids: Collection[ItemId]) -> set[ItemId]:
        """Return those of `ids` that were known and were dropped."""
        return self._storage.pruned(ids) if ids else set()

    def layout(self, operation: Operation) -> Layout:
        """Return the places of a known operation that a card can refer to."""
        return self._replica.layout(operation, self.operations, self._body_of)

    def _body_of(self, id_: OperationId) -> bytes:
        admission = self.admissions.get(ItemId(id_))
        if admission is not None:
            return admission.item.body
        raws = self._storage.raws([ItemId(id_)], bytes_max=ITEM_BYTES_MAX)
        return unpack_item(raws[ItemId(id_)]).body

    def _is_known(self, id_: ItemId) -> bool:
        if id_ in self.admissions:
            return True
        if id_ not in self._looked_up:  # one that was released, not given
            self._looked_up.add(id_)
            self._known |= self._storage.known([id_])
        return id_ in self._known

    # -- taking items in

    def _take(self, item: Item) -> bool:
        """Check A and check B, then admit; False for a receipt that a greater one stands over."""
        network = self._replica.network
        if item.kind is ItemKind.RECEIPT:
            return self._admit_receipt(item, self._replica.slot_of(item, self.account))
        if item.kind is ItemKind.ACCOUNT:
            entry = open_entry(item, network)
            self._meter.check_entry(item, entry, self.account(entry.account))
            account = check_entry(entry, self)
            if entry.type is EntryType.GENESIS:
                self._stamps.check(item, entry)  # the dearest check, so the last
            self._admit_entry(item, entry, account)
            return True
        operation = open_operation(item, network)
        # Before the causes: what is not taken is not to wait for anything, and fetch it.
        self._meter.check_operation(item, operation, self.account)
        self._replica.check_body(operation, item.body)
        check_operation(operation, item.body, self)
        self._admit_operation(item, operation)
        self._meter.admit(item, operation)
        return True

    def _admit_entry(self, item: Item, entry: Entry, account: Account) -> None:
        before = self.account(entry.account)
        self.admissions[item.id] = Admission(item, entry)
        self.accounts[account.id] = account
        if before is None or (
            account.trunk == before.trunk and account.live - {entry.id} == before.live
        ):
            return  # nothing that is known cites it, and what is cited stands as it did
        if account.trunk[: len(before.trunk)] != before.trunk or account.frozen:
            self._shaken.add(account.id)
        is_quiet = entry.type in _QUIET_ENTRIES and account.trunk == (*before.trunk, entry)
        if is_quiet and not before.frozen:
            return
        records = [id_ for id_ in self._storage.records_of(account.id) if id_ not in self._stale]
        mine = [one.record for one in self._operations.values() if one.account == account.id]
        self._stale.update(dict.fromkeys((*records, *mine)))

    def _admit_operation(self, item: Item, operation: Operation) -> None:
        self.admissions[item.id] = Admission(item, operation)
        self._operations[operation.id] = operation
        self._arrived.setdefault(operation.record, []).append(operation)

    def _follow(self) -> None:
        """Let what arrived join the heads of its records, which are looked up all at once."""
        arrived = {id_: some for id_, some in self._arrived.items() if id_ not in self._stale}
        known = self._storage.registers(arrived)
        for record, operations in arrived.items():
            register = known.get(record)
            if register is None:
                self._new.add(record)
            heads = _joined(
                NO_HEADS if register is None else heads_of(register), operations, self._standing_of
            )
            if heads is None:
                self._stale[record] = None
            else:
                self._heads[record] = heads

    def _admit_receipt(self, item: Item, slot: Slot) -> bool:
        mine = self._standing.get(slot.slot)
        standing = mine[0] if mine else self._storage.standing(slot.slot)
        if not stands_over(slot.rank, item.id, standing):
            return False
        if mine is not None:
            del self.admissions[mine[1]]
        elif standing is not None:
            self.superseded.append(standing.id)
        self.admissions[item.id] = Admission(item, slot)
        self._standing[slot.slot] = (SlotStanding(slot.rank, item.id), item.id)
        return True

    # -- states

    def _standing_of(self, operation: Operation) -> Standing:
        account = self.account(operation.account)
        assert account is not None, "an admitted operation's account is known"
        return account.standing(operation.account_head, operation.key)

    def _followed(
        self, record: RecordId, heads: Heads, known: Mapping[OperationId, Operation]
    ) -> RecordChange:
        facts = [known[id_] for id_ in heads.facts]
        register = register_of(heads, facts, self._standing_of)
        return self._change(record, register, known)

    def _resolved(self, record: RecordId) -> RecordChange:
        operations = self._record_operations(record)
        resolution = resolve(operations.values(), self._standing_of)
        self._resolutions[record] = resolution
        return self._change(record, resolution.register, operations)

    def _change(
        self, record: RecordId, register: Register, known: Mapping[OperationId, Operation]
    ) -> RecordChange:
        if register.winner is not None:
            return RecordChange(record, known[register.winner], register, record in self._new)
        # Nothing shows: any operation tells kind, owner and slug.
        mine = (one for one in (*self._operations.values(), *known.values()))
        some = next((one for one in mine if one.record == record), None)
        return RecordChange(record, some or self._storage.record_operations(record)[0], register)

    def _record_operations(self, record: RecordId) -> dict[OperationId, Operation]:
        stored = {one.id: one for one in self._storage.record_operations(record)}
        mine = {id_: one for id_, one in self._operations.items() if one.record == record}
        return stored | mine


def _joined(
    heads: Heads, operations: Sequence[Operation], standing_of: Callable[[Operation], Standing]
) -> Heads | None:
    """Return the heads once these have joined in order; None when all must be asked."""
    after: Heads | None = heads
    for operation in operations:
        if after is None:
            return None
        after = follow(after, operation, standing_of(operation))
    return after
