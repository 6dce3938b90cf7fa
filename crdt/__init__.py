"""The replicated registry's core: accounts, signed operations, registers, and how they agree."""

from crdt.accounts import (
    Account,
    AccountState,
    Grant,
    Standing,
    account_of,
    open_account,
    open_genesis,
)
from crdt.answers import answered_items
from crdt.assembling import SeedOf, Written, card_parts, card_parts_since
from crdt.auditing import (
    Audit,
    AuditedEntry,
    AuditedOperation,
    Authority,
    Cause,
    Place,
    Refusal,
    Why,
    audit,
)
from crdt.caches import WeighedCache
from crdt.cards import (
    Card,
    CardBody,
    CardDocument,
    CardDraft,
    CardPart,
    Json,
    Seed,
    edit_card,
    open_card,
)
from crdt.causes import Declined, check_authority
from crdt.checkpoints import Checkpoint, encode_checkpoint, open_checkpoint
from crdt.endorsing import (
    Endorsement,
    head_to_cite,
    maximal,
    plan_endorsement,
    resolved,
    sign_endorsement,
    split_keep,
    taken_away,
)
from crdt.entries import (
    KEEP_COUNT_MAX,
    SCOPE_COUNT_MAX,
    Capability,
    Entry,
    EntryType,
    make_entry,
    make_genesis,
    open_entry,
    parse_entry,
)
from crdt.errors import (
    BadSignature,
    CardEngineFault,
    CardFull,
    CausalFault,
    EditTooLarge,
    HansaError,
    MalformedBytes,
    MissingAccount,
    MissingItems,
    NotAdmitted,
    NotAuthorised,
    OverQuota,
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
    PruneAsked,
    Pruned,
    Reply,
    RequestFailed,
    RequestReceived,
    SendRequest,
    Settled,
    SyncProtocol,
    WakeAt,
)
from crdt.fairness import FairQueue
from crdt.frames import GOSSIP_BYTES_MAX, Verdict, check_gossip, check_probed, encode_probe
from crdt.framing import ANSWER_FRAME_BYTES_MAX
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
from crdt.inbox import Inbox, claimed_account
from crdt.items import BODY_BYTES_MAX, ITEM_BYTES_MAX, Item, ItemKind, pack_item, unpack_item
from crdt.maxima import Slot
from crdt.maxima import Standing as SlotStanding
from crdt.networks import NETWORK_PATTERN, BadNetwork, Network, network_id, parse_network
from crdt.operations import (
    ERA_FIRST,
    PREDECESSOR_COUNT_MAX,
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
from crdt.ports import (
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
    Status,
    Storage,
)
from crdt.progress import PeerStatus, SyncLimits, SyncStatus
from crdt.quotas import QuotaLimits, Quotas, Usage
from crdt.registers import RANK_TERMS, Rank, Register, deciding_term, rank_of
from crdt.replica import Replica
from crdt.resolution import Resolution, era_of, prunable, resolve
from crdt.rivals import Branch, CheckpointRank, Concurrency, Equivocation, Fork
from crdt.scopes import EVERYTHING, OWNER_COUNT_MAX, Scope
from crdt.signed import Signed, SigningKey, seal, verify, verify_digest
from crdt.stamps import (
    BITS_MAX,
    STAMP_BYTES,
    StampJudge,
    StampOrigin,
    WorkRule,
    check_stamp,
    is_good_stamp,
    stamp_bytes,
    stamp_challenge,
    stamp_of,
)
from crdt.sync import SyncMachine
from crdt.vouching import Vouching, past_of
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
    "ANSWER_FRAME_BYTES_MAX", "BITS_MAX", "BODY_BYTES_MAX", "ERA_FIRST", "EVERYTHING",
    "GOSSIP_BYTES_MAX", "ITEM_BYTES_MAX", "KEEP_COUNT_MAX", "LOCAL", "NETWORK_PATTERN",
    "OWNER_COUNT_MAX", "PREDECESSOR_COUNT_MAX", "RANK_TERMS", "SCOPE_COUNT_MAX", "STAMP_BYTES",
    "Accepted", "Account", "AccountId", "AccountState", "Admission", "AnswerReceived", "Audit",
    "AuditedEntry", "AuditedOperation", "Authority", "BadNetwork", "BadSignature", "BodyRules",
    "Branch", "Capability", "Card", "CardBody", "CardDocument", "CardDraft", "CardEngineFault",
    "CardFull", "CardPart", "CausalFault", "Cause", "Changed", "Checkpoint", "CheckpointRank",
    "Commit", "Concurrency", "Cursor", "Declined", "DropPeer", "EditTooLarge", "Effect",
    "Endorsement", "Entry", "EntryType", "Equivocation", "Event", "FairQueue", "Fork", "Gossip",
    "GossipReceived", "Grant", "HansaError", "Heartbeat", "Inbox", "Item", "ItemId", "ItemKind",
    "Json", "LocalItems", "LogPage", "MalformedBytes", "ManifestDigest", "MissingAccount",
    "MissingItems", "Network", "NetworkId", "NotAdmitted", "NotAuthorised", "Operation",
    "OperationId", "OperationType", "Outcome", "OverQuota", "PeerConnected", "PeerId", "PeerLost",
    "PeerStatus", "Place", "PruneAsked", "Pruned", "PublicKey", "QuotaLimits", "Quotas", "Rank",
    "ReceiptRules", "RecordChange", "RecordId", "RecordKind", "Refusal", "Register", "RemoteFault",
    "Replica", "Reply", "RequestFailed", "RequestReceived", "Resolution", "Scope", "Seed", "SeedOf",
    "SendRequest", "Settled", "Signed", "SigningKey", "Slot", "SlotStanding", "StampJudge",
    "StampOrigin", "Standing", "Status", "Storage", "SyncLimits", "SyncMachine", "SyncProtocol",
    "SyncStatus", "Usage", "UserFault", "Verdict", "Vouching", "WakeAt", "WeighedCache", "Why",
    "WorkRule", "WorldFault", "Written", "WrongNetwork", "account_of", "answered_items", "array",
    "audit", "card_parts", "card_parts_since", "check_authority", "check_gossip", "check_probed",
    "check_stamp", "claimed_account", "deciding_term", "decode", "decode_loosely", "edit_card",
    "encode", "encode_checkpoint", "encode_probe", "era_of", "field", "fixed_bytes", "has_head",
    "head_to_cite", "id_from_hex", "is_good_stamp", "is_slug", "make_entry", "make_genesis",
    "make_operation", "maximal", "natural", "network_id", "open_account", "open_card",
    "open_checkpoint", "open_entry", "open_genesis", "open_operation", "pack_item", "parse_entry",
    "parse_network", "parse_operation", "past_of", "peer_id_of", "plan_endorsement", "prunable",
    "public_key_of", "rank_of", "record_id", "resolve", "resolved", "seal", "sha3", "short",
    "sign_endorsement", "slug_of", "split_keep", "stamp_bytes", "stamp_challenge", "stamp_of",
    "taken_away", "unpack_item", "verify", "verify_digest",
]  # fmt: skip
