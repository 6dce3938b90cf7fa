"""How many strangers may be inside at once, and how many of them from one place. Pure."""

from __future__ import annotations

from collections import Counter

from node.network.access_rules import AccessRules
from node.network.addresses import group_of, plain_host


class Doors:
    """Counts inbound connections, those in a handshake included."""

    def __init__(self, rules: AccessRules, *, count_max: int, group_count_max: int) -> None:
        self._rules = rules
        self._count_max = count_max
        self._group_count_max = group_count_max
        self._inside: Counter[str] = Counter()

    def enter(self, host: str, port: int) -> str | None:
        """Let a connection in and return its group, for `leave`; None: it stays outside."""
        host = plain_host(host)
        group = group_of(host, port)
        full = self._inside.total() >= self._count_max
        if full or self._inside[group] >= self._group_count_max:
            return None
        if not self._rules.may_knock(host):
            return None
        self._inside[group] += 1
        return group

    def leave(self, group: str) -> None:
        """Count a connection that ended."""
        self._inside[group] -= 1
        if not self._inside[group]:
            del self._inside[group]
