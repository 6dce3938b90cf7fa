"""From a set of operations to one history: each part's update, rewritten for the document.

The document has one client. A part's clocks follow those of the part before it in canonical order,
and each struct is put where `orders.py` says, next to the neighbours it has at that moment; under a
key the last one wins. So what the engine is given is always what one honest editor would have
typed, alone: no client id to collide, no concurrency to resolve, no origin that an attacker chose.

Void parts are not woven, and leave no trace: a reference to one of them goes to what that unit was
itself put after, or before, until something effective is found.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TypeAlias

from crdt.cards.orders import START, TextOrder
from crdt.cards.parts import CardPart
from crdt.cards.updates import (
    DELETED,
    GC,
    TEXT_ROOT,
    Range,
    Ref,
    Struct,
    Update,
    encode_update,
)
from crdt.ids import OperationId

CLIENT = 1
"""Who wrote everything in a document, as far as the engine is concerned."""

Unit: TypeAlias = "tuple[OperationId, int]"
Spot: TypeAlias = "tuple[str | Unit, str]"
"""A root or a Map, and a key in it."""


class Weaver:
    """Where everything stands that was woven so far."""

    def __init__(self) -> None:
        self.clock = 0
        """The document's next clock."""
        self._bases: dict[OperationId, int] = {}
        self._woven: list[tuple[int, OperationId]] = []
        self._parts: dict[OperationId, CardPart] = {}
        self._starts: dict[OperationId, list[int]] = {}
        self._order = TextOrder()
        self._last: dict[Spot, int] = {}
        self._spots: dict[Unit, Spot] = {}
        self._survivors: tuple[dict[Unit, int], dict[Unit, int]] = ({}, {})

    def skip(self, part: CardPart) -> None:
        """Take note of a void part."""
        self._parts[part.id] = part

    def weave(self, part: CardPart) -> tuple[list[Struct], list[Range]]:
        """Return a part's structs and deletions as the document has them.

        All that it refers to was woven or skipped before; parts come in canonical order.
        """
        self._parts[part.id] = part
        self._bases[part.id] = self.clock
        self._woven.append((self.clock, part.id))
        structs = [self._woven_struct(part, struct) for struct in part.update.structs]
        deletions = [
            (self._bases[other] + clock, length)
            for client, ranges in part.update.deletions
            if (other := part.table[client - 1]) in self._bases
            for clock, length in ranges
        ]
        return structs, deletions

    def unit_at(self, clock: int) -> Unit:
        """Return whose a clock of the document is, and which of its clocks."""
        base, operation = self._woven[bisect_right(self._woven, clock, key=lambda one: one[0]) - 1]
        return operation, clock - base

    def end_of(self, operation: OperationId) -> int:
        """Return the document's clock after a woven part's last."""
        return self._bases[operation] + self._parts[operation].update.length

    def _woven_struct(self, part: CardPart, struct: Struct) -> Struct:
        clock = self.clock
        self.clock += struct.length
        if struct.kind == GC:
            return Struct(clock, struct.length, GC)
        if struct.keyed:
            return self._woven_keyed(part, struct, clock)
        left, right = self._order.insert(
            clock,
            struct.length,
            left=self._survivor(self._unit(part, struct.left), after=True),
            right=self._survivor(self._unit(part, struct.right), after=False),
        )
        return struct._replace(
            clock=clock,
            left=None if left == START else (CLIENT, left),
            right=None if right == START else (CLIENT, right),
            parent=TEXT_ROOT,
        )

    def _woven_keyed(self, part: CardPart, struct: Struct, clock: int) -> Struct:
        root, key = spot = self._spot((part.id, struct.clock))
        base: int | None = None
        if not isinstance(root, str):
            base = self._bases.get(root[0])
        gone = not isinstance(root, str) and base is None
        if gone or struct.kind == DELETED:
            return Struct(clock, struct.length, GC)
        last = self._last.get(spot)
        self._last[spot] = clock
        parent = root if isinstance(root, str) else (CLIENT, (base or 0) + root[1])
        left = None if last is None else (CLIENT, last)
        return struct._replace(clock=clock, left=left, right=None, parent=parent, key=key)

    def _unit(self, part: CardPart, ref: Ref | None) -> Unit | None:
        if ref is None:
            return None
        client, clock = ref
        return (part.table[client - 1] if client else part.id), clock

    def _survivor(self, unit: Unit | None, *, after: bool) -> int:
        """Return an origin in the document's clocks, past all that is void; START for none."""
        known = self._survivors[not after]
        trail: list[Unit] = []
        found = START
        while unit is not None:
            base = self._bases.get(unit[0])
            if base is not None:
                found = base + unit[1]
                break
            part, struct = self._struct_of(unit)
            spelled = part.id, struct.clock
            if spelled in known:
                found = known[spelled]
                break
            trail.append(spelled)
            unit = self._unit(part, struct.left if after else struct.right)
        for one in trail:
            known[one] = found
        return found

    def _spot(self, unit: Unit) -> Spot:
        """Return where a keyed struct stands: what its first origin says, void or not."""
        trail: list[Unit] = []
        while True:
            part, struct = self._struct_of(unit)
            spelled = part.id, struct.clock
            found = self._spots.get(spelled)
            if found is not None:
                break
            trail.append(spelled)
            if struct.left is None:
                assert struct.parent is not None
                assert struct.key is not None
                parent = struct.parent
                found = (
                    (parent if isinstance(parent, str) else self._named(part, parent)),
                    struct.key,
                )
                break
            unit = self._named(part, struct.left)
        for one in trail:
            self._spots[one] = found
        return found

    def _named(self, part: CardPart, ref: Ref) -> Unit:
        unit = self._unit(part, ref)
        assert unit is not None
        return unit

    def _struct_of(self, unit: Unit) -> tuple[CardPart, Struct]:
        operation, clock = unit
        part = self._parts[operation]
        starts = self._starts.get(operation)
        if starts is None:
            starts = self._starts[operation] = [one.clock for one in part.update.structs]
        return part, part.update.structs[bisect_right(starts, clock) - 1]


def joined_update(structs: list[Struct], deletions: list[Range]) -> bytes:
    """Return one update of the document's client with all of that."""
    ranges = ((CLIENT, merged(deletions)),) if deletions else ()
    clock = structs[0].clock if structs else 0
    return encode_update(Update(tuple(structs), ranges), client=CLIENT, clock=clock)


def merged(ranges: list[Range]) -> tuple[Range, ...]:
    """Return the same clocks as ascending ranges that do not touch."""
    found: list[Range] = []
    for clock, length in sorted(ranges):
        if found and clock <= found[-1][0] + found[-1][1]:
            start, before = found[-1]
            found[-1] = start, max(before, clock + length - start)
        else:
            found.append((clock, length))
    return tuple(found)
