"""What an answer brings, whichever question it is to; for who looks at it before it is judged."""

from __future__ import annotations

from crdt.errors import MalformedBytes
from crdt.frames import decode_caught_up, decode_fetched
from crdt.ids import NetworkId
from crdt.items import Item


def answered_items(raw: bytes, network: NetworkId) -> tuple[Item, ...]:
    """Return the items in the answer to a catch-up or a fetch, decoded and not judged.

    Raises:
        MalformedBytes, WrongNetwork, UnknownVersion: it is neither.
    """
    try:
        return decode_caught_up(raw, network).items
    except MalformedBytes:
        return decode_fetched(raw, network).items
