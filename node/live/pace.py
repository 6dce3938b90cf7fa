"""How fast one editor may send. Pure: the clock is passed in."""

from __future__ import annotations

from dataclasses import dataclass

BYTES_PER_TOKEN = 4096
"""A long message counts as several."""


@dataclass(frozen=True, slots=True)
class PaceLimits:
    """A token bucket.

    Attributes:
        per_s: Messages. Ten people who type make fifty, with their cursors.
        burst: A program that pastes in a loop is not held up below this.
        patience_s: An editor that was held up this long, and never fell silent, floods.
    """

    per_s: float = 500.0
    burst: float = 2000.0
    patience_s: float = 30.0


class Pace:
    """Says how long a message has to wait, and when it is too much."""

    def __init__(self, limits: PaceLimits, *, now_s: float) -> None:
        self._limits = limits
        self._tokens = limits.burst
        self._at_s = now_s
        self._waited_s = 0.0

    @property
    def is_flood(self) -> bool:
        """Whether the sender was held up for longer than anybody who types could be."""
        return self._waited_s > self._limits.patience_s

    def take(self, size_bytes: int, *, now_s: float) -> float:
        """Count a message; return the seconds before the next one may be read."""
        limits = self._limits
        refill = max(0.0, now_s - self._at_s) * limits.per_s
        self._tokens = min(limits.burst, self._tokens + refill)
        self._at_s = now_s
        if self._tokens >= limits.burst / 2:
            self._waited_s = 0.0
        self._tokens -= 1 + size_bytes / BYTES_PER_TOKEN
        wait_s = max(0.0, -self._tokens / limits.per_s)
        self._waited_s += wait_s
        return wait_s
