"""Parts: what a card's document is made of, and which of them count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from crdt.cards.bodies import CardBody
from crdt.cards.seeds import Seed, seed_update
from crdt.cards.updates import Update
from crdt.ids import OperationId, PublicKey

CARD_DEPTH_MAX = 2**21 - 2
"""The depth a card operation may have: 21 bits of it and 32 of the id would fit a Yjs client id."""


@dataclass(frozen=True, slots=True)
class CardPart:
    """An operation of one record and era that is, or may be, part of the card.

    Attributes:
        depth: The operation's.
        key: Who signed it.
        content: A card operation's body, or what a put or the era's checkpoint implies.
        effective: Whether it shows (crdt/DESIGN.md, section 3); a void part leaves no trace.
    """

    id: OperationId
    depth: int
    key: PublicKey
    content: CardBody | Seed
    effective: bool
    update: Update = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        assert not isinstance(self.content, CardBody) or self.depth <= CARD_DEPTH_MAX
        content = self.content
        update = content.update if isinstance(content, CardBody) else seed_update(content)
        object.__setattr__(self, "update", update)

    @property
    def order(self) -> tuple[int, bytes]:
        """Where it comes in canonical order: after all that it can refer to."""
        return self.depth, self.id

    @property
    def table(self) -> tuple[OperationId, ...]:
        """What it refers to."""
        return self.content.table if isinstance(self.content, CardBody) else ()

    @property
    def pieces(self) -> int:
        """How many structs and deleted ranges it has: what it costs to apply."""
        update = self.update
        return len(update.structs) + sum(len(ranges) for _, ranges in update.deletions)


def seed_of(parts: Iterable[CardPart]) -> OperationId | None:
    """Return the one seed that counts among parts in any order, if there is one.

    Of the effective seeds it is the last in canonical order that an effective card names in its
    table; if none is named, the first.
    """
    seeds: dict[OperationId, CardPart] = {}
    named: set[OperationId] = set()
    for part in parts:
        if not part.effective:
            continue
        if isinstance(part.content, Seed):
            seeds[part.id] = part
        else:
            named.update(part.table)
    if not seeds:
        return None
    chosen = [seeds[one] for one in sorted(named & seeds.keys())]
    if chosen:
        return max(chosen, key=lambda part: part.order).id
    return min(seeds.values(), key=lambda part: part.order).id
