"""What a node that wants a part only does otherwise: it leaves the rest and keeps cursors apart.

Whoever wants everything passes through here unchanged.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from crdt.errors import RemoteFault
from crdt.ids import ItemId, NetworkId, PeerId
from crdt.items import Item, ItemKind
from crdt.operations import parse_operation
from crdt.scopes import Scope

UNWANTED_COUNT_MAX = 65_536
"""Ids of what came and was left, so that it is not fetched again when it is announced again."""


class Partial:
    """One node's scope, and what it has left."""

    def __init__(self, network: NetworkId, scope: Scope) -> None:
        self.scope = scope
        self._network = network
        self._unwanted: OrderedDict[ItemId, None] = OrderedDict()

    def wanted(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return those of a peer's items that are in the scope, or that nobody can tell of."""
        if self.scope.is_all:
            return items
        found = [item for item in items if self._is_wanted(item)]
        while len(self._unwanted) > UNWANTED_COUNT_MAX:
            self._unwanted.popitem(last=False)
        return found

    def without_unwanted(self, ids: Iterable[ItemId]) -> set[ItemId]:
        """Return those of `ids` that were not left before."""
        return {id_ for id_ in ids if id_ not in self._unwanted}

    def is_held_by(self, holds: Scope) -> bool:
        """Whether a peer that holds a scope could have all that is wanted here."""
        return self.scope.both(holds) == self.scope

    def cursor_name(self, peer: PeerId) -> PeerId:
        """Return the name under which a cursor into a peer's store is kept.

        Another one for each scope: what a cursor has passed by, a wider scope has not seen.
        """
        name = self.scope.name()
        return PeerId(f"{peer} {name}") if name else peer

    def _is_wanted(self, item: Item) -> bool:
        if item.kind is not ItemKind.OPERATION:
            return True
        try:
            is_wanted = self.scope.wants(parse_operation(item, self._network))
        except RemoteFault:
            return True  # to be judged, and counted against whoever sent it
        if not is_wanted:
            self._unwanted[item.id] = None
        return is_wanted
