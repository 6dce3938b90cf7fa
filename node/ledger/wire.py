"""What two nodes send each other to settle: reports, claims and countersigned receipts.

All of it goes over the peer channel, in the bodies of `POST /peer/v1/receipts/settle` and
`/countersign`. Signatures are checked by the books, not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crdt import (
    Item,
    MalformedBytes,
    NetworkId,
    Signed,
    WrongNetwork,
    array,
    decode,
    encode,
    field,
    fixed_bytes,
    has_head,
    unpack_item,
)
from royalties import Call, Dispute, claim_bytes, open_call, open_tokens

VERSION = 0
SETTLE_BYTES_MAX = 256 * 1024
ANSWER_BYTES_MAX = 1024 * 1024
AGREED_BYTES_MAX = 16 * 1024
COUNT_MAX = 1024
PART_BYTES_MAX = 4 * 1024
SETTLE_PATH = "/peer/v1/receipts/settle"
COUNTERSIGN_PATH = "/peer/v1/receipts/countersign"


@dataclass(frozen=True, slots=True)
class Settle:
    """The consumer's report of one lane.

    Attributes:
        genesis: The consumer's account, for a provider that does not know it yet.
        agreed: The last receipt it countersigned, in case that message was lost.
    """

    lane: bytes
    genesis: Item
    agreed: Item | None
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Claimed:
    """The provider's answer: a signed claim over some of the calls, and what it disputes.

    Attributes:
        claim: Content and signature; None when it claims nothing.
    """

    genesis: Item
    claim: Signed | None
    calls: tuple[Call, ...]
    disputes: tuple[Dispute, ...]


def encode_settle(settle: Settle, network: NetworkId) -> bytes:
    """Return the bytes of a report."""
    return encode([
        "settle", VERSION, network, settle.lane, settle.genesis.raw,
        settle.agreed.raw if settle.agreed else b"", [call.wire() for call in settle.calls],
    ])  # fmt: skip


def decode_settle(raw: bytes, network: NetworkId) -> Settle:
    """Return the report in `raw`.

    Raises:
        MalformedBytes, WrongNetwork: it is not one.
    """
    parts = _open(raw, network, tag="settle", count=7, bytes_max=SETTLE_BYTES_MAX)
    agreed = field(parts[5], bytes, "agreed receipt")
    return Settle(
        lane=fixed_bytes(parts[3], 32, "lane"),
        genesis=unpack_item(field(parts[4], bytes, "genesis")),
        agreed=unpack_item(agreed) if agreed else None,
        calls=_calls(parts[6]),
    )


def encode_claimed(claimed: Claimed, network: NetworkId) -> bytes:
    """Return the bytes of an answer."""
    return encode([
        "claim", VERSION, network, claimed.genesis.raw,
        claim_bytes(claimed.claim) if claimed.claim else b"",
        [call.wire() for call in claimed.calls],
        [_dispute_fields(one) for one in claimed.disputes],
    ])  # fmt: skip


def decode_claimed(raw: bytes, network: NetworkId) -> Claimed:
    """Return the answer in `raw`.

    Raises:
        MalformedBytes, WrongNetwork: it is not one.
    """
    parts = _open(raw, network, tag="claim", count=7, bytes_max=ANSWER_BYTES_MAX)
    claim = field(parts[4], bytes, "claim")
    return Claimed(
        genesis=unpack_item(field(parts[3], bytes, "genesis")),
        claim=_signed(claim) if claim else None,
        calls=_calls(parts[5]),
        disputes=tuple(_dispute(one) for one in _bounded(parts[6], "disputes")),
    )


def encode_agreed(item: Item, genesis: Item, network: NetworkId) -> bytes:
    """Return the bytes that bring a countersigned receipt back, with its sender's account."""
    return encode(["agreed", VERSION, network, item.raw, genesis.raw])


def decode_agreed(raw: bytes, network: NetworkId) -> tuple[Item, Item]:
    """Return the receipt in `raw`, and the account of who sent it.

    Raises:
        MalformedBytes, WrongNetwork: it is not one.
    """
    parts = _open(raw, network, tag="agreed", count=5, bytes_max=AGREED_BYTES_MAX)
    receipt = unpack_item(field(parts[3], bytes, "agreed receipt"))
    return receipt, unpack_item(field(parts[4], bytes, "genesis"))


def _open(
    raw: bytes, network: NetworkId, *, tag: str, count: int, bytes_max: int
) -> tuple[Any, ...]:
    parts = decode(raw, bytes_max=bytes_max)
    if not has_head(parts, count, tag, VERSION):
        raise MalformedBytes(f"{count} fields that start with {tag!r}, {VERSION} are expected")
    if parts[2] != network:
        raise WrongNetwork("a settlement of another network")
    return parts


def _calls(value: object) -> tuple[Call, ...]:
    return tuple(open_call(field(one, bytes, "call")) for one in _bounded(value, "calls"))


def _bounded(value: object, what: str) -> Sequence[Any]:
    parts = array(value, what)
    if len(parts) > COUNT_MAX:
        raise MalformedBytes(f"{len(parts)} {what}; at most {COUNT_MAX}")
    return parts


def _signed(raw: bytes) -> Signed:
    parts = decode(raw, bytes_max=PART_BYTES_MAX)
    if len(parts) != 2:
        raise MalformedBytes("a claim is content and signature")
    return Signed(field(parts[0], bytes, "claim"), fixed_bytes(parts[1], 64, "signature"))


def _dispute_fields(one: Dispute) -> list[Any]:
    return [one.nonce, one.theirs.wire(), one.mine.wire() if one.mine else None]


def _dispute(value: object) -> Dispute:
    parts = array(value, "dispute")
    if len(parts) != 3:
        raise MalformedBytes("a dispute is 3 fields")
    mine = None if parts[2] is None else open_tokens(parts[2], "counted")
    nonce = fixed_bytes(parts[0], 16, "nonce")
    return Dispute(nonce, open_tokens(parts[1], "reported"), mine)
