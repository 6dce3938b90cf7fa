"""The terms an owner sets: price, the creator's share, and who else is paid from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from registry.errors import Problem
from registry.fields import LIST_COUNT_MAX, Closed, HexId

if TYPE_CHECKING:
    from registry.shared import Record

PRICE_MAX = 10**12
"""Micro-USD: a million dollars per million tokens. Above it somebody's unit is wrong."""
BASIS_POINTS = 10_000
WEIGHT_MAX = 2**32 - 1

Micros = Annotated[int, Field(ge=0, le=PRICE_MAX)]
ShareBps = Annotated[int, Field(ge=0, le=BASIS_POINTS)]


class Price(Closed):
    """Integer micro-USD: per million tokens, or per request, or per minute; one way only."""

    input: Micros = 0
    """Per million input tokens."""
    output: Micros = 0
    """Per million output tokens."""
    cached_input: Micros | None = None
    """Per million input tokens that came from a cache; the same as `input` when not given."""
    per_request: Micros | None = None
    per_minute: Micros | None = None

    @property
    def cached(self) -> int:
        """Micro-USD per million cached input tokens."""
        return self.input if self.cached_input is None else self.cached_input

    @property
    def free(self) -> bool:
        """Whether nothing is asked for."""
        return not any(
            (self.input, self.output, self.cached_input, self.per_request, self.per_minute)
        )


class Split(Closed):
    """An account that gets a part of the creator's share, by weight among the splits."""

    account: HexId
    weight: Annotated[int, Field(ge=1, le=WEIGHT_MAX)] = 1


class BaseModelShare(Closed):
    """A record that this one was derived from, and the part of the creator's share it gets."""

    record: HexId
    share_bps: ShareBps = 0


def _by_account(values: tuple[Split, ...]) -> tuple[Split, ...]:
    return tuple(sorted(values, key=lambda s: (s.account, s.weight))) if values else values


def _by_record(values: tuple[BaseModelShare, ...]) -> tuple[BaseModelShare, ...]:
    return tuple(sorted(values, key=lambda b: (b.record, b.share_bps))) if values else values


Splits = Annotated[
    tuple[Split, ...],
    Field(strict=False, max_length=LIST_COUNT_MAX),
    AfterValidator(_by_account),
]
BaseModels = Annotated[
    tuple[BaseModelShare, ...],
    Field(strict=False, max_length=LIST_COUNT_MAX),
    AfterValidator(_by_record),
]
PRICE_FIELDS = tuple(Price.model_fields)


def terms_problems(record: Record) -> Iterator[Problem]:
    """Yield which of a record's terms contradict each other."""
    price = record.price
    if price is not None:
        yield from _price_problems(price)
        if record.pricing_tier == "free" and not price.free:
            yield Problem("pricing_tier", "'free'", "is free, but the record asks for a price")
    if record.splits:
        accounts = Counter(split.account for split in record.splits)
        for account, count in accounts.items():
            if count > 1:
                yield Problem("splits", account, f"the account is listed {count} times")
    if record.base_models:
        records = Counter(base.record for base in record.base_models)
        for base, count in records.items():
            if count > 1:
                yield Problem("base_models", base, f"the record is listed {count} times")
        total = sum(base.share_bps for base in record.base_models)
        if total > BASIS_POINTS:
            yield Problem(
                "base_models", str(total), f"shares sum to more than {BASIS_POINTS} basis points"
            )


def _price_problems(price: Price) -> Iterator[Problem]:
    by_token = bool(price.input or price.output or price.cached_input)
    ways = [
        name
        for name, given in (
            ("per million tokens", by_token),
            ("per_request", price.per_request is not None),
            ("per_minute", price.per_minute is not None),
        )
        if given
    ]
    if len(ways) > 1:
        yield Problem("price", " and ".join(ways), "a price is asked for in one way only")
    if price.cached > price.input:
        yield Problem(
            "price.cached_input", str(price.cached), f"costs more than input {price.input}"
        )
