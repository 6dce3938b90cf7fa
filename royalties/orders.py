"""Orders and tickets: what a consumer signs before a call.

One order covers a session of calls up to a cap. A ticket binds one call to it: this server, this
path, this body, now, once.
"""

from __future__ import annotations

from dataclasses import dataclass

from crdt import (
    AccountId,
    MalformedBytes,
    ManifestDigest,
    NetworkId,
    OperationId,
    PublicKey,
    RecordId,
    Signed,
    SigningKey,
    WrongNetwork,
    decode,
    encode,
    field,
    fixed_bytes,
    has_head,
    natural,
    seal,
    sha3,
    verify,
)
from royalties.errors import BadOrder
from royalties.money import AMOUNT_PICOS_MAX, Prices, open_prices

ORDER_DOMAIN = "hansa/order"
TICKET_DOMAIN = "hansa/ticket"
VERSION = 0
ORDER_BYTES_MAX = 1024
TICKET_BYTES_MAX = 512
ORDER_LIFE_S_MAX = 24 * 3600
"""An order is a session, not a subscription: a leaked one dies within a day."""
CLOCK_SKEW_S = 60
"""How far two nodes' clocks may differ; also how long a ticket is good for."""
DAY_S = 86400
NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Order:
    """What a consumer will pay a provider for, and how much at most.

    Attributes:
        version: The put whose terms (royalty, splits) apply.
        cap_picos: The most that all calls under this order may cost together.
        manifest: The build that must serve it; 32 zero bytes when the record has none.
    """

    network: NetworkId
    consumer: AccountId
    provider: AccountId
    record: RecordId
    version: OperationId
    manifest: ManifestDigest
    prices: Prices
    cap_picos: int
    issued_s: int
    expires_s: int
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Ticket:
    """One call under an order: good once, at one server, for one body.

    Attributes:
        order: Hash of the order's content.
        server: The provider node's key, so that a ticket cannot be carried to another node.
    """

    network: NetworkId
    order: bytes
    server: PublicKey
    path: str
    body_hash: bytes
    time_s: int
    nonce: bytes

    @property
    def epoch(self) -> int:
        """The UTC day this call counts in: signed, so both sides agree on it at midnight."""
        return self.time_s // DAY_S


def sign_order(order: Order, key: SigningKey) -> bytes:
    """Return a signed order as bytes; `key` is the consumer account's root key."""
    content = encode([
        ORDER_DOMAIN, VERSION, order.network, order.consumer, order.provider, order.record,
        order.version, order.manifest, order.prices.wire(), order.cap_picos, order.issued_s,
        order.expires_s, order.nonce,
    ])  # fmt: skip
    signed = seal(content, key)
    return encode([signed.content, signed.signature])


def open_order(raw: bytes, network: NetworkId) -> tuple[Order, Signed]:
    """Return the order in `raw` with its shape checked; its signature is not checked yet.

    Raises:
        MalformedBytes, WrongNetwork: it is not an order of this network.
    """
    signed = open_signed(raw, bytes_max=ORDER_BYTES_MAX)
    parts = decode(signed.content, bytes_max=ORDER_BYTES_MAX)
    if not has_head(parts, 13, ORDER_DOMAIN, VERSION):
        raise MalformedBytes(f"an order is 13 fields that start with {ORDER_DOMAIN!r}, {VERSION}")
    if parts[2] != network:
        raise WrongNetwork("the order was signed for another network")
    order = Order(
        network=network,
        consumer=AccountId(fixed_bytes(parts[3], 32, "consumer")),
        provider=AccountId(fixed_bytes(parts[4], 32, "provider")),
        record=RecordId(fixed_bytes(parts[5], 32, "record")),
        version=OperationId(fixed_bytes(parts[6], 32, "version")),
        manifest=ManifestDigest(fixed_bytes(parts[7], 32, "manifest")),
        prices=open_prices(parts[8], "prices"),
        cap_picos=natural(parts[9], "cap", maximum=AMOUNT_PICOS_MAX),
        issued_s=natural(parts[10], "issued"),
        expires_s=natural(parts[11], "expires"),
        nonce=fixed_bytes(parts[12], NONCE_BYTES, "nonce"),
    )
    if not order.issued_s < order.expires_s <= order.issued_s + ORDER_LIFE_S_MAX:
        raise MalformedBytes(f"an order lives 1..{ORDER_LIFE_S_MAX} s")
    if order.consumer == order.provider:
        raise MalformedBytes("an order has two parties; its consumer is its provider")
    return order, signed


