"""Which of a record's operations make up its card (DESIGN.md, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from crdt.cards.bodies import CardBody, open_card
from crdt.cards.parts import CardPart
from crdt.cards.seeds import Seed
from crdt.checkpoints import open_checkpoint
from crdt.ids import OperationId
from crdt.operations import Operation, OperationType
from crdt.resolution import Resolution, era_of

SeedOf: TypeAlias = Callable[[Operation, bytes], Seed]
"""What the body of a put would begin a card with; the registry knows (`BodyRules.seed_of`)."""


@dataclass(frozen=True, slots=True)
class Written:
    """An operation with its body."""

    operation: Operation
    body: bytes


def card_parts(
    written: Iterable[Written], resolution: Resolution, seed_of: SeedOf
) -> list[CardPart]:
    """Return the parts of the card of a record whose operations these are, in canonical order.

    Without an effective card operation the winner is the one part: what a first edit starts from.
    Void card operations come along only as far as others refer to them.
    """
    era = resolution.register.era
    members = {one.operation.id: one for one in written if era_of(one.operation) == era}
    bodies = {
        id_: open_card(one.body)
        for id_, one in members.items()
        if one.operation.type is OperationType.CARD
    }
    effective = {id_ for id_ in bodies if id_ in resolution.effective}
    wanted = _with_references(effective, bodies)
    if era:
        wanted.add(OperationId(era))
    elif not effective and resolution.register.winner is not None:
        wanted.add(resolution.register.winner)
    parts = [
        _part(members[id_], bodies.get(id_), id_ in resolution.effective, seed_of)
        for id_ in wanted
        if members[id_].operation.type is not OperationType.DELETE
    ]
    return sorted(parts, key=lambda part: part.order)


def _with_references(
    ids: Iterable[OperationId], bodies: dict[OperationId, CardBody]
) -> set[OperationId]:
    found: set[OperationId] = set()
    stack = list(ids)
    while stack:
        id_ = stack.pop()
        if id_ not in found:
            found.add(id_)
            stack += bodies[id_].table if id_ in bodies else ()
    return found


def _part(one: Written, body: CardBody | None, effective: bool, seed_of: SeedOf) -> CardPart:
    operation = one.operation
    content: CardBody | Seed
    if body is not None:
        content = body
    elif operation.type is OperationType.CHECKPOINT:
        content = open_checkpoint(one.body).seed
    else:
        content = seed_of(operation, one.body)
    return CardPart(operation.id, operation.depth, operation.key, content, effective)
