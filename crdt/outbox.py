"""What is waiting to be gossiped: paced, batched, bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from crdt.budgets import TokenBucket
from crdt.events import Effect, Gossip
from crdt.frames import HAVE_COUNT_MAX, gossip_frames, have_frames
from crdt.ids import ItemId, NetworkId
from crdt.items import Item

FRAMES_PER_S = 20
"""What gossipsub's queues of 32 slots pass on without loss (node.md), with room for others."""
FRAME_BURST = 8
ITEM_BYTES_MAX = 4 * 1024 * 1024
ID_COUNT_MAX = 64 * HAVE_COUNT_MAX
BATCH_BYTES = 60 * 1024


class Outbox:
    """Items wait here for their turn; too many, and they are only announced by id.

    Past that, they are left to catch-up, which brings everything in the end.
    """

    def __init__(self, network: NetworkId) -> None:
        self._network = network
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._ids: deque[ItemId] = deque(maxlen=ID_COUNT_MAX)
        self._pace = TokenBucket(rate_per_s=FRAMES_PER_S, burst=FRAME_BURST, now_ms=0)

    def __bool__(self) -> bool:
        return bool(self._items or self._ids)

    def put(self, items: Iterable[Item]) -> None:
        """Let items wait for the next flush."""
        for item in items:
            self._items.append(item)
            self._bytes += len(item.raw)
            while self._bytes > ITEM_BYTES_MAX:
                oldest = self._items.popleft()
                self._bytes -= len(oldest.raw)
                self._ids.append(oldest.id)

    def due_ms(self, now_ms: int) -> int:
        """Return when the next frame may go."""
        return now_ms + max(1, self._pace.wait_ms(1, now_ms))

    def flush(self, now_ms: int) -> list[Effect]:
        """Return the frames that may go now."""
        effects: list[Effect] = []
        while self and self._pace.take(1, now_ms):
            frames = self._next_frames()
            # A batch may be two frames: items and, for one too big, its id.
            self._pace.owe(len(frames) - 1, now_ms)
            effects += [Gossip(frame) for frame in frames]
        return effects

    def _next_frames(self) -> list[bytes]:
        if not self._items:
            count = min(len(self._ids), HAVE_COUNT_MAX)
            return have_frames([self._ids.popleft() for _ in range(count)], self._network)
        batch: list[Item] = []
        size = 0
        while self._items and (not batch or size + len(self._items[0].raw) <= BATCH_BYTES // 2):
            item = self._items.popleft()
            self._bytes -= len(item.raw)
            size += len(item.raw)
            batch.append(item)
        return gossip_frames(batch, self._network)
