"""The places in known operations that a card operation can refer to, worked out when asked for.

A card's own layout needs those of what it refers to, and so on down to a seed. The chain may be as
long as the record's history, so it is walked with a stack of ours and not with Python's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

from crdt.caches import WeighedCache
from crdt.cards.bodies import CardBody, open_card
from crdt.cards.layouts import Layout, check_card, layout_of_seed
from crdt.cards.seeds import Seed
from crdt.checkpoints import open_checkpoint
from crdt.ids import OperationId
from crdt.operations import Operation, OperationType

LayoutCache: TypeAlias = WeighedCache[OperationId, Layout]
Operations = Callable[[Collection[OperationId]], Mapping[OperationId, Operation]]


def layout_of(
    operation: Operation,
    *,
    operations: Operations,
    body_of: Callable[[OperationId], bytes],
    seed_of: Callable[[Operation, bytes], Seed],
    cache: LayoutCache,
) -> Layout:
    """Return a valid operation's layout; what is worked out on the way goes into `cache`."""
    made: dict[OperationId, Layout] = {}

    def known(id_: OperationId) -> Layout | None:
        layout = made.get(id_)
        if layout is None:
            layout = cache.get(id_)
            if layout is not None:
                made[id_] = layout
        return layout

    def keep(id_: OperationId, layout: Layout) -> None:
        made[id_] = layout
        cache.put(id_, layout, layout.weight)

    stack = [operation]
    while stack:
        one = stack[-1]
        if known(one.id) is not None:
            stack.pop()
        elif one.type is not OperationType.CARD:
            keep(one.id, layout_of_seed(_seed(one, body_of(one.id), seed_of)))
        else:
            card = open_card(body_of(one.id))
            cited = operations(card.table)
            missing = [cited[id_] for id_ in card.table if known(id_) is None]
            if missing:
                stack += missing
            else:
                keep(one.id, _layout(one, card, made))
    return made[operation.id]


def _layout(one: Operation, card: CardBody, made: Mapping[OperationId, Layout]) -> Layout:
    # It was found valid when it came: its authority is not asked for again.
    return check_card(card, key=one.key, may_edit=True, layout_of=made.__getitem__)


def _seed(one: Operation, body: bytes, seed_of: Callable[[Operation, bytes], Seed]) -> Seed:
    if one.type is OperationType.CHECKPOINT:
        return open_checkpoint(body).seed
    return seed_of(one, body)
