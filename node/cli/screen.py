"""What a command shows: one machine form and one human form of the same result.

Results go to standard output, everything else (notes, progress, errors) to standard error. With
`--json`, standard output holds one JSON document (or one a line, for a stream) and nothing else.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Json: TypeAlias = Any
"""What `json.loads` gives: the shape is the HTTP API's and is documented there."""


WIDTH_PIPED = 400


class Screen:
    """Writes results, notes and errors for one command.

    Attributes:
        json: Whether results are wanted as JSON.
    """

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self._out: Console | None = None
        self._err: Console | None = None

    @property
    def out(self) -> Console:
        """The console results go to; made at first use, because rich takes 60 ms to import."""
        if self._out is None:
            from rich.console import Console

            # Piped, a line is as long as it must be: the next program wants whole values.
            width = None if _is_terminal() or "COLUMNS" in os.environ else WIDTH_PIPED
            self._out = Console(file=sys.stdout, highlight=False, width=width)
        return self._out

    @property
    def err(self) -> Console:
        """The console notes, progress and errors go to."""
        if self._err is None:
            from rich.console import Console

            self._err = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        return self._err

    def result(self, value: Json, human: Callable[[], RenderableType]) -> None:
        """Show a command's result: `value` as JSON, or what `human` renders."""
        if self.json:
            self.line(value)
        elif _is_terminal():
            self.out.print(human())
        else:
            with self.out.capture() as captured:
                self.out.print(human())
            # Cells are padded to their column's width; a file has no use for that at line ends.
            self.text("\n".join(line.rstrip() for line in captured.get().splitlines()))

    def line(self, value: Json) -> None:
        """Write one JSON document on a line of its own."""
        indent = 2 if _is_terminal() else None
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=indent) + "\n")
        sys.stdout.flush()

    def text(self, value: str) -> None:
        """Write text as it is to standard output: what is meant to be piped into a file."""
        sys.stdout.write(value if value.endswith("\n") else value + "\n")
        sys.stdout.flush()

    def note(self, message: str) -> None:
        """Tell the person something beside the result, on standard error; silent with `--json`."""
        if not self.json:
            from rich.text import Text

            self.err.print(Text(message, style="dim"))

    def success(self, message: str) -> None:
        """Say that something was done, on standard output; silent with `--json`."""
        if not self.json:
            from rich.text import Text

            self.out.print(Text.assemble(("✓ ", "bold green"), message))

    def failure(self, *, code: str, message: str, exit_status: int, problems: Json = None) -> None:
        """Write what went wrong as one line on standard error (a JSON document with `--json`)."""
        flat = " ".join(message.split())
        if self.json:
            found = {"code": code, "message": flat, "exit_status": exit_status}
            if problems:
                found["problems"] = problems
            sys.stderr.write(json.dumps(found, ensure_ascii=False) + "\n")
            return
        from rich.text import Text

        self.err.print(Text.assemble(("hansa: ", "bold red"), flat))
        for one in problems or ():
            self.err.print(Text.assemble("  ", (str(one["field"]), "bold"), f": {one['message']}"))


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Iterable[str] = (),
    fold: Iterable[str] = (),
) -> RenderableType:
    """Return rows under headings; columns named in `right` are right-aligned numbers.

    A column named in `fold` goes on in the next line when the terminal is narrow; of the others
    the first is always whole, and the rest are cut.

    A cell may be a rich renderable; anything else is shown as text, never as markup.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        header_style="bold",
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    numbers, folding = set(right), set(fold)
    for number, column in enumerate(columns):
        shown.add_column(
            column,
            justify="right" if column in numbers else "left",
            no_wrap=column not in folding,
            overflow="fold" if column in folding or number == 0 else "ellipsis",
        )
    for row in rows:
        shown.add_row(*(one if isinstance(one, Text) else Text(_cell(one)) for one in row))
    return shown


def sheet(pairs: Mapping[str, object], *, title: str = "") -> RenderableType:
    """Return names and values in two columns, without those that have no value."""
    from rich.table import Table
    from rich.text import Text

    shown = Table.grid(padding=(0, 2))
    shown.add_column(style="dim", no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in pairs.items():
        if value is None or value in ("", [], (), {}):
            continue
        shown.add_row(Text(name), value if isinstance(value, Text) else Text(_cell(value)))
    if not title:
        return shown
    from rich.console import Group

    return Group(Text(title, style="bold"), shown)


def stack(*parts: RenderableType) -> RenderableType:
    """Return several renderables one under the other."""
    from rich.console import Group

    return Group(*parts)


def styled(text: str, style: str) -> RenderableType:
    """Return text in a rich style: `green`, `bold red`, `dim`."""
    from rich.text import Text

    return Text(text, style=style)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(one) for one in cast("list[object]", value))
    return str(value)


def _is_terminal() -> bool:
    return sys.stdout.isatty()
