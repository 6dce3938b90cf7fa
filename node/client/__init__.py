"""A client for a node's HTTP API that signs with a creator's key."""

from node.client.accounts import (
    AccountCard,
    AccountFault,
    AccountFolder,
    CreatorAccount,
    NoRole,
    role_of,
    unlocked,
)
from node.client.changes import (
    Change,
    Move,
    finish_change,
    fresh_next,
    pending_change,
    write_change,
)
from node.client.client import Client, quoted
from node.client.copies import NoAuthority, RecordCopy, leave_to_card
from node.client.errors import (
    ApiProblem,
    BadAnswer,
    ConnectionCut,
    NodeUnreachable,
    NoOperatorToken,
    WrongNode,
)
from node.client.handing import (
    OwnedRecord,
    Refused,
    SignedRecord,
    fetch_log,
    fetch_record,
    hand_in,
    owned_records,
)
from node.client.http import (
    Event,
    Http,
    Request,
    parse_events,
    problem_from,
    problem_of,
    query_string,
)
from node.client.logs import AccountLog, open_log
from node.client.publishing import ItemRejected, NotTaken, publish_items
from node.client.record_pages import RecordPage, RecordPages
from node.client.references import BadReference, id_of, spelled_out
from node.client.uploads import upload_build
from node.client.writing import DERIVED_FIELDS, KINDS, Draft, Head, Writer, heads_of, prepare

__all__ = [
    "DERIVED_FIELDS", "KINDS", "AccountCard", "AccountFault", "AccountFolder", "AccountLog",
    "ApiProblem", "BadAnswer", "BadReference", "Change", "Client", "ConnectionCut",
    "CreatorAccount", "Draft", "Event", "Head", "Http", "ItemRejected", "Move", "NoAuthority",
    "NoOperatorToken", "NoRole", "NodeUnreachable", "NotTaken", "OwnedRecord", "RecordCopy",
    "RecordPage", "RecordPages", "Refused", "Request", "SignedRecord", "Writer", "WrongNode",
    "fetch_log", "fetch_record", "finish_change", "fresh_next", "hand_in", "heads_of", "id_of",
    "leave_to_card", "open_log", "owned_records", "parse_events", "pending_change", "prepare",
    "problem_from", "problem_of", "publish_items", "query_string", "quoted", "role_of",
    "spelled_out", "unlocked", "upload_build", "write_change",
]  # fmt: skip
