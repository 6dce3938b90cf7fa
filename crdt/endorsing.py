"""Endorsing: what the root signs so that good operations outlive the key that made them.

`DESIGN.md`, section 3, says who vouches for whom. Here is the owner's side of it: which operations
a revocation or a rotation would take away, and which writes save those that are wanted. Pure: it
plans, checks its plan against the rule itself, and signs with the key it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from crdt.accounts import Account, Standing
from crdt.checkpoints import open_checkpoint
from crdt.entries import KEEP_COUNT_MAX, Capability
from crdt.ids import AccountId, ItemId, NetworkId, OperationId, PublicKey, RecordId
from crdt.items import Item
from crdt.operations import (
    PREDECESSOR_COUNT_MAX,
    Operation,
    OperationType,
    RecordKind,
    make_operation,
)
from crdt.registers import Rank, rank_of
from crdt.resolution import Resolution, era_of, resolve
from crdt.signed import SigningKey
from crdt.vouching import past_of

Operations: TypeAlias = Mapping[OperationId, Operation]
StandingOf: TypeAlias = Callable[[Operation], Standing]
_PLANNED = b"\xff" * 32
"""Stands for the id of an operation that is not signed yet; ranks after every other."""


@dataclass(frozen=True, slots=True)
class Endorsement:
    """A write by which the root keeps a record as it is.

    Attributes:
        type: A put of the same facts, or a delete of what is deleted.
        cited: What it cites, the winner first; more than one operation can cite is chained.
        depths: The depth of each that is cited.
        body: Canonical bytes of the facts; empty for a delete.
        saved: Operations that are effective with it and were not without it.
    """

    record: RecordId
    kind: RecordKind
    slug: str
    type: OperationType
    era: bytes
    cited: tuple[OperationId, ...]
    depths: tuple[int, ...]
    body: bytes
    saved: frozenset[OperationId]


def head_to_cite(
    account: Account,
    key: PublicKey,
    wanted: Capability,
    record: RecordId,
    *,
    trusted: Collection[ItemId] | None = None,
) -> ItemId | None:
    """Return the account entry that a write by `key` cites; None when it has no such role now.

    The trunk's end, as long as the key may write there: that stays live however a fork is settled.
    Else, while the log is frozen, the deepest entry behind the fork that lets the key write.

    Args:
        trusted: The entries that the writer knows to be the owner's, if it can tell: the last of
            these is cited. A thief's entry may be undone, and what cites it goes with it.
    """
    if key in account.now.ended:
        return None
    if account.now.may(key, wanted, record):
        trunk = [entry.id for entry in account.trunk]
        fits = [id_ for id_ in trunk if account.states[id_].may(key, wanted, record)]
        return next((id_ for id_ in reversed(fits) if trusted and id_ in trusted), trunk[-1])
    if not account.frozen:
        return None
    found = [id_ for id_ in account.live if account.states[id_].may(key, wanted, record)]
    return max(found, key=lambda id_: (account.states[id_].length, id_), default=None)


def resolved(operations: Operations, account: Account) -> Resolution:
    """Return what shows of a record's operations as an account stands.

    Operations that cite an entry the account does not have are left out.
    """
    return resolve(_of(operations, account).values(), _standing_of(account))


def taken_away(operations: Operations, before: Account, after: Account) -> frozenset[OperationId]:
    """Return the operations that are effective before an entry joins the account, and not after.

    Only those that still matter: of the era the record is in before.
    """
    then = resolved(operations, before)
    lost = then.effective - resolved(operations, after).effective
    return frozenset(id_ for id_ in lost if era_of(operations[id_]) == then.register.era)


def maximal(ids: Collection[OperationId], operations: Operations) -> tuple[OperationId, ...]:
    """Return those of `ids` that are in the past of no other of them, sorted."""
    before = [one for id_ in ids for one in operations[id_].predecessors]
    return tuple(sorted(frozenset(ids) - past_of(before, operations)))


def split_keep(
    heads: Mapping[RecordId, Sequence[OperationId]], *, count_max: int = KEEP_COUNT_MAX
) -> tuple[tuple[OperationId, ...], tuple[RecordId, ...]]:
    """Return what goes into an entry's `keep`, and the records whose heads do not fit any more.

    A record is kept in one way or the other, and those with few heads come first: most fit then.
    """
    keep: list[OperationId] = []
    left: list[RecordId] = []
    for record, ids in sorted(heads.items(), key=lambda pair: (len(pair[1]), pair[0])):
        if len(keep) + len(ids) <= count_max:
            keep += ids
        else:
            left.append(record)
    return tuple(sorted(keep)), tuple(sorted(left))


def plan_endorsement(
    operations: Operations,
    body_of: Callable[[OperationId], bytes],
    account: Account,
    wanted: Collection[OperationId],
) -> Endorsement | None:
    """Return the write by which the account's root now saves `wanted` in one record.

    It repeats the facts that show with `wanted` effective, cites the heads there are then, and
    directly whatever of `wanted` that alone does not save. What is wanted is saved with everything
    that it vouches for: nobody can keep a write and not what it was built on.

    Args:
        account: As it stands when the write is made, with the entry that ended a key.

    Returns:
        None when no facts would show: then there is nothing to repeat.
    """
    known = _of(operations, account)
    standing_of = _standing_of(account)
    now = resolve(known.values(), standing_of)
    asked = frozenset(wanted) & known.keys()
    then = resolve(known.values(), _forced(standing_of, asked))
    register = then.register
    if register.winner is None:
        return None
    needed = frozenset(id_ for id_ in then.effective if era_of(known[id_]) == register.era)
    cited = _first([register.winner], _ranked(register.heads, known, standing_of))
    found = now.effective
    while True:
        found = _with_endorsement(known, account, cited, register.era)
        missing = needed - found
        if not missing:
            break
        cited += _ranked(maximal(missing, known), known, standing_of)
    winner = known[register.winner]
    return Endorsement(
        record=winner.record,
        kind=winner.kind,
        slug=winner.slug,
        type=OperationType.DELETE if register.deleted else OperationType.PUT,
        era=register.era,
        cited=tuple(cited),
        depths=tuple(known[id_].depth for id_ in cited),
        body=b"" if register.deleted else _facts(winner, body_of(winner.id)),
        saved=found - now.effective,
    )


def sign_endorsement(
    plan: Endorsement,
    *,
    network: NetworkId,
    account: AccountId,
    head: ItemId,
    key: SigningKey,
    timestamp_s: int,
) -> list[Item]:
    """Return the signed operations of a plan: one, or a chain when it cites more than 16."""
    depths = dict(zip(plan.cited, plan.depths, strict=True))
    left = list(plan.cited)
    made: list[Item] = []
    last: list[OperationId] = []
    while left:
        room = PREDECESSOR_COUNT_MAX - len(last)
        cited, left = last + left[:room], left[room:]
        depth = 1 + max(depths[id_] for id_ in cited)
        item = make_operation(
            network=network,
            kind=plan.kind,
            slug=plan.slug,
            type=plan.type,
            account=account,
            key=key,
            account_heads=(head,),
            predecessors=tuple(cited),
            depth=depth,
            body=plan.body,
            timestamp_s=timestamp_s,
            era=plan.era,
        )
        made.append(item)
        last = [OperationId(item.id)]
        depths[last[0]] = depth
    return made


def _of(operations: Operations, account: Account) -> dict[OperationId, Operation]:
    """Return the operations that cite an entry of the account as it is known."""
    return {id_: one for id_, one in operations.items() if one.account_head in account.states}


def _standing_of(account: Account) -> StandingOf:
    return lambda one: account.standing(one.account_head, one.key)


def _forced(standing_of: StandingOf, ids: frozenset[OperationId]) -> StandingOf:
    """Return the same standings, but with `ids` effective without endorsing anything by it."""

    def standing(one: Operation) -> Standing:
        found = standing_of(one)
        return replace(found, live=True, current=True) if one.id in ids else found

    return standing


def _with_endorsement(
    operations: Operations, account: Account, cited: Sequence[OperationId], era: bytes
) -> frozenset[OperationId]:
    """Return which of these operations are effective once the root has cited `cited`.

    The chain that more than 16 make is the same as one operation that cites them all.
    """
    head = account.trunk[-1].id
    first = operations[cited[0]]
    planned = first._replace(
        id=OperationId(_PLANNED),
        type=OperationType.PUT,
        key=account.root_key,
        account_heads=(head,),
        era=era,
        predecessors=tuple(cited),
        depth=1 + max(operations[id_].depth for id_ in cited),
    )
    resolution = resolve([*operations.values(), planned], _standing_of(account))
    return resolution.effective - {planned.id}


def _ranked(
    ids: Iterable[OperationId], operations: Operations, standing_of: StandingOf
) -> list[OperationId]:
    def rank(id_: OperationId) -> Rank:
        return rank_of(operations[id_], standing_of(operations[id_]))

    return sorted(ids, key=rank, reverse=True)


def _first(first: list[OperationId], rest: list[OperationId]) -> list[OperationId]:
    return first + [id_ for id_ in rest if id_ not in first]


def _facts(operation: Operation, body: bytes) -> bytes:
    return open_checkpoint(body).facts if operation.type is OperationType.CHECKPOINT else body
