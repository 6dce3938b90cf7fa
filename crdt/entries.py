"""Entries of an account's log: their bytes, and what can be checked by the bytes alone.

An entry says one thing about who may write: it founds the account, grants or ends a key, or settles
a fork. What the entries of an account say together is in `accounts.py`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any

from crdt.errors import MalformedBytes, WrongNetwork
from crdt.ids import AccountId, ItemId, NetworkId, OperationId, PublicKey, RecordId
from crdt.items import CONTENT_BYTES_MAX, Item, ItemKind, pack_item
from crdt.signed import SigningKey, seal, verify_digest
from crdt.wire import array, decode, encode, field, fixed_bytes, has_head, natural

DOMAIN = "hansa/account"
VERSION = 0
STAMP_BYTES_MAX = 512
"""Of an admission stamp; what a network with a rule asks of it is in `stamps.py`."""
SCOPE_COUNT_MAX = 64
"""Records one grant can name. Together with the fixed fields it fits `CONTENT_BYTES_MAX`."""
KEEP_COUNT_MAX = 96
"""Operations one revocation can keep. More are kept by endorsing them (crdt/DESIGN.md, 3)."""
_GENESIS_FIELDS = 7
_HEAD_FIELDS = 7
"""Fields that every later entry starts with: up to its signer."""


class EntryType(IntEnum):
    """What an entry does to its account."""

    GENESIS = 1
    ADD_KEY = 2
    REVOKE = 3
    ROTATE_ROOT = 4
    SET_RECOVERY = 5
    ADOPT = 6


class Capability(IntFlag):
    """What a delegate may write; a grant may hold several."""

    MAINTAINER = 1
    """Facts and the card."""
    EDITOR = 2
    """The card."""
    EVALUATOR = 4
    """Its own entries of the card's evaluations."""


NOTHING = Capability(0)
CAPABILITIES_MAX = int(Capability.MAINTAINER | Capability.EDITOR | Capability.EVALUATOR)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, its signature checked; whether its signer may is for `accounts.py` to say.

    Attributes:
        account: For a genesis, its own id.
        predecessor: The entry it stands on; None for a genesis.
        signer: Whose signature it carries.
        key: Whom it is about: the root key (genesis, rotation), the delegate (grant, revocation),
            the recovery key (set recovery); the signer for an adoption.
        recovery_key: Of a genesis; None for all others.
        scope: Records a grant is limited to, sorted; none means every record.
        keep: Operations that stay effective, with their past, when the key ends; sorted.
    """

    id: ItemId
    type: EntryType
    account: AccountId
    predecessor: ItemId | None
    signer: PublicKey
    key: PublicKey
    recovery_key: PublicKey | None = None
    capabilities: Capability = NOTHING
    scope: tuple[RecordId, ...] = ()
    keep: tuple[OperationId, ...] = ()


def make_genesis(
    network: NetworkId, root: SigningKey, recovery: PublicKey, stamp: bytes = b""
) -> Item:
    """Return the signed first entry of a new account; its item id is the account's id."""
    content = encode(
        [DOMAIN, VERSION, network, int(EntryType.GENESIS), root.public, recovery, stamp]
    )
    return pack_item(ItemKind.ACCOUNT, seal(content, root))


def make_entry(
    *,
    network: NetworkId,
    type: EntryType,  # noqa: A002 - the protocol's word
    account: AccountId,
    predecessor: ItemId,
    signer: SigningKey,
    key: PublicKey | None = None,
    capabilities: Capability = NOTHING,
    scope: tuple[RecordId, ...] = (),
    keep: tuple[OperationId, ...] = (),
) -> Item:
    """Return a new signed entry that stands on `predecessor`; fields its type lacks are unused."""
    assert type is not EntryType.GENESIS, "a genesis is made by make_genesis"
    assert len(scope) <= SCOPE_COUNT_MAX
    assert len(keep) <= KEEP_COUNT_MAX
    rest: list[Any] = []
    if type is not EntryType.ADOPT:
        assert key is not None, f"{type.name} is about a key"
        rest.append(key)
    if type is EntryType.ADD_KEY:
        rest += [int(capabilities), sorted(set(scope))]
    if type in {EntryType.REVOKE, EntryType.ROTATE_ROOT}:
        rest.append(sorted(set(keep)))
    head: list[Any] = [DOMAIN, VERSION, network, int(type), account, predecessor, signer.public]
    return pack_item(ItemKind.ACCOUNT, seal(encode([*head, *rest]), signer))


