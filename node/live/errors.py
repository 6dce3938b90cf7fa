"""What goes wrong in a live editing session."""

from __future__ import annotations

from crdt import RemoteFault, WorldFault


class UpdateRefused(RemoteFault):
    """An editor sent something that a session does not take; the message says what."""

    code = "update-refused"


class EditsMissing(UpdateRefused):
    """An editor's update builds on edits that never arrived here: it must sync again."""

    code = "edits-missing"


class SessionBroken(WorldFault):
    """The session's document failed; what was accepted until then is in the card."""

    code = "session-broken"


class LivePortInUse(WorldFault):
    """The port that editors should connect to is taken."""

    code = "port-in-use"

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"port {port} on {host} is in use; choose another, or 0 for any free one")


class LiveCannotListen(WorldFault):
    """The port that editors should connect to cannot be bound."""

    code = "cannot-listen"

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"port {port} on {host} cannot be bound ({reason}); choose another, or 0")
