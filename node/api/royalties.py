"""Money over HTTP: statements with their proof, usage of this node, and the peers' settlements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from crdt import AccountId, Item, ItemId, NetworkId, OperationId, RecordId, RemoteFault
from node.api.bodies import query_as
from node.api.operations import Auth, operation
from node.catalogue import Catalogue
from node.ledger import COUNTERSIGN_PATH, SETTLE_PATH, LaneUse, Ledger, Side
from node.peer import caller_of
from royalties import (
    DAY_S,
    EPOCH_MAX,
    Base,
    Line,
    Statement,
    day_of,
    open_agreed,
    statement,
    statement_document,
)

TAG = "royalties"
DAY_COUNT_MAX = 31
LANE_COUNT_MAX = 1000
_HexId = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Epoch = Annotated[int, Field(ge=0, le=EPOCH_MAX)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TokensModel(_Model):
    """Token counts; `input` leaves out what came from a cache."""

    input: int
    cached: int
    output: int


class ShareModel(_Model):
    """One part of an amount, and why the account gets it."""

    role: Literal["operator", "creator", "base"]
    record: _HexId
    amount_picos: int


class LineModel(_Model):
    """What one lane means to the account."""

    lane: _HexId
    record: _HexId
    version: _HexId
    consumer: _HexId
    provider: _HexId
    sequence: int
    calls: int
    tokens: TokensModel
    amount_picos: int
    shares: list[ShareModel]
    owed_picos: int


class SkippedModel(_Model):
    """A receipt this node could not count, and why."""

    lane: str
    reason: str


class StatementModel(_Model):
    """A statement; `hansa royalties verify FILE` recomputes it from `proof` alone."""

    format: Literal["hansa-statement/0"]
    network: _HexId
    account: _HexId
    epoch: _Epoch
    day: str
    earned_picos: int
    owed_picos: int
    payable_micros: int
    lines: list[LineModel]
    skipped: list[SkippedModel]
    proof: str


class StatementQuery(_Model):
    """Whose statement, and of which UTC day (today without `epoch`)."""

    account: _HexId
    epoch: _Epoch | None = None


class DaysQuery(_Model):
    """A stretch of days; both ends included."""

    first: _Epoch | None = None
    last: _Epoch | None = None


class EarningsQuery(DaysQuery):
    """Whose earnings."""

    account: _HexId


class UsageQuery(DaysQuery):
    """Which side of the lanes, which days, how many lanes at most."""

    side: Literal["consumer", "provider"] = "consumer"
    limit: Annotated[int, Field(ge=1, le=LANE_COUNT_MAX)] = 200


class EarningModel(_Model):
    """What one record earned the account on one day."""

    epoch: int
    day: str
    record: _HexId
    roles: list[str]
    lanes: int
    calls: int
    tokens: TokensModel
    earned_picos: int


class EarningsModel(_Model):
    """Earnings by day and record, newest first."""

    account: _HexId
    earned_picos: int
    payable_micros: int
    earnings: list[EarningModel]


class LaneModel(_Model):
    """One lane of this node: agreed totals, and what is not settled yet."""

    lane: _HexId
    day: str
    record: _HexId
    version: _HexId
    other: _HexId
    peer: str
    sequence: int
    calls: int
    tokens: TokensModel
    amount_picos: int
    open_calls: int
    disputed_calls: int
    forked: bool


class UsageModel(_Model):
    """What this node used or served, newest day first."""

    side: Literal["consumer", "provider"]
    account: _HexId
    amount_picos: int
    lanes: list[LaneModel]


class RoyaltyRoutes:
    """Handlers that read the ledger and the log; they decide nothing.

    Args:
        now_s: Unix seconds, for "today".
    """

    def __init__(self, ledger: Ledger, catalogue: Catalogue, now_s: Callable[[], int]) -> None:
        self._ledger = ledger
        self._catalogue = catalogue
        self._evidence = CatalogueEvidence(catalogue)
        self._now_s = now_s

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, under `/v1` and bare."""
        return [
            route
            for prefix in ("/v1", "")
            for route in (
                web.get(f"{prefix}/royalties/statement", self.statement),
                web.get(f"{prefix}/royalties/earnings", self.earnings),
                web.get(f"{prefix}/usage", self.usage),
            )
        ]

    @operation(
        summary="What an account earned and owes on one day, with its proof",
        tag=TAG,
        query=StatementQuery,
        responses={200: StatementModel},
        errors=(422,),
    )
    async def statement(self, request: web.Request) -> web.StreamResponse:
        """Compute a statement from the agreed receipts that this node holds."""
        query = query_as(request, StatementQuery)
        account = AccountId(bytes.fromhex(query.account))
        epoch = query.epoch if query.epoch is not None else self._today()
        return web.json_response(statement_document(self._statement(account, epoch)))

    @operation(
        summary="What an account's records earned, by day and record",
        tag=TAG,
        query=EarningsQuery,
        responses={200: EarningsModel},
        errors=(422,),
    )
    async def earnings(self, request: web.Request) -> web.StreamResponse:
        """Add up statements over at most 31 days (the last week without `first` and `last`)."""
        query = query_as(request, EarningsQuery)
        account = AccountId(bytes.fromhex(query.account))
        found: list[dict[str, Any]] = []
        total = payable = 0
        for epoch in reversed(self._days(query)):
            made = self._statement(account, epoch)
            total += made.earned_picos
            payable += made.payable_micros
            found += _earnings_of(made)
        return web.json_response({
            "account": query.account, "earned_picos": total, "payable_micros": payable,
            "earnings": found,
        })  # fmt: skip

    @operation(
        summary="What this node used, or served",
        tag=TAG,
        auth=Auth.OPERATOR,
        query=UsageQuery,
        responses={200: UsageModel},
        errors=(401, 422),
    )
    async def usage(self, request: web.Request) -> web.StreamResponse:
        """List the node's own lanes as consumer or provider, settled or not."""
        query = query_as(request, UsageQuery)
        days = self._days(query)
        side = Side[query.side.upper()]
        uses = self._ledger.uses(side, days[0], days[-1], count_max=query.limit)
        lanes = [_lane_document(use, self._catalogue.network) for use in uses]
        return web.json_response({
            "side": query.side, "account": self._ledger.account.hex(),
            "amount_picos": sum(lane["amount_picos"] for lane in lanes), "lanes": lanes,
        })  # fmt: skip

    def _statement(self, account: AccountId, epoch: int) -> Statement:
        receipts = self._catalogue.receipts(period=epoch)
        return statement(self._catalogue.network, account, epoch, receipts, self._evidence)

    def _today(self) -> int:
        return self._now_s() // DAY_S

    def _days(self, query: DaysQuery) -> range:
        last = query.last if query.last is not None else self._today()
        first = query.first if query.first is not None else max(0, last - 6)
        return range(max(first, last - DAY_COUNT_MAX + 1), max(first, last) + 1)


