"""What goes wrong between two nodes on the HTTPS channel."""

from __future__ import annotations

from ipaddress import ip_address

from crdt import RemoteFault, WorldFault


class GrantRefused(RemoteFault):
    """A request came without a grant that admits it; the message says what was wrong with it."""

    code = "grant-refused"


class GrantReplayed(GrantRefused):
    """A grant that was already used came again."""

    code = "grant-replayed"


class WrongPeerKey(RemoteFault):
    """The server's certificate does not carry the key of the peer that was meant."""

    code = "wrong-peer-key"


class PeerMisbehaved(RemoteFault):
    """A peer answered something that its protocol does not allow."""

    code = "peer-misbehaved"


class PeerRefused(WorldFault):
    """A peer answered with an error of its own: it is there, and does not serve this."""

    code = "peer-refused"

    def __init__(self, peer: str, status: int, detail: str) -> None:
        self.status = status
        super().__init__(f"peer {peer} answered {status}: {detail[:200]}")


class PeerUnreachable(WorldFault):
    """A peer's HTTPS port did not answer in time."""

    code = "peer-unreachable"


def where_it_may_be(host: str) -> str:
    """Return what is to be said of a host that did not answer, if it is on a private network."""
    try:
        ip = ip_address(host)
    except ValueError:
        return ""
    if ip.is_global or ip.is_loopback:
        return ""
    return (
        "; a private address: if its node is behind a NAT, no build or call reaches it there, and "
        "its operator must forward peer.port and set peer.advertise (docs/relay.md)"
    )


class PeerPortInUse(WorldFault):
    """Our own HTTPS port for peers is taken."""

    code = "port-in-use"

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"port {port} on {host} is in use; set peer.port (HANSA_PEER__PORT) to a free one"
        )
