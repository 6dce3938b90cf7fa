"""How many strangers may be inside, how many of them from one place, and who must go. Pure."""

from __future__ import annotations

from collections import Counter

from node.network.access_rules import AccessRules
from node.network.addresses import RELAYED, group_of, plain_host


class Place:
    """One inbound connection, from its first byte to its end."""

    __slots__ = ("group",)

    def __init__(self, group: str) -> None:
        self.group = group


class Doors:
    """Counts inbound connections, those in a handshake included.

    Whoever has proved who it is stays. A newcomer has not, and must go when somebody else wants its
    place: else 80 silent sockets, or 8 in the address group of a peer, would keep all peers out.
    """

    def __init__(self, rules: AccessRules, *, count_max: int, group_count_max: int) -> None:
        self._rules = rules
        self._count_max = count_max
        self._group_count_max = group_count_max
        self._inside: Counter[str] = Counter()
        self._newcomers: dict[Place, None] = {}  # the longest handshake first

    def enter(self, host: str, port: int) -> Place | None:
        """Let a connection in and return its place, to be left at the end; None: not now."""
        host = plain_host(host)
        group = group_of(host, port)
        if self._is_full or self._is_full_of(group) or not self._rules.may_knock(host):
            return None
        self._inside[group] += 1
        place = Place(group)
        self._newcomers[place] = None
        return place

    def enter_relayed(self) -> Place | None:
        """Let a connection in that a relay passes on, and return its place; None: not now.

        All of them are one group, since a relay can make up whom it likes. They are never asked
        to make room and nobody makes room for them: a relay must not send away direct peers.
        """
        if self._is_full or self._is_full_of(RELAYED):
            return None
        self._inside[RELAYED] += 1
        return Place(RELAYED)

    def who_makes_room(self, host: str, port: int) -> Place | None:
        """Return the newcomer that must go before this one can enter; each is named once only.

        None: there is room, or nobody who could be sent away, or this one may not enter at all.
        """
        host = plain_host(host)
        if not self._rules.may_knock(host):
            return None
        group = group_of(host, port)
        if self._is_full_of(group):
            found = next((one for one in self._newcomers if one.group == group), None)
        elif self._is_full:
            found = next(iter(self._newcomers), None)
        else:
            return None
        if found is not None:
            del self._newcomers[found]
        return found

    def stay(self, place: Place) -> None:
        """Take note that a newcomer has proved who it is."""
        self._newcomers.pop(place, None)

    def leave(self, place: Place) -> None:
        """Count a connection that ended."""
        self._newcomers.pop(place, None)
        self._inside[place.group] -= 1
        if not self._inside[place.group]:
            del self._inside[place.group]

    @property
    def _is_full(self) -> bool:
        return self._inside.total() >= self._count_max

    def _is_full_of(self, group: str) -> bool:
        return self._inside[group] >= self._group_count_max
