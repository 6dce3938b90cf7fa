"""Works out the stamps in what peers answer, beside the store's thread that will judge it.

A page of a first catch-up may bring hundreds of accounts, each of which takes a try of 14 ms. Done
by the one thread that owns the log, local writes and peers' requests would wait for all of them. So
an answer's stamps are worked out before it is handed over, and the judge is told of the good ones;
of the others it is told nothing, and judges them by itself.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from threading import Event

from crdt import (
    Entry,
    EntryType,
    Item,
    ItemId,
    ItemKind,
    NetworkId,
    NotAdmitted,
    RemoteFault,
    StampJudge,
    WorkRule,
    answered_items,
    check_stamp,
    open_entry,
)

Stamped = tuple[Item, Entry]


class StampDesk:
    """Prepares answers for a judge of stamps; does nothing on a network without a rule.

    Args:
        seen: Which of some ids are in the log; called in the store's thread only.
    """

    def __init__(
        self,
        network: NetworkId,
        judge: StampJudge,
        seen: Callable[[Collection[ItemId]], set[ItemId]],
    ) -> None:
        self._network = network
        self._judge = judge
        self._seen = seen
        self._stopping = Event()
        # One core is left to everything else, where there are several.
        self._count = max(1, (os.cpu_count() or 1) - 1)
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="hansa-stamps")

    async def prepare(self, answer: bytes, store: Executor) -> None:
        """Work out what an answer brings; `store` is the thread that owns the log."""
        rule = self._judge.rule
        if rule is None or self._stopping.is_set():
            return
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(store, self._unknown, answer)
        if not found:
            return
        parts = [found[first :: self._count] for first in range(self._count)]
        good = await asyncio.gather(
            *(loop.run_in_executor(self._threads, self._good, part, rule) for part in parts if part)
        )
        await loop.run_in_executor(store, self._judge.learn, [id_ for part in good for id_ in part])

    def stop(self) -> None:
        """End within a try of each thread."""
        self._stopping.set()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _unknown(self, answer: bytes) -> list[Stamped]:
        """Return the geneses in an answer that are new here and rightly signed."""
        try:
            items = answered_items(answer, self._network)
        except RemoteFault:
            return []  # the machine judges that
        entries = {item.id: item for item in items if item.kind is ItemKind.ACCOUNT}
        known = self._seen(entries.keys()) if entries else set[ItemId]()
        found: list[Stamped] = []
        for id_, item in entries.items():
            if id_ in known:
                continue
            try:
                entry = open_entry(item, self._network)
            except RemoteFault:
                return found  # a liar's: nothing behind it is worth work
            if entry.type is EntryType.GENESIS:
                found.append((item, entry))
        return found

    def _good(self, geneses: Sequence[Stamped], rule: WorkRule) -> list[ItemId]:
        """Return those whose stamps are good, up to the first false one."""
        good: list[ItemId] = []
        for item, entry in geneses:
            if self._stopping.is_set():
                break
            try:
                check_stamp(item, entry, self._network, rule)
            except NotAdmitted:
                break
            good.append(item.id)
        return good
