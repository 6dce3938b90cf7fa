"""`hansa models conflicts` and `hansa agents conflicts`: concurrent writes, side by side."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from node.cli import format as look
from node.cli.screen import stack, styled, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from node.cli.session import Session

VALUE_CHARACTERS_MAX = 60
DERIVED = frozenset({"model_id", "agent_id", "owner_id"})


def conflicts(session: Session, plural: str, reference: str) -> None:
    """Show what won over what, by which term, and what differs between them."""
    found = session.client().get(f"/v1/{plural}/{session.path_of(reference)}/conflicts")
    session.screen.result(found, lambda: _report(found))
    count = found["conflict_count"]
    if count:
        session.screen.note(
            f"{look.counted(count, 'concurrent write')} lost; the next update cites them all and"
            f" settles them: hansa {plural} update {reference}"
        )
    elif found["winner"] is None:
        session.screen.note(f"Nothing shows; hansa audit {reference} says why")
    else:
        session.screen.note("No concurrent writes: nothing lost")


def differing(winner: Any, loser: Any) -> list[tuple[str, str, str]]:
    """Return the fields in which two versions of a record differ, with both values as JSON.

    A deletion differs from a record as a whole.
    """
    if not (isinstance(winner, Mapping) and isinstance(loser, Mapping)):
        return [] if winner == loser else [("record", _shown(winner), _shown(loser))]
    one, other = cast("Mapping[str, Any]", winner), cast("Mapping[str, Any]", loser)
    names = [*one, *(name for name in other if name not in one)]
    return [
        (name, _shown(one.get(name)), _shown(other.get(name)))
        for name in names
        if name not in DERIVED and one.get(name) != other.get(name)
    ]


def _report(found: Mapping[str, Any]) -> RenderableType:
    winner: dict[str, Any] | None = found["winner"]
    if winner is None:
        return styled("nothing shows", "bold red")
    parts = [_writes(winner, found["conflicts"])]
    for loser in found["conflicts"]:
        fields = differing(winner["record"], loser["record"])
        title = f"{loser['version'] or 'deleted'} {look.short_id(loser['version_id'])}"
        parts.append(styled("", ""))
        if fields:
            parts.append(table(("field", "shows", title), fields, fold=("shows", title)))
        else:
            parts.append(styled(f"{title}: says the same as what shows", "dim"))
    return stack(*parts)


def _writes(winner: dict[str, Any], losers: list[dict[str, Any]]) -> RenderableType:
    now_s = int(time.time())  # noqa: TID251 - the command line is an edge
    return table(
        ("version", "version id", "signed by key", "when", "epoch", "root", "depth", ""),
        [
            (
                one["version"] or "deleted",
                look.short_id(one["version_id"]),
                look.short_id(one["signed_by"]["key"]),
                look.ago(one["signed_by"]["timestamp_s"], now_s=now_s),
                one["rank"]["epoch"],
                one["rank"]["is_root"],
                one["rank"]["depth"],
                styled(f"lost {look.lost_words(one['lost_by'])}", "yellow")
                if one["lost_by"]
                else styled("shows", "green"),
            )
            for one in (winner, *losers)
        ],
        right=("epoch", "depth"),
        fold=("when", ""),
    )


def _shown(value: Any) -> str:
    if isinstance(value, Mapping) and "name" in value:
        return "a record"
    text = json.dumps(value, ensure_ascii=True)
    return look.cut(text, VALUE_CHARACTERS_MAX)
