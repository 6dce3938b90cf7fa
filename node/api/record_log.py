"""A record's operations as they were signed, for whoever checks them without trusting this node."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from crdt import RecordId, RecordKind, parse_operation, unpack_item
from node.api.bodies import query_as
from node.api.errors import NotFound
from node.api.operations import operation
from node.api.records import answer
from node.api.views import PLURALS, View
from node.catalogue import Catalogue
from node.signing import to_header
from registry import ById, parse_record_reference

PAGE_COUNT_MAX = 256
PAGE_BYTES_MAX = 4 << 20


class LogParameters(BaseModel):
    """Query parameters of a record's log."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")
    after: int = Field(default=0, ge=0, le=2**63 - 1)
    """`next_n` of the last page; 0 for the first."""


class LoggedItem(View):
    """One operation and when it arrived here."""

    n: int
    """The node's own counting: it grows with every arrival, of whatever record."""
    raw: str
    """base64url of the item."""


class RecordLogView(View):
    """A stretch of a record's log."""

    entries: list[str]
    """base64url of every entry of the owner's account, each after what it stands on."""
    items: list[LoggedItem]
    """The record's operations in order of arrival."""
    next_n: int
    done: bool
    """Nothing comes after it now."""


def record_log_routes(catalogue: Catalogue) -> list[web.RouteDef]:
    """Return the log's route for both kinds of record, under `/v1` and bare."""
    return [
        web.get(f"{base}/{plural}/{{id}}/log", _log(catalogue, kind, plural), allow_head=False)
        for kind, plural in PLURALS.items()
        for base in ("/v1", "")
    ]


def _log(catalogue: Catalogue, kind: RecordKind, plural: str) -> Any:
    @operation(
        summary=f"Read the signed log of one of the {plural}", tag=plural,
        query=LogParameters, responses={200: RecordLogView}, errors=(404,),
    )  # fmt: skip
    async def log(request: web.Request) -> web.StreamResponse:
        """Return the raw operations of a record, void ones among them, and its owner's entries."""
        asked = query_as(request, LogParameters)
        record = _record(catalogue, request.match_info["id"])
        rows = catalogue.record_log(record, 0, 1)
        first = parse_operation(unpack_item(rows[0][1]), catalogue.network) if rows else None
        if first is None or first.kind is not kind:
            raise NotFound(f"there is none of the {plural} called {record.hex()} here")
        found = catalogue.record_log(record, asked.after, PAGE_COUNT_MAX + 1)
        page = _page(found[:PAGE_COUNT_MAX])
        account = catalogue.account(first.account)
        assert account is not None, "the account of an operation is known"
        entries = [catalogue.item(entry.id) for entry in account.entries]
        return answer(
            RecordLogView(
                entries=[to_header(item.raw) for item in entries if item is not None],
                items=[LoggedItem(n=n, raw=to_header(raw)) for n, raw in page],
                next_n=page[-1][0] if page else asked.after,
                done=len(page) == len(found),
            )
        )

    return log


def _record(catalogue: Catalogue, text: str) -> RecordId:
    reference = parse_record_reference(text)
    if isinstance(reference, ById):
        return reference.record
    state = catalogue.find_slug(reference.owner, reference.slug)
    if state is None:
        raise NotFound(f"there is no record {text[:140]} here")
    return state.id


def _page(rows: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return as many rows as fit one answer, at least one."""
    size = 0
    for count, (_, raw) in enumerate(rows):
        size += len(raw)
        if count and size > PAGE_BYTES_MAX:
            return rows[:count]
    return rows
