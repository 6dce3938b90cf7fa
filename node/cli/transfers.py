"""Long work on the node, followed here: its events drive a meter until it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from node.cli import format as show
from node.cli.progress import Meter

if TYPE_CHECKING:
    from node.cli.session import Session
    from node.client import Event


UNIT_BYTES = {"fetching": 1, "installing": 10**6}
"""The steps of serving that say how far they are, and what they count in."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far the work is; zero is unknown."""

    done: int = 0
    total: int = 0
    stage: str = ""
    note: str = ""


def follow(
    session: Session,
    title: str,
    events: Iterator[Event],
    read: Callable[[dict[str, Any]], Step],
) -> dict[str, Any]:
    """Show the progress that events report and return what the `done` event says.

    Raises:
        ApiProblem: the work ended in an `error` event, with the node's code and words.
        ConnectionCut: the stream ended before the work did.
    """
    from node.client import ConnectionCut, problem_from

    with Meter(session.screen, title) as meter:
        for event in events:
            is_object = isinstance(event.data, dict)
            data: dict[str, Any] = cast("dict[str, Any]", event.data) if is_object else {}
            if event.name == "done":
                return data
            if event.name == "error":
                raise problem_from(int(data.get("status", 500)), data)
            if data.get("step") == "failed":
                # The error event that follows says it in full.
                continue
            step = read(data)
            meter.at(
                step.done if step.total else None,
                step.total or None,
                stage=step.stage,
                note=step.note,
            )
    raise ConnectionCut(f"{title}: the node stopped telling before the end; see its log")


def fetch_step(data: dict[str, Any]) -> Step:
    """Return the step in a fetch's `progress` event."""
    rate, holder, left = data["bytes_per_s"], data["holder"], data["seconds_left"]
    notes = [
        f"{show.size(rate)}/s" if rate else "",
        f"from {show.short_peer(holder)}" if holder else "",
        f"{show.duration(left)} left" if left else "",
    ]
    return Step(
        data["bytes_verified"],
        data["bytes_total"],
        data["phase"],
        ", ".join(note for note in notes if note),
    )


def serve_step(data: dict[str, Any]) -> Step:
    """Return the step in a `progress` event of bringing a model up."""
    step, text = str(data["step"]), str(data["text"])
    unit = UNIT_BYTES.get(step, 0)
    return Step(
        data.get("done", 0) * unit,
        data.get("total", 0) * unit,
        "" if text.startswith(step) else step,
        text,
    )
