"""Who may open a live session: this machine's own programs, and pages that know the room.

A session writes with the user's key, and every page of every site can open a socket to 127.0.0.1.
So three things are asked: the room's name holds a secret; the Host header names this machine (a
name of somebody else's that was pointed here does not pass); and a browser's Origin is this machine
or one that the user named.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable
from urllib.parse import urlsplit

_SECRET_BYTES = 16
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def make_room(name: str) -> str:
    """Return the name of a new room, which nobody can guess.

    The secret is part of the room, not of the address before it: editors that keep a document on
    disk keep it under its room, and one of an earlier session would be merged in, all text twice.
    """
    assert _NAME.fullmatch(name), name
    return f"{name}-{secrets.token_urlsafe(_SECRET_BYTES)}"


class Admission:
    """Decides on the three.

    Args:
        origins: Origins of editors elsewhere, such as `https://editor.example`; `null` for files.
    """

    def __init__(self, room: str, *, port: int, origins: Iterable[str] = ()) -> None:
        self._room = room
        self._hosts = frozenset((f"127.0.0.1:{port}", f"localhost:{port}"))
        self._origins = frozenset(origin.rstrip("/") for origin in origins)

    def refusal(self, *, host: str | None, origin: str | None, room: str) -> str | None:
        """Return why a request is not let in; None if it is."""
        if host is None or host.lower() not in self._hosts:
            return "the Host header does not name this machine"
        if origin is not None and not self._is_known(origin):
            return f"pages of {origin[:100]} may not edit here; the session must name that origin"
        if not hmac.compare_digest(room.encode(), self._room.encode()):
            return "there is no such room; copy its name from the running command"
        return None

    def _is_known(self, origin: str) -> bool:
        if origin in self._origins:
            return True
        try:
            parts = urlsplit(origin)
            return parts.scheme in ("http", "https") and parts.hostname in _LOOPBACK
        except ValueError:
            return False
