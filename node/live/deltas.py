"""Splices: changes of a text, counted in code points, whoever made them and however.

Three units meet here. Browsers count UTF-16 code units (a surrogate pair is two), pycrdt's `Text`
counts UTF-8 bytes, and a card counts code points. Nothing outside this module converts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

EDIT_COUNT_MAX = 128
"""A difference of more single edits than this is given more coarsely: the search for the smallest
one takes time quadratic in it (Myers, 1986). A burst of typing in several places is far below, and
any insertion or deletion in one place needs no search."""


@dataclass(frozen=True, slots=True)
class Splice:
    """Replace `delete` code points at `index` by `insert`."""

    index: int
    delete: int
    insert: str


def spliced(text: str, splices: Sequence[Splice]) -> str:
    """Return the text after the splices, each of which counts in what those before it left."""
    for splice in splices:
        end = splice.index + splice.delete
        assert 0 <= splice.index <= end <= len(text), (splice, len(text))
        text = text[: splice.index] + splice.insert + text[end:]
    return text


def from_delta(old: str, delta: Sequence[Mapping[str, Any]]) -> list[Splice]:
    """Return what a pycrdt text event did to `old`, as splices in order.

    Attributes and embedded values are left out; `old` must have had none.

    Raises:
        UnicodeDecodeError: the event cuts a character of `old`.
    """
    raw = old.encode()
    offset, index = 0, 0
    splices: list[Splice] = []
    for change in delta:
        taken = int(change.get("retain", 0) or change.get("delete", 0))
        length = len(raw[offset : offset + taken].decode())
        offset += taken
        insert = change.get("insert", "")
        if "retain" in change:
            index += length
        elif "delete" in change and length:
            _add(splices, Splice(index, length, ""))
        elif isinstance(insert, str) and insert:
            _add(splices, Splice(index, 0, insert))
            index += len(insert)
    return splices


def _add(splices: list[Splice], new: Splice) -> None:
    """Append a splice, as one with the last if both are at one place."""
    last = splices[-1] if splices else None
    if last is not None and last.index + len(last.insert) == new.index:
        splices[-1] = Splice(last.index, last.delete + new.delete, last.insert + new.insert)
    else:
        splices.append(new)


def difference(old: str, new: str) -> list[Splice]:
    """Return few and small splices that turn `old` into `new`.

    Small matters: an editor's edit that is on its way when these are applied keeps its place only
    in what they leave alone. Lines are compared first, then characters within changed lines.
    """
    splices: list[Splice] = []
    shift = 0
    old_lines, new_lines = _lines(old), _lines(new)
    old_starts, new_starts = _starts(old_lines), _starts(new_lines)
    for lines in _hunks(old_lines, new_lines):
        old_part = old[old_starts[lines.old_start] : old_starts[lines.old_end]]
        new_part = new[new_starts[lines.new_start] : new_starts[lines.new_end]]
        start = old_starts[lines.old_start]
        for part in _hunks(old_part, new_part):
            delete = part.old_end - part.old_start
            insert = new_part[part.new_start : part.new_end]
            splices.append(Splice(start + part.old_start + shift, delete, insert))
            shift += len(insert) - delete
    return splices


def rebased(base: str, mine: str, theirs: str) -> str:
    """Return `theirs` with everything done to it that made `mine` of `base`.

    A character goes if either took it out, and what either put in stays, theirs before mine.
    """
    kept = bytearray(b"\1") * len(base)
    inserts: dict[int, list[str]] = {}
    for new in (theirs, mine):
        shift = 0
        for splice in difference(base, new):
            start = splice.index - shift
            kept[start : start + splice.delete] = bytes(splice.delete)
            inserts.setdefault(start, []).append(splice.insert)
            shift += len(splice.insert) - splice.delete
    parts: list[str] = []
    for index in range(len(base) + 1):
        parts += inserts.get(index, ())
        parts.append(base[index : index + kept[index]] if index < len(base) else "")
    return "".join(parts)


def _lines(text: str) -> list[str]:
    """Split after every line feed and nowhere else, so that joining gives the text again."""
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _starts(lines: Sequence[str]) -> list[int]:
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    return starts


@dataclass(frozen=True, slots=True)
class _Hunk:
    """A part of the old sequence that is a part of the new one instead."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int


def _hunks(old: Sequence[str], new: Sequence[str]) -> list[_Hunk]:
    """Return where two sequences differ, in order; coarsely if they differ too much."""
    start = _common(lambda low, high: old[low:high] == new[low:high], min(len(old), len(new)))
    tail = _common(
        lambda low, high: (
            old[len(old) - high : len(old) - low] == new[len(new) - high : len(new) - low]
        ),
        min(len(old), len(new)) - start,
    )
    old_end, new_end = len(old) - tail, len(new) - tail
    if start == old_end and start == new_end:
        return []
    whole = _Hunk(start, old_end, start, new_end)
    if start in (old_end, new_end):
        return [whole]
    matches = _longest_matches(old[start:old_end], new[start:new_end])
    return [whole] if matches is None else _gaps(matches, whole)


def _common(equal: Callable[[int, int], bool], most: int) -> int:
    """Return how far two sequences are equal: halving, so that whole slices are compared."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if equal(low, middle):
            low = middle
        else:
            high = middle - 1
    return low


def _longest_matches(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]] | None:
    """Return the matching pairs of indices of a longest common subsequence; None if it is far.

    Myers' greedy search: `reach[k]` is how far along `old` the best path on diagonal k is.
    """
    reach = {1: 0}
    trail: list[dict[int, int]] = []
    for edits in range(min(len(old) + len(new), EDIT_COUNT_MAX) + 1):
        trail.append(dict(reach))
        for k in range(-edits, edits + 1, 2):
            down = k == -edits or (k != edits and reach[k - 1] < reach[k + 1])
            x = reach[k + 1] if down else reach[k - 1] + 1
            while x < len(old) and 0 <= x - k < len(new) and old[x] == new[x - k]:
                x += 1
            reach[k] = x
            if x >= len(old) and x - k >= len(new):
                return _matches(trail, len(old), len(new))
    return None


def _matches(trail: Sequence[Mapping[int, int]], x: int, y: int) -> list[tuple[int, int]]:
    matches: list[tuple[int, int]] = []
    for edits in range(len(trail) - 1, -1, -1):
        reach, k = trail[edits], x - y
        down = k == -edits or (k != edits and reach[k - 1] < reach[k + 1])
        before_k = k + 1 if down else k - 1
        before_x = reach[before_k] if edits else 0
        before_y = before_x - before_k if edits else 0
        while x > before_x and y > before_y:
            x, y = x - 1, y - 1
            matches.append((x, y))
        x, y = before_x, before_y
    return matches[::-1]


def _gaps(matches: Sequence[tuple[int, int]], whole: _Hunk) -> list[_Hunk]:
    """Return what lies between the matches, whose indices count from the start of `whole`."""
    gaps: list[_Hunk] = []
    x, y = whole.old_start, whole.new_start
    for match_x, match_y in matches:
        to_x, to_y = whole.old_start + match_x, whole.new_start + match_y
        if x < to_x or y < to_y:
            gaps.append(_Hunk(x, to_x, y, to_y))
        x, y = to_x + 1, to_y + 1
    if x < whole.old_end or y < whole.new_end:
        gaps.append(_Hunk(x, whole.old_end, y, whole.new_end))
    return gaps
