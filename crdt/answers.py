"""What an answer brings, whichever question it is to; for who looks at it before it is judged."""

from __future__ import annotations

from contextlib import suppress

from crdt.errors import MalformedBytes
from crdt.frames import decode_caught_up, decode_fetched
from crdt.ids import NetworkId
from crdt.items import Item
from crdt.reconcile.frames import decode_picked


def answered_items(raw: bytes, network: NetworkId) -> tuple[Item, ...]:
    """Return the items in the answer to a catch-up, a fetch or a pick, decoded and not judged.

    Raises:
        MalformedBytes, WrongNetwork, UnknownVersion: it is none of these.
    """
    with suppress(MalformedBytes):
        return decode_caught_up(raw, network).items
    with suppress(MalformedBytes):
        return decode_fetched(raw, network).items
    return decode_picked(raw, network).items
