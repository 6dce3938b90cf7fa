"""What one call can cost at most, for both sides alike: bytes bound tokens, context bounds both."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, cast

from crdt import MalformedBytes
from inference import Offer
from royalties import Call, Prices, Tokens

ORDER_HEADER = "Hansa-Order"
TICKET_HEADER = "Hansa-Ticket"
ACCOUNT_HEADER = "Hansa-Account"
HEADER_BYTES_MAX = 4096
UNBOUNDED = 2**62
"""Tokens that are asked for where no number is given: the context is the bound."""


def prices_of(offer: Offer) -> Prices:
    """Return an offer's prices."""
    return Prices(offer.price_input, offer.price_cached, offer.price_output)


@dataclass(frozen=True, slots=True)
class Most:
    """What one call can come to at most, as its body and its offer say; true for every engine.

    A prompt and each of its answers fit the context together. How long the body is says nothing:
    templates add to a prompt, and a picture is many tokens for a short address.

    Attributes:
        input_count: Prompt tokens, cached or not.
        output_count: Of all answers together.
    """

    prices: Prices
    input_count: int
    output_count: int
    picos: int

    def clipped(self, tokens: Tokens) -> Tokens:
        """Return what of a reported count can be true; what cannot is not signed for."""
        cached = min(tokens.cached_count, self.input_count)
        input_ = min(tokens.input_count, self.input_count - cached)
        output = min(tokens.output_count, self.output_count)
        fits = Tokens(input_, cached, output)
        over = self.prices.amount_picos(fits) - self.picos
        if over <= 0:
            return fits
        return Tokens(input_, cached, output - -(-over // self.prices.output_price))


def most_of(offer: Offer, body: bytes) -> Most:
    """Return the most that a call with this body can come to at an offer."""
    asked = _asked(body)
    prices = prices_of(offer)
    dearest = max(prices.input_price, prices.cached_price, asked.choices * prices.output_price)
    return Most(
        prices,
        input_count=asked.prompts * offer.context,
        output_count=asked.prompts * asked.choices * min(asked.tokens, offer.context),
        picos=asked.prompts * offer.context * dearest,
    )


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


@dataclass(frozen=True, slots=True)
class _Asked:
    prompts: int = 1
    choices: int = 1
    tokens: int = UNBOUNDED


def _asked(body: bytes) -> _Asked:
    """Return how many prompts a body brings, how many answers to each it asks for, how long ones.

    Always parsed: names in JSON have many spellings. That `n` is an integer, `parse_call` checked.
    """
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        return _Asked()
    if not isinstance(found, dict):
        return _Asked()
    document = cast("dict[str, Any]", found)
    counts = [one for name in ("n", "best_of") if type(one := document.get(name)) is int]
    limits = [
        one
        for name in ("max_completion_tokens", "max_tokens")
        if type(one := document.get(name)) is int and one > 0
    ]
    texts = document.get("prompt", document.get("input"))
    prompts = cast("list[object]", texts) if isinstance(texts, list) and texts else [0]
    # A list of integers is one prompt, token by token; anything else in it is a prompt of its own.
    whole = all(type(one) is int for one in prompts)
    return _Asked(
        prompts=1 if whole else len(prompts),
        choices=max(1, *counts) if counts else 1,
        tokens=max(limits) if limits else UNBOUNDED,
    )
