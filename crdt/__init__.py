"""The replicated registry's core: accounts, signed operations, registers, and how they agree."""

from crdt.accounts import Account, make_genesis, network_id, open_genesis
from crdt.errors import (
    BadSignature,
    HansaError,
    MalformedBytes,
    RemoteFault,
    UserFault,
    WorldFault,
    WrongNetwork,
)
from crdt.ids import (
    AccountId,
    ItemId,
    ManifestDigest,
    NetworkId,
    OperationId,
    PeerId,
    PublicKey,
    RecordId,
    id_from_hex,
    peer_id_of,
    public_key_of,
    short,
)
from crdt.items import BODY_BYTES_MAX, ITEM_BYTES_MAX, Item, ItemKind, pack_item, unpack_item
from crdt.operations import (
    Operation,
    OperationType,
    RecordKind,
    is_slug,
    make_operation,
    open_operation,
    parse_operation,
    record_id,
    slug_of,
)
from crdt.signed import Signed, SigningKey, seal, verify, verify_digest
from crdt.wire import array, decode, encode, field, fixed_bytes, natural, sha3

__all__ = [
    "BODY_BYTES_MAX", "ITEM_BYTES_MAX", "Account", "AccountId", "BadSignature", "HansaError",
    "Item", "ItemId", "ItemKind", "MalformedBytes", "ManifestDigest", "NetworkId", "Operation",
    "OperationId", "OperationType", "PeerId", "PublicKey", "RecordId", "RecordKind",
    "RemoteFault", "Signed", "SigningKey", "UserFault", "WorldFault", "WrongNetwork", "array",
    "decode", "encode", "field", "fixed_bytes", "id_from_hex", "is_slug", "make_genesis",
    "make_operation",
    "natural", "network_id", "open_genesis", "open_operation", "pack_item", "parse_operation",
    "peer_id_of", "public_key_of", "record_id", "seal", "sha3", "short", "slug_of",
    "unpack_item", "verify", "verify_digest",
]  # fmt: skip
