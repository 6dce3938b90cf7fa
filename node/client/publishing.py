"""Handing signed items to a node, and what it says to them."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from crdt import Item, WorldFault
from node.client.client import Client
from node.client.errors import BadAnswer


class ItemRejected(BadAnswer):
    """The node says that an item is not valid, which it is here: one of the two is wrong."""


class NotTaken(WorldFault):
    """The node does not have what an item builds on: not yet, or not any more."""

    code = "not-taken"


def publish_items(client: Client, items: Sequence[Item]) -> None:
    """Publish signed items and return when the node has them on its disk.

    Raises:
        ItemRejected: the node says that one of them is not valid; those before it are published.
        NotTaken: it lacks what one of them builds on, or has dropped it.
    """
    raws = [base64.urlsafe_b64encode(item.raw).rstrip(b"=").decode() for item in items]
    for outcome in client.post("/v1/items", {"items": raws})["outcomes"]:
        status = outcome["status"]
        if status in {"new", "known"}:
            continue
        told = (
            f"the node does not take item {outcome['id'][:16]} ({status}): "
            f"{outcome.get('detail') or 'it lacks what the item builds on'}"
        )
        raise ItemRejected(told) if status == "rejected" else NotTaken(told)
