"""Budgets: how much of something a peer may have per second."""

from __future__ import annotations


class TokenBucket:
    """Refills at `rate_per_s` up to `burst`; starts full."""

    __slots__ = ("_burst", "_level", "_rate_per_ms", "_updated_ms")

    def __init__(self, *, rate_per_s: float, burst: float, now_ms: int) -> None:
        self._rate_per_ms = rate_per_s / 1000
        self._burst = burst
        self._level = burst
        self._updated_ms = now_ms

    def take(self, amount: float, now_ms: int) -> bool:
        """Take `amount` if it is there."""
        self._refill(now_ms)
        if amount > self._level:
            return False
        self._level -= amount
        return True

    def owe(self, amount: float, now_ms: int) -> None:
        """Take `amount` whether it is there or not; the level may fall below nothing."""
        self._refill(now_ms)
        self._level -= amount

    def wait_ms(self, amount: float, now_ms: int) -> int:
        """Return how long until `amount` is there."""
        self._refill(now_ms)
        return max(0, int((amount - self._level) / self._rate_per_ms + 0.999))

    def _refill(self, now_ms: int) -> None:
        elapsed = max(0, now_ms - self._updated_ms)
        self._updated_ms = max(now_ms, self._updated_ms)
        self._level = min(self._burst, self._level + elapsed * self._rate_per_ms)
