"""The ids of things, each its own type, so that one is never passed for another.

All but `PeerId` are 32 raw bytes in the cores and lower-case hex at the edges.
"""

from __future__ import annotations

from typing import NewType

import base58

from crdt.errors import MalformedBytes

AccountId = NewType("AccountId", bytes)
"""SHA3-256 of the account's genesis content; stable when its keys rotate."""
RecordId = NewType("RecordId", bytes)
"""SHA3-256 over (domain, network, kind, account, slug): see `operations.record_id`."""
OperationId = NewType("OperationId", bytes)
"""SHA3-256 of an operation's signed content."""
ItemId = NewType("ItemId", bytes)
"""SHA3-256 of any replicated item's signed content; an `OperationId` is one."""
NetworkId = NewType("NetworkId", bytes)
"""SHA3-256 of a network's name and admission rule: what keeps two networks' bytes apart."""
PublicKey = NewType("PublicKey", bytes)
"""An Ed25519 public key."""
ManifestDigest = NewType("ManifestDigest", bytes)
"""BLAKE3-256 of a build manifest's canonical bytes: the name of a build."""
PeerId = NewType("PeerId", str)
"""A node's libp2p peer id in base58 (`12D3Koo...`): its Ed25519 public key in a multihash."""

ID_BYTES = 32
_PEER_PREFIX = bytes.fromhex("002408011220")


def short(raw: bytes | str) -> str:
    """Return the few characters that logs and tables show of an id."""
    text = raw.hex() if isinstance(raw, bytes) else raw
    return text[:10] if isinstance(raw, bytes) else text[-8:]


def id_from_hex(text: str, what: str) -> bytes:
    """Return the 32 bytes of a lower-case hex id.

    Raises:
        MalformedBytes: `text` is not 64 lower-case hex digits, or is the all-zero id.
    """
    if len(text) != 2 * ID_BYTES or set(text) - set("0123456789abcdef"):
        raise MalformedBytes(f"{what} {text[:80]!r} is not 64 lower-case hex digits")
    raw = bytes.fromhex(text)
    if not any(raw):
        raise MalformedBytes(f"{what} is all zeroes; an id is derived, never chosen")
    return raw


def peer_id_of(public: PublicKey) -> PeerId:
    """Return the libp2p peer id of an Ed25519 key (identity multihash, libp2p peer-id spec)."""
    return PeerId(base58.b58encode(_PEER_PREFIX + public).decode())


def public_key_of(peer: PeerId) -> PublicKey:
    """Return the Ed25519 key inside a peer id.

    Raises:
        MalformedBytes: the id is not base58, or does not hold an Ed25519 key.
    """
    if len(peer) > 64:
        raise MalformedBytes(f"peer id of {len(peer)} characters is too long; at most 64")
    try:
        raw = base58.b58decode(peer)
    except ValueError as error:
        raise MalformedBytes(f"peer id {peer!r} is not base58") from error
    if len(raw) != len(_PEER_PREFIX) + ID_BYTES or not raw.startswith(_PEER_PREFIX):
        raise MalformedBytes(f"peer id {peer!r} does not hold an Ed25519 key")
    return PublicKey(raw[len(_PEER_PREFIX) :])
