"""Who else has the text open: cursors and names, passed between the editors of one session.

Nothing of it is published. pycrdt's `Awareness` is not used: it keeps as many clients as it is told
of, and parses what they say without a bound.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from node.live.errors import UpdateRefused
from node.live.protocol import ENTRY_COUNT_MAX, PresenceEntry

STATE_CHARACTERS_MAX = 8192
"""Of one client's state. A cursor with a name and a colour takes 200."""

_GONE = "null"


class Presence:
    """The latest entry of each client, and which connection it came by."""

    def __init__(self) -> None:
        self._entries: dict[int, PresenceEntry] = {}
        self._owners: dict[int, object] = {}

    def entries(self) -> list[PresenceEntry]:
        """Return everybody who is there, for an editor that joins."""
        return [self._entries[client] for client in sorted(self._entries)]

    def hear(self, owner: object, entries: Sequence[PresenceEntry]) -> list[PresenceEntry]:
        """Note what a connection says; return what is news, to be passed to *every* editor.

        The one who said it is among them: y-websocket takes a server for dead that sends nothing
        for 30 s, and counts on hearing its own entry every 15 s.

        Raises:
            UpdateRefused: an entry is too long or not JSON, or there are too many clients.
        """
        for entry in entries:
            _check(entry)
        news = [entry for entry in entries if self._is_news(entry)]
        for entry in news:
            if entry.state == _GONE:
                self._drop(entry.client)
            else:
                self._entries[entry.client] = entry
                self._owners[entry.client] = owner
        if len(self._entries) > ENTRY_COUNT_MAX:
            raise UpdateRefused(f"more than {ENTRY_COUNT_MAX} clients show themselves")
        return news

    def leave(self, owner: object) -> list[PresenceEntry]:
        """Forget what came by a connection that closed; return what to tell the others."""
        clients = sorted(client for client, one in self._owners.items() if one is owner)
        gone = [replace(self._entries[client], state=_GONE) for client in clients]
        for client in clients:
            self._drop(client)
        return gone

    def _is_news(self, entry: PresenceEntry) -> bool:
        known = self._entries.get(entry.client)
        if known is None:
            return entry.state != _GONE
        return entry.clock > known.clock or (entry.clock == known.clock and entry.state == _GONE)

    def _drop(self, client: int) -> None:
        self._entries.pop(client, None)
        self._owners.pop(client, None)


def _check(entry: PresenceEntry) -> None:
    """Pass on nothing that is not JSON: a browser throws on it, and its editor stops."""
    if len(entry.state) > STATE_CHARACTERS_MAX:
        raise UpdateRefused(
            f"a client shows {len(entry.state)} characters; allowed are {STATE_CHARACTERS_MAX}"
        )
    try:
        json.loads(entry.state, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise UpdateRefused("what a client shows of itself is not JSON") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
