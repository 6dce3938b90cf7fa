"""What somebody signed twice: forks of a log, checkpoints side by side, writes that ignore others.

None of it breaks a rule, and all of it is settled by the rules; but whoever asks whether a record
was tampered with wants to see it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from crdt.accounts import Account
from crdt.entries import Entry, EntryType
from crdt.ids import ItemId, OperationId, PublicKey
from crdt.operations import Operation, OperationType
from crdt.resolution import Resolution, era_of
from crdt.vouching import Standings

PAIR_COUNT_MAX = 16
"""Pairs of concurrent writes that are named for one key; all are counted."""
CHECKPOINT_TERMS = ("epoch", "number", "id")


@dataclass(frozen=True, slots=True)
class Branch:
    """What stands behind a fork, on one side.

    Attributes:
        first: Its first entry, and whose signature that carries.
        entry_count: How many entries are behind the fork on this side.
        adopted_by: The first of them that the fork's recovery key signed, if one is.
        wins: The trunk goes on here.
    """

    first: ItemId
    signer: PublicKey
    entry_count: int
    adopted_by: ItemId | None
    wins: bool


@dataclass(frozen=True, slots=True)
class Fork:
    """An entry on which several stand: somebody with the key signed twice.

    Attributes:
        on_trunk: Otherwise it lies on a branch, and settling it settles nothing.
    """

    at: ItemId
    on_trunk: bool
    branches: tuple[Branch, ...]

    @property
    def settled(self) -> bool:
        """Whether one branch was adopted, and no other."""
        return any(branch.wins for branch in self.branches)

    @property
    def adopted_count(self) -> int:
        """How many branches the recovery key has signed on."""
        return sum(branch.adopted_by is not None for branch in self.branches)


@dataclass(frozen=True, slots=True)
class CheckpointRank:
    """A checkpoint among the others.

    Attributes:
        rivals: Others of the same epoch and number: made without knowing of this one.
        lost_by: The first term in which it is less than the one that is the record's era; None for
            that one, and for one that is void.
    """

    id: OperationId
    epoch: int
    number: int
    effective: bool
    is_era: bool
    rivals: tuple[OperationId, ...]
    lost_by: str | None


@dataclass(frozen=True, slots=True)
class Equivocation:
    """Writes by one key that cite the same heads: none of them knows of another."""

    key: PublicKey
    predecessors: tuple[OperationId, ...]
    operations: tuple[OperationId, ...]


@dataclass(frozen=True, slots=True)
class Concurrency:
    """Pairs of writes by one key of which neither is in the other's past.

    Attributes:
        pairs: Some of them, at most `PAIR_COUNT_MAX`.
    """

    key: PublicKey
    pair_count: int
    pairs: tuple[tuple[OperationId, OperationId], ...]


def forks_of(account: Account) -> tuple[Fork, ...]:
    """Return every fork of an account's log, in the order of its entries."""
    successors: dict[ItemId, list[Entry]] = {}
    for entry in account.entries:
        if entry.predecessor is not None:
            successors.setdefault(entry.predecessor, []).append(entry)
    trunk = {entry.id for entry in account.trunk}
    return tuple(
        Fork(
            at=entry.id,
            on_trunk=entry.id in trunk,
            branches=tuple(
                _branch(first, successors, account.states[entry.id].recovery_key, trunk)
                for first in sorted(successors[entry.id], key=lambda one: one.id)
            ),
        )
        for entry in account.entries
        if len(successors.get(entry.id, ())) > 1
    )


def endings_of(account: Account) -> Mapping[PublicKey, ItemId]:
    """Return the trunk's entry that ended each key, for those that are over."""
    found: dict[PublicKey, ItemId] = {}
    for entry in account.trunk:
        if entry.type is EntryType.REVOKE:
            found[entry.key] = entry.id
        elif entry.type is EntryType.ROTATE_ROOT and entry.predecessor is not None:
            found[account.states[entry.predecessor].root_key] = entry.id
    return found


