"""What the gateway needs of the rest of the node, as small protocols; `node/app.py` fits them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from crdt import PeerId, RecordId
from inference import Offered
from node.gateway.events import TokenCounts


@dataclass(frozen=True, slots=True)
class Measured:
    """What one finished call was, measured at one of its two ends.

    Attributes:
        request_hash, response_hash: SHA3-256 of the bytes that crossed between the nodes.
        complete: The engine said why it stopped; otherwise the answer was cut.
    """

    counts: TokenCounts
    request_hash: bytes
    response_hash: bytes
    complete: bool
    first_token_ms: int
    duration_ms: int


class Models(Protocol):
    """Turns the `model` of a call into records."""

    def resolve(self, reference: str) -> Sequence[RecordId]:
        """Return the records a reference may mean, best first.

        Raises:
            NoModel: it names nothing known here.
        """
        ...


class Offers(Protocol):
    """Knows what live peers, and this node, offer."""

    def offered(self, record: RecordId) -> Sequence[Offered]:
        """Return the live offers of a record."""
        ...

    def rtt_ms(self, peer: PeerId) -> float:
        """Return the measured round trip to a peer; 0 when it is this node or unknown."""
        ...


class Engines(Protocol):
    """Knows this node's own running engines."""

    def engine_url(self, record: RecordId) -> str | None:
        """Return the loopback base URL of the proven engine of a record, if one runs."""
        ...

    def engine_name(self, record: RecordId) -> str:
        """Return the name that engine knows the model by."""
        ...


class Payer(Protocol):
    """The consumer's side of the money."""

    def authorise(self, offered: Offered, path: str, body: bytes) -> Authorised:
        """Return the headers that pay for one call: an order and a ticket.

        Raises:
            UserFault: this node's own limits forbid the call.
        """
        ...

    def received(self, authorised: Authorised, measured: Measured) -> None:
        """Take note of what was received, to be settled soon; never waits.

        Called once for every authorised call, also when nothing came: then nothing is owed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Authorised:
    """One paid call to one offer.

    Attributes:
        headers: To be sent with it.
        nonce: The ticket's, which names the call on both sides.
    """

    offered: Offered
    headers: Mapping[str, str]
    nonce: bytes
    order: bytes


class Payee(Protocol):
    """The provider's side of the money."""

    def admit(self, caller: PeerId, headers: Mapping[str, str], path: str, body: bytes) -> Admitted:
        """Return the admitted call after checking its order and ticket.

        Raises:
            RemoteFault: it is not covered; nothing was served.
        """
        ...

    def served(self, admitted: Admitted, measured: Measured) -> None:
        """Take note of what was sent; never waits.

        Called once for every admitted call, also when nothing was sent: then nothing is owed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """One call that a peer's order covers."""

    record: RecordId
    nonce: bytes
    order: bytes
