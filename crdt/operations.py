"""Operations: one signed, hash-linked write to one record.

Three kinds of check are kept apart. Here is check A, which needs the bytes alone; check B (causal)
is in `replica.py`, and what a node declines for its own reasons (check C) is not in this package.
"""

from __future__ import annotations

import itertools
import re
from enum import IntEnum
from typing import Any, NamedTuple, cast

from crdt.checkpoints import open_checkpoint
from crdt.errors import MalformedBytes, WrongNetwork
from crdt.ids import AccountId, ItemId, NetworkId, OperationId, PublicKey, RecordId
from crdt.items import BODY_BYTES_MAX, CONTENT_BYTES_MAX, Item, ItemKind, pack_item
from crdt.signed import SigningKey, seal, verify_digest
from crdt.wire import INTEGER_MAX, decode, decode_loosely, encode, fixed_bytes, sha3

DOMAIN = "hansa/operation"
VERSION = 0
PREDECESSOR_COUNT_MAX = 16
ACCOUNT_HEAD_COUNT_MAX = 16
DEPTH_MAX = 2**32 - 1
ERA_FIRST = b""
"""The era before any checkpoint; a later era is named by its checkpoint's operation id."""
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_FIELD_TYPES: tuple[type, ...] = (
    str, int, bytes, int, bytes, str, int, bytes, bytes, tuple,
    bytes, tuple, int, bytes, int, int,
)  # fmt: skip
_KNOWN_FIELD_COUNT = 10
"""Up to the account heads: these keep their places in every version of an operation."""
_LAST_FIELD_COUNT = 3
"""Body hash, body length and timestamp: the last ones in every version."""
_FIELD_COUNT_MIN = _KNOWN_FIELD_COUNT + _LAST_FIELD_COUNT
_OPAQUE_PLACE: tuple[bytes, tuple[bytes, ...], int] = (b"", (), 0)
"""Era, predecessors and depth of an operation of a later version, which cannot be read."""
_TYPE_MAX = 255


class RecordKind(IntEnum):
    """What a record is of."""

    MODEL = 1
    AGENT = 2

    __hash__ = int.__hash__  # Enum's own is a Python function, and these are keys on a hot path


class OperationType(IntEnum):
    """What an operation does.

    `UNKNOWN` is never on the wire: it stands for types and versions that are newer than this
    program, which are stored and relayed and have no effect here.
    """

    UNKNOWN = 0
    PUT = 1
    CARD = 2
    DELETE = 3
    CHECKPOINT = 4

    __hash__ = int.__hash__


class Operation(NamedTuple):
    """The signed content of an operation, field by field in wire order, and its id.

    Attributes:
        predecessors: The record's heads its writer knew, sorted and unique.
        depth: 1 + the greatest depth among the predecessors; 1 without any.
        timestamp_s: The writer's clock, advisory: it never decides anything.
        number: Of a checkpoint: which one it is, by its owner's counting; 0 for all others.
        is_tombstone: A delete, or a checkpoint of a deleted record.
        is_opaque: Of a later version: only the fields up to `account_heads` are known.
    """

    id: OperationId
    network: NetworkId
    kind: RecordKind
    record: RecordId
    slug: str
    type: OperationType
    account: AccountId
    key: PublicKey
    account_heads: tuple[ItemId, ...]
    era: bytes
    predecessors: tuple[OperationId, ...]
    depth: int
    body_hash: bytes
    body_bytes: int
    timestamp_s: int
    number: int = 0
    is_tombstone: bool = False
    is_opaque: bool = False

    @property
    def is_fact(self) -> bool:
        """Whether it says what the record's facts are."""
        return self.type in FACT_TYPES

    @property
    def account_head(self) -> ItemId:
        """The one account entry it cites."""
        return self.account_heads[0]


