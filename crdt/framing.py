"""What every frame has: one canonical array that starts with its tag, wire version and network."""

from __future__ import annotations

import itertools
from typing import Any, TypeVar

from crdt.errors import MalformedBytes, RemoteFault, WrongNetwork
from crdt.ids import ItemId, NetworkId
from crdt.items import ITEM_BYTES_MAX, Item, unpack_item
from crdt.wire import array, decode, field, fixed_bytes, natural

T = TypeVar("T")

VERSION = 0
ANSWER_BYTES_MAX = 256 * 1024
"""The items of one answer stop here; framing and one last big item come on top."""
ANSWER_FRAME_BYTES_MAX = ANSWER_BYTES_MAX + ITEM_BYTES_MAX + 64 * 1024
"""What a requester lets a peer send for one request; asserted to fit a 1 MiB stream frame."""
REQUEST_BYTES_MAX = 64 * 1024
FETCH_COUNT_MAX = 1024
EPOCH_BYTES = 16

assert ANSWER_FRAME_BYTES_MAX <= 1024 * 1024
assert FETCH_COUNT_MAX * 34 + 128 <= REQUEST_BYTES_MAX


class UnknownVersion(RemoteFault):
    """A frame of a wire version we do not speak."""

    code = "unknown-wire-version"


def open_frame(raw: bytes, network: NetworkId, *, bytes_max: int) -> tuple[str, tuple[Any, ...]]:
    """Return a frame's tag and the fields after its network."""
    parts = decode(raw, bytes_max=bytes_max)
    if len(parts) < 3:
        raise MalformedBytes(f"a frame of {len(parts)} fields; it starts with three")
    tag = field(parts[0], str, "frame tag")
    version = natural(parts[1], "wire version")
    if version != VERSION:
        raise UnknownVersion(f"frame {tag[:20]!r} has wire version {version}; we speak {VERSION}")
    if fixed_bytes(parts[2], 32, "network id") != network:
        raise WrongNetwork(f"frame {tag[:20]!r} is for another network")
    return tag, parts[3:]


def not_empty(things: tuple[T, ...], what: str) -> tuple[T, ...]:
    """Return `things`, of which a frame must have some."""
    if not things:
        raise MalformedBytes(f"an empty {what!r} frame")
    return things


def items_in(value: object, count_max: int) -> tuple[Item, ...]:
    """Return the items in a field, decoded and not judged."""
    raws = array(value, "items")
    if len(raws) > count_max:
        raise MalformedBytes(f"{len(raws)} items; at most {count_max}")
    return tuple(unpack_item(field(raw, bytes, "item")) for raw in raws)


def ids_in(value: object, count_max: int) -> tuple[ItemId, ...]:
    """Return the ids in a field; none is there twice."""
    raws = array(value, "ids")
    if len(raws) > count_max:
        raise MalformedBytes(f"{len(raws)} ids; at most {count_max}")
    ids = tuple(ItemId(fixed_bytes(raw, 32, "id")) for raw in raws)
    if any(a == b for a, b in itertools.pairwise(sorted(ids))):
        raise MalformedBytes("an id is listed twice")
    return ids
