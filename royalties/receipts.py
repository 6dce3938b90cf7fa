"""Receipts: what a provider claims, what both parties agree, and the rules replicas judge by.

A lane is (consumer, provider, record version, build, prices, UTC day). Its totals start at zero
each day, so the highest agreed receipt of a lane stands alone: nothing is subtracted from it, and
leaving an older one out of a statement cannot raise what is owed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from crdt import (
    Account,
    AccountId,
    BadSignature,
    Item,
    ItemKind,
    MalformedBytes,
    ManifestDigest,
    MissingAccount,
    NetworkId,
    OperationId,
    PublicKey,
    RecordId,
    Signed,
    SigningKey,
    Slot,
    WrongNetwork,
    decode,
    encode,
    field,
    fixed_bytes,
    has_head,
    natural,
    pack_item,
    seal,
    sha3,
    verify_digest,
)
from royalties.errors import BadReceipt
from royalties.money import AMOUNT_PICOS_MAX, Prices, Tokens, open_prices, open_tokens
from royalties.orders import open_signed

RECEIPT_DOMAIN = "hansa/receipt"
AGREED_DOMAIN = "hansa/agreed"
VERSION = 0
RECEIPT_BYTES_MAX = 1024
AGREED_BYTES_MAX = 2048
CALL_BYTES_MAX = 256
EPOCH_MAX = 2_932_896
"""31 December 9999, the last day that calendars of programs know."""
FINISHES = ("complete", "cut")
"""A cut call ended before its engine said so; it pays for the tokens delivered."""
NO_CALLS = bytes(32)
"""The calls digest of a lane before its first receipt."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Who is served what by whom on which day at which prices: what one running total is of."""

    network: NetworkId
    consumer: AccountId
    provider: AccountId
    record: RecordId
    version: OperationId
    manifest: ManifestDigest
    prices: Prices
    epoch: int

    @property
    def id(self) -> bytes:
        """The lane's name, and its slot in the replicated maxima."""
        return sha3(encode(["hansa/lane", VERSION, *self.wire()]))

    def wire(
        self,
    ) -> tuple[bytes, bytes, bytes, bytes, bytes, bytes, tuple[int, int, int], int]:
        """Return the fields in wire order."""
        return (
            self.network, self.consumer, self.provider, self.record, self.version, self.manifest,
            self.prices.wire(), self.epoch,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """One served call, as its provider counts it: a raw receipt, kept by the two parties only.

    Attributes:
        nonce: The ticket's.
        request_hash, response_hash: SHA3-256 of the bytes that crossed between the nodes.
        finish: One of `FINISHES`.
    """

    nonce: bytes
    order: bytes
    request_hash: bytes
    response_hash: bytes
    tokens: Tokens
    finish: str
    first_token_ms: int
    duration_ms: int

    def wire(self) -> bytes:
        """Return the call's canonical bytes."""
        return encode([
            self.nonce, self.order, self.request_hash, self.response_hash, self.tokens.wire(),
            self.finish, self.first_token_ms, self.duration_ms,
        ])  # fmt: skip


def open_call(raw: bytes) -> Call:
    """Return the call in `raw`, or raise `MalformedBytes`."""
    parts = decode(raw, bytes_max=CALL_BYTES_MAX)
    if len(parts) != 8 or parts[5] not in FINISHES:
        raise MalformedBytes("a call is 8 fields with a known finish")
    return Call(
        nonce=fixed_bytes(parts[0], 16, "call nonce"),
        order=fixed_bytes(parts[1], 32, "order"),
        request_hash=fixed_bytes(parts[2], 32, "request hash"),
        response_hash=fixed_bytes(parts[3], 32, "response hash"),
        tokens=open_tokens(parts[4], "call tokens"),
        finish=field(parts[5], str, "finish"),
        first_token_ms=natural(parts[6], "time to first token"),
        duration_ms=natural(parts[7], "duration"),
    )


def calls_digest(before: bytes, calls: Iterable[Call]) -> bytes:
    """Return the digest that binds a receipt to every raw call it covers.

    Args:
        before: The digest of the receipt it continues; `NO_CALLS` for the first.
    """
    return sha3(encode(["hansa/calls", VERSION, before, [sha3(call.wire()) for call in calls]]))


@dataclass(frozen=True, slots=True)
class Receipt:
    """The state of a lane: cumulative totals under a sequence number.

    Attributes:
        order: Hash of the newest order covered.
        sequence: 1 for the lane's first receipt; never reused.
        call_count, tokens: Totals of the lane's day so far.
        calls: Running digest over the raw calls (`calls_digest`).
        issued_s: The provider's clock, advisory.
    """

    lane: Lane
    order: bytes
    sequence: int
    call_count: int
    tokens: Tokens
    calls: bytes
    issued_s: int

    @property
    def amount_picos(self) -> int:
        """What the consumer owes for the lane so far: derived, so nobody can misstate it."""
        return self.lane.prices.amount_picos(self.tokens)

    def content(self) -> bytes:
        """Return the canonical bytes that the provider signs."""
        return encode([
            RECEIPT_DOMAIN, VERSION, *self.lane.wire(), self.order, self.sequence,
            self.call_count, self.tokens.wire(), self.calls, self.issued_s,
        ])  # fmt: skip


def sign_receipt(receipt: Receipt, key: SigningKey) -> Signed:
    """Return the claim: the receipt signed by the provider account's root key."""
    return seal(receipt.content(), key)


def open_receipt(content: bytes, network: NetworkId) -> Receipt:
    """Return the receipt in `content`, with every rule checked that needs no key.

    Raises:
        MalformedBytes, WrongNetwork, BadReceipt: no node may accept it.
    """
    parts = decode(content, bytes_max=RECEIPT_BYTES_MAX)
    if not has_head(parts, 16, RECEIPT_DOMAIN, VERSION):
        raise MalformedBytes(
            f"a receipt is 16 fields that start with {RECEIPT_DOMAIN!r}, {VERSION}"
        )
    if parts[2] != network:
        raise WrongNetwork("the receipt was signed for another network")
    lane = Lane(
        network=network,
        consumer=AccountId(fixed_bytes(parts[3], 32, "consumer")),
        provider=AccountId(fixed_bytes(parts[4], 32, "provider")),
        record=RecordId(fixed_bytes(parts[5], 32, "record")),
        version=OperationId(fixed_bytes(parts[6], 32, "version")),
        manifest=ManifestDigest(fixed_bytes(parts[7], 32, "manifest")),
        prices=open_prices(parts[8], "prices"),
        epoch=natural(parts[9], "epoch", maximum=EPOCH_MAX),
    )
    receipt = Receipt(
        lane=lane,
        order=fixed_bytes(parts[10], 32, "order"),
        sequence=natural(parts[11], "sequence"),
        call_count=natural(parts[12], "call count"),
        tokens=open_tokens(parts[13], "tokens"),
        calls=fixed_bytes(parts[14], 32, "calls digest"),
        issued_s=natural(parts[15], "issued"),
    )
    if lane.consumer == lane.provider:
        raise BadReceipt("a lane has two parties; its consumer is its provider")
    if receipt.sequence < 1 or receipt.call_count < 1:
        raise BadReceipt("sequence and call count of a receipt start at 1")
    if receipt.amount_picos > AMOUNT_PICOS_MAX:
        raise BadReceipt(f"{receipt.amount_picos} pico-USD; a lane holds {AMOUNT_PICOS_MAX}")
    return receipt


def countersign(claim: Signed, key: SigningKey) -> Item:
    """Return the agreed receipt as a replicated item; `key` is the consumer's root key."""
    content = encode([AGREED_DOMAIN, VERSION, claim.content, claim.signature])
    return pack_item(ItemKind.RECEIPT, seal(content, key))


@dataclass(frozen=True, slots=True)
class Agreed:
    """A receipt with both signatures' places filled; `open_agreed` does not verify them."""

    receipt: Receipt
    claim: Signed
    item: Item


def open_agreed(item: Item, network: NetworkId) -> Agreed:
    """Return the agreed receipt in `item`; its signatures are not checked yet.

    Raises:
        MalformedBytes, WrongNetwork, BadReceipt: no node may accept it.
    """
    if item.kind is not ItemKind.RECEIPT or item.body:
        raise MalformedBytes("an agreed receipt is an item of its own kind, without a body")
    parts = decode(item.signed.content, bytes_max=AGREED_BYTES_MAX)
    if not has_head(parts, 4, AGREED_DOMAIN, VERSION):
        raise MalformedBytes(f"an agreed receipt starts with {AGREED_DOMAIN!r}, {VERSION}")
    content = field(parts[2], bytes, "receipt")
    claim = Signed(content, fixed_bytes(parts[3], 64, "provider's signature"))
    return Agreed(open_receipt(content, network), claim, item)


def verify_agreed(
    agreed: Agreed, *, consumer_keys: Sequence[PublicKey], provider_keys: Sequence[PublicKey]
) -> None:
    """Check both signatures, each by any of a party's root keys (`Account.root_keys`).

    A receipt outlives the key that signed it, so a rotation must not take what was earned. Which
    keys a party ever had only grows, and so does what is valid, whatever comes first.

    Raises:
        BadSignature: one of them is not the party's.
    """
    claim, item = agreed.claim, agreed.item
    verify_any(sha3(claim.content), claim.signature, provider_keys)
    verify_any(item.id, item.signed.signature, consumer_keys)


def verify_any(digest: bytes, signature: bytes, keys: Sequence[PublicKey]) -> None:
    """Check a signature by one of several keys; the newest is tried first.

    Raises:
        BadSignature: it is by none of them.
    """
    for key in reversed(keys):
        try:
            verify_digest(digest, signature, key)
        except BadSignature:
            continue
        return
    raise BadSignature(f"the signature is by none of the party's {len(keys)} root keys")


class ReceiptRules:
    """Judges receipts for a replica: both parties signed, and where the receipt competes."""

    def __init__(self, network: NetworkId) -> None:
        self._network = network

    def judge(self, item: Item, account_of: Callable[[AccountId], Account | None]) -> Slot:
        """Return the lane's slot and the receipt's rank in it.

        Raises:
            MissingAccount: a party's account is not known here yet.
            RemoteFault: it is not a valid agreed receipt.
        """
        agreed = open_agreed(item, self._network)
        lane = agreed.receipt.lane
        consumer, provider = account_of(lane.consumer), account_of(lane.provider)
        if consumer is None or provider is None:
            parties = ((lane.consumer, consumer), (lane.provider, provider))
            raise MissingAccount(tuple(id_ for id_, known in parties if known is None))
        verify_agreed(agreed, consumer_keys=consumer.root_keys, provider_keys=provider.root_keys)
        return Slot(lane.id, agreed.receipt.sequence, subject=lane.record, period=lane.epoch)


def open_claim(raw: bytes, network: NetworkId) -> tuple[Receipt, Signed]:
    """Return a provider's claim from its bytes; its signature is not checked yet."""
    claim = open_signed(raw, bytes_max=RECEIPT_BYTES_MAX)
    return open_receipt(claim.content, network), claim


def claim_bytes(claim: Signed) -> bytes:
    """Return a claim as bytes; the inverse of `open_claim`."""
    return encode([claim.content, claim.signature])
