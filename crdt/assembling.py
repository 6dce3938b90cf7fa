"""Which of a record's operations make up its card (DESIGN.md, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from crdt.cards.bodies import CardBody, open_card, without_update
from crdt.cards.documents import CONTENT_BYTES_MAX, PIECES_MAX
from crdt.cards.parts import CardPart
from crdt.cards.seeds import Seed
from crdt.cards.updates import content_bytes_of, pieces_of
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
    cards = [one for one in members.values() if one.operation.type is OperationType.CARD]
    bodies = _opened(cards, resolution)
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


def card_parts_since(
    parts: Sequence[CardPart], written: Iterable[Written], era: bytes
) -> list[CardPart] | None:
    """Return the parts that operations add to a card whose every operation counts, these too.

    None if they do more than to add cards that refer to parts: then all have to be looked at.

    Args:
        written: Those that are new, and perhaps some that `parts` has already.
    """
    before = {part.id for part in parts}
    new = [one for one in written if one.operation.id not in before]
    cards = [one for one in new if era_of(one.operation) == era]
    if any(one.operation.type is not OperationType.CARD for one in cards):
        return None
    known = before | {one.operation.id for one in cards}
    if not any(isinstance(part.content, CardBody) for part in parts):
        return None  # it is of the winner alone, and the seed may be another
    pieces = sum(pieces_of(part.update) for part in parts)
    found: list[CardPart] = []
    for one in cards:
        operation = one.operation
        # One that is too much fills the card; what comes after it costs no more than its table.
        body = open_card(one.body) if pieces <= 2 * PIECES_MAX else without_update(one.body)
        pieces += pieces_of(body.update)
        if not known.issuperset(body.table):
            return None
        found.append(CardPart(operation.id, operation.depth, operation.key, body, effective=True))
    return sorted(found, key=lambda part: part.order)


def _opened(cards: Iterable[Written], resolution: Resolution) -> dict[OperationId, CardBody]:
    """Return the bodies of cards; of those that come when the card is full already, the tables.

    A document takes parts in canonical order, and from the first that does not fit none. When the
    effective cards alone are more than fits, that one has been.
    """
    found: dict[OperationId, CardBody] = {}
    pieces = content_bytes = 0
    for one in sorted(cards, key=lambda one: (one.operation.depth, one.operation.id)):
        id_ = one.operation.id
        if pieces > PIECES_MAX or content_bytes > CONTENT_BYTES_MAX:
            found[id_] = without_update(one.body)
            continue
        body = found[id_] = open_card(one.body)
        if id_ in resolution.effective:
            pieces += pieces_of(body.update)
            content_bytes += content_bytes_of(body.update)
    return found


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
