"""What `create`, `update`, `delete` and `validate` do for a record of either kind."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.cli import documents
from node.cli import format as show
from node.cli.errors import BadUsage
from node.cli.screen import sheet

if TYPE_CHECKING:
    from rich.console import RenderableType

    from node.cli.session import Session

STDIN = Path("-")


def document(
    session: Session, file: Path | None, assignments: Sequence[str] | None
) -> dict[str, Any]:
    """Return the record in a file with single fields set over it.

    Raises:
        BadUsage: neither a file nor a field was given.
    """
    if file is None and not assignments:
        raise BadUsage("nothing says what the record is; give --file FILE, or --set name=...")
    found = {} if file is None else documents.parse_document(session.read_file(file), str(file))
    return documents.merged(found, documents.parse_assignments(assignments or ()))


def validate(session: Session, plural: str, data: dict[str, Any]) -> None:
    """Check a record and show its canonical size and content hash.

    Raises:
        InvalidRecord: with every bad field.
    """
    from node.client import prepare

    draft = prepare(plural, data, slug=None, now_s=_now_s())
    session.screen.result(
        {
            "valid": True,
            "slug": draft.slug,
            "content_hash": draft.content_hash.hex(),
            "canonical_bytes": len(draft.body),
        },
        lambda: sheet(
            {
                "slug": draft.slug,
                "content hash": draft.content_hash.hex(),
                "canonical size": show.size(len(draft.body)),
            },
            title="The record is valid",
        ),
    )


def create(session: Session, plural: str, data: dict[str, Any], slug: str | None) -> None:
    """Sign and publish a record that is not there yet."""
    from node.client import Writer, prepare

    draft = prepare(plural, data, slug=slug, now_s=_now_s())
    account = session.creator()
    client = session.client(creator=account)
    found = Writer(client, account).create(draft, now_s=_now_s())
    session.screen.result(found, lambda: published_sheet(found))


def update(
    session: Session,
    plural: str,
    reference: str,
    file: Path | None,
    assignments: Sequence[str] | None,
    if_match: str | None,
) -> None:
    """Sign and publish the next version of a record."""
    from node.client import Writer

    account = session.creator()
    client = session.client(creator=account)
    writer = Writer(client, account)
    patch = document(session, file, assignments)
    found = writer.update(
        plural, reference, patch, replace=file is not None, if_match=if_match, now_s=_now_s()
    )
    session.screen.result(found, lambda: published_sheet(found))


def delete(
    session: Session, plural: str, reference: str, if_match: str | None, *, sure: bool
) -> None:
    """Sign and publish a record's tombstone."""
    from node.client import Writer

    if not sure and not session.confirm(f"Delete {reference} for ever?"):
        raise BadUsage("nothing was deleted; say --yes to delete without being asked")
    account = session.creator()
    client = session.client(creator=account)
    record = Writer(client, account).delete(plural, reference, if_match=if_match, now_s=_now_s())
    session.screen.result({"deleted": record}, lambda: sheet({"deleted": record}))


def published_sheet(found: dict[str, Any]) -> RenderableType:
    """Return what a person wants to know of a version that was just published."""
    raise NotImplementedError


def _now_s() -> int:
    return int(time.time())  # noqa: TID251 - the command line is an edge
