"""Splits: how one lane's amount is divided among operator, creator, their splits and the bases.

Every level's parts sum to its whole, so nothing is lost or made whatever the terms say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from crdt import AccountId, RecordId
from royalties.money import divide

BASIS_POINTS = 10_000
LINEAGE_DEPTH_MAX = 8
"""A chain of base models is followed this far; what would go further stays at the last level."""
_OPERATOR = b"operator"
_CREATOR = b"creator"
_KEPT = b""


class Role(Enum):
    """Why an account gets a share."""

    OPERATOR = "operator"
    CREATOR = "creator"
    BASE = "base"


@dataclass(frozen=True, slots=True)
class Base:
    """A record that another one was derived from, and its part of the creator's share."""

    record: RecordId
    share_bps: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What one version of a record says about money.

    Attributes:
        splits: Weight per account of the creator's own part; empty when the owner gets all of it.
    """

    owner: AccountId
    record: RecordId
    royalty_bps: int
    splits: tuple[tuple[AccountId, int], ...] = ()
    bases: tuple[Base, ...] = ()

    def __post_init__(self) -> None:
        assert 0 <= self.royalty_bps <= BASIS_POINTS
        assert all(weight > 0 for _, weight in self.splits)
        assert sum(base.share_bps for base in self.bases) <= BASIS_POINTS


@dataclass(frozen=True, slots=True)
class Share:
    """One account's part of one amount."""

    account: AccountId
    role: Role
    record: RecordId
    amount_picos: int


BaseTerms = Callable[[Base], Terms]
"""Looks up the terms of a base; raises when it is not known, for then nobody can divide."""


def shares_of(
    amount_picos: int, provider: AccountId, terms: Terms, base_terms: BaseTerms
) -> tuple[Share, ...]:
    """Return every part of an amount; they sum to exactly `amount_picos`.

    Args:
        provider: The operator's account: what the creator's royalty leaves is its own.
        terms: Those of the exact version that was served.
        base_terms: Looks up the terms of a base record.
    """
    parts = divide(
        amount_picos,
        {_CREATOR: terms.royalty_bps, _OPERATOR: BASIS_POINTS - terms.royalty_bps},
    )
    shares = [Share(provider, Role.OPERATOR, terms.record, parts[_OPERATOR])]
    _pass_up(parts[_CREATOR], terms, base_terms, path=(terms.record,), shares=shares)
    assert sum(share.amount_picos for share in shares) == amount_picos
    return tuple(share for share in shares if share.amount_picos)


def _pass_up(
    amount_picos: int,
    terms: Terms,
    base_terms: BaseTerms,
    *,
    path: tuple[RecordId, ...],
    shares: list[Share],
) -> None:
    """Divide a creator's share among its splits and, level by level, the bases."""
    weights: dict[bytes, int] = {_KEPT: BASIS_POINTS}
    found: dict[bytes, Terms] = {}
    if len(path) <= LINEAGE_DEPTH_MAX:
        for base in terms.bases:
            if base.record in path or not base.share_bps:
                continue
            found[base.record] = base_terms(base)
            weights[base.record] = weights.get(base.record, 0) + base.share_bps
            weights[_KEPT] -= base.share_bps
    parts = divide(amount_picos, weights)
    role = Role.CREATOR if len(path) == 1 else Role.BASE
    own: dict[AccountId, int] = {}
    for account, weight in terms.splits or ((terms.owner, 1),):
        own[account] = own.get(account, 0) + weight
    for account, part in sorted(divide(parts[_KEPT], own).items()):
        shares.append(Share(account, role, terms.record, part))
    for record, known in sorted(found.items()):
        _pass_up(parts[record], known, base_terms, path=(*path, RecordId(record)), shares=shares)
