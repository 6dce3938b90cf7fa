"""What a record shows, in ids; and how to follow it one operation at a time where that is exact.

The rule is in `DESIGN.md`, section 3, and `resolution.py` applies it to all of a record's
operations. Here is the shortcut that most operations take: `follow` says what the heads are after
one more effective operation, or that it cannot know. The winner is the greatest fact head by
(epoch, is_root, is_delete, depth, id), computed from the heads every time. Not folded one arrival
at a time, because a fold of winners depends on the order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from crdt.accounts import Standing
from crdt.ids import OperationId
from crdt.operations import ERA_FIRST, Operation, OperationType

Rank: TypeAlias = tuple[int, bool, bool, int, bytes]
RANK_TERMS = ("epoch", "is_root", "is_delete", "depth", "id")
"""The names of a rank's terms, the one that decides first."""


class Register(NamedTuple):
    """A record's state by ids.

    Attributes:
        winner: The fact that shows; None when nothing effective says what the record is.
        conflicts: The other fact heads, sorted: concurrent writes that nobody has resolved yet.
        deleted: The winner is a tombstone; a put that cites it revives the record.
        heads: What the next write cites, sorted: effective operations nobody has built on.
        era: The checkpoint the state starts from; empty for the first era.
        void_count: Operations of the era that are not effective.
        card_count: Effective card operations of the era.
    """

    winner: OperationId | None
    conflicts: tuple[OperationId, ...]
    deleted: bool
    heads: tuple[OperationId, ...]
    era: bytes = ERA_FIRST
    void_count: int = 0
    card_count: int = 0

    @property
    def facts(self) -> tuple[OperationId, ...]:
        """Every fact head, the winner first."""
        return () if self.winner is None else (self.winner, *self.conflicts)

    @property
    def has_card(self) -> bool:
        """Whether description and tags come from the card's document."""
        return bool(self.card_count or self.era)


class Heads(NamedTuple):
    """A record's heads while operations join it; the winner is chosen at the end."""

    facts: frozenset[OperationId] = frozenset()
    heads: frozenset[OperationId] = frozenset()
    era: bytes = ERA_FIRST
    void_count: int = 0
    card_count: int = 0


NO_HEADS = Heads()
"""A record's before anything of it is known."""


def heads_of(register: Register) -> Heads:
    """Return the heads of a known state."""
    return Heads(
        frozenset(register.facts), frozenset(register.heads), register.era,
        register.void_count, register.card_count,
    )  # fmt: skip


def follow(heads: Heads, operation: Operation, standing: Standing) -> Heads | None:
    """Return the heads once `operation` is in the set; None when all operations must be asked.

    Every predecessor is in the set already, so an operation that joins is in nobody's past. It
    supersedes exactly what is in its own past, and that is known without looking further when it
    cites every head, or when all that it can reach is effective and of one sort.

    Args:
        standing: The account's, for the key and the account entry of the operation.
    """
    if operation.type is OperationType.CHECKPOINT or operation.era != heads.era:
        return None
    if operation.id in standing.named:
        return None  # it is kept, or passes on what is
    if standing.endorses and heads.void_count:
        return None  # it may endorse what is void
    if operation.type is OperationType.UNKNOWN:
        return heads._replace(void_count=heads.void_count + 1)
    if not (standing.live and standing.current):
        # Endorsed it may be later, or kept with what builds on it.
        return heads._replace(void_count=heads.void_count + 1)
    cited = frozenset(operation.predecessors)
    is_card = operation.type is OperationType.CARD
    one = frozenset((operation.id,))
    card_count = heads.card_count + is_card
    if heads.heads <= cited:
        facts = heads.facts if is_card else one
        return Heads(facts, one, heads.era, heads.void_count, card_count)
    if heads.void_count:
        return None
    after = (heads.heads - cited) | one
    if is_card:
        return heads._replace(heads=after, card_count=card_count)
    # Without cards every head is a fact; with them a fact may be superseded through a card.
    return None if heads.card_count else heads._replace(facts=after, heads=after)


def register_of(
    heads: Heads,
    facts: Iterable[Operation],
    standing_of: Callable[[Operation], Standing],
) -> Register:
    """Return the state of a record with these heads.

    Args:
        facts: The operations behind `heads.facts`.
    """
    ranked = list(facts)
    assert len(ranked) == len(heads.facts)
    conflicts: tuple[OperationId, ...] = ()
    if len(ranked) > 1:
        ranked.sort(key=lambda one: rank_of(one, standing_of(one)))
        conflicts = tuple(sorted([one.id for one in ranked[:-1]]))
    winner = ranked[-1] if ranked else None
    return Register(
        None if winner is None else winner.id,
        conflicts,
        winner is not None and winner.is_tombstone,
        tuple(sorted(heads.heads)),
        heads.era,
        heads.void_count,
        heads.card_count,
    )


def rank_of(head: Operation, standing: Standing) -> Rank:
    """Return what decides between concurrent facts, term by term; the greatest shows."""
    return standing.epoch, standing.is_root, head.is_tombstone, head.depth, head.id


def deciding_term(winner: Rank, loser: Rank) -> str | None:
    """Return the first term in which two ranks differ; None for one and the same."""
    terms = zip(RANK_TERMS, winner, loser, strict=True)
    return next((name for name, one, other in terms if one != other), None)
