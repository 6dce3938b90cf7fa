"""`/models/{id}/conflicts` and `/agents/{id}/conflicts`: what lost to what shows, and why.

Concurrent writes are never merged or hidden: one shows, by the rule of `crdt/DESIGN.md`, section 3,
and the next write cites, and so settles, them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from aiohttp import web

from crdt import (
    PREDECESSOR_COUNT_MAX,
    Account,
    ItemId,
    Operation,
    OperationId,
    Rank,
    RecordKind,
    Register,
    deciding_term,
    parse_operation,
    rank_of,
)
from node.api.operations import operation
from node.api.record_log import find_signed
from node.api.records import answer
from node.api.views import PLURALS, HeadView, SignedBy, View
from node.catalogue import Catalogue
from node.storage import facts_in
from registry import decode_record, readable

CONFLICT_COUNT_MAX = 100
"""Losers in one answer: each may be 64 KiB. The log has them all."""

Term: TypeAlias = Literal["epoch", "is_root", "is_delete", "depth", "id"]


class RankView(View):
    """What decides between concurrent writes, term by term; the greatest shows."""

    epoch: int
    """Rotations of the root up to the account entry that it cites."""
    is_root: bool
    is_delete: bool
    depth: int
    id: str


class FactView(View):
    """One concurrent write."""

    version_id: str
    version: str | None
    """The semver it states; null for a deletion."""
    signed_by: SignedBy
    record: dict[str, Any] | Literal["deleted"]
    """Every field of the schema."""
    rank: RankView
    lost_by: Term | None
    """The first term in which it is less than the winner; null for the winner."""


class ConflictsView(View):
    """The concurrent writes of a record that nothing has settled yet."""

    record_id: str
    owner_id: str
    slug: str
    era: str
    """The checkpoint that the state starts from; empty for the first era."""
    winner: FactView | None
    """What shows; null when nothing does."""
    conflicts: list[FactView]
    """The others, greatest rank first."""
    conflict_count: int
    """How many there are; at most 100 are in this answer."""
    heads: list[HeadView]
    """What the next write cites, the winner first: at most 16."""


@dataclass(frozen=True, slots=True)
class _Ranked:
    signed: Operation
    body: bytes
    rank: Rank


def conflict_routes(catalogue: Catalogue) -> list[web.RouteDef]:
    """Return the routes of both kinds, under `/v1` and bare."""
    found: list[web.RouteDef] = []
    for kind, plural in PLURALS.items():
        handler = _handler(catalogue, kind, plural)
        found += [
            web.get(f"{base}/{plural}/{{id}}/conflicts", handler, allow_head=False)
            for base in ("/v1", "")
        ]
    return found


def _handler(catalogue: Catalogue, kind: RecordKind, plural: str) -> Any:
    @operation(
        summary="Compare concurrent writes", tag=plural, responses={200: ConflictsView},
        errors=(404,),
    )  # fmt: skip
    async def conflicts(request: web.Request) -> web.StreamResponse:
        """Return what shows and every concurrent write that lost to it, and by which term.

        Also of a deleted record. The next update cites `heads` and settles them.
        """
        signed = find_signed(catalogue, kind, request.match_info["id"])
        return answer(conflicts_view(catalogue, signed))

    return conflicts


def conflicts_view(catalogue: Catalogue, signed: Operation) -> ConflictsView:
    """Return the concurrent writes of the record that a known operation is of."""
    register = catalogue.register(signed.record)
    account = catalogue.account(signed.account)
    assert register is not None, "a record that has an operation has a state"
    assert account is not None, "an admitted operation's account is known"
    losers = _ranked(catalogue, account, register.conflicts[:CONFLICT_COUNT_MAX])
    winners = _ranked(catalogue, account, register.facts[:1])
    best = winners[0].rank if winners else None
    return ConflictsView(
        record_id=signed.record.hex(),
        owner_id=signed.account.hex(),
        slug=signed.slug,
        era=register.era.hex(),
        winner=_fact_view(winners[0], best) if winners else None,
        conflicts=[_fact_view(one, best) for one in losers],
        conflict_count=len(register.conflicts),
        heads=_heads(catalogue, account, register),
    )


def _ranked(catalogue: Catalogue, account: Account, ids: Sequence[OperationId]) -> list[_Ranked]:
    """Return operations with their ranks, the greatest first."""
    found: list[_Ranked] = []
    for id_ in ids:
        item = catalogue.item(ItemId(id_))
        assert item is not None, "a head is in the log"
        signed = parse_operation(item, catalogue.network)
        rank = rank_of(signed, account.standing(signed.account_head, signed.key))
        found.append(_Ranked(signed, item.body, rank))
    return sorted(found, key=lambda one: one.rank, reverse=True)


def _fact_view(one: _Ranked, best: Rank | None) -> FactView:
    signed = one.signed
    epoch, is_root, is_delete, depth, id_ = one.rank
    record: dict[str, Any] | Literal["deleted"] = "deleted"
    version = None
    if not signed.is_tombstone:
        value = decode_record(signed.kind, facts_in(signed, one.body))
        version = value.version
        record = readable(value, record_id=signed.record, owner=signed.account)
    lost_by: Any = None if best is None else deciding_term(best, one.rank)
    return FactView(
        version_id=signed.id.hex(),
        version=version,
        signed_by=SignedBy(
            account=signed.account.hex(), key=signed.key.hex(), timestamp_s=signed.timestamp_s
        ),
        record=record,
        rank=RankView(epoch=epoch, is_root=is_root, is_delete=is_delete, depth=depth, id=id_.hex()),
        lost_by=lost_by,
    )


def _heads(catalogue: Catalogue, account: Account, register: Register) -> list[HeadView]:
    """Return what the next write cites, the winner first, then by rank (crdt/DESIGN.md, 3)."""
    first = [id_ for id_ in register.heads if id_ == register.winner]
    others = [id_ for id_ in register.heads if id_ != register.winner]
    ordered = [
        *_ranked(catalogue, account, first),
        *_ranked(catalogue, account, others[:CONFLICT_COUNT_MAX]),
    ]
    return [
        HeadView(version_id=one.signed.id.hex(), depth=one.signed.depth)
        for one in ordered[:PREDECESSOR_COUNT_MAX]
    ]
