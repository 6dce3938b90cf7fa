"""The libp2p network: a supervised child process, and the client that the node talks to."""

from node.network.circuits import RelayLimits
from node.network.client import NetworkClient
from node.network.errors import (
    BadAddress,
    NetworkBusy,
    NetworkFailed,
    PeerRefused,
    PeerUnreachable,
    PortInUse,
    ProtocolUnspoken,
    TooLarge,
)
from node.network.exchange import exchange_protocol
from node.network.reach import reach_protocol
from node.network.settings import (
    PUBLISH_BYTES_MAX,
    REQUEST_BYTES_MAX,
    ConnectedPeer,
    NetworkHandlers,
    NetworkSettings,
)

__all__ = [
    "PUBLISH_BYTES_MAX",
    "REQUEST_BYTES_MAX",
    "BadAddress",
    "ConnectedPeer",
    "NetworkBusy",
    "NetworkClient",
    "NetworkFailed",
    "NetworkHandlers",
    "NetworkSettings",
    "PeerRefused",
    "PeerUnreachable",
    "PortInUse",
    "ProtocolUnspoken",
    "RelayLimits",
    "TooLarge",
    "exchange_protocol",
    "reach_protocol",
]
