"""`hansa models` and `hansa agents`: the same commands for both kinds of record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from node.cli import conflicts, editing, reads, writes
from node.cli.command import CREATOR, NODE, command
from node.cli.session import Session

Reference = Annotated[str, typer.Argument(metavar="REF", help="A record: its id, or `owner/slug`.")]
RecordFile = Annotated[
    Path | None,
    typer.Option("--file", "-f", metavar="FILE", help="The record as JSON or TOML; `-` is stdin."),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="FIELD=VALUE",
        help="Set one field (JSON, or plain text); repeat for more.",
    ),
]
IfMatch = Annotated[
    str | None,
    typer.Option(
        "--if-match", metavar="VERSION_ID", help="Only if this is still the record's version."
    ),
]
Sort = Annotated[
    str | None,
    typer.Option(metavar="ORDER", help="relevance, name, updated, parameters, context, price."),
]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="The most records to show.")]
Word = Annotated[str | None, typer.Option(metavar="WORD", help="For example PyTorch, LangChain.")]
LIST_DEFAULT = 50


def register(app: typer.Typer) -> None:
    """Add the commands for both kinds to the application."""
    for plural in ("models", "agents"):
        app.add_typer(_group(plural), name=plural, rich_help_panel="Create")


def _group(plural: str) -> typer.Typer:
    one = plural.removesuffix("s")
    group = typer.Typer(no_args_is_help=True, help=f"Publish, find and change {plural}.")
    _add_writes(group, plural, one)
    _add_edit(group, plural, one)
    _add_checkpoint(group, plural, one)
    _add_reads(group, plural, one)
    _add_search(group, plural)
    _add_relations(group, plural, one)
    return group


def _add_writes(group: typer.Typer, plural: str, one: str) -> None:
    @command(
        group,
        "create",
        uses=CREATOR,
        example=f"hansa {plural} create --file {one}.json --set version=0.2.0",
    )
    def create(
        session: Session,
        file: RecordFile = None,
        assignments: Assignments = None,
        slug: Annotated[
            str | None, typer.Option(metavar="SLUG", help="The slug; made of the name otherwise.")
        ] = None,
    ) -> None:
        """Sign a new record and publish it."""
        writes.create(session, plural, writes.document(session, file, assignments), slug)

    @command(
        group,
        "update",
        uses=CREATOR,
        example=f"hansa {plural} update my-{one} --set version=0.3.0 --set 'tags=[\"chat\"]'",
    )
    def update(
        session: Session,
        reference: Reference,
        file: RecordFile = None,
        assignments: Assignments = None,
        if_match: IfMatch = None,
    ) -> None:
        """Publish a new version: the file replaces the record, --set changes single fields."""
        writes.update(session, plural, reference, file, assignments, if_match)

    @command(group, "delete", uses=CREATOR, example=f"hansa {plural} delete my-{one} --yes")
    def delete(
        session: Session,
        reference: Reference,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
        if_match: IfMatch = None,
    ) -> None:
        """Withdraw a record with a signed tombstone; its versions stay addressable.

        `create` with the same slug brings it back, with the card that it had.
        """
        writes.delete(session, plural, reference, if_match, sure=yes)

    @command(group, "validate", example=f"hansa {plural} validate --file {one}.json")
    def validate(
        session: Session, file: RecordFile = None, assignments: Assignments = None
    ) -> None:
        """Check a record without publishing it; every bad field is listed at once."""
        writes.validate(session, plural, writes.document(session, file, assignments))


def _add_edit(group: typer.Typer, plural: str, one: str) -> None:
    @command(group, "edit", uses=CREATOR, example=f"hansa {plural} edit my-{one} --add-tag chat")
    def edit(
        session: Session,
        reference: Reference,
        text: Annotated[
            Path | None, typer.Option("--text", metavar="FILE", help="The new text; `-` is stdin.")
        ] = None,
        add_tags: Annotated[
            list[str] | None,
            typer.Option("--add-tag", metavar="TAG", help="Add a tag; repeat for more."),
        ] = None,
        remove_tags: Annotated[
            list[str] | None,
            typer.Option("--remove-tag", metavar="TAG", help="Take a tag away; repeat."),
        ] = None,
        evaluations: Annotated[
            list[str] | None,
            typer.Option("--eval", metavar="NAME=VALUE", help="An evaluation of yours; repeat."),
        ] = None,
        remove_evaluations: Annotated[
            list[str] | None,
            typer.Option("--remove-eval", metavar="NAME", help="Take one of yours back; repeat."),
        ] = None,
        live: Annotated[
            bool, typer.Option("--live", help="Open the text for Yjs editors until Ctrl-C.")
        ] = False,
        port: Annotated[
            int | None,
            typer.Option(min=0, max=65535, help="For --live, on 127.0.0.1; any free one if not."),
        ] = None,
        origins: Annotated[
            list[str] | None,
            typer.Option(
                "--origin", metavar="URL", help="For --live: a site whose pages may edit."
            ),
        ] = None,
    ) -> None:
        """Edit description, tags and evaluations: in your editor, by options, or live.

        Only the difference is signed and sent, and merged with what others write meanwhile. With
        --live any Yjs editor (y-websocket, pycrdt) on this machine edits the text together with
        everybody else who does; --json then prints one event a line.
        """
        changes = editing.Changes(
            session.read_text(text) if text is not None else None,
            add_tags or (), remove_tags or (), evaluations or (), remove_evaluations or (),
        )  # fmt: skip
        if live:
            editing.live(session, plural, reference, changes, port=port or 0, origins=origins or ())
        elif port is not None or origins:
            editing.refuse_live_options()
        else:
            editing.edit(session, plural, reference, changes)


def _add_checkpoint(group: typer.Typer, plural: str, one: str) -> None:
    @command(group, "checkpoint", uses=CREATOR, example=f"hansa {plural} checkpoint my-{one}")
    def checkpoint(session: Session, reference: Reference) -> None:
        """Open a new era with the record's whole state: settles conflicts, bounds its history.

        Signed by the root key. Nodes may drop what came before; edits made elsewhere at the same
        time that it does not hold are superseded.
        """
        editing.checkpoint(session, plural, reference)


def _add_reads(group: typer.Typer, plural: str, one: str) -> None:
    @command(group, "show", uses=NODE, example=f"hansa {plural} show anna/my-{one}")
    def show(
        session: Session,
        reference: Reference,
        template: Annotated[
            bool, typer.Option("--template", help="Print only its Formfile, as it was signed.")
        ] = False,
    ) -> None:
        """Show a record with its version, who signed it, and conflicting writes if any."""
        reads.show(session, plural, reference, template=template)

    @command(group, "list", uses=NODE, example=f"hansa {plural} list --sort updated --limit 20")
    def list_(
        session: Session,
        sort: Sort = None,
        limit: Limit = LIST_DEFAULT,
    ) -> None:
        """List the records this node has."""
        reads.search(session, plural, {}, sort, limit)


def _add_search(group: typer.Typer, plural: str) -> None:
    @command(
        group,
        "search",
        uses=NODE,
        example=f"hansa {plural} search 'summarise reports' --capability tools --max-price 500000",
    )
    def search(
        session: Session,
        text: Annotated[
            str | None, typer.Argument(metavar="TEXT", help="Words in name, description or tags.")
        ] = None,
        type_: Annotated[
            str | None, typer.Option("--type", metavar="TYPE", help="For example LLM, Chatbot.")
        ] = None,
        framework: Word = None,
        capability: Annotated[
            list[str] | None, typer.Option(metavar="CAP", help="Must have all that are given.")
        ] = None,
        tag: Annotated[
            list[str] | None, typer.Option(metavar="TAG", help="Must have one of those given.")
        ] = None,
        license_: Annotated[
            str | None, typer.Option("--license", metavar="SPDX", help="For example Apache-2.0.")
        ] = None,
        owner: Annotated[
            str | None, typer.Option(metavar="ACCOUNT", help="Account id, in hex.")
        ] = None,
        max_price: Annotated[
            int | None,
            typer.Option(metavar="MICROS", help="Most micro-USD per million output tokens."),
        ] = None,
        filters: Annotated[
            list[str] | None,
            typer.Option("--where", "-w", metavar="NAME=VALUE", help=reads.WHERE_HELP),
        ] = None,
        sort: Sort = None,
        limit: Limit = LIST_DEFAULT,
    ) -> None:
        """Find records by words and properties."""
        named = {
            "type": type_, "framework": framework, "capability": capability, "tag": tag,
            "license": license_, "owner": owner, "max_price": max_price, "q": text,
        }  # fmt: skip
        reads.search(session, plural, {**reads.parse_where(filters or ()), **named}, sort, limit)


def _add_relations(group: typer.Typer, plural: str, one: str) -> None:
    @command(group, "versions", uses=NODE, example=f"hansa {plural} versions anna/my-{one}")
    def versions(
        session: Session,
        reference: Reference,
        version: Annotated[
            str | None, typer.Argument(help="Show this one: a semver or a version id.")
        ] = None,
    ) -> None:
        """List every version a record ever had, or show one; they never change."""
        reads.versions(session, plural, reference, version)

    @command(group, "deps", uses=NODE, example=f"hansa {plural} deps anna/my-{one}")
    def deps(session: Session, reference: Reference) -> None:
        """Show what a record depends on, resolved to exact versions, or why it cannot be."""
        reads.dependencies(session, plural, reference)

    @command(group, "conflicts", uses=NODE, example=f"hansa {plural} conflicts anna/my-{one}")
    def conflicts_(session: Session, reference: Reference) -> None:
        """Compare what shows with the concurrent writes that lost to it, field by field."""
        conflicts.conflicts(session, plural, reference)
