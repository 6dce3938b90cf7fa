"""Live editing of a card with stock Yjs editors, over a WebSocket on this machine."""

from node.live.deltas import Splice, difference, rebased, spliced
from node.live.errors import (
    EditsMissing,
    LiveCannotListen,
    LivePortInUse,
    SessionBroken,
    UpdateRefused,
)
from node.live.pace import PaceLimits
from node.live.server import LiveLimits, LiveServer
from node.live.session import CardText, Session

__all__ = [
    "CardText", "EditsMissing", "LiveCannotListen", "LiveLimits", "LivePortInUse", "LiveServer",
    "PaceLimits", "Session", "SessionBroken", "Splice", "UpdateRefused", "difference", "rebased",
    "spliced",
]  # fmt: skip
