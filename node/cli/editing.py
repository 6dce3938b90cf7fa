"""`hansa models edit` and `hansa agents edit`: a card in the user's editor, or changed by options.

What is opened is the text with a few lines of TOML in front. What is sent is the difference to what
was opened: edits that others make meanwhile are merged, not overwritten.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, cast

from node.cli.screen import sheet

if TYPE_CHECKING:
    from crdt import Card, CardDraft, Item, PublicKey
    from node.cli.session import Session
    from node.client import CreatorAccount, RecordCopy

FENCE = "+++"
"""Begins and ends the lines of TOML in front of the text."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What the options say; without any of it the editor is opened.

    Attributes:
        evaluations: NAME=VALUE, each value JSON or plain text.
    """

    text: str | None = None
    add_tags: Sequence[str] = ()
    remove_tags: Sequence[str] = ()
    evaluations: Sequence[str] = ()
    remove_evaluations: Sequence[str] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said."""
        return self.text is None and not (
            self.add_tags or self.remove_tags or self.evaluations or self.remove_evaluations
        )


@dataclass(slots=True)
class Page:
    """A card as a person edits it.

    Attributes:
        evaluations: The editor's own ones, by name.
    """

    text: str
    tags: list[str]
    evaluations: dict[str, Any] = field(default_factory=dict[str, Any])


def edit(session: Session, plural: str, reference: str, changes: Changes) -> None:
    """Change a record's card, sign the difference and publish it."""
    account = session.creator()
    copy = open_copy(session, plural, reference, account)
    own = account.key.public
    before = page_of(copy.card(), own)
    if changes.is_empty:
        item = _edit_by_hand(session, plural, copy, before, account)
    else:
        after = changed(before, changes)
        check_page(plural, after)
        item = copy.edit(difference(before, after, own), account.key, now_s=_now_s())
        copy.publish()
    _report(session, reference, item, copy)


def live(
    session: Session, plural: str, reference: str, changes: Changes, *,
    port: int, origins: Sequence[str],
) -> None:  # fmt: skip
    """Open a record's text for stock Yjs editors.

    Raises:
        BadUsage: something is to be changed by options as well.
    """
    from node.cli.errors import BadUsage

    if not changes.is_empty:
        raise BadUsage("--live edits the text in an editor; give the other changes without it")
    from node.cli.live import edit_live  # it needs aiohttp, and nothing else here does

    edit_live(session, plural, reference, port=port, origins=origins)


def refuse_live_options() -> NoReturn:
    """Say that options of a live session were given without one."""
    from node.cli.errors import BadUsage

    raise BadUsage("--port and --origin are for --live; give that too, or leave them out")


def checkpoint(session: Session, plural: str, reference: str) -> None:
    """Sign and publish a record's whole state, so that what came before may be dropped."""
    account = session.creator()
    copy = open_copy(session, plural, reference, account)
    item = copy.checkpoint(account.key, now_s=_now_s())
    copy.publish()
    shown = {"checkpoint": item.id.hex(), "bytes": len(item.raw)}
    session.screen.result(
        shown,
        lambda: sheet(
            {"checkpoint": item.id.hex(), "size": f"{len(item.raw)} bytes"},
            title=f"A new era of {reference} begins",
        ),
    )
    session.screen.note("Nodes may now drop what came before it: hansa storage --prune")


def open_copy(session: Session, plural: str, reference: str, account: CreatorAccount) -> RecordCopy:
    """Return a verified copy of a record from the session's node."""
    from crdt import RecordId
    from node.cli.writes import id_in
    from node.client import RecordCopy

    client = session.client(creator=account)
    shown: dict[str, Any] = client.get(f"/v1/{plural}/{session.path_of(reference)}")
    record = RecordId(bytes.fromhex(id_in(shown)))
    copy = RecordCopy(client, plural, record, account.card.network)
    copy.refresh()
    return copy


def page_of(card: Card, own: PublicKey) -> Page:
    """Return what a person with this key sees of a card in the editor."""
    return Page(card.text, list(card.tags), dict(card.evals.get(own.hex(), {})))


def changed(before: Page, changes: Changes) -> Page:
    """Return a page as the options want it.

    Raises:
        BadUsage: an evaluation is not NAME=VALUE.
    """
    from node.cli.documents import parse_assignments

    evaluations = {**before.evaluations, **parse_assignments(changes.evaluations)}
    for name in changes.remove_evaluations:
        evaluations.pop(name, None)
    tags = {*before.tags, *changes.add_tags} - set(changes.remove_tags)
    text = before.text if changes.text is None else changes.text
    return Page(text, sorted(tags), evaluations)


