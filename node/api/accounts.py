"""Routes about accounts, and the way in for signed items from anybody."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from crdt import (
    Account,
    AccountId,
    Entry,
    Item,
    RemoteFault,
    Status,
    id_from_hex,
    open_genesis,
    unpack_item,
)
from node.api.account_views import (
    ENTRY_COUNT_MAX,
    ITEM_CHARACTERS_MAX,
    AccountRecordsParameters,
    AccountRecordsView,
    AccountRecordView,
    AccountRequest,
    AccountView,
    ItemsRequest,
    OutcomesView,
    account_view,
    outcome_view,
)
from node.api.bodies import body_as, query_as
from node.api.budgets import ItemBudget
from node.api.errors import BadFields, NotFound, TooMany
from node.api.operations import operation
from node.api.records import answer, check_outcome
from node.api.views import PLURALS
from node.catalogue import Catalogue
from node.signing import from_header

TAG = "accounts"
RECORD_PAGE_COUNT_MAX = 1_000
OPEN_COUNT_MAX = 4
"""Calls with items under way at once; the queue of writes holds more, for those who are named."""


class AccountRoutes:
    """The handlers."""

    def __init__(self, catalogue: Catalogue, now_s: Callable[[], int]) -> None:
        self._catalogue = catalogue
        self._now_s = now_s
        self._budget = ItemBudget()
        self._open_count = 0

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, under `/v1` and bare."""
        found: list[web.RouteDef] = []
        for base in ("/v1", ""):
            found += [
                web.post(f"{base}/items", self.take),
                web.post(f"{base}/accounts", self.introduce),
                web.get(f"{base}/accounts/{{account}}", self.account, allow_head=False),
                web.get(f"{base}/accounts/{{account}}/records", self.records, allow_head=False),
            ]
        return found

    @operation(
        summary="Hand in signed items", tag=TAG, request=ItemsRequest,
        responses={200: OutcomesView}, errors=(429,),
    )  # fmt: skip
    async def take(self, request: web.Request) -> web.StreamResponse:
        """Judge, store and gossip signed items, in order; their own signatures are all they need.

        At most 256 account entries, operations or receipts, causes first. The answer says what
        became of each. What waits for an item that is not known here is not kept: send it again
        after that.
        """
        asked = await body_as(request, ItemsRequest)
        raws = _items(asked.items)
        self._budget.take(request.remote, len(raws), now_s=self._now_s())
        if self._open_count >= OPEN_COUNT_MAX:
            raise TooMany(f"{OPEN_COUNT_MAX} calls hand in items now; send yours again in a second")
        self._open_count += 1
        try:
            outcomes = await self._catalogue.publish(raws)
        finally:
            self._open_count -= 1
        faults = sum(one.status is Status.REJECTED for one in outcomes)
        self._budget.charge_faults(request.remote, faults, now_s=self._now_s())
        return answer(OutcomesView(outcomes=[outcome_view(one) for one in outcomes]))

    @operation(
        summary="Introduce an account", tag=TAG, request=AccountRequest,
        responses={201: AccountView}, errors=(429,),
    )  # fmt: skip
    async def introduce(self, request: web.Request) -> web.StreamResponse:
        """Publish an account's signed genesis; its own signature is all that is needed."""
        asked = await body_as(request, AccountRequest)
        self._budget.take(request.remote, 1, now_s=self._now_s())
        try:
            item = unpack_item(from_header(asked.genesis))
            account = open_genesis(item, self._catalogue.network)
        except RemoteFault as error:
            raise BadFields(
                "the body", [{"field": "genesis", "value": None, "message": str(error)}]
            ) from error
        (outcome,) = await self._catalogue.publish([item.raw])
        check_outcome(outcome)
        return answer(self._view(account.id), status=201)

    @operation(summary="Show an account", tag=TAG, responses={200: AccountView}, errors=(404,))
    async def account(self, request: web.Request) -> web.StreamResponse:
        """Return an account's keys, its whole log to be verified, and the records it wrote."""
        return answer(self._view(_account_id(request)))

    @operation(
        summary="List an account's records", tag=TAG, query=AccountRecordsParameters,
        responses={200: AccountRecordsView}, errors=(404,),
    )  # fmt: skip
    async def records(self, request: web.Request) -> web.StreamResponse:
        """Return every record the account has ever written, also those that do not show now."""
        asked = query_as(request, AccountRecordsParameters)
        rows = self._catalogue.record_page(
            _account_id(request), asked.after, RECORD_PAGE_COUNT_MAX + 1
        )
        page = rows[:RECORD_PAGE_COUNT_MAX]
        return answer(
            AccountRecordsView(
                items=[
                    AccountRecordView(id=id_.hex(), plural=PLURALS[kind], slug=slug)
                    for _, id_, kind, slug in page
                ],
                next=page[-1][0] if page else asked.after,
                done=len(page) == len(rows),
            )
        )

    def _view(self, id_: AccountId) -> AccountView:
        account = self._catalogue.account(id_)
        if account is None:
            raise NotFound(f"account {id_.hex()} is not known here")
        return account_view(account, self._items(account), self._catalogue.records_of(id_))

    def _items(self, account: Account) -> list[tuple[Entry, Item]]:
        found: list[tuple[Entry, Item]] = []
        for entry in account.entries[:ENTRY_COUNT_MAX]:
            item = self._catalogue.item(entry.id)
            assert item is not None, "an account's entries are in the log"
            found.append((entry, item))
        return found


def _account_id(request: web.Request) -> AccountId:
    try:
        return AccountId(id_from_hex(request.match_info["account"], "account"))
    except RemoteFault as error:
        raise NotFound(str(error)) from error


def _items(texts: list[str]) -> list[bytes]:
    """Return the bytes of items given as text, every one of which is the form of an item.

    Raises:
        BadFields: naming the positions of those that are not.
    """
    raws: list[bytes] = []
    problems: list[dict[str, object]] = []
    for position, text in enumerate(texts):
        try:
            raw = from_header(text, characters_max=ITEM_CHARACTERS_MAX)
            unpack_item(raw)
            raws.append(raw)
        except RemoteFault as error:
            field = f"items.{position}"
            problems.append({"field": field, "value": text[:40], "message": str(error)})
    if problems:
        raise BadFields("the body", problems)
    return raws
