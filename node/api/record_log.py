"""`/models/{id}/log` and `/agents/{id}/log`: what was signed about a record, to check it oneself.

The owner's account entries and the record's operations, as the bytes that were signed. A reader
that holds them needs to believe this node nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from crdt import Operation, RecordChange, RecordId, RecordKind, parse_operation, unpack_item
from node.api.bodies import query_as
from node.api.errors import NotFound, TooMany
from node.api.operations import operation
from node.api.records import answer
from node.api.views import PLURALS, View
from node.catalogue import Catalogue
from node.signing import to_header
from registry import ById, parse_record_reference

PAGE_BYTES_MAX = 256 * 1024
"""Of operations, and of account entries, in one answer; at least one of each is sent."""
WAIT_S_MAX = 25.0
"""Proxies commonly close what is silent for 30 s or 60 s."""
WAITER_COUNT_MAX = 256
CURSOR_MAX = 2**63 - 1


class LogParameters(BaseModel):
    """Where to go on, and how long to wait for more."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
    after: Annotated[int, Field(ge=0, le=CURSOR_MAX)] = 0
    """`next_n` of the last answer of this node; arrivals are counted by each node for itself."""
    after_entry: Annotated[int, Field(ge=0, le=CURSOR_MAX)] = 0
    """`next_entry` of the last answer: account entries that need not be sent again."""
    wait_s: Annotated[float, Field(ge=0, le=WAIT_S_MAX)] = 0
    """Seconds to wait for something new when there is nothing now."""


class LogItem(View):
    """One signed operation."""

    n: int
    """When it arrived at this node."""
    raw: str
    """base64url of the item: its bytes as they were signed."""


class LogView(View):
    """A stretch of what was signed about a record."""

    entries: list[str]
    """base64url of the owner's account entries: genesis first, each after what it stands on."""
    items: list[LogItem]
    """The record's operations in order of arrival."""
    next_n: int
    """Pass it as `after`."""
    next_entry: int
    """Pass it as `after_entry`."""
    done: bool
    """Nothing more is here now; otherwise ask again at once."""


class RecordWaiters:
    """Requests that wait for a record to change; a bounded number."""

    def __init__(self, count_max: int = WAITER_COUNT_MAX) -> None:
        self._count_max = count_max
        self._waiting: dict[RecordId, set[asyncio.Event]] = {}
        self._count = 0
        self._ending = False
        self._unsubscribe: Callable[[], None] = lambda: None

    @property
    def count(self) -> int:
        """How many wait."""
        return self._count

    @contextmanager
    def waiting_for(self, record: RecordId, catalogue: Catalogue) -> Generator[asyncio.Event]:
        """Yield what is set when the record changes from now on.

        Raises:
            TooMany: the bound is reached.
        """
        if self._count >= self._count_max:
            raise TooMany(
                f"{self._count_max} requests wait for records to change; ask without wait_s, or "
                "try again later"
            )
        event = asyncio.Event()
        if self._ending:
            event.set()
        if not self._count:
            # One subscription for all: a batch of changes is looked at once.
            self._unsubscribe = catalogue.subscribe(self._changed)
        self._waiting.setdefault(record, set()).add(event)
        self._count += 1
        try:
            yield event
        finally:
            self._count -= 1
            if not self._count:
                self._unsubscribe()
            events = self._waiting[record]
            events.discard(event)
            if not events:
                del self._waiting[record]

    def end_all(self) -> None:
        """Let everybody have their answer now: the node stops."""
        self._ending = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    def _changed(self, changes: Sequence[RecordChange]) -> None:
        """Wake whoever waits for one of these records."""
        for change in changes:
            for event in self._waiting.get(change.record, ()):
                event.set()


def record_log_routes(
    catalogue: Catalogue, waiters: RecordWaiters | None = None
) -> list[web.RouteDef]:
    """Return the routes of both kinds, under `/v1` and bare.

    Args:
        waiters: Whose `end_all` ends every waiting request when the node stops.
    """
    shared = waiters or RecordWaiters()
    return [
        *RecordLogRoutes(catalogue, RecordKind.MODEL, shared).routes(),
        *RecordLogRoutes(catalogue, RecordKind.AGENT, shared).routes(),
    ]


