"""Accounts: who may write, as a log of signed entries that starts with a genesis.

The account's id is the hash of its genesis content and never changes. On wire version 0 only the
genesis has effect, so the root key is the one key with authority; the other entry types keep their
numbers here and are refused until the entries that use them are defined.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from crdt.errors import MalformedBytes, WrongNetwork
from crdt.ids import AccountId, NetworkId, PublicKey
from crdt.items import CONTENT_BYTES_MAX, Item, ItemKind, pack_item
from crdt.signed import SigningKey, seal, verify_digest
from crdt.wire import decode, encode, field, fixed_bytes, has_head, natural, sha3

DOMAIN = "hansa/account"
VERSION = 0
STAMP_BYTES_MAX = 512
"""Room for the admission stamp or invitation; not judged on wire version 0."""


class EntryType(IntEnum):
    """The kinds of entry an account log can hold."""

    GENESIS = 1
    ADD_KEY = 2
    REVOKE = 3
    ROTATE_ROOT = 4
    SET_RECOVERY = 5


@dataclass(frozen=True, slots=True)
class Account:
    """What is known of an account after its valid entries.

    Attributes:
        heads: Ids of the entries nobody has built on; operations cite them.
    """

    id: AccountId
    root_key: PublicKey
    recovery_key: PublicKey
    heads: tuple[bytes, ...]

    def may_write_facts(self, key: PublicKey) -> bool:
        """Whether `key` may put or delete this account's records (on version 0: the root only)."""
        return key == self.root_key


def make_genesis(
    network: NetworkId, root: SigningKey, recovery: PublicKey, stamp: bytes = b""
) -> Item:
    """Return the signed first entry of a new account; its item id is the account's id."""
    content = encode(
        [DOMAIN, VERSION, network, int(EntryType.GENESIS), root.public, recovery, stamp]
    )
    return pack_item(ItemKind.ACCOUNT, seal(content, root))


def open_genesis(item: Item, network: NetworkId) -> Account:
    """Return the account that `item` founds, with its signature checked.

    Raises:
        MalformedBytes, WrongNetwork, BadSignature: it is not a valid genesis for this network.
    """
    parts = decode(item.signed.content, bytes_max=CONTENT_BYTES_MAX)
    if item.kind is not ItemKind.ACCOUNT or not has_head(parts, 7, DOMAIN, VERSION):
        raise MalformedBytes(f"an account entry is 7 fields that start with {DOMAIN!r}, {VERSION}")
    if parts[2] != network:
        raise WrongNetwork("the account entry was signed for another network")
    if natural(parts[3], "account entry type") != EntryType.GENESIS:
        raise MalformedBytes(f"account entry type {parts[3]!r} has no effect on wire version 0")
    if item.body:
        raise MalformedBytes("an account entry has no body")
    root = PublicKey(fixed_bytes(parts[4], 32, "root key"))
    recovery = PublicKey(fixed_bytes(parts[5], 32, "recovery key"))
    if len(field(parts[6], bytes, "admission stamp")) > STAMP_BYTES_MAX:
        raise MalformedBytes(f"admission stamp is over {STAMP_BYTES_MAX} bytes")
    verify_digest(item.id, item.signed.signature, root)
    return Account(AccountId(item.id), root, recovery, (item.id,))


def network_id(name: str) -> NetworkId:
    """Return the id of the network called `name` (for example `main`)."""
    return NetworkId(sha3(encode(["hansa/network", VERSION, name])))