class CatalogueEvidence:
    """The replicated log as evidence for statements."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def version(self, version: OperationId) -> Item | None:
        """Return the put with this id."""
        return self._catalogue.item(ItemId(version))

    def base(self, base: Base) -> Item | None:
        """Return a record's first put."""
        puts = [entry.operation for entry in self._catalogue.versions(base.record)]
        first = min(puts, key=lambda put: (put.depth, put.id), default=None)
        return self._catalogue.item(ItemId(first.id)) if first else None

    def entries(self, account: AccountId) -> Sequence[Item]:
        """Return every known entry of an account, each after what it stands on."""
        known = self._catalogue.account(account)
        items = [self._catalogue.item(entry.id) for entry in known.entries] if known else []
        return [item for item in items if item is not None]


def peer_routes(ledger: Ledger) -> list[web.RouteDef]:
    """Return the settlement routes, for the peer port."""

    async def settle(request: web.Request) -> web.StreamResponse:
        caller = caller_of(request)
        return await _answered(lambda raw: ledger.on_settle(raw, caller), request)

    async def countersign(request: web.Request) -> web.StreamResponse:
        return await _answered(ledger.on_countersigned, request)

    return [web.post(SETTLE_PATH, settle), web.post(COUNTERSIGN_PATH, countersign)]


async def _answered(answer: Callable[[bytes], Any], request: web.Request) -> web.StreamResponse:
    try:
        raw: bytes = await answer(await request.read())
    except RemoteFault as error:
        body = {"status": 409, "code": error.code, "detail": str(error)}
        return web.json_response(body, status=409)
    return web.Response(body=raw, content_type="application/octet-stream")


def _earnings_of(made: Statement) -> list[dict[str, Any]]:
    by_record: dict[RecordId, list[Line]] = defaultdict(list)
    for line in made.lines:
        for record in {share.record for share in line.shares}:
            by_record[record].append(line)
    found: list[dict[str, Any]] = []
    for record, lines in sorted(by_record.items()):
        shares = [one for line in lines for one in line.shares if one.record == record]
        receipts = [line.receipt for line in lines]
        found.append({
            "epoch": made.epoch,
            "day": day_of(made.epoch),
            "record": record.hex(),
            "roles": sorted({share.role.value for share in shares}),
            "lanes": len(lines),
            "calls": sum(receipt.call_count for receipt in receipts),
            "tokens": {
                "input": sum(receipt.tokens.input_count for receipt in receipts),
                "cached": sum(receipt.tokens.cached_count for receipt in receipts),
                "output": sum(receipt.tokens.output_count for receipt in receipts),
            },
            "earned_picos": sum(share.amount_picos for share in shares),
        })  # fmt: skip
    return found


def _lane_document(use: LaneUse, network: NetworkId) -> dict[str, Any]:
    lane = use.lane
    receipt = open_agreed(use.agreed, network).receipt if use.agreed else None
    counts = receipt.tokens.wire() if receipt else (0, 0, 0)
    return {
        "lane": lane.id.hex(),
        "day": day_of(lane.epoch),
        "record": lane.record.hex(),
        "version": lane.version.hex(),
        "other": (lane.provider if use.side is Side.CONSUMER else lane.consumer).hex(),
        "peer": use.peer,
        "sequence": receipt.sequence if receipt else 0,
        "calls": receipt.call_count if receipt else 0,
        "tokens": dict(zip(("input", "cached", "output"), counts, strict=True)),
        "amount_picos": receipt.amount_picos if receipt else 0,
        "open_calls": use.open_count,
        "disputed_calls": use.disputed_count,
        "forked": use.forked,
    }