def difference(before: Page, after: Page, own: PublicKey) -> Callable[[CardDraft], None]:
    """Return what turns one page into the other on a card."""

    def apply(draft: CardDraft) -> None:
        if after.text != before.text:
            draft.replace_text(after.text)
        for tag in sorted(set(after.tags) - set(before.tags)):
            draft.add_tag(tag)
        for tag in sorted(set(before.tags) - set(after.tags)):
            draft.remove_tag(tag)
        for name, value in sorted(after.evaluations.items()):
            if name not in before.evaluations or before.evaluations[name] != value:
                draft.set_evaluation(own, name, value)
        for name in sorted(set(before.evaluations) - set(after.evaluations)):
            draft.remove_evaluation(own, name)

    return apply


def check_page(plural: str, page: Page) -> None:
    """Return if a version of the record could say what a page says.

    Raises:
        InvalidRecord: the text is too long, or a tag is none.
    """
    from node.client import KINDS
    from registry import validate

    validate(KINDS[plural], {"name": "card", "description": page.text, "tags": page.tags})


def written(page: Page) -> str:
    """Return a page as it is opened in an editor."""
    import tomlkit

    front = tomlkit.document()
    front["tags"] = page.tags
    if page.evaluations:
        front["evaluations"] = page.evaluations
    return f"{FENCE}\n{tomlkit.dumps(front)}{FENCE}\n{page.text}"


def read(text: str) -> Page:
    """Return the page that an editor left.

    Raises:
        BadUsage: the lines in front are not what they should be.
    """
    from node.cli.errors import BadUsage

    parts = text.split(f"{FENCE}\n", 2)
    if len(parts) != 3 or parts[0].strip():
        raise BadUsage(
            f"the text has to begin with the lines between {FENCE} and {FENCE} that it was opened "
            "with; nothing was sent"
        )
    try:
        front = tomllib.loads(parts[1])
    except tomllib.TOMLDecodeError as error:
        raise BadUsage(
            f"the lines between {FENCE} are not TOML ({error}); nothing was sent"
        ) from error
    tags, evaluations = front.pop("tags", []), front.pop("evaluations", {})
    if front:
        raise BadUsage(f"{next(iter(front))} is no part of a card; tags and evaluations are")
    if not isinstance(tags, list) or not all(
        isinstance(tag, str) for tag in cast("list[Any]", tags)
    ):
        raise BadUsage('tags has to be a list of texts, for example tags = ["chat"]')
    if not isinstance(evaluations, dict):
        raise BadUsage("evaluations has to be a table, for example mmlu = 0.71 below it")
    return Page(parts[2], sorted(set(cast("list[str]", tags))), cast("dict[str, Any]", evaluations))


def _edit_by_hand(
    session: Session, plural: str, copy: RecordCopy, before: Page, account: CreatorAccount
) -> Item | None:
    """Open the user's editor, and publish what changed; what cannot be sent is kept in a file.

    Raises:
        BadUsage: nobody is there to edit, or the editor left nothing usable.
        HansaError: it could not be signed or published.
    """
    import sys

    from crdt import HansaError
    from node.cli.editor import edited, kept
    from node.cli.errors import BadUsage

    if session.options.as_json or not sys.stdin.isatty():
        raise BadUsage(
            "nobody is there to type; say what to change with --text FILE, --add-tag, --remove-tag,"
            " --eval NAME=VALUE, or use --live"
        )
    opened = written(before)
    left = edited(opened)
    if left == opened:
        return None
    try:
        text = left
        if not before.text.endswith("\n") and left.endswith("\n"):
            text = left.removesuffix("\n")  # editors end the last line by themselves
        after = read(text)
        check_page(plural, after)
        change = difference(before, after, account.key.public)
        item = copy.edit(change, account.key, now_s=_now_s())
        copy.publish()
    except HansaError:
        session.screen.note(f"What you wrote is kept in {kept(left)}")
        raise
    return item


def _report(session: Session, reference: str, item: Item | None, copy: RecordCopy) -> None:
    card = copy.card()
    shown = {
        "operation": item.id.hex() if item is not None else None,
        "digest": card.digest().hex(),
        "text_length": len(card.text),
        "tags": list(card.tags),
        "evaluations": {key: dict(values) for key, values in card.evals.items()},
    }
    if item is None:
        session.screen.result(shown, lambda: sheet({"card": reference}, title="Nothing changed"))
        return
    session.screen.result(
        shown,
        lambda: sheet(
            {
                "operation": item.id.hex(),
                "sent": f"{len(item.raw)} bytes",
                "text": f"{len(card.text)} characters",
                "tags": list(card.tags),
            },
            title=f"Published an edit of {reference}",
        ),
    )


def _now_s() -> int:
    return int(time.time())  # noqa: TID251 - the command line is an edge