class RecordLogRoutes:
    """The handlers of one kind of record."""

    def __init__(self, catalogue: Catalogue, kind: RecordKind, waiters: RecordWaiters) -> None:
        self._catalogue = catalogue
        self._kind = kind
        self._waiters = waiters

    def routes(self) -> list[web.RouteDef]:
        """Return this kind's routes."""
        plural = PLURALS[self._kind]
        handler = self._log(plural)
        return [
            web.get(f"{base}/{plural}/{{id}}/log", handler, allow_head=False)
            for base in ("/v1", "")
        ]

    def _log(self, plural: str) -> Any:
        @operation(
            summary="Read what was signed about a record", tag=plural, responses={200: LogView},
            query=LogParameters, errors=(404, 422, 429),
        )  # fmt: skip
        async def log(request: web.Request) -> web.StreamResponse:
            """Return the owner's account entries and the record's operations as they were signed.

            Also of a record that does not show. With `wait_s` an answer that would be empty waits
            until the record changes: by an operation, or by an account entry that changes what
            shows. Other account entries are in the next answer.
            """
            asked = query_as(request, LogParameters)
            signed = find_signed(self._catalogue, self._kind, request.match_info["id"])
            page = self._page(signed, asked)
            if asked.wait_s and self._is_old(page, asked):
                page = await self._later(signed, asked)
            return answer(page)

        return log

    async def _later(self, signed: Operation, asked: LogParameters) -> LogView:
        """Return the page once the record has changed, or the time is over."""
        with self._waiters.waiting_for(signed.record, self._catalogue) as changed:
            with suppress(TimeoutError):
                async with asyncio.timeout(asked.wait_s):
                    await changed.wait()
            return self._page(signed, asked)

    def _is_old(self, page: LogView, asked: LogParameters) -> bool:
        """Whether a page tells nothing that the asker does not know."""
        return not page.items and (not asked.after_entry or page.next_entry == asked.after_entry)

    def _page(self, signed: Operation, asked: LogParameters) -> LogView:
        found = self._catalogue.record_log(signed.record, asked.after, bytes_max=PAGE_BYTES_MAX)
        account = self._catalogue.account(signed.account)
        assert account is not None, "an admitted operation's account is known"
        entries: list[str] = []
        size, all_entries = 0, account.entries
        for entry in all_entries[asked.after_entry :]:
            item = self._catalogue.item(entry.id)
            assert item is not None, "an account's entry is in the log"
            size += len(item.raw)
            if entries and size > PAGE_BYTES_MAX:
                break
            entries.append(to_header(item.raw))
        next_entry = asked.after_entry + len(entries)
        return LogView(
            entries=entries,
            items=[LogItem(n=n, raw=to_header(raw)) for n, raw in found.items],
            next_n=found.next_n,
            next_entry=next_entry,
            done=found.done and next_entry >= len(all_entries),
        )


def find_signed(catalogue: Catalogue, kind: RecordKind, text: str) -> Operation:
    """Return an operation of the record that a path names, whether the record shows or not.

    Raises:
        NotFound: nothing is known of it, or it is of the other kind.
        BadReference, AmbiguousSlug: the text does not name one record.
    """
    reference = parse_record_reference(text)
    if isinstance(reference, ById):
        record: RecordId | None = reference.record
    else:
        record = catalogue.find_record(kind, reference.owner, reference.slug)
    page = catalogue.record_log(record, 0, bytes_max=0) if record is not None else None
    if page is not None and page.items:
        signed = parse_operation(unpack_item(page.items[0][1]), catalogue.network)
        if signed.kind is kind:
            return signed
    plural = PLURALS[kind]
    raise NotFound(
        f"there is no {plural.removesuffix('s')} {text[:140]} here; search with /v1/{plural}?q=..."
    )
