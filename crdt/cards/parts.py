"""Parts: what a card's document is made of, and which of them count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


@dataclass(frozen=True, slots=True)
class SeedChoice:
    """Which seed counts among parts that were given in canonical order.

    Of the effective seeds it is the last that an effective card names in its table; if none is
    named, the first. A card can only name what comes before it, so one pass decides.
    """

    seeds: Mapping[OperationId, tuple[int, bytes]] = field(
        default_factory=dict[OperationId, tuple[int, bytes]]
    )
    first: OperationId | None = None
    named: OperationId | None = None

    @property
    def chosen(self) -> OperationId | None:
        """The seed that counts, if there is one."""
        return self.named or self.first

    def after(self, parts: Iterable[CardPart]) -> SeedChoice:
        """Return the choice once these parts are there too, which come after all before."""
        seeds, first, named = self.seeds, self.first, self.named
        for part in parts:
            if not part.effective:
                continue
            if isinstance(part.content, Seed):
                seeds = {**seeds, part.id: part.order}
                first = first or part.id
            for one in part.table:
                if one in seeds and (named is None or seeds[one] > seeds[named]):
                    named = one
        return SeedChoice(seeds, first, named)


def seed_of(parts: Iterable[CardPart]) -> OperationId | None:
    """Return the one seed that counts among parts in any order, if there is one: `SeedChoice`."""
    return SeedChoice().after(sorted(parts, key=lambda part: part.order)).chosen
