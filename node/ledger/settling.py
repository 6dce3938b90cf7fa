"""Settling in the background: one task that brings every open lane to two signatures.

A lane is settled a moment after calls ended on it, so one settlement covers many. What fails is
tried again with growing pauses for as long as the node runs, and again after a restart. What both
sides signed is published to the replicated log, whichever side gets there first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from crdt import HansaError, Item, NetworkId, Outcome, PeerId, Status
from node.ledger.errors import SettlementRefused
from node.ledger.payer import Payer, PayerLane
from node.ledger.store import LedgerStore
from node.ledger.wire import (
    ANSWER_BYTES_MAX,
    COUNTERSIGN_PATH,
    SETTLE_PATH,
    Claimed,
    decode_claimed,
    encode_agreed,
    encode_settle,
)
from node.peer import PeerEndpoint, PeerSession, refusal
from royalties import LaneForked

Log = Callable[..., Any]
LANE_COUNT_MAX = 64
"""Lanes settled at once; more wait for their turn."""
LOGGED_AT_COUNT = 3
"""A provider that is a moment late is not worth a line; one that stays away is, once."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How soon things are done.

    Attributes:
        settle_s: After the first call of a lane that is to be settled.
        publish_s: After a receipt was agreed: many receipts of a lane become one item.
        retry_s, retry_s_max: The first pause after a failure, and the longest.
        request_s: For one request to a provider.
    """

    settle_s: float = 0.2
    publish_s: float = 1.0
    retry_s: float = 1.0
    retry_s_max: float = 60.0
    request_s: float = 10.0


class Settling:
    """Runs settlements and publications. `wake` and `publish_soon` never wait.

    Args:
        endpoints_of: Where a peer can be reached now; none while it is away.
        publish: Puts items into the replicated log.
        log: Called as `log(event, **fields)`.
    """

    def __init__(
        self,
        *,
        network: NetworkId,
        payer: Payer,
        store: LedgerStore,
        session: PeerSession,
        endpoints_of: Callable[[PeerId], Sequence[PeerEndpoint]],
        publish: Callable[[Sequence[bytes]], Awaitable[Sequence[Outcome]]],
        log: Log,
        pace: Pace | None = None,
    ) -> None:
        self._network = network
        self._payer = payer
        self._store = store
        self._session = session
        self._endpoints_of = endpoints_of
        self._publish = publish
        self._log = log
        self._pace = pace or Pace()
        self._due: dict[bytes, float] = {}
        self._failures: dict[bytes, int] = {}
        self._items: dict[bytes, tuple[Item, tuple[Item, ...]]] = {}
        self._publish_due: float | None = None
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._working = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work through what is due."""
        assert self._task is None
        self._task = asyncio.get_running_loop().create_task(self._run(), name="settling")

    async def stop(self, *, grace_s: float = 3.0) -> None:
        """Settle and publish once more what is due, within `grace_s`; the rest is on disk."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                for lane_id in list(self._due):
                    await self._settle_one(lane_id)
                await self._publish_all()

    def wake(self, lane_id: bytes) -> None:
        """Settle a lane soon: calls have ended on it."""
        if lane_id not in self._due:
            self._due[lane_id] = self._now() + self._pace.settle_s
            self._changed.set()

    def publish_soon(self, lane_id: bytes, item: Item, parties: Sequence[Item]) -> None:
        """Publish a lane's newest agreed receipt soon, after its parties' first entries."""
        self._items[lane_id] = (item, tuple(parties))
        if self._publish_due is None:
            self._publish_due = self._now() + self._pace.publish_s
            self._changed.set()

    async def settled(self) -> None:
        """Return once nothing is left to settle or publish (for tests and graceful stops)."""
        while self._working or self._due or self._items:
            self._idle.clear()
            await self._idle.wait()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            self._working = True
            now = self._now()
            due = [one for one, at in self._due.items() if at <= now][:LANE_COUNT_MAX]
            # Together: a provider that stalls must not hold up what is settled with the others.
            await asyncio.gather(*(self._settle_one(lane_id) for lane_id in due))
            if self._publish_due is not None and self._publish_due <= now:
                await self._publish_all()
            self._working = False
            self._idle.set()
            times = [*self._due.values()]
            if self._publish_due is not None:
                times.append(self._publish_due)
            pause = max(0.0, min(times) - self._now()) if times else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()

    async def _settle_one(self, lane_id: bytes) -> None:
        """Settle one lane; due again later if anything is left of it."""
        self._due.pop(lane_id, None)
        try:
            left = await self._settle(lane_id)
        except LaneForked as error:
            self._failures.pop(lane_id, None)
            self._log("lane-forked", lane=lane_id.hex()[:16], detail=str(error))
        except HansaError as error:
            count = self._failures[lane_id] = self._failures.get(lane_id, 0) + 1
            pause = min(self._pace.retry_s * 2 ** min(count - 1, 16), self._pace.retry_s_max)
            self._due[lane_id] = self._now() + pause
            if count == LOGGED_AT_COUNT:
                self._log(
                    "settlement-failed", lane=lane_id.hex()[:16], code=error.code, detail=str(error)
                )
        else:
            self._failures.pop(lane_id, None)
            if left:
                self._due.setdefault(lane_id, self._now() + self._pace.settle_s)
            else:
                self._payer.forget(lane_id)

    async def _settle(self, lane_id: bytes) -> bool:
        """Do one settlement; whether the lane has more to settle.

        Raises:
            HansaError: it did not come to an end.
        """
        lane = self._payer.lanes.get(lane_id)
        report = self._payer.report(lane_id) if lane else None
        if lane is None or report is None:
            return False
        before = lane.book.unsigned_count
        raw = await self._ask(lane.peer, SETTLE_PATH, encode_settle(report, self._network))
        # The report carried the last receipt along, and the provider took it before it answered.
        self._delivered(lane, report.agreed)
        claimed: Claimed = decode_claimed(raw, self._network)
        item = await self._payer.claimed(lane_id, claimed)
        if item is not None:
            self.publish_soon(lane_id, item, (report.genesis, claimed.genesis))
            body = encode_agreed(item, report.genesis, self._network)
            await self._ask(lane.peer, COUNTERSIGN_PATH, body)
            self._delivered(lane, item)
        left = lane.book.unsigned_count
        if left and left == before and not lane.book.forked:
            raise SettlementRefused(f"the provider says nothing of {left} calls yet")
        return bool(left) and not lane.book.forked

    def _delivered(self, lane: PayerLane, item: Item | None) -> None:
        if item is not None and item == lane.agreed:
            lane.delivered = True
            self._store.mark_delivered(lane.book.lane.id, item)

    async def _ask(self, peer: PeerId, path: str, body: bytes) -> bytes:
        """Return what a peer answers at the first of its endpoints that does.

        Raises:
            WorldFault: it cannot be reached, or refuses.
        """
        last: HansaError = SettlementRefused(f"peer {peer} is not known to be anywhere now")
        for endpoint in self._endpoints_of(peer):
            try:
                async with self._session.post(
                    endpoint, path, body, timeout_s=self._pace.request_s
                ) as response:
                    if response.status != 200:
                        raise await refusal(endpoint, response)
                    return await _bounded(response.content)
            except HansaError as error:
                last = error
        raise last

    async def _publish_all(self) -> None:
        """Publish what waits; what the log does not take yet is tried again."""
        self._publish_due = None
        items, self._items = self._items, {}
        for lane_id, (item, parties) in items.items():
            raws = [party.raw for party in parties] + [item.raw]
            try:
                outcome = (await self._publish(raws))[-1]
            except HansaError as error:
                self._log("receipt-not-published", code=error.code, detail=str(error))
                outcome = None
            if outcome is not None and outcome.status in {Status.NEW, Status.KNOWN}:
                self._store.mark_published(lane_id, item)
            elif outcome is not None and outcome.status is Status.REJECTED:
                self._log("receipt-rejected", lane=lane_id.hex()[:16], detail=str(outcome.fault))
            else:
                self._items.setdefault(lane_id, (item, parties))
        if self._items:
            self._publish_due = self._now() + self._pace.retry_s

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def _bounded(content: Any) -> bytes:
    raw: bytes = await content.read(ANSWER_BYTES_MAX + 1)
    while len(raw) <= ANSWER_BYTES_MAX and (piece := await content.read(ANSWER_BYTES_MAX)):
        raw += piece
    return raw
