"""Grow-only maxima: per slot the greatest item stands, whatever the order of arrival."""

from __future__ import annotations

from dataclasses import dataclass

from crdt.ids import ItemId

RANK_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Slot:
    """Where an item competes, and how high it ranks there.

    Attributes:
        slot: 32 bytes that name the place (for a receipt: its lane and epoch).
        rank: 0..2**63-1; the greater one stands, ties by item id.
        subject: What the item is about (for a receipt: the record's id), to find it by.
        period: When it counts (for a receipt: its day number), to find it by.
    """

    slot: bytes
    rank: int
    subject: bytes = b""
    period: int = 0

    def __post_init__(self) -> None:
        assert len(self.slot) == 32
        assert 0 <= self.rank <= RANK_MAX


@dataclass(frozen=True, slots=True)
class Standing:
    """The item that stands in a slot."""

    rank: int
    id: ItemId


def stands_over(rank: int, item: ItemId, standing: Standing | None) -> bool:
    """Whether `item` takes the slot from what stands there: a total order, so a join."""
    return standing is None or (rank, item) > (standing.rank, standing.id)