_KINDS = {int(one): one for one in RecordKind}
_TYPES = {int(one): one for one in OperationType if one is not OperationType.UNKNOWN}
FACT_TYPES = frozenset({OperationType.PUT, OperationType.DELETE, OperationType.CHECKPOINT})


def record_id(network: NetworkId, kind: RecordKind, account: AccountId, slug: str) -> RecordId:
    """Return the id of an account's record: ownership is a property of the id."""
    return RecordId(sha3(encode(["hansa/record", VERSION, network, int(kind), account, slug])))


def slug_of(name: str) -> str:
    """Return the slug a display name gives: lower case, runs of anything else become one dash.

    Raises:
        ValueError: nothing usable remains.
    """
    slug = re.sub(r"[^a-z0-9._]+", "-", name.lower()).strip("-._")[:64].rstrip("-._")
    if not is_slug(slug):
        raise ValueError(f"the name {name!r} has no letter or digit to make a slug of")
    return slug


def is_slug(text: str) -> bool:
    """Whether `text` is a slug: 1..64 of `a-z0-9._-`, a letter or digit at both ends."""
    return _SLUG.fullmatch(text) is not None


def make_operation(
    *,
    network: NetworkId,
    kind: RecordKind,
    slug: str,
    type: OperationType,  # noqa: A002 - the protocol's word
    account: AccountId,
    key: SigningKey,
    account_heads: tuple[bytes, ...],
    predecessors: tuple[OperationId, ...],
    depth: int,
    body: bytes,
    timestamp_s: int,
    era: bytes = ERA_FIRST,
) -> Item:
    """Return a new signed operation as an item; the inverse of `open_operation`."""
    assert is_slug(slug)
    assert len(predecessors) <= PREDECESSOR_COUNT_MAX
    assert len(body) <= BODY_BYTES_MAX
    content = encode([
        DOMAIN, VERSION, network, int(kind), record_id(network, kind, account, slug), slug,
        int(type), account, key.public, sorted(set(account_heads)), era,
        sorted(set(predecessors)), depth, sha3(body), len(body), timestamp_s,
    ])  # fmt: skip
    return pack_item(ItemKind.OPERATION, seal(content, key), body)


def open_operation(item: Item, network: NetworkId) -> Operation:
    """Check A without the body's schema: return the operation in `item` if its bytes are in order.

    Shape, bounds, network, record id derivation, body hash and signature; cheapest first.

    Raises:
        MalformedBytes, WrongNetwork, BadSignature: drop it and count it against the peer.
    """
    operation = parse_operation(item, network)
    verify_digest(item.id, item.signed.signature, operation.key)
    return operation


def parse_operation(item: Item, network: NetworkId) -> Operation:
    """Return the operation in `item` with everything checked but its signature.

    Raises:
        MalformedBytes, WrongNetwork: something in it is not as it must be.
    """
    (
        _, version, signed_for, kind_number, record, slug, number, account, key, heads,
        era, cited, depth, body_hash, body_bytes, timestamp_s,
    ) = _fields(item)  # fmt: skip
    if signed_for != network:
        raise WrongNetwork("the operation was signed for another network")
    kind = _KINDS.get(kind_number)
    if kind is None:
        raise MalformedBytes(f"record kind {kind_number} is unknown")
    if _SLUG.fullmatch(slug) is None:
        raise MalformedBytes(f"slug {slug[:80]!r} is not 1..64 of a-z 0-9 . _ -")
    if record != record_id(network, kind, account, slug):
        raise MalformedBytes("the record id is not the one of this account and slug")
    if body_bytes != len(item.body) or sha3(item.body) != body_hash:
        raise MalformedBytes("the body is not the one that was signed")
    if not 0 < number <= _TYPE_MAX:
        raise MalformedBytes(f"operation type {number} is not in 1..{_TYPE_MAX}")
    if not 0 <= timestamp_s <= INTEGER_MAX:
        raise MalformedBytes(f"timestamp {timestamp_s} is not in 0..{INTEGER_MAX}")
    if not 0 <= depth <= DEPTH_MAX:
        raise MalformedBytes(f"depth {depth} is not in 0..{DEPTH_MAX}")
    if len(account) != 32 or len(key) != 32 or len(era) not in {0, 32}:
        raise MalformedBytes("account and key have 32 bytes, and an era that is named too")
    is_opaque = version != VERSION
    type_ = OperationType.UNKNOWN if is_opaque else _TYPES.get(number, OperationType.UNKNOWN)
    checkpoint, is_tombstone = 0, type_ is OperationType.DELETE
    if type_ is OperationType.CHECKPOINT:
        if era:
            raise MalformedBytes("a checkpoint names no era: it opens the one called by its id")
        opened = open_checkpoint(item.body)
        checkpoint, is_tombstone = opened.number, not opened.facts
    # By position: keywords cost a microsecond an operation.
    return Operation(
        cast("OperationId", item.id), network, kind, record, slug, type_, account, key,
        _account_head(heads), era,
        cast("tuple[OperationId, ...]", _sorted_ids(cited, PREDECESSOR_COUNT_MAX, "predecessors")),
        depth, body_hash, body_bytes, timestamp_s, checkpoint, is_tombstone, is_opaque,
    )  # fmt: skip


