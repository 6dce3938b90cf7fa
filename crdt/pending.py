"""Items that wait for other items: bounded per peer, so that nobody can fill our memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from crdt.ids import ItemId, PeerId
from crdt.items import Item


@dataclass(frozen=True, slots=True)
class Waiting:
    """One item that cannot be judged yet.

    Attributes:
        source: Whose share it takes: the peer that brought it.
        author: Who answers for it, should it be wrong: not who passed its gossip on.
    """

    item: Item
    source: PeerId
    author: PeerId
    missing: frozenset[ItemId]
    since_ms: int


class PendingItems:
    """The waiting room. The oldest of a peer's items leaves when that peer's share is full.

    What leaves is not lost: catch-up brings it again, after what it waits for.
    """

    def __init__(self, *, count_max: int, bytes_max: int) -> None:
        """Set each peer's share: `count_max` items of `bytes_max` bytes in all."""
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._waiting: OrderedDict[ItemId, Waiting] = OrderedDict()
        self._dependants: dict[ItemId, set[ItemId]] = {}
        self._counts: dict[PeerId, int] = {}
        self._bytes: dict[PeerId, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, item: ItemId) -> bool:
        return item in self._waiting

    def add(self, waiting: Waiting) -> None:
        """Keep an item until one of what it misses arrives; known ones stay as they are."""
        assert waiting.missing
        if waiting.item.id in self._waiting:
            return
        source = waiting.source
        self._waiting[waiting.item.id] = waiting
        for id_ in waiting.missing:
            self._dependants.setdefault(id_, set()).add(waiting.item.id)
        self._counts[source] = self._counts.get(source, 0) + 1
        self._bytes[source] = self._bytes.get(source, 0) + len(waiting.item.raw)
        while (
            self._counts.get(source, 0) > self._count_max
            or self._bytes.get(source, 0) > self._bytes_max
        ):
            oldest = next(one for one in self._waiting.values() if one.source == source)
            self._remove(oldest.item.id)

    def release(self, arrived: ItemId) -> list[Waiting]:
        """Take out every item that waited for `arrived`, to be judged again."""
        dependants = sorted(self._dependants.get(arrived, ()))
        return [self._remove(id_) for id_ in dependants]

    def expire(self, *, before_ms: int) -> int:
        """Drop what has waited since before then; return how many those were."""
        old = [one.item.id for one in self._waiting.values() if one.since_ms < before_ms]
        for id_ in old:
            self._remove(id_)
        return len(old)

    def forget(self, source: PeerId) -> None:
        """Drop everything a peer sent that waits."""
        for id_ in [one.item.id for one in self._waiting.values() if one.source == source]:
            self._remove(id_)

    def missing(self, source: PeerId) -> list[ItemId]:
        """Return what a peer's waiting items wait for and nobody has sent yet, sorted."""
        ids = {
            id_
            for one in self._waiting.values()
            if one.source == source
            for id_ in one.missing
            if id_ not in self._waiting
        }
        return sorted(ids)

    def _remove(self, id_: ItemId) -> Waiting:
        waiting = self._waiting.pop(id_)
        for missing in waiting.missing:
            dependants = self._dependants[missing]
            dependants.discard(id_)
            if not dependants:
                del self._dependants[missing]
        source = waiting.source
        self._counts[source] -= 1
        self._bytes[source] -= len(waiting.item.raw)
        if not self._counts[source]:
            del self._counts[source]
            del self._bytes[source]
        return waiting
