"""Short ways to write cards in tests."""

from __future__ import annotations

from crdt import OperationId, PublicKey, sha3
from crdt.cards import (
    CardBody,
    CardDocument,
    CardPart,
    Layout,
    Seed,
    check_card,
    edit_card,
    encode_card,
    layout_of_seed,
    open_card,
)
from crdt.cards.updates import Struct, Update

ANN = PublicKey(sha3(b"ann"))
BEN = PublicKey(sha3(b"ben"))


def op(name: str) -> OperationId:
    return OperationId(sha3(name.encode()))


def seed(text: str = "", *tags: str, name: str = "seed", depth: int = 1, effective: bool = True):
    return CardPart(op(name), depth, ANN, Seed(text, tuple(sorted(tags))), effective)


def edit(known, change, *, name: str = "", depth: int = 0, key=ANN, effective: bool = True):
    """Return the part that a change makes to what the writer knows."""
    body = edit_card(CardDocument.of(known), change)
    assert body is not None
    identity = op(name) if name else OperationId(sha3(body + key))
    depth = depth or 1 + max(part.depth for part in known)
    return CardPart(identity, depth, key, open_card(body), effective)


def forged(update: Update, *table, name: str = "forged", depth: int = 9, key=ANN):
    """Return a part with a body that no editor made."""
    return CardPart(op(name), depth, key, body_of(update, *table), effective=True)


def body_of(update: Update, *table) -> CardBody:
    return open_card(encode_card([part.id for part in table], update))


def structs(*some: Struct, deletions=()) -> Update:
    return Update(tuple(some), tuple(deletions))


def void(part: CardPart) -> CardPart:
    return CardPart(part.id, part.depth, part.key, part.content, effective=False)


def shown(*parts: CardPart):
    return CardDocument.of(parts).content()


def layouts_of(*parts: CardPart) -> dict[OperationId, Layout]:
    """Return layouts, checking each card as its key's owner with every right."""
    found: dict[OperationId, Layout] = {}
    for part in sorted(parts, key=lambda one: one.order):
        if isinstance(part.content, Seed):
            found[part.id] = layout_of_seed(part.content)
        else:
            found[part.id] = check_card(
                part.content, key=part.key, may_edit=True, layout_of=found.__getitem__
            )
    return found


def judge(card: CardBody, *known: CardPart, key=ANN, may_edit: bool = True) -> Layout:
    """Check B of a card whose table is among what is known."""
    return check_card(
        card, key=key, may_edit=may_edit, layout_of=layouts_of(*known).__getitem__
    )  # fmt: skip
