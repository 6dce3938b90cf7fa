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
from crdt.ids import ItemId, OperationId, PublicKey
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
    """Answers for one set of operations, each in one walk from the newest to the oldest.

    Marks are pushed down along the citations: integers, a bit for each sort of what is asked, so
    that no set of anybody's past is ever made. Time and memory are linear in the operations, but
    for the width of the marks (a bit for each account entry that is cited).
    """

    def __init__(self, operations: Operations, standings: Standings) -> None:
        self._operations = operations
        self._standings = standings
        self._newest_first = sorted(
            operations, key=lambda id_: (operations[id_].depth, id_), reverse=True
        )
        self._bits: dict[PublicKey, int] = {}

    def vouched_by(self, ids: Iterable[OperationId]) -> frozenset[OperationId]:
        """Return everything that any of these operations vouches for."""
        given = list(ids)
        named = {one: _ANYBODY for id_ in given for one in self._named_by(id_)}
        passed, voices = self._passed_on(named)
        return passed | self._known_to([*((id_, _ANYBODY) for id_ in given), *voices])

    def kept_by(self, lists: Mapping[PublicKey, Iterable[OperationId]]) -> frozenset[OperationId]:
        """Return what each key's list saves of that key: what it names, and what that passes on."""
        named: dict[OperationId, int] = {}
        for key, keep in lists.items():
            for id_ in keep:
                if id_ in self._operations:
                    named[id_] = named.get(id_, 0) | self._bit(key)
        passed, voices = self._passed_on(named)
        return passed | self._known_to(voices)

    def _passed_on(
        self, named: dict[OperationId, int]
    ) -> tuple[frozenset[OperationId], list[tuple[OperationId, int]]]:
        """Return what is saved when these are named, but for what they know of; and who knows.

        Args:
            named: Of whose operations all that is passed on is wanted: keys' bits, or anybody's.
        """
        found: set[OperationId] = set()
        voices: list[tuple[OperationId, int]] = []
        for id_ in self._newest_first if named else ():
            wanted = named.pop(id_, 0)
            if not wanted:
                continue
            own = self._bit(self._operations[id_].key)
            if wanted & (_ANYBODY | own):
                found.add(id_)
            if not self._standings[id_].was_root:
                wanted = own if wanted & (_ANYBODY | own) else 0
            if wanted:
                voices.append((id_, wanted))
                for one in self._named_by(id_):
                    named[one] = named.get(one, 0) | wanted
        return frozenset(found), voices

    def _known_to(self, voices: Iterable[tuple[OperationId, int]]) -> frozenset[OperationId]:
        """Return what these know of, each as far as it is of the keys whose bits come with it."""
        lenses: dict[tuple[ItemId, int], int] = {}
        starts: dict[OperationId, int] = {}
        standings: list[tuple[Standing, int]] = []
        for id_, wanted in voices:
            lens = (self._operations[id_].account_head, wanted)
            if lens not in lenses:
                lenses[lens] = 1 << len(lenses)
                standings.append((self._standings[id_], wanted))
            starts[id_] = starts.get(id_, 0) | lenses[lens]
        return self._seen_through(standings, starts)

    def _seen_through(
        self, lenses: list[tuple[Standing, int]], starts: Mapping[OperationId, int]
    ) -> frozenset[OperationId]:
        by_key: dict[PublicKey, int] = {}
        by_head: dict[ItemId, int] = {}
        above: dict[OperationId, int] = {}
        found: set[OperationId] = set()
        for id_ in self._newest_first if starts else ():
            operation, seen = self._operations[id_], above.pop(id_, 0)
            if seen:
                key, head = operation.key, operation.account_head
                if key not in by_key:
                    mine = _ANYBODY | self._bit(key)
                    by_key[key] = _mask(
                        key in one.roles and wanted & mine for one, wanted in lenses
                    )
                if head not in by_head:
                    by_head[head] = _mask(head in one.path for one, _ in lenses)
                if seen & by_key[key] & by_head[head]:
                    found.add(id_)
            seen |= starts.get(id_, 0)
            if seen:
                for one in operation.predecessors:
                    if one in self._operations:
                        above[one] = above.get(one, 0) | seen
        return frozenset(found)

    def _named_by(self, id_: OperationId) -> list[OperationId]:
        standing = self._standings[id_]
        return [
            one
            for one in self._operations[id_].predecessors
            if one in self._operations
            and not standing.knows(self._operations[one].key, self._operations[one].account_head)
        ]

    def _bit(self, key: PublicKey) -> int:
        """Return the bit of a key; the lowest one is anybody's."""
        if key not in self._bits:
            self._bits[key] = 2 << len(self._bits)
        return self._bits[key]


_ANYBODY = 1


def _mask(answers: Iterable[object]) -> int:
    """Return an integer whose bits are the answers, the first one lowest."""
    bits = "".join("1" if answer else "0" for answer in answers)
    return int(bits[::-1], 2)
