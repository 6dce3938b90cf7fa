"""What happens to the sync machine, and what it asks to be done: frozen values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from crdt.ids import PeerId, RecordId
from crdt.items import Item
from crdt.ports import Outcome, RecordChange


class SyncProtocol(Enum):
    """Which of a peer's request protocols a question is for (`docs/wire.md`, versions)."""

    SYNC = "sync"
    """`after` and `fetch`: every peer of the network speaks it."""
    COMPARE = "compare"
    """`compare`, `sketch` and `pick`, which came later: peers may lack it."""


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """A peer can be asked."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerLost:
    """A peer is gone; requests to it that are under way have failed."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class GossipReceived:
    """A gossip frame came.

    Attributes:
        author: Who signed the gossip message: it answers for what the bytes say.
        forwarder: Who passed it on to us: it can be asked for what is missing.
    """

    author: PeerId
    forwarder: PeerId
    raw: bytes


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A peer asks; answer with `Reply` under the same token."""

    peer: PeerId
    token: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class AnswerReceived:
    """A peer answered our request."""

    peer: PeerId
    request: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """A peer did not answer our request.

    Attributes:
        unspoken: It does not speak the protocol, so it was not asked at all.
    """

    peer: PeerId
    request: int
    reason: str
    unspoken: bool = False


@dataclass(frozen=True, slots=True)
class LocalItems:
    """A caller of this node publishes; it is told with `Settled` under the same token."""

    token: int
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class PruneAsked:
    """The operator wants the dropped eras of some records gone; told with `Pruned`."""

    token: int
    records: tuple[RecordId, ...]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Time has passed. Harmless at any moment."""


Event: TypeAlias = (
    PeerConnected
    | PeerLost
    | GossipReceived
    | RequestReceived
    | AnswerReceived
    | RequestFailed
    | LocalItems
    | PruneAsked
    | Heartbeat
)


@dataclass(frozen=True, slots=True)
class Gossip:
    """Publish this frame to everybody."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class SendRequest:
    """Ask a peer; report with `AnswerReceived` or `RequestFailed` under the same number."""

    peer: PeerId
    request: int
    raw: bytes
    timeout_s: float
    protocol: SyncProtocol = SyncProtocol.SYNC


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a peer's request; None refuses it."""

    token: int
    raw: bytes | None


@dataclass(frozen=True, slots=True)
class Settled:
    """Tell a local caller what became of its items: they are durable now."""

    token: int
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Pruned:
    """Tell the operator how many operations were dropped."""

    token: int
    count: int


@dataclass(frozen=True, slots=True)
class Changed:
    """Records have new states, and this many items are new."""

    changes: tuple[RecordChange, ...]
    admitted_count: int


@dataclass(frozen=True, slots=True)
class DropPeer:
    """Close the connection to a peer that breaks the rules, and keep it out for a while."""

    peer: PeerId
    reason: str
    ban_s: int


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send a `Heartbeat` at this time; the earliest one asked for is enough."""

    at_ms: int


Effect: TypeAlias = Gossip | SendRequest | Reply | Settled | Pruned | Changed | DropPeer | WakeAt
