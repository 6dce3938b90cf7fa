"""The one place that speaks pycrdt: a document of three roots, and what the engine may throw.

Imported inside functions only, because pycrdt takes long to load. A panic in Rust arrives as
an exception that is no `Exception`; here it becomes `CardEngineFault`. A document that panicked is
not used again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import pycrdt
from pycrdt import Doc, Text

from crdt.cards.contents import Card
from crdt.cards.updates import EVALS_ROOT, TAGS_ROOT, TEXT_ROOT
from crdt.cards.values import Json, canonical_value
from crdt.cards.varints import Reader
from crdt.errors import CardEngineFault

VERSION: str = pycrdt.__version__
Map = cast("type[Any]", pycrdt.Map)

T = TypeVar("T")


class Engine:
    """One pycrdt document."""

    def __init__(self, client: int) -> None:
        self.client = client
        self.doc = cast("Any", Doc(client_id=client))
        self.text = self.doc.get(TEXT_ROOT, type=Text)
        self.tags = self.doc.get(TAGS_ROOT, type=Map)
        self.evals = self.doc.get(EVALS_ROOT, type=Map)

    def apply(self, update: bytes, what: str) -> None:
        """Apply an update that was parsed and encoded here; `what` names it if it fails."""
        guarded(lambda: self.doc.apply_update(update), what)

    def state(self) -> bytes:
        """Return everything as one update."""
        return guarded(lambda: cast("bytes", self.doc.get_update()), "encoding a card")

    def clock(self) -> int:
        """Return how many clocks of the first client are there; others, or a gap, are a fault."""
        state = Reader(guarded(lambda: cast("bytes", self.doc.get_state()), "reading a state"))
        count = state.varuint()
        if count > 1 or (count and state.varuint() != self.client):
            raise CardEngineFault("a card's document holds another client's structs")
        return state.varuint() if count else 0

    def content(self) -> Card:
        """Return what the document says."""
        return guarded(self._content, "reading a card")

    def captured(self, change: Callable[[], None]) -> bytes | None:
        """Return the update that `change` makes, in one transaction; None if it makes none.

        What `change` raises passes through, unless the engine panicked.
        """
        updates: list[bytes] = []

        def on_change(event: Any) -> None:
            updates.append(event.update)

        # The subscription ends with the last reference to it, so it is kept until the end.
        subscription = self.doc.observe(on_change)
        with self.doc.transaction():
            guarded(change, "editing a card", also=(Exception,))
        self.doc.unobserve(subscription)
        assert len(updates) <= 1
        return updates[0] if updates else None

    def _content(self) -> Card:
        evals = cast("Mapping[str, Mapping[str, Json]]", self.evals.to_py())
        return Card(
            text=str(self.text),
            tags=tuple(sorted(cast("Mapping[str, Json]", self.tags.to_py()))),
            evals={
                key: {name: canonical_value(entries[name]) for name in sorted(entries)}
                for key, entries in sorted(evals.items())
                if entries
            },
        )


def guarded(action: Callable[[], T], what: str, *, also: tuple[type[BaseException], ...] = ()) -> T:
    """Return what `action` returns, or raise CardEngineFault for whatever it throws.

    Args:
        also: What passes as it is, besides what ends the process.
    """
    try:
        return action()
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError, *also)):
            raise
        raise CardEngineFault(f"{what}: {type(error).__name__}: {str(error)[:200]}") from error
