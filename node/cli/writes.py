"""What `create`, `update`, `delete` and `validate` do for a record of either kind."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from node.cli import documents
from node.cli import format as show
from node.cli.screen import sheet

if TYPE_CHECKING:
    from rich.console import RenderableType

    from crdt import RecordId
    from node.cli.session import Session
    from node.client import Client, CreatorAccount, Draft, Writer


def document(
    session: Session, file: Path | None, assignments: Sequence[str] | None
) -> dict[str, Any]:
    """Return the record in a file with single fields set over it; a field set to null is gone.

    Raises:
        BadUsage: neither a file nor a field was given.
    """
    return documents.merged({}, changed(session, file, assignments))


def changed(
    session: Session, file: Path | None, assignments: Sequence[str] | None
) -> dict[str, Any]:
    """Return what a file and single fields say, with the nulls that take fields away.

    Raises:
        BadUsage: neither was given.
    """
    from node.cli.errors import BadUsage

    if file is None and not assignments:
        raise BadUsage("nothing says what the record is; give --file FILE, or --set name=...")
    patch = documents.parse_assignments(assignments or ())
    if file is None:
        return patch
    return documents.merged(session.read_document(file), patch)


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
    found = _created(client, account, Writer(client, account), draft, data)
    session.screen.result(found, lambda: published(found, "Published"))


def publish(
    session: Session, plural: str, data: dict[str, Any], account: CreatorAccount, client: Client
) -> None:
    """Sign a record and publish it, as a new version if it is there."""
    from crdt import record_id
    from node.client import KINDS, Writer, heads_of, leave_to_card, prepare

    now_s = _now_s()
    draft = prepare(plural, data, slug=None, now_s=now_s)
    writer = Writer(client, account)
    record = record_id(account.card.network, KINDS[plural], account.card.account, draft.slug)
    shown, _heads = writer.look(plural, record)
    if shown is None:
        found = _created(client, account, writer, draft, data)
        session.screen.result(found, lambda: published(found, "Published"))
        return
    kept = {"created_at": readable(shown).get("created_at", now_s), **data}
    shown, kept = leave_to_card(client, account, plural, shown, kept, now_s=now_s)
    draft = prepare(plural, kept, slug=draft.slug, now_s=now_s)
    found = writer.replace(draft, record, heads_of(shown), now_s=now_s)
    session.screen.result(found, lambda: published(found, "Published a new version"))


def update(
    session: Session,
    plural: str,
    reference: str,
    file: Path | None,
    assignments: Sequence[str] | None,
    if_match: str | None,
) -> None:
    """Sign and publish the next version of a record."""
    from node.client import Writer, heads_of, leave_to_card, prepare

    change = changed(session, file, assignments)
    account = session.creator()
    client = session.client(creator=account)
    record, shown = _own(session, client, plural, reference)
    base = readable(shown)
    now_s = _now_s()
    data = documents.merged({} if file is not None else base, change)
    data = {"created_at": base.get("created_at", now_s), **data, "updated_at": now_s}
    prepare(plural, data, slug=str(shown["slug"]), now_s=now_s)  # before anything is sent
    shown, data = leave_to_card(client, account, plural, shown, data, now_s=now_s)
    draft = prepare(plural, data, slug=str(shown["slug"]), now_s=now_s)
    writer = Writer(client, account)
    found = writer.replace(draft, record, heads_of(shown), now_s=now_s, if_match=if_match)
    session.screen.result(found, lambda: published(found, "Published a new version"))


def delete(
    session: Session, plural: str, reference: str, if_match: str | None, *, sure: bool
) -> None:
    """Sign and publish a record's tombstone."""
    from node.cli.errors import BadUsage
    from node.client import Writer, heads_of

    if not sure and not session.confirm(f"Delete {reference}?"):
        raise BadUsage("nothing was deleted; say --yes to delete without being asked")
    account = session.creator()
    client = session.client(creator=account)
    record, shown = _own(session, client, plural, reference)
    writer = Writer(client, account)
    writer.delete(
        plural, str(shown["slug"]), record, heads_of(shown), now_s=_now_s(), if_match=if_match
    )
    session.screen.result({"deleted": record.hex()}, lambda: sheet({"deleted": record.hex()}))


def _created(
    client: Client, account: CreatorAccount, writer: Writer, draft: Draft, data: dict[str, Any]
) -> dict[str, Any]:
    """Publish a record and return what the node shows.

    One that was deleted comes back with its card; what is said of that is said there.
    """
    from node.client import leave_to_card

    now_s = _now_s()
    found = writer.create(draft, now_s=now_s)
    return leave_to_card(client, account, draft.plural, found, data, now_s=now_s)[0]


def readable(shown: dict[str, Any]) -> dict[str, Any]:
    """Return the record in a node's answer, without what is derived and never signed."""
    from node.client import DERIVED_FIELDS

    record: dict[str, Any] = shown["record"]
    return {name: value for name, value in record.items() if name not in DERIVED_FIELDS}


def id_in(shown: dict[str, Any]) -> str:
    """Return the record's id in a node's answer."""
    return str(shown.get("model_id") or shown["agent_id"])


def published(found: dict[str, Any], title: str) -> RenderableType:
    """Return what a person wants to know of a version that was just published."""
    record = found["record"]
    return sheet(
        {
            "id": id_in(found),
            "name": record["name"],
            "version": record["version"],
            "version id": found["version_id"],
        },
        title=title,
    )


def _own(
    session: Session, client: Client, plural: str, reference: str
) -> tuple[RecordId, dict[str, Any]]:
    shown: dict[str, Any] = client.get(f"/v1/{plural}/{session.path_of(reference)}")
    return cast("RecordId", bytes.fromhex(id_in(shown))), shown


def _now_s() -> int:
    return int(time.time())  # noqa: TID251 - the command line is an edge
