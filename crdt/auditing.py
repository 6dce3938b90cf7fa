"""An audit: a record's log judged anew, and for each operation why it counts or does not.

Nothing is taken from whoever gave the log: it is fed to an empty replica, which checks every id,
signature, predecessor and authority, and derives the state. What a log leaves out cannot be seen in
it; but a state that hangs on what was left out is not the one that is derived here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from crdt.accounts import Account, AccountState, Standing
from crdt.cards.bodies import open_card
from crdt.entries import NOTHING, Capability, Entry, EntryType
from crdt.errors import RemoteFault
from crdt.ids import AccountId, ItemId, OperationId, PublicKey, RecordId
from crdt.items import Item, ItemKind, unpack_item
from crdt.operations import Operation, OperationType, parse_operation
from crdt.ports import LOCAL, Outcome, Status
from crdt.registers import Rank, Register, deciding_term, rank_of
from crdt.replica import Replica
from crdt.resolution import Resolution, era_of
from crdt.rivals import (
    CheckpointRank,
    Concurrency,
    Equivocation,
    Fork,
    checkpoint_ranks,
    concurrency_in,
    endings_of,
    equivocations_in,
    forks_of,
)
from crdt.vouching import Standings, Vouching


class Cause(Enum):
    """Why an operation counts, or does not."""

    CURRENT = "current"
    """Its account entry is live, and its key has not ended."""
    ENDORSED = "endorsed"
    """An operation of the account's root vouches for it."""
    KEPT = "kept"
    """The entry that ended its key keeps it."""
    UNKNOWN_TYPE = "unknown-type"
    LATER_VERSION = "later-version"
    BRANCH_LOST = "branch-lost"
    """It cites an account entry on a branch that lost."""
    KEY_ENDED = "key-ended"


class Place(Enum):
    """Where an account entry stands in its log."""

    TRUNK = "trunk"
    OPEN = "open"
    """Behind the fork the log is frozen at."""
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Why:
    """A cause, and what it hangs on.

    Attributes:
        by: The root's operation that endorses; or the account entry that kept it, that ended the
            key, or that the trunk goes on with where the branch lost.
    """

    cause: Cause
    by: bytes | None = None


@dataclass(frozen=True, slots=True)
class Authority:
    """What let a key write, at the account entry that the operation cites.

    Attributes:
        is_root: It is the root there; otherwise a delegate with these capabilities.
        epoch: Rotations of the root on the path to that entry.
        scope: Records the delegate is limited to, sorted; none means every record.
        granted_by: The entry that introduced the key.
        ended_by: The trunk's entry that ended it, if one did.
    """

    is_root: bool
    epoch: int
    capabilities: Capability
    scope: tuple[RecordId, ...]
    granted_by: ItemId
    ended_by: ItemId | None


@dataclass(frozen=True, slots=True)
class AuditedOperation:
    """One valid operation.

    Attributes:
        in_era: It belongs to the record's era: only such operations count for what shows.
        rank: What decides between concurrent facts.
        lost_by: Of a fact head that lost: the first term in which it is less than the winner.
        reference_count: Of a card operation: operations that it refers to.
    """

    operation: Operation
    authority: Authority
    why: Why
    effective: bool
    in_era: bool
    is_winner: bool
    is_head: bool
    rank: Rank
    lost_by: str | None
    reference_count: int | None

    @property
    def era(self) -> bytes:
        """The era it belongs to."""
        return era_of(self.operation)


