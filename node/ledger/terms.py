"""What one call can cost at most, for both sides alike: bytes bound tokens, context bounds both."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, cast

from crdt import MalformedBytes
from inference import Offer
from royalties import Call, Prices, Tokens

ORDER_HEADER = "Hansa-Order"
TICKET_HEADER = "Hansa-Ticket"
ACCOUNT_HEADER = "Hansa-Account"
HEADER_BYTES_MAX = 4096
CHOICE_COUNT_MAX = 128


def prices_of(offer: Offer) -> Prices:
    """Return an offer's prices."""
    return Prices(offer.price_input, offer.price_cached, offer.price_output)


def most_picos(offer: Offer, body: bytes) -> int:
    """Return the most that a call with this body can cost at an offer.

    A token has at least one byte, so the body bounds the prompt; the context bounds each answer.
    """
    prompt = min(len(body), offer.context)
    dearest = max(offer.price_input, offer.price_cached)
    return prompt * dearest + _choices(body) * offer.context * offer.price_output


def call_of(
    nonce: bytes, order: bytes, request_hash: bytes, response_hash: bytes, *,
    tokens: Tokens, complete: bool, first_token_ms: int, duration_ms: int,
) -> Call:  # fmt: skip
    """Return the raw receipt of a measured call."""
    finish = "complete" if complete else "cut"
    return Call(
        nonce, order, request_hash, response_hash, tokens, finish, first_token_ms, duration_ms
    )


def armour(raw: bytes) -> str:
    """Return bytes as a header carries them: base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unarmour(text: str | None, name: str) -> bytes:
    """Return the bytes in a header.

    Raises:
        MalformedBytes: it is missing, too long or not base64url.
    """
    if not text:
        raise MalformedBytes(f"the request has no {name} header")
    if len(text) > HEADER_BYTES_MAX:
        raise MalformedBytes(f"the {name} header is over {HEADER_BYTES_MAX} characters")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise MalformedBytes(f"the {name} header is not base64url without padding") from error


def _choices(body: bytes) -> int:
    """Return how many answers a body asks for; parsed only when it can be more than one."""
    if b'"n"' not in body and b'"best_of"' not in body:
        return 1
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        return 1
    if not isinstance(found, dict):
        return 1
    document = cast("dict[str, Any]", found)
    asked = [document.get("n"), document.get("best_of")]
    return max([1, *(one for one in asked if type(one) is int and one <= CHOICE_COUNT_MAX)])
