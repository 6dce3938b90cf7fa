"""From a set of operations to one history: each part's update, rewritten for the document.

The document has one client. A part's clocks follow those of the part before it in canonical order,
and each struct is put where `orders.py` says, next to the neighbours it has at that moment; under a
key the last one wins. So what the engine is given is always what one honest editor would have
typed, alone: no client id to collide, no concurrency to resolve, no origin that an attacker chose.

Nothing of a void part shows, and nothing it did is done. If an effective part refers to one, its
text is woven as deleted text: so what stands beside it stays where its writer saw it. A void part
that nobody refers to is left out, and makes no difference.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
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
from crdt.cards.varints import varuint
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
        self._skipped: set[OperationId] = set()
        self._starts: dict[OperationId, list[int]] = {}
        self._order = TextOrder()
        self._last: dict[Spot, int] = {}
        self._spots: dict[Unit, Spot] = {}
        self._void: set[OperationId] = set()

    def skip(self, part: CardPart) -> None:
        """Take note of a void part that nothing woven refers to."""
        self._parts[part.id] = part
        self._skipped.add(part.id)

    def skipped(self, operations: Iterable[OperationId]) -> bool:
        """Whether one of these was skipped."""
        return not self._skipped.isdisjoint(operations)

    def weave(self, part: CardPart, *, void: bool) -> tuple[list[Struct], list[Range]]:
        """Return a part's structs and deletions as the document has them.

        All that it refers to was woven before; parts come in canonical order.
        """
        missing = [one.hex() for one in part.table if one not in self._bases]
        assert not missing, f"{part.id.hex()} was given without {missing}, which it refers to"
        self._parts[part.id] = part
        self._bases[part.id] = self.clock
        self._woven.append((self.clock, part.id))
        if void:
            self._void.add(part.id)
        structs = [self._woven_struct(part, struct, void=void) for struct in part.update.structs]
        if void:
            return structs, []
        deletions = [
            (self._bases[part.table[client - 1]] + clock, length)
            for client, ranges in part.update.deletions
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

    def _woven_struct(self, part: CardPart, struct: Struct, *, void: bool) -> Struct:
        clock = self.clock
        self.clock += struct.length
        if struct.kind == GC or (struct.keyed and void):
            return Struct(clock, struct.length, GC)
        if struct.keyed:
            return self._woven_keyed(part, struct, clock)
        left, right = self._order.insert(
            clock,
            struct.length,
            left=START if struct.left is None else self._clock(part, struct.left),
            right=START if struct.right is None else self._clock(part, struct.right),
        )
        return Struct(
            clock,
            struct.length,
            DELETED if void else struct.kind,
            None if left == START else (CLIENT, left),
            None if right == START else (CLIENT, right),
            TEXT_ROOT,
            content=varuint(struct.length) if void else struct.content,
        )

    def _woven_keyed(self, part: CardPart, struct: Struct, clock: int) -> Struct:
        root, key = spot = self._spot((part.id, struct.clock))
        parent: str | Ref
        if isinstance(root, str):
            parent, void = root, False
        else:
            parent, void = (CLIENT, self._bases[root[0]] + root[1]), root[0] in self._void
        if void or struct.kind == DELETED:
            return Struct(clock, struct.length, GC)
        last = self._last.get(spot)
        self._last[spot] = clock
        left = None if last is None else (CLIENT, last)
        return struct._replace(clock=clock, left=left, right=None, parent=parent, key=key)

    def _unit(self, part: CardPart, ref: Ref) -> Unit:
        client, clock = ref
        return (part.table[client - 1] if client else part.id), clock

    def _clock(self, part: CardPart, ref: Ref) -> int:
        client, clock = ref
        return self._bases[part.table[client - 1] if client else part.id] + clock

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
                    (parent if isinstance(parent, str) else self._unit(part, parent)),
                    struct.key,
                )
                break
            unit = self._unit(part, struct.left)
        for one in trail:
            self._spots[one] = found
        return found

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
