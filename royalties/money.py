"""Money: integers only. Tokens x micro-USD per million tokens is exactly pico-USD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from crdt import MalformedBytes, array, natural

PICOS_PER_MICRO = 1_000_000
AMOUNT_PICOS_MAX = 2**63 - 1
"""About nine million USD: the most that one lane can hold, and the widest integer on the wire."""
PRICE_MAX = 10**12
"""A million USD per million tokens, in micro-USD."""
TOKEN_COUNT_MAX = 2**53 - 1
"""So that every JSON reader sees the same integer."""

Key = TypeVar("Key", bound=bytes)
IntTriple: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Counts of tokens. `input_count` leaves out the `cached_count` that came from a cache."""

    input_count: int = 0
    cached_count: int = 0
    output_count: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input_count + other.input_count,
            self.cached_count + other.cached_count,
            self.output_count + other.output_count,
        )

    def at_most(self, other: Tokens) -> bool:
        """Whether no count is above the other's."""
        return (
            self.input_count <= other.input_count
            and self.cached_count <= other.cached_count
            and self.output_count <= other.output_count
        )

    def wire(self) -> IntTriple:
        """Return the counts in wire order."""
        return (self.input_count, self.cached_count, self.output_count)


@dataclass(frozen=True, slots=True)
class Prices:
    """Micro-USD per million tokens; zero is free."""

    input_price: int = 0
    cached_price: int = 0
    output_price: int = 0

    def amount_picos(self, tokens: Tokens) -> int:
        """Return exactly what `tokens` cost: micro-USD per million tokens is pico-USD a token."""
        return (
            tokens.input_count * self.input_price
            + tokens.cached_count * self.cached_price
            + tokens.output_count * self.output_price
        )

    def wire(self) -> IntTriple:
        """Return the prices in wire order."""
        return (self.input_price, self.cached_price, self.output_price)


def open_tokens(value: object, what: str) -> Tokens:
    """Return the counts in a decoded triple, or raise `MalformedBytes`."""
    return Tokens(*_triple(value, what, maximum=TOKEN_COUNT_MAX))


def open_prices(value: object, what: str) -> Prices:
    """Return the prices in a decoded triple, or raise `MalformedBytes`."""
    return Prices(*_triple(value, what, maximum=PRICE_MAX))


def divide(amount_picos: int, weights: Mapping[Key, int]) -> dict[Key, int]:
    """Divide an amount by weight; the parts sum to exactly `amount_picos`.

    Floor shares first, then one unit each to the largest fractional parts, ties by key
    (largest-remainder method; docs/decisions/0007).

    Args:
        amount_picos: Zero or more.
        weights: At least one is positive, none negative; they need not sum to anything.
    """
    total = sum(weights.values())
    assert amount_picos >= 0
    assert total > 0
    assert min(weights.values()) >= 0
    shares = {key: amount_picos * weight // total for key, weight in weights.items()}
    left = amount_picos - sum(shares.values())
    by_fraction = sorted(weights, key=lambda key: (-(amount_picos * weights[key] % total), key))
    for key in by_fraction[:left]:
        shares[key] += 1
    assert sum(shares.values()) == amount_picos
    return shares


def _triple(value: object, what: str, *, maximum: int) -> IntTriple:
    parts: Sequence[Any] = array(value, what)
    if len(parts) != 3:
        raise MalformedBytes(f"{what} has {len(parts)} numbers, not 3")
    first, second, third = (natural(part, what, maximum=maximum) for part in parts)
    return first, second, third
