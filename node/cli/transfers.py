"""Long work on the node, followed here: its events drive a meter until it ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from node.cli import format as show
from node.cli.progress import Meter

if TYPE_CHECKING:
    from node.cli.session import Session
    from node.client import Event


def follow(session: Session, title: str, events: Iterator[Event]) -> dict[str, Any]:
    """Show the progress that events report and return what the last one says.

    Raises:
        ApiProblem: the work ended in a failure, with the node's code and words.
        ConnectionCut: the stream ended before the work did.
    """
    from node.client import ApiProblem, ConnectionCut

    with Meter(session.screen, title) as meter:
        for event in events:
            data: dict[str, Any] = event.data if isinstance(event.data, dict) else {}
            if event.name == "done":
                return data
            if event.name in ("error", "failed"):
                raise ApiProblem(
                    status=int(data.get("status", 500)),
                    code=str(data.get("code", "error")),
                    message=str(data.get("detail") or data.get("message") or title),
                )
            meter.at(
                data.get("done_bytes"),
                data.get("total_bytes"),
                stage=str(data.get("message") or data.get("stage") or ""),
                note=_note(data),
            )
    raise ConnectionCut(f"{title}: the node stopped telling before the end; see its log")


def _note(data: dict[str, Any]) -> str:
    rate, sources = data.get("bytes_per_s"), data.get("sources")
    parts = [f"{show.size(int(rate))}/s" if rate else "", f"{sources} sources" if sources else ""]
    return ", ".join(part for part in parts if part)
