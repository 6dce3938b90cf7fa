"""Asking a peer for ever smaller ranges, until all that only one side has is named. Pure.

What differs in a range shows in its hashes or its list, whoever chose the ids and however many
differ. The deepest ranges are asked for first, so that little waits; all that a peer can make of it
is bounded: it tells of each range once, of so many ranges, and of so many ids.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from crdt.errors import MalformedBytes
from crdt.framing import FETCH_COUNT_MAX
from crdt.ids import ItemId
from crdt.reconcile.frames import AskRanges, Hashed, Listed, Part, Take
from crdt.reconcile.idset import id_at
from crdt.reconcile.keys import DEPTH_MAX, RANGE_COUNT_MAX, ComparisonKey, TooDifferent
from crdt.reconcile.ranges import Ranges, all_starts, is_in, mark_of, parts_below

ASKED_COUNT_MAX = 2**17
"""Ranges in one comparison: all there are in two sets of a million with nothing in common."""
FOUND_COUNT_MAX = 2**17
"""Ids that only one side has: more are read by cursor, which is then cheaper."""


class Narrowing:
    """What is remembered while ranges are asked for.

    Attributes:
        ours: Ids that only we have.
        is_taking: The last request was for items, not for ranges.
    """

    def __init__(self, mine: Ranges, key: ComparisonKey, *, depth: int) -> None:
        """Begin with all ranges of a depth: the more differs, the deeper."""
        self.ours: list[ItemId] = []
        self.is_taking = False
        self._mine = mine
        self._key = key
        self._waiting: dict[int, list[int]] = {depth: list(all_starts(depth))}
        self._asked: tuple[int, tuple[int, ...]] = (0, ())
        self._asked_count = self._found_count = 0
        self._wanted: dict[int, tuple[int, int]] = {}

    def ask(self, nonce: bytes, n: int) -> AskRanges | Take | None:
        """Return the next request; None at the end.

        Args:
            n: The newest arrival of the set that the peer tells of; 0 when it has told of none.

        Raises:
            TooDifferent: there are too many ranges to ask for.
        """
        many = 1 if not self._waiting else FETCH_COUNT_MAX
        self.is_taking = len(self._wanted) >= many
        if self.is_taking:
            return self._take(nonce)
        if not self._waiting:
            return None
        depth = max(self._waiting)
        starts = self._waiting[depth]
        asked, rest = starts[:RANGE_COUNT_MAX], starts[RANGE_COUNT_MAX:]
        if rest:
            self._waiting[depth] = rest
        else:
            del self._waiting[depth]
        self._asked = depth, tuple(asked)
        self._asked_count += len(asked)
        if self._asked_count > ASKED_COUNT_MAX:
            raise TooDifferent
        return AskRanges(nonce, n, *self._asked)

    def told(self, parts: Sequence[Part]) -> None:
        """Take note of what the ranges that were asked for hold.

        Raises:
            MalformedBytes: not one part for each, one cut too often, or a mark twice.
            TooDifferent: too many ids are only on one side.
        """
        depth, starts = self._asked
        if len(parts) != len(starts):
            raise MalformedBytes(f"{len(parts)} ranges where {len(starts)} were asked for")
        self._asked = (0, ())
        deeper: list[int] = []
        for start, part in zip(starts, parts, strict=True):
            if isinstance(part, Hashed):
                if depth == DEPTH_MAX:
                    raise MalformedBytes(f"a range of depth {depth} that is cut once more")
                deeper += self._different(depth, start, part)
            else:
                self._compare(depth, start, part)
        if deeper:
            assert depth + 1 not in self._waiting, "the deepest are asked for first"
            self._waiting[depth + 1] = deeper
        if self._found_count > FOUND_COUNT_MAX:
            raise TooDifferent

    def came(self, ids: Sequence[ItemId], absent: Collection[int]) -> None:
        """Take note of items that were taken.

        Raises:
            MalformedBytes: one that was not asked for, or nothing at all.
            TooDifferent: the peer lacks what it listed: it has dropped it.
        """
        asked, rest = set(self._taking()), set(absent)
        marks = {mark_of(id_, self._key): id_ for id_ in ids}
        if len(marks) != len(ids) or not asked.issuperset((*marks, *rest)):
            raise MalformedBytes("items of ranges that were not asked for")
        for mark, id_ in marks.items():
            if not is_in(id_, *self._wanted[mark]):
                raise MalformedBytes("an item of another range than was asked for")
        if rest:
            raise TooDifferent
        if not ids:
            raise MalformedBytes("an answer that brings none of the items asked for")
        for mark in marks:
            del self._wanted[mark]

    def _different(self, depth: int, start: int, part: Hashed) -> list[int]:
        mine = self._mine.hashed(depth, start, self._key).hashes
        below = parts_below(depth, start)
        return [at for at, a, b in zip(below, mine, part.hashes, strict=True) if a != b]

    def _compare(self, depth: int, start: int, part: Listed) -> None:
        ((low, high),) = self._mine.bounds(depth, [start])
        mine = self._mine.marks(low, high, self._key)
        theirs, known = set(part.marks), set(mine)
        for mark in theirs - known:
            if mark in self._wanted:
                raise MalformedBytes("a mark that is listed in two ranges")
            self._wanted[mark] = depth, start
        only = [at for at, mark in enumerate(mine, low) if mark not in theirs]
        self.ours += [id_at(self._mine.rows, at) for at in only]
        self._found_count += len(only) + len(theirs - known)

    def _take(self, nonce: bytes) -> Take:
        taking = self._taking()
        depth = self._wanted[taking[0]][0]
        places = sorted((self._wanted[mark][1], mark) for mark in taking)
        return Take(nonce, depth, tuple(places))

    def _taking(self) -> list[int]:
        """Return the marks that are asked for next, all of one depth."""
        if not self._wanted:
            return []
        depth = next(iter(self._wanted.values()))[0]
        found = [mark for mark, place in self._wanted.items() if place[0] == depth]
        return found[:FETCH_COUNT_MAX]
