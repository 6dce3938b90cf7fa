"""Amounts: exact, and whole after every division."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import MalformedBytes
from royalties import Prices, Tokens, divide, open_prices, open_tokens
from royalties.money import AMOUNT_PICOS_MAX, PRICE_MAX, TOKEN_COUNT_MAX

AMOUNTS = st.integers(0, AMOUNT_PICOS_MAX)
WEIGHTS = st.dictionaries(
    st.binary(min_size=1, max_size=4), st.integers(0, 10**9), min_size=1, max_size=20
).filter(lambda weights: sum(weights.values()) > 0)


def test_tokens_times_price_is_exactly_picos() -> None:
    prices = Prices(input_price=150_000, cached_price=15_000, output_price=600_000)
    tokens = Tokens(input_count=1_000, cached_count=10, output_count=3)
    assert prices.amount_picos(tokens) == 150_000_000 + 150_000 + 1_800_000


@given(AMOUNTS, WEIGHTS)
def test_parts_sum_to_the_whole_and_are_within_one_of_exact(
    amount: int, weights: dict[bytes, int]
) -> None:
    parts = divide(amount, weights)
    total = sum(weights.values())
    assert sum(parts.values()) == amount
    assert all(0 <= parts[k] - amount * w // total <= 1 for k, w in weights.items())


@given(AMOUNTS, WEIGHTS, st.randoms())
def test_a_division_does_not_depend_on_the_order_of_its_shares(
    amount: int, weights: dict[bytes, int], random: object
) -> None:
    items = list(weights.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert divide(amount, dict(items)) == divide(amount, weights)


@pytest.mark.parametrize(
    ("amount", "weights", "expected"),
    [
        (10, {b"a": 1, b"b": 1, b"c": 1}, {b"a": 4, b"b": 3, b"c": 3}),
        (10, {b"c": 1, b"b": 1, b"a": 1}, {b"a": 4, b"b": 3, b"c": 3}),
        (0, {b"a": 7}, {b"a": 0}),
        (5, {b"a": 0, b"b": 1}, {b"a": 0, b"b": 5}),
        (7, {b"a": 1, b"b": 2}, {b"a": 2, b"b": 5}),
    ],
)
def test_remainders_go_to_the_largest_fraction_then_the_lowest_key(
    amount: int, weights: dict[bytes, int], expected: dict[bytes, int]
) -> None:
    assert divide(amount, weights) == expected


@pytest.mark.parametrize(
    "value",
    [None, 5, b"abc", (), (1, 2), (1, 2, 3, 4), (1, 2, -1), (1, 2, True), (1, 2, "3"),
     (1, 2, TOKEN_COUNT_MAX + 1)],
)  # fmt: skip
def test_counts_from_outside_are_three_bounded_naturals(value: object) -> None:
    with pytest.raises(MalformedBytes):
        open_tokens(value, "tokens")


def test_a_price_has_a_bound() -> None:
    assert open_prices((PRICE_MAX, 0, 0), "prices") == Prices(PRICE_MAX, 0, 0)
    with pytest.raises(MalformedBytes, match="prices"):
        open_prices((PRICE_MAX + 1, 0, 0), "prices")
