"""Turns bursts of typing into few signed operations, and leaves none behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from crdt import UserFault, WorldFault
from node.live.session import CardText

BACKOFF_S_MAX = 10.0
"""Between two tries while publishing fails. Editing goes on meanwhile, bounded by the card."""


class Publisher:
    """Publishes a card's edits, at most once every `interval_s`.

    An edit waits for the interval to end, so one that comes alone is late by it, and a stream of
    edits is cut into pieces of it. Never two at once.

    Args:
        notice: Called with a line for the person who edits, once per trouble.
    """

    def __init__(self, card: CardText, *, interval_s: float, notice: Callable[[str], None]) -> None:
        assert interval_s > 0
        self._card = card
        self._interval_s = interval_s
        self._notice = notice
        self._edited = asyncio.Event()
        self._stopping = asyncio.Event()
        self._hurried = asyncio.Event()
        self._failure_count = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Begin to publish what is edited; return the task, which ends early only by a bug."""
        assert self._task is None
        self._task = asyncio.create_task(self._run(), name="live-publisher")
        return self._task

    def edited(self) -> None:
        """Say that there is something to publish."""
        self._edited.set()

    def hurry(self) -> None:
        """Publish what waits now; what stood in the way is gone."""
        self._edited.set()
        self._hurried.set()

    async def stop(self) -> None:
        """Publish what is left, and end.

        Raises:
            WorldFault, UserFault: it could not be published.
        """
        if self._task is None:
            return
        self._stopping.set()
        self.hurry()
        try:
            await self._task
        finally:
            self._task = None
            await self._card.publish()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            await self._edited.wait()
            await self._pause()
            if not self._stopping.is_set():
                self._edited.clear()  # before the edits are taken: a later one sets it again
                await self._publish()

    async def _pause(self) -> None:
        if self._stopping.is_set():
            return
        self._hurried.clear()
        pause_s = self._interval_s * 2**self._failure_count
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(pause_s, max(BACKOFF_S_MAX, self._interval_s))):
                await self._hurried.wait()

    async def _publish(self) -> None:
        try:
            await self._card.publish()
        except (WorldFault, UserFault) as fault:
            if not self._failure_count:
                self._notice(f"edits are not published yet: {fault}")
            self._failure_count = min(self._failure_count + 1, 16)
            self._edited.set()
            return
        if self._failure_count:
            self._notice("edits are published again")
        self._failure_count = 0
