"""The replicated registry's core: accounts, signed operations, registers, and how they agree."""

from crdt.accounts import Account, make_genesis, network_id, open_genesis
from crdt.errors import (
    BadSignature,
    CausalFault,
    HansaError,
    MalformedBytes,
    MissingAccount,
    MissingItems,
    NotAuthorised,
    RemoteFault,
    UserFault,
    WorldFault,
    WrongNetwork,
)
from crdt.frames import GOSSIP_BYTES_MAX, Verdict, check_gossip
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
from crdt.maxima import Slot, Standing
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
from crdt.registers import Register
from crdt.replica import (
    LOCAL,
    Accepted,
    Admission,
    BodyRules,
    Commit,
    Cursor,
    LogPage,
    Outcome,
    ReceiptRules,
    RecordChange,
    Replica,
    Status,
    Storage,
)
from crdt.signed import Signed, SigningKey, seal, verify, verify_digest
from crdt.wire import array, decode, encode, field, fixed_bytes, natural, sha3

__all__ = [
    "BODY_BYTES_MAX", "GOSSIP_BYTES_MAX", "ITEM_BYTES_MAX", "LOCAL", "Accepted", "Account",
    "AccountId", "Admission", "BadSignature", "BodyRules", "CausalFault", "Commit", "Cursor",
    "HansaError", "Item", "ItemId", "ItemKind", "LogPage", "MalformedBytes", "ManifestDigest",
    "MissingAccount", "MissingItems", "NetworkId", "NotAuthorised", "Operation", "OperationId",
    "OperationType", "Outcome", "PeerId", "PublicKey", "ReceiptRules", "RecordChange",
    "RecordId", "RecordKind", "Register", "RemoteFault", "Replica", "Signed", "SigningKey",
    "Slot", "Standing", "Status", "Storage", "UserFault", "Verdict", "WorldFault",
    "WrongNetwork", "array", "check_gossip", "decode", "encode", "field", "fixed_bytes",
    "id_from_hex", "is_slug", "make_genesis", "make_operation", "natural", "network_id",
    "open_genesis", "open_operation", "pack_item", "parse_operation", "peer_id_of",
    "public_key_of", "record_id", "seal", "sha3", "short", "slug_of", "unpack_item", "verify",
    "verify_digest",
]  # fmt: skip
