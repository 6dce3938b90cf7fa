"""How far this machine's clock is from its peers', and what may be concluded from that. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

GROUP_COUNT_MIN = 3
"""Address groups below which no clock is said to be wrong: of two, one may lie."""
NOTE_MS = 5_000
"""More than this is no network delay."""
WRONG_MS = 30_000
"""From here on peers refuse this node's adverts, as it refuses theirs (inference/adverts.py)."""
OFFSET_MS_MAX = 10 * 365 * 86_400_000
"""Ten years: what is said beyond it is cut to it, so that a liar's number stays a number."""


@dataclass(frozen=True, slots=True)
class ClockReading:
    """What one peer's clock showed, as seen from here.

    Attributes:
        offset_ms: Its clock less ours; positive: ours is behind.
        error_ms: Half of the time the exchange took: the offset may be off by so much.
    """

    offset_ms: int
    error_ms: int


@dataclass(frozen=True, slots=True)
class Skew:
    """What peers say together.

    Attributes:
        offset_ms: The median over address groups of what each group says; None: nobody was read.
        groups: How many address groups had a say: one each, however many peers are in it.
        agreed: How many of them are within `NOTE_MS` of the median.
    """

    offset_ms: int | None
    groups: int
    agreed: int

    @property
    def is_sure(self) -> bool:
        """Whether enough of them agree that it is this clock that would be wrong."""
        return self.groups >= GROUP_COUNT_MIN and 2 * self.agreed > self.groups


def skew_of(readings: Mapping[str, Sequence[ClockReading]]) -> Skew:
    """Return what the clocks of peers say, by the address group each is in.

    A group has one voice, the median of its readings, so that ids, which cost nothing, move
    nothing: to shift the result takes half of the groups that this node is connected to.
    """
    voices = [
        median(_bounded(one.offset_ms) for one in readings[group])
        for group in sorted(readings)
        if readings[group]
    ]
    if not voices:
        return Skew(None, 0, 0)
    middle = median(voices)
    agreed = sum(abs(voice - middle) <= NOTE_MS for voice in voices)
    return Skew(round(middle), len(voices), agreed)


def _bounded(offset_ms: int) -> int:
    return max(-OFFSET_MS_MAX, min(OFFSET_MS_MAX, offset_ms))
