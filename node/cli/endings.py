"""How a command that failed ends: one line, and an exit status that depends on the code only."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crdt import HansaError
    from node.cli.screen import Screen


def report(screen: Screen, error: HansaError) -> int:
    """Show an error and return the exit status that scripts can rely on."""
    status = exit_status(error.code)
    problems: list[dict[str, Any]] = []
    for one in getattr(error, "problems", ()):
        problems.append(asdict(one) if is_dataclass(one) and not isinstance(one, type) else one)
    screen.failure(code=error.code, message=str(error), exit_status=status, problems=problems)
    return status


def exit_status(code: str) -> int:
    """Return the exit status of an error code, from the one table the node uses too."""
    from node.api.problems import exit_code

    return exit_code(code)