def open_entry(item: Item, network: NetworkId) -> Entry:
    """Return the entry in `item` with its bytes and its signature checked (check A).

    Raises:
        MalformedBytes, WrongNetwork, BadSignature: drop it and count it against the peer.
    """
    entry = parse_entry(item, network)
    verify_digest(item.id, item.signed.signature, entry.signer)
    return entry


def parse_entry(item: Item, network: NetworkId) -> Entry:
    """Return the entry in `item` with everything checked but its signature."""
    parts = decode(item.signed.content, bytes_max=CONTENT_BYTES_MAX)
    if item.kind is not ItemKind.ACCOUNT or len(parts) < _GENESIS_FIELDS:
        raise MalformedBytes(f"an account entry has at least {_GENESIS_FIELDS} fields")
    if not has_head(parts, len(parts), DOMAIN, VERSION):
        raise MalformedBytes(f"an account entry starts with {DOMAIN!r}, {VERSION}")
    if parts[2] != network:
        raise WrongNetwork("the account entry was signed for another network")
    if item.body:
        raise MalformedBytes("an account entry has no body")
    try:
        type_ = EntryType(natural(parts[3], "account entry type"))
    except ValueError as error:
        raise MalformedBytes(f"account entry type {parts[3]} is unknown") from error
    if type_ is EntryType.GENESIS:
        return _genesis(item, parts)
    return _later(item, type_, parts)


def _genesis(item: Item, parts: tuple[Any, ...]) -> Entry:
    if len(parts) != _GENESIS_FIELDS:
        raise MalformedBytes(f"a genesis of {len(parts)} fields; it has {_GENESIS_FIELDS}")
    if len(field(parts[6], bytes, "admission stamp")) > STAMP_BYTES_MAX:
        raise MalformedBytes(f"admission stamp is over {STAMP_BYTES_MAX} bytes")
    root = PublicKey(fixed_bytes(parts[4], 32, "root key"))
    recovery = PublicKey(fixed_bytes(parts[5], 32, "recovery key"))
    if root == recovery:
        raise MalformedBytes("root and recovery are one key; one key has one role")
    return Entry(item.id, EntryType.GENESIS, AccountId(item.id), None, root, root, recovery)


def _later(item: Item, type_: EntryType, parts: tuple[Any, ...]) -> Entry:
    rest = parts[_HEAD_FIELDS:]
    if len(rest) != _REST_COUNTS[type_]:
        raise MalformedBytes(
            f"{type_.name} has {_HEAD_FIELDS + _REST_COUNTS[type_]} fields, not {len(parts)}"
        )
    account = AccountId(fixed_bytes(parts[4], 32, "account"))
    predecessor = ItemId(fixed_bytes(parts[5], 32, "predecessor"))
    signer = PublicKey(fixed_bytes(parts[6], 32, "signer"))
    key = PublicKey(fixed_bytes(rest[0], 32, "key")) if rest else signer
    capabilities = NOTHING
    scope: tuple[bytes, ...] = ()
    keep: tuple[bytes, ...] = ()
    if type_ is EntryType.ADD_KEY:
        bits = natural(rest[1], "capabilities", maximum=CAPABILITIES_MAX)
        if not bits:
            raise MalformedBytes("a grant without any capability")
        capabilities = Capability(bits)
        scope = _ids(rest[2], SCOPE_COUNT_MAX, "scope")
    elif type_ in {EntryType.REVOKE, EntryType.ROTATE_ROOT}:
        keep = _ids(rest[1], KEEP_COUNT_MAX, "kept operations")
    return Entry(
        item.id, type_, account, predecessor, signer, key, None, capabilities,
        tuple(RecordId(id_) for id_ in scope), tuple(OperationId(id_) for id_ in keep),
    )  # fmt: skip


_REST_COUNTS = {
    EntryType.ADD_KEY: 3,
    EntryType.REVOKE: 2,
    EntryType.ROTATE_ROOT: 2,
    EntryType.SET_RECOVERY: 1,
    EntryType.ADOPT: 0,
}


def _ids(value: object, count_max: int, what: str) -> tuple[bytes, ...]:
    raw = array(value, what)
    if len(raw) > count_max:
        raise MalformedBytes(f"{len(raw)} {what}; at most {count_max}")
    ids = tuple(fixed_bytes(one, 32, what) for one in raw)
    if any(a >= b for a, b in itertools.pairwise(ids)):
        raise MalformedBytes(f"{what} are not sorted and unique")
    return ids
