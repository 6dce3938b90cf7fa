"""What `show`, `search`, `versions` and `deps` do for a record of either kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from node.cli.errors import BadUsage

if TYPE_CHECKING:
    from node.cli.session import Session

WHERE_HELP = "Any other filter of the API, for example context_min=8192; repeat for more."


def parse_where(texts: Sequence[str]) -> dict[str, Any]:
    """Return `NAME=VALUE` filters as query parameters; a name given twice makes a list.

    Raises:
        BadUsage: a text has no `=`.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise BadUsage(f"--where {text!r} is not NAME=VALUE; for example context_min=8192")
        found.setdefault(name.strip(), []).append(value)
    return dict(found)


def show(session: Session, plural: str, reference: str) -> None:
    """Show one record."""


def search(
    session: Session, plural: str, query: Mapping[str, Any], sort: str | None, limit: int
) -> None:
    """Show the records that a query finds."""


def versions(session: Session, plural: str, reference: str, version: str | None) -> None:
    """Show a record's versions, or one of them."""


def dependencies(session: Session, plural: str, reference: str) -> None:
    """Show what a record depends on."""
