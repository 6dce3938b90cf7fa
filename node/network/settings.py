"""What the network is told at start, and what it tells about its peers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from crdt import NetworkId, PeerId
from crdt.wire import Value
from node.network.circuits import RelayLimits
from node.network.identified import Identified

PUBLISH_BYTES_MAX = 64 * 1024
"""One gossip frame. py-libp2p drops an RPC over 1 MiB silently, and an RPC holds several."""
REQUEST_BYTES_MAX = 1024 * 1024
"""One request or answer: a reader that takes longer than 5 s over one kills its sender."""

NEWCOMER_COUNT_MAX = 16
"""Connections on top of `peer_count_max`: newcomers that catch up and leave, and our own dials."""


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Everything the network child needs.

    `node_seed` is the Ed25519 seed; it crosses to the child over a socket pair only.
    `listen` and `bootstrap` are multiaddresses, the latter with `/p2p/PEER`.
    """

    node_seed: bytes
    network: NetworkId
    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/4001",)
    bootstrap: tuple[str, ...] = ()
    peer_count_max: int = 64
    memory_bytes_max: int = 2048 * 1024 * 1024
    """Address space (RLIMIT_AS); the libraries alone map about 300 MiB."""
    request_rate_s: float = 50
    """Requests a second that one peer may make, after a burst of four times as many."""
    gossip_rate_s: float = 200
    """Gossip messages a second that one neighbour may forward, after a burst of as many again."""
    outbound_count: int = 8
    """Connections that inbound ones leave room for."""
    inbound_group_count_max: int = 8
    """Inbound connections from one address group."""
    allow: tuple[str, ...] = ()
    """Peer ids and networks that alone may be connected; none: all."""
    deny: tuple[str, ...] = ()
    """Peer ids and networks that may not."""
    relay: RelayLimits | None = None
    """What others may take of this node as a relay; None: it is none."""
    reserve: bool = False
    """Be reachable through relays among the peers that are dialled."""
    ping_interval_s: float = 3
    ping_timeout_s: float = 2

    def __post_init__(self) -> None:
        """Assert the limits that must agree."""
        assert len(self.node_seed) == 32
        assert len(self.network) == 32
        assert self.listen, "a node without an address to listen on is not a peer"
        assert 0 <= self.outbound_count <= self.peer_count_max
        assert self.inbound_group_count_max > 0
        assert 0 < self.ping_timeout_s < self.ping_interval_s

    def __repr__(self) -> str:
        """Show everything but the seed."""
        return f"NetworkSettings(listen={self.listen}, bootstrap={self.bootstrap})"

    @property
    def ops_topic(self) -> str:
        """The gossip topic of new items."""
        return f"{self._prefix}/ops/0"

    @property
    def adverts_topic(self) -> str:
        """The gossip topic of adverts."""
        return f"{self._prefix}/adverts/0"

    @property
    def protocols(self) -> tuple[str, str, str, str, str]:
        """The request protocols that are answered: sync, adverts, peers, compare, reach."""
        prefix = self._prefix
        return (
            f"{prefix}/sync/0",
            f"{prefix}/adverts/0",
            f"{prefix}/peers/0",
            f"{prefix}/compare/0",
            f"{prefix}/reach/0",
        )

    @property
    def inbound_count_max(self) -> int:
        """Connections from others, handshakes included: they never take the place of our own."""
        return self.peer_count_max + NEWCOMER_COUNT_MAX - self.outbound_count

    @property
    def prefix(self) -> str:
        """How the names of this network's protocols and topics begin."""
        return f"{self._prefix}/"

    @property
    def _prefix(self) -> str:
        return f"/hansa/{self.network.hex()[:16]}"


@dataclass(frozen=True, slots=True)
class ConnectedPeer:
    """A peer as it is now; `rtt_ms` is 0 until its first ping came back.

    Attributes:
        software: As it calls itself; empty until it has said so.
        protocols: Those of this network that it says it speaks: `sync/0`.
        observed: The host at which it says that it sees us.
    """

    peer: PeerId
    address: str
    direction: Literal["in", "out"]
    since_s: int
    rtt_ms: float = 0
    software: str = ""
    protocols: tuple[str, ...] = ()
    observed: str = ""


class NetworkHandlers(Protocol):
    """What the network calls, on the asyncio loop. All but the last return at once."""

    def peer_connected(self, peer: PeerId, address: str) -> None:
        """Take note of a peer that can be asked."""
        ...

    def peer_lost(self, peer: PeerId) -> None:
        """Take note of a peer that is gone."""
        ...

    def addresses_changed(self) -> None:
        """Take note that peers reach this node elsewhere now: through other relays."""
        ...

    def gossip(self, topic: str, author: PeerId, forwarder: PeerId, data: bytes) -> None:
        """Queue a frame that passed the topic's validator; never our own."""
        ...

    async def answer(self, peer: PeerId, protocol: str, payload: bytes) -> bytes:
        """Return the answer to a peer's request; any HansaError means that it gets none."""
        ...


class HostNode(Protocol):
    """What the host tells, and whom it asks: the child's end of the socket pair."""

    def ready(self, peer: str, addresses: list[str]) -> None:
        """Tell that peers can come."""
        ...

    def connected(self, peer: str, address: str, *, outgoing: bool) -> None:
        """Tell of a peer."""
        ...

    def lost(self, peer: str) -> None:
        """Tell of a peer that is gone."""
        ...

    def identified(self, peer: str, said: Identified) -> None:
        """Tell what a peer says of itself."""
        ...

    def circuits(self, addresses: list[str]) -> None:
        """Tell where others reach this host through relays now."""
        ...

    def rtt(self, peer: str, seconds: float) -> None:
        """Tell how far away a peer is."""
        ...

    def gossip(self, topic: str, author: str, forwarder: str, data: bytes) -> None:
        """Hand over a frame."""
        ...

    def log(self, level: str, event: str, *details: Value) -> None:
        """Log something."""
        ...

    async def ask(self, peer: str, protocol: str, payload: bytes) -> bytes | None:
        """Return the answer to a peer's request."""
        ...
