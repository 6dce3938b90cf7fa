"""The work that founding an account takes, with a bar that says how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.cli import format as show
from node.cli.progress import Meter

if TYPE_CHECKING:
    from crdt import WorkRule
    from node.cli.screen import Screen

LOOK_S = 0.1
"""How often the bar moves, and the most that Ctrl-C waits for."""


def find_stamp(screen: Screen, challenge: bytes, rule: WorkRule) -> bytes:
    """Return a stamp for a challenge, found with every core of this machine."""
    from node.stamping import StampSearch

    with (
        Meter(screen, "Working for admission", unit="tries") as meter,
        StampSearch(challenge, rule) as search,
    ):
        while True:
            stamp = search.wait(LOOK_S)
            if stamp is not None:
                return stamp
            tried = search.tried
            # There is no end to be sure of: past the mean the bar waits, full but for a hair.
            meter.at(min(tried, rule.tries - 1), rule.tries, note=_note(tried, search.mean_s, rule))


def _note(tried: int, mean_s: float | None, rule: WorkRule) -> str:
    if mean_s is None:
        return "measuring this machine"
    mean = show.duration(mean_s)
    if tried < rule.tries:
        return f"takes {mean} in the mean, sometimes several times that"
    return f"unlucky so far; from here it takes {mean} in the mean"
