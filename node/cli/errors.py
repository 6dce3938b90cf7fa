"""What the command line itself can find wrong, each with the code its exit status follows from.

Import it where something is raised, not at the head of a module: it needs `crdt`, and showing help
does not.
"""

from __future__ import annotations

from crdt import RemoteFault, UserFault, WorldFault


class BadUsage(UserFault):
    """The command was typed in a way it cannot be meant."""

    code = "bad-usage"


class NoAccount(UserFault):
    """No creator's account was named, or there is none by that name on this machine."""

    code = "no-account"


class ChangePending(UserFault):
    """A change of the account was interrupted between signing and sending."""

    code = "change-pending"


class AccountFrozen(UserFault):
    """The account's log forks: what it says from there on is not settled."""

    code = "account-frozen"


class UnreadableFile(UserFault):
    """A file named on the command line is not there, or is not what it should be."""

    code = "unreadable-file"


class CheckFailed(UserFault):
    """A check that the person asked for says no: the input is at fault, not the program."""

    code = "check-failed"


class NotReady(WorldFault):
    """Something this machine needs is missing; the message says what mends it."""

    code = "not-ready"


class AuditFailed(RemoteFault):
    """A record's log holds what is not valid, or the node shows something else than it says."""

    code = "audit-failed"