@dataclass(frozen=True, slots=True)
class AuditedEntry:
    """One valid account entry.

    Attributes:
        by_recovery: The recovery key signed it, not the root.
        epoch: Rotations of the root on its path.
    """

    entry: Entry
    place: Place
    by_recovery: bool
    epoch: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something in the log that is not valid, or cannot be judged by what is in it.

    Attributes:
        id: None when the bytes are not even an item.
        code: Of the error, or `missing-items`, or `foreign`: of another record or account.
    """

    id: ItemId | None
    kind: ItemKind | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Audit:
    """What a record's log says, and everything that is odd about it.

    Attributes:
        account: The owner's; None when its genesis is not in the log or not valid.
        operations: The valid ones, causes first (by depth, then id).
        register: The state that follows from them; None without any.
    """

    record: RecordId
    account: Account | None
    entries: tuple[AuditedEntry, ...]
    forks: tuple[Fork, ...]
    operations: tuple[AuditedOperation, ...]
    register: Register | None
    checkpoints: tuple[CheckpointRank, ...]
    equivocations: tuple[Equivocation, ...]
    concurrency: tuple[Concurrency, ...]
    refusals: tuple[Refusal, ...]

    def operation(self, id_: OperationId) -> AuditedOperation:
        """Return one of its operations."""
        return next(one for one in self.operations if one.operation.id == id_)

    @property
    def winner(self) -> AuditedOperation | None:
        """The operation that shows."""
        return next((one for one in self.operations if one.is_winner), None)

    @property
    def conflicts(self) -> tuple[AuditedOperation, ...]:
        """The fact heads that lost, greatest rank first."""
        lost = [one for one in self.operations if one.lost_by is not None]
        return tuple(sorted(lost, key=lambda one: one.rank, reverse=True))


def audit(replica: Replica, record: RecordId, raws: Iterable[bytes]) -> Audit:
    """Return what follows from a record's log.

    Args:
        replica: An empty one; afterwards it holds what is valid.
        raws: The owner's account entries and the record's operations, in any order.
    """
    items, refusals = _opened(raws)
    mine, foreign = _sorted_out(items, record, replica)
    accepted = replica.accept(mine, source=LOCAL, now_ms=0)
    refused = (_refusal(item, one) for item, one in zip(mine, accepted.outcomes, strict=True))
    refusals += [*foreign, *(one for one in refused if one is not None)]
    ordered = sorted(replica.storage.record_operations(record), key=lambda one: (one.depth, one.id))
    account = replica.account(ordered[0].account) if ordered else _sole_account(mine, replica)
    if account is None:
        return Audit(record, None, (), (), (), None, (), (), (), tuple(refusals))
    refusals += [
        _foreign(item, "it is an entry of another account")
        for item, one in zip(mine, accepted.outcomes, strict=True)
        if item.kind is ItemKind.ACCOUNT
        and one.status is Status.NEW
        and item.id not in account.states
    ]
    standings = {one.id: account.standing(one.account_head, one.key) for one in ordered}
    resolution = replica.resolution(record)
    bodies = {OperationId(item.id): item.body for item in mine}
    return Audit(
        record=record,
        account=account,
        entries=tuple(_entry(entry, account) for entry in account.entries),
        forks=forks_of(account),
        operations=_operations(ordered, account, resolution, standings, bodies),
        register=resolution.register if ordered else None,
        checkpoints=checkpoint_ranks(ordered, resolution, standings),
        equivocations=equivocations_in(ordered),
        concurrency=concurrency_in(ordered),
        refusals=tuple(refusals),
    )


def _opened(raws: Iterable[bytes]) -> tuple[list[Item], list[Refusal]]:
    found: dict[bytes, Item] = {}
    refusals: list[Refusal] = []
    for raw in raws:
        try:
            found.setdefault(raw, unpack_item(raw))
        except RemoteFault as fault:
            refusals.append(Refusal(None, None, fault.code, str(fault)))
    return list(found.values()), refusals


def _sorted_out(
    items: Sequence[Item], record: RecordId, replica: Replica
) -> tuple[list[Item], list[Refusal]]:
    """Return what is about the record, causes first, and what is about something else.

    An operation that cannot be read stays: the replica says what is wrong with it.
    """
    placed: list[tuple[int, Item]] = []
    foreign: list[Refusal] = []
    for item in items:
        depth = 0
        if item.kind is ItemKind.OPERATION:
            try:
                operation = parse_operation(item, replica.network)
            except RemoteFault:
                placed.append((0, item))
                continue
            depth = 1 + operation.depth
            if operation.record != record:
                foreign.append(_foreign(item, f"it is of record {operation.record.hex()[:16]}"))
                continue
        elif item.kind is not ItemKind.ACCOUNT:
            foreign.append(_foreign(item, "a receipt is no part of a record's log"))
            continue
        placed.append((depth, item))
    # Stable: entries keep the order they came in, each after the one it stands on.
    return [item for _, item in sorted(placed, key=lambda one: one[0])], foreign


def _foreign(item: Item, message: str) -> Refusal:
    return Refusal(item.id, item.kind, "foreign", message)


def _refusal(item: Item, outcome: Outcome) -> Refusal | None:
    if outcome.status is Status.PENDING:
        names = ", ".join(id_.hex()[:16] for id_ in outcome.missing)
        message = f"it cites what is not in the log: {names}"
        return Refusal(item.id, item.kind, "missing-items", message)
    if outcome.fault is not None:
        return Refusal(item.id, item.kind, outcome.fault.code, str(outcome.fault))
    return None


def _sole_account(items: Sequence[Item], replica: Replica) -> Account | None:
    """Return the account that entries without any valid operation belong to."""
    found = (replica.account(AccountId(item.id)) for item in items)
    return next((account for account in found if account is not None), None)


def _entry(entry: Entry, account: Account) -> AuditedEntry:
    place = Place.LOST
    if entry.id in account.live:
        place = Place.TRUNK if entry in account.trunk else Place.OPEN
    by_recovery = (
        entry.predecessor is not None
        and entry.signer == account.states[entry.predecessor].recovery_key
    )
    return AuditedEntry(entry, place, by_recovery, account.states[entry.id].epoch)


def _operations(
    ordered: Sequence[Operation],
    account: Account,
    resolution: Resolution,
    standings: Standings,
    bodies: Mapping[OperationId, bytes],
) -> tuple[AuditedOperation, ...]:
    register = resolution.register
    endorsers = _endorsers(ordered, resolution, standings)
    authorities = _Authorities(account)
    ranks = {one.id: rank_of(one, standings[one.id]) for one in ordered}
    best = ranks[register.winner] if register.winner is not None else None
    found: list[AuditedOperation] = []
    for one in ordered:
        authority = authorities.of(one)
        lost = best is not None and one.id in register.conflicts
        found.append(
            AuditedOperation(
                operation=one,
                authority=authority,
                why=_why(one, standings[one.id], authority, resolution, endorsers, account),
                effective=one.id in resolution.effective,
                in_era=era_of(one) == register.era,
                is_winner=one.id == register.winner,
                is_head=one.id in register.heads,
                rank=ranks[one.id],
                lost_by=deciding_term(best, ranks[one.id]) if lost and best else None,
                reference_count=_reference_count(one, bodies[one.id]),
            )
        )
    return tuple(found)


def _why(
    one: Operation,
    standing: Standing,
    authority: Authority,
    resolution: Resolution,
    endorsers: Mapping[OperationId, OperationId],
    account: Account,
) -> Why:
    if one.is_opaque:
        return Why(Cause.LATER_VERSION)
    if one.type is OperationType.UNKNOWN:
        return Why(Cause.UNKNOWN_TYPE)
    if standing.live and standing.current:
        return Why(Cause.CURRENT)
    if one.id in resolution.endorsed:
        return Why(Cause.ENDORSED, endorsers[one.id])
    if not standing.live:
        return Why(Cause.BRANCH_LOST, _winner_over(one.account_head, account))
    cause = Cause.KEPT if one.id in resolution.kept else Cause.KEY_ENDED
    return Why(cause, authority.ended_by)


def _endorsers(
    ordered: Sequence[Operation], resolution: Resolution, standings: Standings
) -> Mapping[OperationId, OperationId]:
    """Return the last of the root's operations that vouches for each that needs one.

    By halves, so that a walk through the past is not made for every operation of the root.
    """
    by_id = {one.id: one for one in ordered}
    vouching = Vouching(by_id, standings)
    roots = [one.id for one in ordered if standings[one.id].endorses]
    found: dict[OperationId, OperationId] = {}
    needing = {
        one.id
        for one in ordered
        if one.id in resolution.endorsed
        and not (standings[one.id].live and standings[one.id].current)
    }
    open_ = [(0, len(roots), frozenset(needing))]
    while open_:
        first, end, left = open_.pop()
        if not left:
            continue
        if end - first == 1:
            found.update(dict.fromkeys(left, roots[first]))
            continue
        middle = (first + end) // 2
        late = vouching.vouched_by(roots[middle:end]) & left
        open_ += [(first, middle, left - late), (middle, end, late)]
    return found


def _winner_over(head: ItemId, account: Account) -> ItemId | None:
    """Return the entry that the trunk goes on with where the branch of `head` leaves it."""
    trunk = [entry.id for entry in account.trunk]
    by_id = {entry.id: entry for entry in account.entries}
    id_: ItemId | None = head
    while id_ is not None and id_ not in trunk:
        id_ = by_id[id_].predecessor
    after = trunk[trunk.index(id_) + 1 :] if id_ is not None else []
    return after[0] if after else None


def _reference_count(one: Operation, body: bytes) -> int | None:
    return len(open_card(body).table) if one.type is OperationType.CARD else None


class _Authorities:
    """What let keys write, looked up once for each key and entry."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._by_id = {entry.id: entry for entry in account.entries}
        self._endings = endings_of(account)
        self._found: dict[tuple[ItemId, PublicKey], Authority] = {}

    def of(self, one: Operation) -> Authority:
        """Return what let an operation be written."""
        place = (one.account_head, one.key)
        if place not in self._found:
            state = self._account.states[one.account_head]
            self._found[place] = self._authority(state, *place)
        return self._found[place]

    def _authority(self, state: AccountState, head: ItemId, key: PublicKey) -> Authority:
        grant = state.delegates.get(key)
        return Authority(
            is_root=key == state.root_key,
            epoch=state.epoch,
            capabilities=grant.capabilities if grant else NOTHING,
            scope=tuple(sorted(grant.scope)) if grant else (),
            granted_by=self._granted_by(head, key),
            ended_by=self._endings.get(key),
        )

    def _granted_by(self, head: ItemId, key: PublicKey) -> ItemId:
        entry = self._by_id[head]
        while not (entry.type in _GRANTING and entry.key == key):
            assert entry.predecessor is not None, "a key that may write was introduced"
            entry = self._by_id[entry.predecessor]
        return entry.id


_GRANTING = frozenset({EntryType.GENESIS, EntryType.ADD_KEY, EntryType.ROTATE_ROOT})
