"""A client for a node's HTTP API that signs with a creator's key; the command line is built on it."""

from node.client.accounts import AccountCard, AccountFault, AccountFolder, CreatorAccount
from node.client.client import Client, quoted
from node.client.errors import (
    ApiProblem,
    BadAnswer,
    ConnectionCut,
    NodeUnreachable,
    NoOperatorToken,
)
from node.client.http import Event, Http, Request, parse_events, problem_of, query_string

__all__ = [
    "AccountCard", "AccountFault", "AccountFolder", "ApiProblem", "BadAnswer", "Client",
    "ConnectionCut", "CreatorAccount", "Event", "Http", "NoOperatorToken", "NodeUnreachable",
    "Request", "parse_events", "problem_of", "query_string", "quoted",
]  # fmt: skip
