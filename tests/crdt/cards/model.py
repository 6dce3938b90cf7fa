"""A slow model of a card: lists of single units, no engine, no runs, no memory of anything.

It shares the parser with the code under test and nothing else.
"""

from __future__ import annotations

from crdt.cards import Card, CardBody, Seed
from crdt.cards.updates import ANY, DELETED, GC, MAP, STRING
from crdt.cards.values import Budget, canonical_value, read_value
from crdt.cards.varints import Reader


def slow_card(parts):
    """Return what the card of these parts says, worked out from the rules one unit at a time."""
    ordered = sorted(parts, key=lambda part: (part.depth, part.id))
    counted = counted_ids(ordered)
    everything = {part.id: part for part in ordered}
    text = []  # [unit, left origin, character code or None]
    gone = set()
    last = {}  # (root or Map's unit, key) -> unit
    contents = {}
    for part in ordered:
        void = part.id not in counted
        for struct in part.update.structs:
            if struct.kind == GC or (struct.keyed and void):
                continue
            if struct.keyed:
                holder, key = spot_of(everything, part, struct)
                if isinstance(holder, tuple) and holder[0] not in counted:
                    continue
                if struct.kind == DELETED:
                    continue
                last[holder, key] = (part.id, struct.clock)
                contents[part.id, struct.clock] = struct
                continue
            left, right = unit_of(part, struct.left), unit_of(part, struct.right)
            insert(text, part, struct, left, right)
        if void:
            # Its text is in nobody's sight, but marks the place of what stands beside it.
            gone.update((part.id, clock) for clock in range(part.update.length))
            continue
        for client, ranges in part.update.deletions:
            other = part.table[client - 1]
            for clock, length in ranges:
                gone.update((other, clock + one) for one in range(length))
    units = [code for unit, _, code in text if code is not None and unit not in gone]
    return Card(
        text=b"".join(units).decode("utf-16-le"),
        tags=tuple(sorted(k for (h, k), unit in last.items() if h == "tags" and unit not in gone)),
        evals=evals_of(last, contents, gone),
    )


def counted_ids(ordered):
    seeds = [part for part in ordered if isinstance(part.content, Seed) and part.effective]
    cards = [part for part in ordered if isinstance(part.content, CardBody) and part.effective]
    named = [seed for seed in seeds if any(seed.id in card.content.table for card in cards)]
    chosen = named[-1:] or seeds[:1]
    return {part.id for part in chosen + cards}


def unit_of(part, ref):
    if ref is None:
        return None
    return (part.content.table[ref[0] - 1] if ref[0] else part.id), ref[1]


def struct_at(part, clock):
    return next(one for one in part.update.structs if one.clock <= clock < one.clock + one.length)


def spot_of(everything, part, struct):
    while struct.left is not None:
        unit = unit_of(part, struct.left)
        part = everything[unit[0]]
        struct = struct_at(part, unit[1])
    parent = struct.parent if isinstance(struct.parent, str) else unit_of(part, struct.parent)
    return parent, struct.key


def insert(text, part, struct, left, right):
    at = {unit: index for index, (unit, _, _) in enumerate(text)}
    if right is not None and text[at[right]][1] == left:
        index = at[right]
    else:
        index = 0 if left is None else at[left] + 1
    codes = [None] * struct.length
    if struct.kind == STRING:
        raw = Reader(struct.content).text().encode("utf-16-le")
        codes = [raw[one : one + 2] for one in range(0, len(raw), 2)]
    for offset, code in enumerate(codes):
        origin = left if offset == 0 else (part.id, struct.clock + offset - 1)
        text.insert(index + offset, ((part.id, struct.clock + offset), origin, code))


def evals_of(last, contents, gone):
    shown = {}
    for (holder, writer), unit in last.items():
        if holder != "evals" or unit in gone or contents[unit].kind != MAP:
            continue
        for (inner, name), entry in last.items():
            if inner == unit and entry not in gone and contents[entry].kind == ANY:
                reader = Reader(contents[entry].content[1:])
                value = canonical_value(read_value(reader, Budget(4096)))
                shown.setdefault(writer, {})[name] = value
    return shown
