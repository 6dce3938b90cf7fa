"""Placeholder until the card branch lands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crdt.cards.layouts import Layout


@dataclass(frozen=True, slots=True)
class Seed:
    """Seed."""

    text: str
    tags: tuple[str, ...]
    evals: tuple[tuple[str, str, Any], ...] = ()


def check_seed(seed: Seed) -> None:
    """Check."""


def layout_of_seed(seed: Seed) -> Layout:
    """Lay out."""
    from crdt.cards.layouts import Layout

    return Layout(0)
