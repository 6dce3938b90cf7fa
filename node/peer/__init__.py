"""The HTTPS channel between nodes: pinned to node keys, a signed single-use grant a request."""

from node.peer.client import PeerSession, refusal
from node.peer.errors import (
    GrantRefused,
    GrantReplayed,
    PeerMisbehaved,
    PeerPortInUse,
    PeerRefused,
    PeerUnreachable,
    WrongPeerKey,
    where_it_may_be,
)
from node.peer.grants import Grant, GrantVerifier, ReplayCache, make_grant, open_grant
from node.peer.identity import (
    NodeKey,
    PeerEndpoint,
    check_certificate,
    client_context,
    peer_of_certificate,
)
from node.peer.server import PeerLimits, PeerServer, caller_of

__all__ = [
    "Grant", "GrantRefused", "GrantReplayed", "GrantVerifier", "NodeKey", "PeerEndpoint",
    "PeerLimits", "PeerMisbehaved", "PeerPortInUse", "PeerRefused", "PeerServer", "PeerSession",
    "PeerUnreachable", "ReplayCache", "WrongPeerKey", "caller_of", "check_certificate",
    "client_context", "make_grant", "open_grant", "peer_of_certificate", "refusal",
    "where_it_may_be",
]  # fmt: skip
