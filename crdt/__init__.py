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
from crdt.events import (
    AnswerReceived,
    Changed,
    DropPeer,
    Effect,
    Event,
    Gossip,
    GossipReceived,
    Heartbeat,
    LocalItems,
    PeerConnected,
    PeerLost,
    Reply,
    RequestFailed,
    RequestReceived,
    SendRequest,
    Settled,
    WakeAt,
)
from crdt.frames import ANSWER_FRAME_BYTES_MAX, GOSSIP_BYTES_MAX, Verdict, check_gossip
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
from crdt.progress import PeerStatus, SyncLimits, SyncStatus
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
from crdt.sync import SyncMachine
from crdt.wire import (
    array,
    decode,
    decode_loosely,
    encode,
    field,
    fixed_bytes,
    has_head,
    natural,
    sha3,
)

__all__ = [
    "ANSWER_FRAME_BYTES_MAX", "BODY_BYTES_MAX", "GOSSIP_BYTES_MAX", "ITEM_BYTES_MAX", "LOCAL",
    "Accepted", "Account", "AccountId", "Admission", "AnswerReceived", "BadSignature",
    "BodyRules", "CausalFault", "Changed", "Commit", "Cursor", "DropPeer", "Effect", "Event",
    "Gossip", "GossipReceived", "HansaError", "Heartbeat", "Item", "ItemId", "ItemKind",
    "LocalItems", "LogPage", "MalformedBytes", "ManifestDigest", "MissingAccount",
    "MissingItems", "NetworkId", "NotAuthorised", "Operation", "OperationId", "OperationType",
    "Outcome", "PeerConnected", "PeerId", "PeerLost", "PeerStatus", "PublicKey", "ReceiptRules",
    "RecordChange", "RecordId", "RecordKind", "Register", "RemoteFault", "Replica", "Reply",
    "RequestFailed", "RequestReceived", "SendRequest", "Settled", "Signed", "SigningKey",
    "Slot", "Standing", "Status", "Storage", "SyncLimits", "SyncMachine", "SyncStatus",
    "UserFault", "Verdict", "WakeAt", "WorldFault", "WrongNetwork", "array", "check_gossip",
    "decode", "decode_loosely", "encode", "field", "fixed_bytes", "has_head", "id_from_hex",
    "is_slug", "make_genesis",
    "make_operation", "natural", "network_id", "open_genesis", "open_operation", "pack_item",
    "parse_operation", "peer_id_of", "public_key_of", "record_id", "seal", "sha3", "short",
    "slug_of", "unpack_item", "verify", "verify_digest",
]  # fmt: skip
