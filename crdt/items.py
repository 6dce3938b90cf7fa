"""Items: what the replicated log is made of, whatever it is about.

An item is signed content with an optional body, and a kind that says who judges it. The log, the
gossip and the catch-up move items; `accounts`, `operations` and, in royalties,
`receipts` judge them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from crdt.errors import MalformedBytes
from crdt.ids import ItemId
from crdt.signed import SIGNATURE_BYTES, Signed
from crdt.wire import decode_loosely, encode, sha3

WIRE_VERSION = 0
"""Version 0 owes nobody compatibility; it is settled with the account and sync work."""
BODY_BYTES_MAX = 64 * 1024
"""The ceiling of one version of a record (records.md)."""
CONTENT_BYTES_MAX = 4 * 1024
"""16 predecessors and 16 account heads of 34 bytes, and room for the fixed fields."""
ITEM_BYTES_MAX = BODY_BYTES_MAX + CONTENT_BYTES_MAX + 256


class ItemKind(IntEnum):
    """Who judges an item. Unknown kinds are refused on wire version 0."""

    ACCOUNT = 1
    OPERATION = 2
    RECEIPT = 3


_FIELD_TYPES = (int, int, bytes, bytes, bytes)
_KINDS: Mapping[int, ItemKind] = {int(kind): kind for kind in ItemKind}


class Item(NamedTuple):
    """One replicated item, decoded but not judged.

    Attributes:
        id: SHA3-256 of `signed.content`.
        raw: The canonical bytes it came in, which are stored and relayed as they are.
    """

    kind: ItemKind
    id: ItemId
    signed: Signed
    body: bytes
    raw: bytes


def pack_item(kind: ItemKind, signed: Signed, body: bytes = b"") -> Item:
    """Return the item that carries `signed`, ready to be sent."""
    raw = encode([WIRE_VERSION, int(kind), signed.content, signed.signature, body])
    assert len(raw) <= ITEM_BYTES_MAX
    return Item(kind, ItemId(sha3(signed.content)), signed, body, raw)


def unpack_item(raw: bytes) -> Item:
    """Return the item in `raw`; its signature is not checked yet.

    Raises:
        MalformedBytes: wrong size, shape, version or kind, or not canonical.
    """
    # Loosely, because each of the five is held to its type below.
    parts = decode_loosely(raw, bytes_max=ITEM_BYTES_MAX)
    if tuple(map(type, parts)) != _FIELD_TYPES or parts[0] != WIRE_VERSION:
        raise MalformedBytes(
            f"an item is wire version {WIRE_VERSION}, kind, content, signature and body"
        )
    _, number, content, signature, body = parts
    kind = _KINDS.get(number)
    if kind is None:
        raise MalformedBytes(f"item kind {number} is unknown")
    if len(content) > CONTENT_BYTES_MAX or len(body) > BODY_BYTES_MAX:
        raise MalformedBytes(
            f"content of {len(content)} and body of {len(body)} bytes; "
            f"at most {CONTENT_BYTES_MAX} and {BODY_BYTES_MAX}"
        )
    if len(signature) != SIGNATURE_BYTES:
        raise MalformedBytes(f"signature of {len(signature)} bytes; Ed25519 has {SIGNATURE_BYTES}")
    return Item(kind, ItemId(sha3(content)), Signed(content, signature), body, raw)
