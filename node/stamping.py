"""Finding admission stamps: tries in threads, which scrypt lets run side by side.

For a person at a terminal it uses every core and tells how far it is; for a node one, while the
node does everything else.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Event
from types import TracebackType

from crdt import WorkRule, is_good_stamp, stamp_bytes


class StampSearch:
    """A search for one stamp, under way from the start. A context manager: it ends with the block.

    Attributes:
        rule: What the stamp must do.
    """

    def __init__(
        self, challenge: bytes, rule: WorkRule, *, thread_count: int | None = None
    ) -> None:
        """Begin; in as many threads as there are cores, if nothing is said."""
        self.rule = rule
        count = thread_count or os.cpu_count() or 1
        self._stopping = Event()
        self._tried = [0] * count
        self._begun_s = time.monotonic()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="hansa-stamp")
        self._found: list[Future[bytes | None]] = [
            self._threads.submit(self._try_every, challenge, first, count) for first in range(count)
        ]

    def __enter__(self) -> StampSearch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._threads.shutdown(wait=True)

    @property
    def tried(self) -> int:
        """How many numbers were tried so far."""
        return sum(self._tried)

    @property
    def mean_s(self) -> float | None:
        """How long a stamp takes this machine in the mean; None before its speed is known.

        That is also how much longer it takes, however long it has taken: tries have no memory.
        """
        tried = self.tried
        if tried < len(self._tried):
            return None
        elapsed_s = time.monotonic() - self._begun_s
        return elapsed_s * self.rule.tries / tried

    def wait(self, timeout_s: float | None = None) -> bytes | None:
        """Return the stamp if there is one within the time; None also when it was stopped."""
        done, _ = wait(self._found, timeout_s, return_when=FIRST_COMPLETED)
        return next((stamp for one in done if (stamp := one.result()) is not None), None)

    def stop(self) -> None:
        """Give up; the threads end within a try."""
        self._stopping.set()

    def _try_every(self, challenge: bytes, first: int, step: int) -> bytes | None:
        number = first
        while not self._stopping.is_set():
            stamp = stamp_bytes(number)
            if is_good_stamp(challenge, stamp, self.rule.bits):
                return stamp
            self._tried[first] += 1
            number += step
        return None
