"""The order of a card's text: where an insertion goes, decided here and not by the engine.

Each insertion names the unit it was put after and the one it was put before. If the second was
itself put after the first, the new text belongs to the second, and goes right before it. Otherwise
it belongs to the first, and goes right after it. So what one writer typed in one place stays
together, forwards and backwards, whoever typed beside it (the tree of Fugue: Weidner and
Kleppmann, "The Art of the Fugue", 2023).

Insertions come in canonical order, so each takes constant time whatever its origins are; an
engine that compares the origins of all siblings (Yjs) takes quadratic time when an attacker likes.
"""

from __future__ import annotations

from bisect import bisect_right

START = -1
"""Before the first unit, as a left origin; as a right one, the end."""


class _Run:
    """Units that were inserted together and have not been parted since."""

    __slots__ = ("after", "before", "length", "origin", "start")

    def __init__(self, start: int, length: int, origin: int) -> None:
        self.start = start
        self.length = length
        self.origin = origin
        self.before: _Run | None = None
        self.after: _Run | None = None


class TextOrder:
    """Every unit that was ever in the text, deleted ones too, named by the document's clocks."""

    __slots__ = ("_first", "_runs", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._runs: list[_Run] = []
        self._first: _Run | None = None

    def insert(self, start: int, length: int, *, left: int, right: int) -> tuple[int, int]:
        """Insert units `start` to `start + length`, and return their neighbours, or START.

        Args:
            start: Greater than every unit inserted before.
            left: The unit it was put after; START for none.
            right: The unit it was put before; START for none.
        """
        before, after = self._gap(left, right)
        run = _Run(start, length, left)
        run.before, run.after = before, after
        if before is None:
            self._first = run
        else:
            before.after = run
        if after is not None:
            after.before = run
        self._starts.append(start)
        self._runs.append(run)
        return (
            START if before is None else before.start + before.length - 1,
            START if after is None else after.start,
        )

    def _gap(self, left: int, right: int) -> tuple[_Run | None, _Run | None]:
        if right != START and self._origin(right) == left:
            after = self._starting(right)
            return after.before, after
        if left == START:
            return None, self._first
        before = self._holding(left)
        if left + 1 < before.start + before.length:
            self._starting(left + 1)
        return before, before.after

    def _origin(self, unit: int) -> int:
        run = self._holding(unit)
        return run.origin if run.start == unit else unit - 1

    def _holding(self, unit: int) -> _Run:
        run = self._runs[bisect_right(self._starts, unit) - 1]
        assert run.start <= unit < run.start + run.length, f"unit {unit} is not in the text"
        return run

    def _starting(self, unit: int) -> _Run:
        """Return the run that starts with a unit, parting one if need be."""
        at = bisect_right(self._starts, unit) - 1
        run = self._holding(unit)
        if run.start == unit:
            return run
        second = _Run(unit, run.start + run.length - unit, unit - 1)
        run.length = unit - run.start
        second.before, second.after = run, run.after
        if run.after is not None:
            run.after.before = second
        run.after = second
        self._starts.insert(at + 1, unit)
        self._runs.insert(at + 1, second)
        return second