def _fields(item: Item) -> tuple[Any, ...]:
    """Return the fields of an operation, each of the type it must be; none is looked into yet."""
    # Loosely, because the types are compared right here, and those of ids in arrays later.
    parts = decode_loosely(item.signed.content, bytes_max=CONTENT_BYTES_MAX)
    if item.kind is not ItemKind.OPERATION or len(parts) < _FIELD_COUNT_MIN:
        raise MalformedBytes(f"an operation has at least {_FIELD_COUNT_MIN} fields")
    if parts[0] != DOMAIN or type(parts[1]) is not int or parts[1] < VERSION:
        raise MalformedBytes(f"an operation starts with {DOMAIN!r} and its version")
    if parts[1] != VERSION:
        decode(item.signed.content, bytes_max=CONTENT_BYTES_MAX)
        parts = (*parts[:_KNOWN_FIELD_COUNT], *_OPAQUE_PLACE, *parts[-_LAST_FIELD_COUNT:])
    # All at once, and plain comparisons after: this is on every item's way.
    if tuple(map(type, parts)) != _FIELD_TYPES:
        raise _wrong_shape(parts)
    return parts


def _wrong_shape(parts: tuple[Any, ...]) -> MalformedBytes:
    """Return what is wrong with an operation whose fields are not of the types they must be."""
    if len(parts) != len(_FIELD_TYPES):
        return MalformedBytes(f"an operation has {len(_FIELD_TYPES)} fields, not {len(parts)}")
    at = next(at for at, one in enumerate(parts) if type(one) is not _FIELD_TYPES[at])
    return MalformedBytes(
        f"field {at + 1} of an operation is a {type(parts[at]).__name__}, "
        f"not a {_FIELD_TYPES[at].__name__}"
    )


def _account_head(value: tuple[object, ...]) -> tuple[ItemId, ...]:
    heads = _sorted_ids(value, ACCOUNT_HEAD_COUNT_MAX, "account heads")
    if len(heads) != 1:
        raise MalformedBytes(f"{len(heads)} account heads; an operation cites exactly one")
    return cast("tuple[ItemId, ...]", heads)


def _sorted_ids(raw: tuple[object, ...], count_max: int, what: str) -> tuple[bytes, ...]:
    if not raw:
        return ()
    if len(raw) > count_max:
        raise MalformedBytes(f"{len(raw)} {what}; at most {count_max}")
    ids = tuple([fixed_bytes(one, 32, what) for one in raw])
    if len(ids) > 1 and any(a >= b for a, b in itertools.pairwise(ids)):
        raise MalformedBytes(f"{what} are not sorted and unique")
    return ids
