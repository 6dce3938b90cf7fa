"""When a dead engine is started again, and when that is given up. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartLimits:
    """How patient the supervisor is.

    Attributes:
        delay_s: Before the first restart; doubles with each further crash.
        delay_s_max: The longest pause.
        crash_count_max: So many crashes within `window_s` are a loop: give up.
        window_s: How long a crash is remembered.
    """

    delay_s: float = 1.0
    delay_s_max: float = 60.0
    crash_count_max: int = 5
    window_s: float = 600.0


class RestartPolicy:
    """Remembers an engine's recent crashes."""

    def __init__(self, limits: RestartLimits | None = None) -> None:
        self._limits = limits or RestartLimits()
        self._crashes: deque[float] = deque(maxlen=self._limits.crash_count_max)

    def crashed(self, now_s: float) -> float | None:
        """Take note of a crash; return the pause before the next start, or None to give up."""
        limits = self._limits
        while self._crashes and now_s - self._crashes[0] > limits.window_s:
            self._crashes.popleft()
        self._crashes.append(now_s)
        count = len(self._crashes)
        if count >= limits.crash_count_max:
            return None
        return min(limits.delay_s_max, limits.delay_s * 2.0 ** (count - 1))
