"""What a record shows, from all of its operations: `DESIGN.md`, section 3, in linear time.

Operations are put in order of depth, so that causes come first and a walk backwards meets every
descendant before what it builds on. No set of anybody's past is ever made: marks are pushed along
the citations instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from crdt.accounts import Standing
from crdt.ids import OperationId, PublicKey
from crdt.operations import ERA_FIRST, Operation, OperationType
from crdt.registers import Heads, Register, register_of
from crdt.vouching import Operations, Standings, Vouching


@dataclass(frozen=True, slots=True)
class Resolution:
    """What was found out about each of a record's operations.

    Attributes:
        effective: Ids of the operations that count, of every era.
        endorsed: Those that an operation of the account's root now vouches for.
        kept: Those saved by the keep list of the entry that ended their key.
        checkpoints: Effective checkpoints, the one that opens the record's era first.
    """

    register: Register
    effective: frozenset[OperationId]
    endorsed: frozenset[OperationId]
    kept: frozenset[OperationId]
    checkpoints: tuple[OperationId, ...]


def resolve(
    operations: Iterable[Operation], standing_of: Callable[[Operation], Standing]
) -> Resolution:
    """Return the state of a record whose valid operations are exactly these.

    Args:
        standing_of: How much the account stands behind an operation's key and account entry.
    """
    ordered = sorted(operations, key=lambda one: (one.depth, one.id))
    standings = {one.id: standing_of(one) for one in ordered}
    by_id = {one.id: one for one in ordered}
    vouching = Vouching(by_id, standings)
    endorsing = [one for one in ordered if standings[one.id].endorses]
    # Whoever signs into an era signs its checkpoint's id.
    eras = {OperationId(one.era) for one in endorsing if one.era}
    endorsed = vouching.vouched_by(one.id for one in endorsing) | (eras & by_id.keys())
    kept = _kept(by_id, standings, vouching)
    effective = frozenset(
        one.id
        for one in ordered
        if one.type is not OperationType.UNKNOWN
        and (
            one.id in endorsed
            or (standings[one.id].live and (standings[one.id].current or one.id in kept))
        )
    )
    checkpoints = _checkpoints(ordered, effective, standings)
    era = checkpoints[0].id if checkpoints else ERA_FIRST
    members = [one for one in ordered if era_of(one) == era]
    heads = _heads(members, effective, era)
    facts = [one for one in members if one.id in heads.facts]
    register = register_of(heads, facts, lambda one: standings[one.id])
    ids = tuple(one.id for one in checkpoints)
    return Resolution(register, effective, endorsed, kept, ids)


def era_of(operation: Operation) -> bytes:
    """Return the era an operation counts for: a checkpoint belongs to the one it opens."""
    if operation.type is OperationType.CHECKPOINT:
        return operation.id
    return operation.era


def prunable(operations: Collection[Operation], resolution: Resolution) -> list[OperationId]:
    """Return the operations that nothing needs while the record's era lasts, sorted.

    Those of eras below it: the first one, and those of effective checkpoints that rank lower. What
    belongs to a checkpoint that is not effective stays, because it may yet become so.
    """
    if not resolution.checkpoints:
        return []
    below = {ERA_FIRST, *resolution.checkpoints[1:]}
    return sorted(one.id for one in operations if era_of(one) in below)


def _kept(by_id: Operations, standings: Standings, vouching: Vouching) -> frozenset[OperationId]:
    """Return what the keep lists save: what they name, and what that passes on."""
    lists: dict[PublicKey, tuple[OperationId, ...]] = {}
    for one in by_id.values():
        keep = standings[one.id].keep
        if keep:
            lists[one.key] = keep
    return vouching.kept_by(lists)


def _checkpoints(
    ordered: list[Operation], effective: frozenset[OperationId], standings: Standings
) -> list[Operation]:
    found = [one for one in ordered if one.type is OperationType.CHECKPOINT and one.id in effective]
    return sorted(
        found, key=lambda one: (standings[one.id].epoch, one.number, one.id), reverse=True
    )


def _heads(members: list[Operation], effective: frozenset[OperationId], era: bytes) -> Heads:
    """Return an era's heads: what no effective operation, and no effective fact, is built on."""
    covered: set[OperationId] = set()
    superseded: set[OperationId] = set()
    for one in reversed(members):
        counts = one.id in effective
        if counts or one.id in covered:
            covered.update(one.predecessors)
        if (counts and one.is_fact) or one.id in superseded:
            superseded.update(one.predecessors)
    counted = [one for one in members if one.id in effective]
    return Heads(
        facts=frozenset(one.id for one in counted if one.is_fact and one.id not in superseded),
        heads=frozenset(one.id for one in counted if one.id not in covered),
        era=era,
        void_count=len(members) - len(counted),
        card_count=sum(one.type is OperationType.CARD for one in counted),
    )
