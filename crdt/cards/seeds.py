"""Seeds: the update that a put of the first era, or a checkpoint, implies for the card."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from crdt.cards.updates import (
    ANY,
    EVALS_ROOT,
    MAP,
    STRING,
    TAGS_ROOT,
    TEXT_ROOT,
    Struct,
    Update,
    string_content,
)
from crdt.cards.values import TRUE, Json, write_value


@dataclass(frozen=True, slots=True)
class Seed:
    """What a card starts from.

    Attributes:
        tags: Sorted and unique.
        evals: (writer's key in hex, name, value), sorted and unique by the first two.
    """

    text: str
    tags: tuple[str, ...]
    evals: tuple[tuple[str, str, Json], ...] = ()

    def __post_init__(self) -> None:
        assert all(a < b for a, b in itertools.pairwise(self.tags))
        assert all(a[:2] < b[:2] for a, b in itertools.pairwise(self.evals))


def seed_update(seed: Seed) -> Update:
    """Return the description as one String, then an item a tag, then a Map a writer of evals."""
    structs: list[Struct] = []
    clock = 0
    if seed.text:
        content, clock, pairs = string_content(seed.text)
        structs.append(
            Struct(0, clock, STRING, parent=TEXT_ROOT, content=content, pairs=pairs)
        )  # fmt: skip
    for tag in seed.tags:
        structs.append(_keyed(clock, ANY, TAGS_ROOT, tag, b"\x01" + TRUE))
        clock += 1
    for key, entries in itertools.groupby(seed.evals, key=lambda one: one[0]):
        holder = clock
        structs.append(_keyed(clock, MAP, EVALS_ROOT, key, b"\x01"))
        clock += 1
        for _, name, value in entries:
            content = b"\x01" + write_value(value)
            structs.append(_keyed(clock, ANY, (0, holder), name, content))
            clock += 1
    return Update(tuple(structs), ())


def _keyed(
    clock: int, kind: int, parent: str | tuple[int, int], key: str, content: bytes
) -> Struct:
    return Struct(clock, 1, kind, parent=parent, keyed=True, key=key, content=content)
