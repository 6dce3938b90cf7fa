"""How a command that failed ends: one line, and an exit status that depends on the code only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crdt import HansaError
    from node.cli.screen import Screen


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
