"""What a replica held at some recent moments, so that ranges asked for one by one fit together.

A set that is written to changes between two requests. Two such moments are kept, for whoever asks,
and no new one is made before some time has passed: nobody gets a copy of the set of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from crdt.reconcile.frames import Held
from crdt.reconcile.idset import Words, digest_of
from crdt.reconcile.keys import ComparisonKey
from crdt.reconcile.ranges import Ranges

MOMENT_COUNT_MAX = 2
"""40 MB each at a million ids, if as much has changed meanwhile; nothing when nothing has."""
MOMENT_MS = 30_000
"""Until a new one may be made. The one before is kept as long again: time for all of its ranges."""
_DIGEST_COUNT_MAX = 64


@dataclass(slots=True)
class Moment:
    """A set as it was, and the cursor of whoever has all of it."""

    epoch: bytes
    last_n: int
    ranges: Ranges
    made_ms: int
    digests: OrderedDict[bytes, bytes] = field(default_factory=OrderedDict[bytes, bytes])

    def held(self, key: ComparisonKey) -> tuple[Held, int]:
        """Return what was held under a comparison's key, and how many ids were hashed for that."""
        digest, hashed = self.digests.get(key.raw), 0
        if digest is None:
            digest = self.digests[key.raw] = digest_of(self.ranges.rows, key)
            hashed = len(self.ranges.rows)
            while len(self.digests) > _DIGEST_COUNT_MAX:
                self.digests.popitem(last=False)
        return Held(self.epoch, self.last_n, len(self.ranges.rows), digest), hashed


class Moments:
    """The moments that are kept: at most two, the newest last."""

    def __init__(self) -> None:
        self._kept: list[Moment] = []

    def named(self, epoch: bytes, n: int) -> Moment | None:
        """Return the moment whose newest arrival is `n`; None when it is not kept any more."""
        return next((one for one in self._kept if one.last_n == n and one.epoch == epoch), None)

    def recent(self, epoch: bytes, last_n: int, now_ms: int) -> Moment | None:
        """Return the newest moment if it is now, or not old; None when one is to be made."""
        newest = self._kept[-1] if self._kept else None
        if newest is None or newest.epoch != epoch:
            return None
        is_now = newest.last_n == last_n
        return newest if is_now or now_ms - newest.made_ms < MOMENT_MS else None

    def keep(self, epoch: bytes, last_n: int, rows: Words, now_ms: int) -> Moment:
        """Return what is held now, and keep it; the oldest goes when there are too many."""
        made = Moment(epoch, last_n, Ranges.of(rows), now_ms)
        self._kept = [*self._kept, made][-MOMENT_COUNT_MAX:]
        return made
