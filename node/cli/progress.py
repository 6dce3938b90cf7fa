"""Progress of long work: a bar on a terminal, a few plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from node.cli import format as show

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from node.cli.screen import Screen

BAR_WIDTH = 52
"""What spinner, bar, percentage, clock and the gaps between them take of a line."""
NOTE_WIDTH_MIN = 16
LINE_EVERY_S = 5.0
"""Off a terminal: often enough to see life in a CI log, rare enough not to fill it."""


class Meter:
    """Shows how far a piece of work is, on standard error.

    Use as a context manager. `at` may be called as often as the work likes: the bar redraws ten
    times a second, and plain lines come at a new stage, every few seconds, and at the end.
    """

    def __init__(self, screen: Screen, title: str, *, unit: str = "B") -> None:
        """Count `unit`: `B` for bytes, or the word for whatever else it is."""
        self._screen = screen
        self._title = title
        self._unit = unit
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._stage = ""
        self._line_at_s = 0.0
        self._last_line = ""
        self._begun_at_s = 0.0

    def __enter__(self) -> Meter:
        self._begun_at_s = time.monotonic()
        if sys.stderr.isatty():
            self._bar = self._make_bar()
            self._task = self._bar.add_task(self._title, total=None, note="", amount="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None and self._task is not None:
            self._settle(self._bar, self._task, failed=kind is not None)
            self._bar.stop()
        elif kind is None and not self._screen.json:
            took = show.duration(time.monotonic() - self._begun_at_s)
            self._write(f"{self._title}: done in {took}")

    def _settle(self, bar: Progress, task: TaskID, *, failed: bool) -> None:
        """Leave a full bar behind what is done, and none behind what failed before it began."""
        known = bar.tasks[0].total
        if failed:
            bar.update(task, visible=bool(known))
        else:
            bar.update(task, description=self._title, total=known or 1, completed=known or 1)

    def at(self, done: int | None, total: int | None, *, stage: str = "", note: str = "") -> None:
        """Report `done` of `total` (either may be unknown), what is being done, and a remark."""
        note = " ".join(note.split())
        if self._bar is not None and self._task is not None:
            amount = self._extent(done, total) if done and total else ""
            room = self._screen.err.width - BAR_WIDTH - len(stage or self._title) - len(amount)
            self._bar.update(
                self._task,
                description=stage or self._title,
                completed=done if done is not None else 0,
                total=total,
                note=show.cut(note, max(NOTE_WIDTH_MIN, room)),
                amount=amount,
            )
            return
        now_s = time.monotonic()
        if not self._screen.json and (stage != self._stage or now_s >= self._line_at_s):
            self._stage = stage
            self._line_at_s = now_s + LINE_EVERY_S
            self._write(self._line(done, total, stage, note))

    def _line(self, done: int | None, total: int | None, stage: str, note: str) -> str:
        parts = [f"{self._title}: {stage}" if stage and stage != self._title else self._title]
        if done is not None and total:
            parts.append(f"{self._extent(done, total)} ({100 * done // total} %)")
        elif done:
            parts.append(self._amount(done))
        if note:
            parts.append(note)
        return ", ".join(parts)

    def _extent(self, done: int, total: int) -> str:
        if self._unit == "B":
            return f"{show.size(done)} of {show.size(total)}"
        return f"{done} of {total} {self._unit}"

    def _amount(self, number: int) -> str:
        return show.size(number) if self._unit == "B" else f"{number} {self._unit}"

    def _write(self, line: str) -> None:
        if line != self._last_line:
            self._last_line = line
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    def _make_bar(self) -> Progress:
        from rich import progress

        return progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=28),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.fields[amount]}", markup=False),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=self._screen.err,
            transient=False,
        )
