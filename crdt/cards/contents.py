"""What a card says: the value that every correct node derives, and its canonical JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from crdt.cards.values import Json
from crdt.wire import sha3


@dataclass(frozen=True, slots=True)
class Card:
    """A card's content.

    Attributes:
        tags: Sorted and unique.
        evals: Writer's key in hex -> name -> value; writers without an entry are left out.
    """

    text: str
    tags: tuple[str, ...]
    evals: Mapping[str, Mapping[str, Json]]

    def canonical_json(self) -> bytes:
        """Return the one JSON text of this card: keys sorted, integral numbers as integers."""
        content = {"evals": self.evals, "tags": list(self.tags), "text": self.text}
        return json.dumps(
            content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()

    def digest(self) -> bytes:
        """Return the SHA3-256 of the canonical JSON: equal cards, and only they, share it."""
        return sha3(self.canonical_json())
