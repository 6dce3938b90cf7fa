"""The fields that models and agents have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from registry.errors import Problem
from registry.fields import (
    I64,
    Closed,
    HexIds,
    License,
    Name,
    References,
    Regions,
    Segments,
    Semver,
    Text,
    Url,
    Words,
)
from registry.terms import BaseModels, Price, ShareBps, Splits, terms_problems

PROBLEMS = "record_rules"
"""The type of the pydantic error whose context carries problems between fields."""


class Record(Closed):
    """A record's fields whatever its kind. Ids are derived, so they are not among them."""

    name: Name
    """Display name. The slug in the record's id is made of it once, at creation."""
    version: Semver = "0.1.0"
    description: Text = ""
    """Markdown."""
    license: License = "MIT"
    """SPDX expression."""
    tags: Words = ()
    """A set: kept sorted and unique."""
    capabilities: Words = ()
    """A set: kept sorted and unique."""
    created_at: I64 = 0
    """Unix seconds by the writer's clock, which its client fills in; decides nothing."""
    updated_at: I64 = 0
    formfile_template: Text = ""
    """Digest of a template (64 hex digits), or the text of a Formfile."""
    price: Price | None = None
    royalty_bps: ShareBps = 0
    """The creator's share of what a call costs, in basis points."""
    splits: Splits = ()
    """Accounts among which the creator's share is divided; the owner gets all of it if empty."""
    base_models: BaseModels = ()
    pricing_tier: Literal["free", "paid", "premium"] | None = None
    regions: Regions = ()
    """Where it may be served; anywhere if empty."""
    segments: Segments = ("general",)
    builds: HexIds = ()
    """Manifest digests (BLAKE3), the preferred one first."""
    dependencies: References = ()
    """Other records it needs: an id or `owner/slug`, with `@` and a range of versions."""
    status: Literal["active", "deprecated", "withdrawn"] = "active"
    homepage: Url | None = None
    support_url: Url | None = None

    @model_validator(mode="after")
    def _check_between_fields(self) -> Self:
        problems = tuple(self.problems())
        if problems:
            text = "; ".join(f"{p.field}: {p.message}" for p in problems)
            context = {"problems": problems, "text": text}
            raise PydanticCustomError(PROBLEMS, "{text}", context)
        return self

    def problems(self) -> Iterator[Problem]:
        """Yield what contradicts itself between fields that are each in order."""
        yield from terms_problems(self)
