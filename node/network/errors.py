"""What can go wrong between this node and its peers."""

from __future__ import annotations

from crdt import RemoteFault, UserFault, WorldFault


class PortInUse(WorldFault):
    """Another process listens where this node should."""

    code = "port-in-use"


class NetworkFailed(WorldFault):
    """The network child could not be started at all."""

    code = "network-failed"


class PeerUnreachable(WorldFault):
    """A peer is not connected, does not answer in time, or the network child is away."""

    code = "peer-unreachable"


class NetworkBusy(WorldFault):
    """More is asked of the network at once than it queues."""

    code = "network-busy"


class PeerRefused(RemoteFault):
    """A peer is there and gives no answer to this request, or one that is too long."""

    code = "peer-refused"


class ProtocolUnspoken(RemoteFault):
    """A peer is there and does not speak a protocol: of another version, or another program."""

    code = "protocol-unspoken"


class BadAddress(UserFault):
    """An address that cannot be dialled."""

    code = "bad-address"


class TooLarge(UserFault):
    """A frame over the size that the network carries."""

    code = "frame-too-large"


BY_CODE = {
    kind.code: kind
    for kind in (
        PortInUse,
        NetworkFailed,
        PeerUnreachable,
        NetworkBusy,
        PeerRefused,
        ProtocolUnspoken,
        BadAddress,
        TooLarge,
    )
}
"""How an error that crosses the socket pair finds its class again."""
