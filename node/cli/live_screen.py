"""What a live session shows: where to connect, a line that says how it goes, and how it ended.

On a terminal the line is drawn anew a few times a second. With `--json` every event is a line.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from crdt import HansaError, Item, Operation
from node.cli import format as show
from node.cli.screen import Screen, sheet, stack, styled

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

REFRESH_PER_S = 4
ROOT = "text"
"""The name of the Yjs text that editors bind to."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where stock editors connect: y-websocket's first two arguments, and the record behind them.

    Attributes:
        reference: As the person typed it.
        record: Its id in hex.
    """

    url: str
    room: str
    reference: str
    record: str


@dataclass(slots=True)
class Tally:
    """What happened so far."""

    editor_count: int = 0
    waiting_count: int = 0
    published_count: int = 0
    published_bytes: int = 0
    heard_count: int = 0
    heard_from: str = ""
    heard_at_s: float = 0.0
    fault: HansaError | None = None


class LiveScreen:
    """Shows one session; a `LiveWatch`. A context manager: the line is drawn while it is entered.

    Attributes:
        is_started: Editors could connect.

    Args:
        name_of: Who wrote an operation, in words.
        counts: How many editors are connected, and how many edits wait to be sent.
    """

    def __init__(
        self,
        screen: Screen,
        *,
        name_of: Callable[[Operation], str],
        counts: Callable[[], tuple[int, int]],
    ) -> None:
        self.tally = Tally()
        self.is_started = False
        self._screen = screen
        self._name_of = name_of
        self._counts = counts
        self._line: Live | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self._screen.json:
            from rich.live import Live

            self._line = Live(
                console=self._screen.err,
                get_renderable=self._status,
                refresh_per_second=REFRESH_PER_S,
                transient=True,
            )
            self._line.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._line is not None:
            self._line.stop()

    def started(self, place: Place) -> None:
        """Say where to connect, and how."""
        self.is_started = True
        found = {
            "event": "started", "url": place.url, "room": place.room, "root": ROOT,
            "record": place.record,
        }  # fmt: skip
        self._screen.result(found, lambda: _welcome(place))

    def look(self) -> None:
        """Look how many editors there are, and tell if that changed."""
        before = self.tally.editor_count
        self.tally.editor_count, self.tally.waiting_count = self._counts()
        if self.tally.editor_count != before:
            self._event("editors", count=self.tally.editor_count)

    def published(self, items: Sequence[Item]) -> None:
        """Edits of this session are on the node's disk."""
        for item in items:
            self.tally.published_count += 1
            self.tally.published_bytes += len(item.raw)
            self._event("published", operation=item.id.hex(), bytes=len(item.raw))

    def heard(self, operations: Sequence[Operation]) -> None:
        """Others wrote to the record."""
        for one in operations:
            who = self._name_of(one)
            self.tally.heard_count += 1
            self.tally.heard_from, self.tally.heard_at_s = who, time.monotonic()
            self._event(
                "remote", operation=one.id.hex(), type=one.type.name.lower(), key=one.key.hex(),
                by=who, timestamp_s=one.timestamp_s,
            )  # fmt: skip

    def reached(self, fault: HansaError | None) -> None:
        """Tell that the node does not answer, for this reason; None: it answers again."""
        self.tally.fault = fault
        self._event("node", reachable=fault is None, detail=str(fault) if fault else None)
        if self._line is None:
            told = "The node answers again" if fault is None else f"{fault}; editing goes on here"
            self._screen.note(told)

    def notice(self, line: str) -> None:
        """Say something the person who edits has to know."""
        self._event("notice", message=line)
        self._screen.note(f"{line[:1].upper()}{line[1:]}")

    def ended(self, *, digest: str, text: str, lost_count: int, kept: Path | None) -> None:
        """Say what came of it.

        Args:
            lost_count: Edits that were signed and are not known to be on the node.
            kept: Where the text is, if some of it was not published.
        """
        tally = self.tally
        found = {
            "event": "ended", "published": tally.published_count, "bytes": tally.published_bytes,
            "remote": tally.heard_count, "unpublished": lost_count, "digest": digest,
            "text_length": len(text), "text_file": str(kept) if kept else None,
        }  # fmt: skip
        self._screen.result(found, lambda: _summary(tally, text, lost_count, kept))

    def _event(self, name: str, **fields: Any) -> None:
        if self._screen.json:
            self._screen.line({"event": name, **fields})

    def _status(self) -> RenderableType:
        """Return the line; called from the thread that draws."""
        from rich.text import Text

        tally = self.tally
        away = tally.fault is not None
        parts = [
            "the node does not answer" if away else show.counted(tally.editor_count, "editor"),
            f"{show.counted(tally.published_count, 'edit')} sent",
        ]
        if tally.waiting_count:
            parts.append(f"{tally.waiting_count} waiting")
        if tally.heard_from:
            age_s = int(time.monotonic() - tally.heard_at_s)
            ago = f"{show.duration(age_s)} ago" if age_s >= 60 else f"{age_s} s ago"
            parts.append(f"last by {tally.heard_from} {ago}")
        parts.append("Ctrl-C ends it")
        style = "bold red" if away else "bold green" if tally.editor_count else "bold yellow"
        return Text.assemble(("● ", style), " · ".join(parts), no_wrap=True, overflow="ellipsis")


def _welcome(place: Place) -> RenderableType:
    rows = {"server": place.url, "room": place.room, "text": ROOT}
    return stack(
        sheet(rows, title=f"{place.reference} is open for Yjs editors on this machine"),
        styled("\nJavaScript (npm install yjs y-websocket):", "dim"),
        styled(javascript(place), "cyan"),
        styled("\nPython (pip install pycrdt-websocket httpx-ws):", "dim"),
        styled(python(place), "cyan"),
        styled("\nThe room is a secret: whoever knows it writes with your key.", "dim"),
    )


def javascript(place: Place) -> str:
    """Return what binds a Yjs document to the session, ready to be pasted."""
    return (
        "import * as Y from 'yjs'\n"
        "import { WebsocketProvider } from 'y-websocket'\n"
        "const doc = new Y.Doc()\n"
        f"new WebsocketProvider('{place.url}', '{place.room}', doc)\n"
        f"const text = doc.getText('{ROOT}')  // bind your editor to it"
    )


def python(place: Place) -> str:
    """Return the same for pycrdt, to be pasted into a coroutine."""
    return (
        "from httpx_ws import aconnect_ws\n"
        "from pycrdt import Doc, Provider, Text\n"
        "from pycrdt.websocket.websocket import HttpxWebsocket\n"
        "doc = Doc()\n"
        f"text = doc.get('{ROOT}', type=Text)\n"
        f"room = '{place.room}'\n"
        f"async with aconnect_ws('{place.url.replace('ws:', 'http:', 1)}/' + room) as socket:\n"
        "    async with Provider(doc, HttpxWebsocket(socket, room)):\n"
        "        ...  # edit text as long as you like"
    )


def _summary(tally: Tally, text: str, lost_count: int, kept: Path | None) -> RenderableType:
    sent = show.counted(tally.published_count, "edit")
    rows = {
        "published": f"{sent}, {show.size(tally.published_bytes)}" if tally.published_count else "",
        "from elsewhere": show.counted(tally.heard_count, "edit") if tally.heard_count else "",
        "not published": show.counted(lost_count, "edit") if lost_count else "",
        "the text is in": kept,
        "text": show.counted(len(text), "character"),
    }
    return sheet(rows, title="The live session is over")