def checkpoint_ranks(
    operations: Iterable[Operation], resolution: Resolution, standings: Standings
) -> tuple[CheckpointRank, ...]:
    """Return every checkpoint, the record's era first, then by rank."""
    ranks = {
        one.id: (standings[one.id].epoch, one.number, one.id)
        for one in operations
        if one.type is OperationType.CHECKPOINT
    }
    era = resolution.checkpoints[0] if resolution.checkpoints else None
    found = [
        CheckpointRank(
            id=id_,
            epoch=rank[0],
            number=rank[1],
            effective=id_ in resolution.effective,
            is_era=id_ == era,
            rivals=tuple(
                sorted(one for one, its in ranks.items() if its[:2] == rank[:2] and one != id_)
            ),
            lost_by=_lost_by(ranks, era, id_) if id_ in resolution.effective else None,
        )
        for id_, rank in ranks.items()
    ]
    return tuple(
        sorted(found, key=lambda one: (one.is_era, one.effective, ranks[one.id]), reverse=True)
    )


def equivocations_in(ordered: Sequence[Operation]) -> tuple[Equivocation, ...]:
    """Return the writes that cite the same heads as another by the same key.

    Checkpoints are not among them: they cite nothing, and `checkpoint_ranks` has them.
    """
    groups: dict[tuple[PublicKey, bytes, tuple[OperationId, ...]], list[OperationId]] = {}
    for one in ordered:
        if one.type is not OperationType.CHECKPOINT and not one.is_opaque:
            groups.setdefault((one.key, one.era, one.predecessors), []).append(one.id)
    return tuple(
        Equivocation(key, predecessors, tuple(ids))
        for (key, _, predecessors), ids in groups.items()
        if len(ids) > 1
    )


def concurrency_in(ordered: Sequence[Operation]) -> tuple[Concurrency, ...]:
    """Return, for each key, its writes of one era that do not know of each other.

    Args:
        ordered: By depth, causes first.
    """
    # One bit an operation: what is in whose past is asked for every pair.
    numbers = {one.id: number for number, one in enumerate(ordered)}
    pasts: list[int] = []
    mine: dict[tuple[PublicKey, bytes], int] = {}
    counts: dict[PublicKey, int] = {}
    pairs: dict[PublicKey, list[tuple[OperationId, OperationId]]] = {}
    for number, one in enumerate(ordered):
        past = 0
        for id_ in one.predecessors:
            past |= pasts[numbers[id_]] | 1 << numbers[id_]
        pasts.append(past)
        if one.is_opaque:
            continue
        before = mine.get((one.key, era_of(one)), 0)
        mine[one.key, era_of(one)] = before | 1 << number
        apart = before & ~past
        if apart:
            counts[one.key] = counts.get(one.key, 0) + apart.bit_count()
            named = pairs.setdefault(one.key, [])
            for other in _bits(apart, PAIR_COUNT_MAX - len(named)):
                named.append((ordered[other].id, one.id))
    return tuple(Concurrency(key, count, tuple(pairs[key])) for key, count in counts.items())


def _branch(
    first: Entry,
    successors: Mapping[ItemId, list[Entry]],
    recovery_key: PublicKey,
    trunk: Collection[ItemId],
) -> Branch:
    behind: list[Entry] = []
    stack = [first]
    while stack:
        entry = stack.pop()
        behind.append(entry)
        stack += successors.get(entry.id, [])
    adopting = [entry.id for entry in behind if entry.signer == recovery_key]
    return Branch(
        first.id, first.signer, len(behind), adopting[0] if adopting else None, first.id in trunk
    )


def _lost_by(
    ranks: Mapping[OperationId, tuple[int, int, OperationId]],
    era: OperationId | None,
    id_: OperationId,
) -> str | None:
    if era is None:
        return None
    terms = zip(CHECKPOINT_TERMS, ranks[era], ranks[id_], strict=True)
    return next((name for name, one, other in terms if one != other), None)


def _bits(mask: int, count_max: int) -> list[int]:
    """Return the numbers of the lowest set bits."""
    found: list[int] = []
    while mask and len(found) < count_max:
        lowest = mask & -mask
        found.append(lowest.bit_length() - 1)
        mask ^= lowest
    return found
