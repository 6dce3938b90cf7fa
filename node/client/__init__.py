"""A client for a node's HTTP API that signs with a creator's key."""

from node.client.accounts import AccountCard, AccountFault, AccountFolder, CreatorAccount
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
from node.client.http import (
    Event,
    Http,
    Request,
    parse_events,
    problem_from,
    problem_of,
    query_string,
)
from node.client.publishing import ItemRejected, NotTaken, publish_items
from node.client.record_pages import RecordPage, RecordPages
from node.client.references import BadReference, id_of, spelled_out
from node.client.uploads import upload_build
from node.client.writing import DERIVED_FIELDS, KINDS, Draft, Head, Writer, heads_of, prepare

__all__ = [
    "DERIVED_FIELDS", "KINDS", "AccountCard", "AccountFault", "AccountFolder", "ApiProblem",
    "BadAnswer", "BadReference", "Client", "ConnectionCut", "CreatorAccount", "Draft", "Event",
    "Head", "Http", "ItemRejected", "NoAuthority", "NoOperatorToken", "NodeUnreachable",
    "NotTaken", "RecordCopy", "RecordPage", "RecordPages", "Request", "Writer", "WrongNode",
    "heads_of", "id_of", "leave_to_card", "parse_events", "prepare", "problem_from",
    "problem_of", "publish_items", "query_string", "quoted", "spelled_out", "upload_build",
]  # fmt: skip
