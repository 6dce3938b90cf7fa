"""How a command that failed ends: one line, and an exit status that depends on the code only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crdt import HansaError
    from node.cli.screen import Screen

EXIT_BUG = 1
"""An exception nobody expected."""
EXIT_USAGE = 2
"""What every Unix tool ends with when it was called wrongly."""
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells expect."""


def ended(screen: Screen, error: Exception) -> int | None:
    """Show an error of ours and return the exit status; None for an error that is not ours."""
    from crdt import HansaError

    return report(screen, error) if isinstance(error, HansaError) else None


def interrupted(screen: Screen) -> int:
    """Say that the person stopped the command, and return the exit status for that."""
    screen.failure(
        code="interrupted",
        message="stopped by Ctrl-C; what was acknowledged stays, and the same command goes on",
        exit_status=EXIT_INTERRUPTED,
    )
    return EXIT_INTERRUPTED


def report(screen: Screen, error: HansaError) -> int:
    """Show an error and return the exit status that scripts can rely on."""
    from node.api.problems import exit_status, problems_of, row_of

    status = exit_status(error)
    problems = problems_of(error)
    message = str(error)
    if problems:
        # Each is shown on a line of its own; the line above them only says what they are.
        fields = "field" if len(problems) == 1 else "fields"
        message = f"{row_of(error).title.lower()}: correct {len(problems)} {fields} and try again"
    screen.failure(code=error.code, message=message, exit_status=status, problems=problems)
    return status
