"""Who vouches for whom among a record's operations: `DESIGN.md`, section 3.

An operation knows of another in its past if that one's key has a role at the account entry it
cites, and the entry that one cites lies on the path there. It vouches for what it knows of; and for
what it cites directly without knowing of it, which is to name it. What is named passes on what it
vouches for itself, as far as that is of its own key, or if it is the root's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from crdt.accounts import Standing
from crdt.ids import ItemId, OperationId
from crdt.operations import Operation

Operations: TypeAlias = Mapping[OperationId, Operation]
Standings: TypeAlias = Mapping[OperationId, Standing]


def past_of(ids: Iterable[OperationId], operations: Operations) -> frozenset[OperationId]:
    """Return these operations and everything in their past, as far as it is among `operations`."""
    found: set[OperationId] = set()
    stack = [id_ for id_ in ids if id_ in operations]
    while stack:
        id_ = stack.pop()
        if id_ not in found:
            found.add(id_)
            stack += [one for one in operations[id_].predecessors if one in operations]
    return frozenset(found)


class Vouching:
    """Answers for one set of operations; what was worked out once is kept."""

    def __init__(self, operations: Operations, standings: Standings) -> None:
        self._operations = operations
        self._standings = standings
        self._passed: dict[OperationId, frozenset[OperationId]] = {}

    def vouched_by(self, ids: Iterable[OperationId]) -> frozenset[OperationId]:
        """Return everything that any of these operations vouches for."""
        found: set[OperationId] = set()
        by_head: dict[ItemId, list[OperationId]] = {}
        for id_ in ids:
            by_head.setdefault(self._operations[id_].account_head, []).append(id_)
            for named in self._named_by(id_):
                found |= self.passed_on_by(named)
        for alike in by_head.values():
            # What cites one account entry knows of the same keys: their pasts are walked once.
            found |= self._known_to(alike)
        return frozenset(found)

    def passed_on_by(self, id_: OperationId) -> frozenset[OperationId]:
        """Return what is saved with an operation when somebody names it, itself included."""
        stack = [id_]
        while stack:
            one = stack[-1]
            missing = [named for named in self._named_by(one) if named not in self._passed]
            if one in self._passed:
                stack.pop()
            elif missing:
                stack += missing  # deeper ones first; citations have no cycles
            else:
                self._passed[one] = self._passed_on(one)
        return self._passed[id_]

    def _passed_on(self, id_: OperationId) -> frozenset[OperationId]:
        vouched = set(self._known_to([id_]))
        for named in self._named_by(id_):
            vouched |= self._passed[named]
        if not self._standings[id_].was_root:
            key = self._operations[id_].key
            vouched = {one for one in vouched if self._operations[one].key == key}
        return frozenset((id_, *vouched))

    def _known_to(self, ids: list[OperationId]) -> frozenset[OperationId]:
        standing = self._standings[ids[0]]
        before = {one for id_ in ids for one in self._operations[id_].predecessors}
        return frozenset(
            one
            for one in past_of(before, self._operations)
            if standing.knows(self._operations[one].key, self._operations[one].account_head)
        )

    def _named_by(self, id_: OperationId) -> list[OperationId]:
        standing = self._standings[id_]
        return [
            one
            for one in self._operations[id_].predecessors
            if one in self._operations
            and not standing.knows(self._operations[one].key, self._operations[one].account_head)
        ]
