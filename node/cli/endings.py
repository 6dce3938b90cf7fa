"""How a command that failed ends: one line, and an exit status that depends on the code only."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crdt import HansaError
    from node.cli.screen import Screen
    from node.cli.session import Session

EXIT_BUG = 1
"""An exception nobody expected."""
EXIT_USAGE = 2
"""What every Unix tool ends with when it was called wrongly."""
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells expect."""


CODE_NO_TOKEN = "unauthenticated"
SEARCH_ROUTE = re.compile(r"/v1/(models|agents)\?q=\.\.\.")


def ended(session: Session, error: Exception) -> int | None:
    """Show an error of ours and return the exit status; None for an error that is not ours."""
    from crdt import HansaError

    if not isinstance(error, HansaError):
        return None
    return report(session.screen, error, told=_as_typed(session, error))


def _as_typed(session: Session, error: HansaError) -> str:
    """Return an error's message in the command line's words: names and commands, not routes."""
    from node.client import ApiProblem

    message = str(error)
    if not isinstance(error, ApiProblem):
        return message
    if error.code == CODE_NO_TOKEN and session.token_file is not None:
        return (
            f"the token in {session.token_file} is not that of the node at {session.node_url};"
            " give its own folder with --data-dir DIR"
        )
    for account, name in session.account_names().items():
        message = message.replace(account, name)
    return SEARCH_ROUTE.sub(r"`hansa \1 search`", message)


def interrupted(screen: Screen) -> int:
    """Say that the person stopped the command, and return the exit status for that."""
    if sys.stderr.isatty():
        # The terminal has shown ^C where the cursor was; what we say begins on its own line.
        sys.stderr.write("\n")
    screen.failure(
        code="interrupted",
        message="stopped by Ctrl-C; run the same command again to go on",
        exit_status=EXIT_INTERRUPTED,
    )
    return EXIT_INTERRUPTED


def report(screen: Screen, error: HansaError, told: str = "") -> int:
    """Show an error, in other words if `told` has some, and return its stable exit status."""
    from node.api.problems import exit_status, problems_of, row_of

    status = exit_status(error)
    problems = problems_of(error)
    message = told or str(error)
    if problems:
        # Each is shown on a line of its own; the line above them only says what they are.
        fields = "field" if len(problems) == 1 else "fields"
        message = f"{row_of(error).title.lower()}: correct {len(problems)} {fields} and try again"
    screen.failure(code=error.code, message=message, exit_status=status, problems=problems)
    return status
