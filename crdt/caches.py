"""Memory of what was worked out, bounded by its weight and not by its count.

What one writer can make large must not be counted as if it were small.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class WeighedCache(Generic[K, V]):
    """Keeps what was used last, up to a weight in all; one thing that is heavier is not kept."""

    def __init__(self, weight_max: int) -> None:
        self._weight_max = weight_max
        self._weight = 0
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def weight(self) -> int:
        """The weight of all that is kept."""
        return self._weight

    def get(self, key: K) -> V | None:
        """Return what is kept under a key, and keep it longer."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: K, value: V, weight: int) -> None:
        """Keep a value in place of what was there; what was used longest ago leaves."""
        self.drop(key)
        if weight > self._weight_max:
            return
        self._kept[key] = value, weight
        self._weight += weight
        while self._weight > self._weight_max:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._weight -= oldest

    def drop(self, key: K) -> None:
        """Forget what is kept under a key."""
        if key in self._kept:
            self._weight -= self._kept.pop(key)[1]