def order_hash(signed: Signed) -> bytes:
    """Return the name of an order in tickets and receipts."""
    return sha3(signed.content)


def sign_ticket(ticket: Ticket, key: SigningKey) -> bytes:
    """Return a signed ticket as bytes; `key` is the consumer account's root key."""
    content = encode([
        TICKET_DOMAIN, VERSION, ticket.network, ticket.order, ticket.server, ticket.path,
        ticket.body_hash, ticket.time_s, ticket.nonce,
    ])  # fmt: skip
    signed = seal(content, key)
    return encode([signed.content, signed.signature])


def open_ticket(raw: bytes, network: NetworkId) -> tuple[Ticket, Signed]:
    """Return the ticket in `raw` with its shape checked; its signature is not checked yet.

    Raises:
        MalformedBytes, WrongNetwork: it is not a ticket of this network.
    """
    signed = open_signed(raw, bytes_max=TICKET_BYTES_MAX)
    parts = decode(signed.content, bytes_max=TICKET_BYTES_MAX)
    if not has_head(parts, 9, TICKET_DOMAIN, VERSION):
        raise MalformedBytes(f"a ticket is 9 fields that start with {TICKET_DOMAIN!r}, {VERSION}")
    if parts[2] != network:
        raise WrongNetwork("the ticket was signed for another network")
    ticket = Ticket(
        network=network,
        order=fixed_bytes(parts[3], 32, "order"),
        server=PublicKey(fixed_bytes(parts[4], 32, "server")),
        path=field(parts[5], str, "path"),
        body_hash=fixed_bytes(parts[6], 32, "body hash"),
        time_s=natural(parts[7], "time"),
        nonce=fixed_bytes(parts[8], NONCE_BYTES, "nonce"),
    )
    return ticket, signed


def check_order(order: Order, signed: Signed, *, consumer_key: PublicKey, now_s: int) -> None:
    """Check an order's signature and times.

    Raises:
        BadSignature: the consumer did not sign it.
        BadOrder: it is not in force now.
    """
    verify(signed, consumer_key)
    if now_s < order.issued_s - CLOCK_SKEW_S:
        raise BadOrder(f"the order begins at {order.issued_s}, and it is {now_s}; check the clocks")
    if now_s >= order.expires_s:
        raise BadOrder(f"the order ended at {order.expires_s}, and it is {now_s}; sign a new one")


def check_ticket(
    ticket: Ticket,
    signed: Signed,
    *,
    order: bytes,
    server: PublicKey,
    path: str,
    body: bytes,
    consumer_key: PublicKey,
    now_s: int,
) -> None:
    """Check that a ticket is for this call at this server now (replays are the caller's check).

    Raises:
        BadSignature: the consumer did not sign it.
        BadOrder: it is for something else.
    """
    if ticket.order != order:
        raise BadOrder("the ticket names another order")
    if ticket.server != server:
        raise BadOrder("the ticket is for another node")
    if ticket.path != path:
        raise BadOrder(f"the ticket is for {ticket.path[:80]!r}, not {path!r}")
    if abs(now_s - ticket.time_s) > CLOCK_SKEW_S:
        raise BadOrder(
            f"the ticket is from {ticket.time_s}, and it is {now_s}; "
            f"at most {CLOCK_SKEW_S} s apart: check the clocks"
        )
    if ticket.body_hash != sha3(body):
        raise BadOrder("the ticket is for another body")
    verify(signed, consumer_key)


def open_signed(raw: bytes, *, bytes_max: int) -> Signed:
    """Return the pair of content and signature in `raw`."""
    parts = decode(raw, bytes_max=bytes_max + 128)
    if len(parts) != 2:
        raise MalformedBytes(f"{len(parts)} fields where content and signature are expected")
    return Signed(field(parts[0], bytes, "content"), fixed_bytes(parts[1], 64, "signature"))
