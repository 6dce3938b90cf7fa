"""Where the worlds' entries and operations become bytes, or only ids.

`Print` makes real signed items with the public constructors. `Paper` makes the ids alone, for
properties of the rules that need no bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache

import crdt
from crdt import Item, NetworkId, RecordKind, SigningKey, network_id, sha3

NETWORK = network_id("test")
OTHER_NETWORK = network_id("other")


@cache
def key_of(name: str) -> SigningKey:
    return SigningKey(sha3(b"world " + name.encode()))


def public(name: str) -> bytes:
    return key_of(name).public


@cache
def record_of(account: bytes, slug: str) -> bytes:
    return crdt.record_id(NETWORK, RecordKind.MODEL, account, slug)


@cache
def _genesis(root: str, recovery: str) -> Item:
    return crdt.make_genesis(NETWORK, key_of(root), public(recovery))


class Print:
    """Signed items."""

    def genesis(self, root: str, recovery: str) -> tuple[bytes, Item | None]:
        item = _genesis(root, recovery)
        return item.id, item

    def entry(
        self,
        *,
        type_: int,
        account: bytes,
        predecessor: bytes,
        signer: str,
        key: str | None,
        capabilities: int,
        scope: Sequence[bytes],
        keep: Sequence[bytes],
    ) -> tuple[bytes, Item | None]:
        item = crdt.make_entry(
            network=NETWORK,
            type=crdt.EntryType(type_),
            account=account,
            predecessor=predecessor,
            signer=key_of(signer),
            key=None if key is None else public(key),
            capabilities=crdt.Capability(capabilities),
            scope=tuple(sorted(scope)),
            keep=tuple(sorted(keep)),
        )
        return item.id, item

    def operation(
        self,
        *,
        type_: int,
        account: bytes,
        slug: str,
        key: str,
        heads: tuple[bytes, ...],
        era: bytes,
        predecessors: tuple[bytes, ...],
        depth: int,
        body: bytes,
        stamp: int,
        network: NetworkId = NETWORK,
    ) -> tuple[bytes, Item | None]:
        item = crdt.make_operation(
            network=network,
            kind=RecordKind.MODEL,
            slug=slug,
            type=type_,  # type: ignore[arg-type] - the unknown ones are no OperationType
            account=account,
            key=key_of(key),
            account_heads=heads,
            era=era,
            predecessors=predecessors,
            depth=depth,
            body=body,
            timestamp_s=stamp,
        )
        return item.id, item

    def checkpoint_body(self, number: int, facts: bytes) -> bytes:
        seed = crdt.cards.Seed(SEED_TEXT, (), ())
        return crdt.encode_checkpoint(number, facts, seed)


class Paper:
    """Only ids: the hash of everything that was given."""

    def genesis(self, root: str, recovery: str) -> tuple[bytes, Item | None]:
        return sha3(repr((root, recovery)).encode()), None

    def entry(self, **fields: object) -> tuple[bytes, Item | None]:
        return sha3(repr(sorted(fields.items())).encode()), None

    def operation(self, **fields: object) -> tuple[bytes, Item | None]:
        return sha3(repr(sorted(fields.items())).encode()), None

    def checkpoint_body(self, number: int, facts: bytes) -> bytes:
        return b"%d %s" % (number, facts)


SEED_TEXT = "seed"


# Card updates in Yjs v1, by hand: a second reading of section 4.


def card_body(table: Sequence[bytes], update: bytes) -> bytes:
    return crdt.encode([0, list(table), update])


def text_update(text: str, *, after: int | None = None, deleted: int = 0) -> bytes:
    """Insert ASCII `text` at the start, or after item `after` of operation 1 of the table.

    `deleted` items of operation 1 go, from its first.
    """
    raw = text.encode()
    # A String: below the root "text", or with an origin.
    head = b"\x04\x01\x04text" if after is None else b"\x84\x01" + _varint(after)
    structs = b"\x01\x01\x00\x00" + head + _varint(len(raw)) + raw
    deletions = b"\x01\x01\x01\x00" + _varint(deleted) if deleted else b"\x00"
    return structs + deletions


def evaluation_update(owner: bytes, name: str, value: int) -> bytes:
    """Put a Map under `owner` in "evals", and in it one number under `name`."""
    owner_hex = owner.hex().encode()
    map_ = b"\x27\x01\x05evals" + _varint(len(owner_hex)) + owner_hex + b"\x01"
    any_ = (
        b"\x28\x00\x00\x00"
        + _varint(len(name))
        + name.encode()
        + b"\x01\x7c"
        + struct.pack(">f", value)
    )
    return b"\x01\x02\x00\x00" + map_ + any_ + b"\x00"


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    out.append(value)
    return bytes(out)
