"""What is waiting to be gossiped: paced, batched, bounded, and fair between accounts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from crdt.budgets import TokenBucket
from crdt.events import Effect, Gossip
from crdt.fairness import FairLanes, FairQueue
from crdt.frames import HAVE_COUNT_MAX, gossip_frames, have_frames
from crdt.ids import ItemId, NetworkId
from crdt.items import Item
from crdt.maxima import Slot
from crdt.ports import Admission

FRAMES_PER_S = 20
"""What gossipsub's queues of 32 slots pass on without loss (node.md), with room for others."""
FRAME_BURST = 8
FRAME_RESERVE = 4
"""Of the burst, what only accounts within their small rate use: a flood never leaves them none."""
ITEM_BYTES_MAX = 4 * 1024 * 1024
ID_COUNT_MAX = 64 * HAVE_COUNT_MAX
BATCH_BYTES = 60 * 1024
_RECEIPTS = b"receipts"
"""The flow of what two accounts signed together."""


class Outbox:
    """Items wait here for their turn; too many of an account, and they are announced by id.

    Past that, they are left to catch-up, which brings everything in the end.
    """

    def __init__(self, network: NetworkId) -> None:
        self._network = network
        self._lanes: FairLanes[Item] = FairLanes(cost_max=ITEM_BYTES_MAX)
        self._ids: deque[ItemId] = deque(maxlen=ID_COUNT_MAX)
        self._pace = TokenBucket(rate_per_s=FRAMES_PER_S, burst=FRAME_BURST, now_ms=0)

    def __bool__(self) -> bool:
        return bool(self._lanes or self._ids)

    def put(self, admissions: Iterable[Admission], now_ms: int) -> None:
        """Let items that have just been admitted wait for the next flush."""
        for item, subject in admissions:
            flow = _RECEIPTS if isinstance(subject, Slot) else subject.account
            left = self._lanes.put(flow, item, len(item.raw), now_ms)
            self._ids += [one.id for one in left]

    def due_ms(self, now_ms: int) -> int:
        """Return when the next frame may go."""
        return now_ms + max(1, self._pace.wait_ms(1 + self._reserve(), now_ms))

    def flush(self, now_ms: int) -> list[Effect]:
        """Return the frames that may go now."""
        effects: list[Effect] = []
        while self and self._pace.wait_ms(1 + self._reserve(), now_ms) == 0:
            frames = self._next_frames()
            # A batch may be two frames: items and, for one too big, its id.
            self._pace.owe(len(frames), now_ms)
            effects += [Gossip(frame) for frame in frames]
        return effects

    def _reserve(self) -> int:
        """Return how many frames must be left to others when the next one goes."""
        return 0 if self._lanes.prompt else FRAME_RESERVE

    def _next_frames(self) -> list[bytes]:
        """Return what goes next; prompt items never share a frame with what may wait."""
        lane = self._lanes.prompt or self._lanes.bulk
        if not lane:
            count = min(len(self._ids), HAVE_COUNT_MAX)
            return have_frames([self._ids.popleft() for _ in range(count)], self._network)
        return gossip_frames(_batch(lane), self._network)


def _batch(lane: FairQueue[Item]) -> list[Item]:
    batch: list[Item] = []
    size = 0
    while lane and (not batch or size + lane.next_cost() <= BATCH_BYTES // 2):
        item = lane.take()
        assert item is not None
        size += len(item.raw)
        batch.append(item)
    return batch
