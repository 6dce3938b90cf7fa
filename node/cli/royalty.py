"""`hansa royalties` and `hansa usage`: who used what, who is owed what, and the proof."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import format as show
from node.cli.command import NODE, OPERATOR, command
from node.cli.screen import sheet, stack, styled, table
from node.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

group = typer.Typer(no_args_is_help=True, help="What is owed to an account, and its proof.")

STATEMENT_BYTES_MAX = 128 << 20
EPOCH_ZERO = dt.date(1970, 1, 1)
Whose = Annotated[
    str | None,
    typer.Argument(
        metavar="ACCOUNT", help="An account's id, or the name of one of yours; yours otherwise."
    ),
]
First = Annotated[
    str | None, typer.Option("--from", metavar="DAY", help="First UTC day, as 2026-11-21.")
]
Last = Annotated[
    str | None, typer.Option("--to", metavar="DAY", help="Last UTC day; today otherwise.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(group, name="royalties", rich_help_panel="Money")

    @command(app, "usage", uses=OPERATOR, panel="Money", example="hansa usage --served")
    def usage(
        session: Session,
        served: Annotated[
            bool, typer.Option("--served", help="What this node served, not what it used.")
        ] = False,
        first: First = None,
        last: Last = None,
    ) -> None:
        """Show what this node used, or served: models, tokens and amounts by day."""
        query = {
            "side": "provider" if served else "consumer",
            "first": epoch_of(first),
            "last": epoch_of(last),
        }
        found = session.operator().get("/v1/usage", query)
        session.screen.result(found, lambda: _usage(found))
        if not found["lanes"]:
            session.screen.note("No calls between nodes on these days; a node's own are not paid.")


@command(
    group, "statement", uses=NODE, example="hansa royalties statement anna --out statement.json"
)
def statement(
    session: Session,
    account: Whose = None,
    day: Annotated[
        str | None, typer.Option(metavar="DAY", help="UTC day, as 2026-11-21; today otherwise.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write the statement with its proof."),
    ] = None,
) -> None:
    """Show what an account earned and owes on one day, and keep the proof in a file."""
    from node.cli.errors import UnreadableFile

    query = {"account": session.account_id(account), "epoch": epoch_of(day)}
    answer = session.client().answer("GET", "/v1/royalties/statement", query=query)
    found = answer.json()
    if out is not None:
        try:
            out.write_bytes(answer.body)
        except OSError as error:
            raise UnreadableFile(f"{out} cannot be written: {error.strerror}") from error
    session.screen.result(found, lambda: _statement(found))
    if not found["lines"]:
        session.screen.note("No receipts name this account on that day.")
    if out is not None:
        session.screen.note(f"Anybody can check it offline: hansa royalties verify {out}")


@command(group, "earnings", uses=NODE, example="hansa royalties earnings anna --from 2026-11-01")
def earnings(
    session: Session, account: Whose = None, first: First = None, last: Last = None
) -> None:
    """Show what an account's records earned, by day and record, over at most 31 days."""
    query = {
        "account": session.account_id(account),
        "first": epoch_of(first),
        "last": epoch_of(last),
    }
    found = session.client().get("/v1/royalties/earnings", query)
    session.screen.result(found, lambda: _earnings(found))


@command(group, "verify", example="hansa royalties verify statement.json")
def verify(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `statement --out` wrote.")],
) -> None:
    """Recompute a statement from the evidence it carries; needs no node, network or account."""
    from royalties import statement_document
    from royalties import verify as recompute

    found = statement_document(recompute(session.read_file(file, bytes_max=STATEMENT_BYTES_MAX)))
    session.screen.result(
        {"verified": True, **found},
        lambda: stack(
            styled("The statement holds: every figure follows from two signatures", "bold green"),
            _statement(found),
        ),
    )


def epoch_of(day: str | None) -> int | None:
    """Return the number of a UTC day since 1970, or None for none.

    Raises:
        BadUsage: it is not a day.
    """
    from node.cli.errors import BadUsage

    if day is None:
        return None
    try:
        epoch = (dt.date.fromisoformat(day) - EPOCH_ZERO).days
    except ValueError as error:
        raise BadUsage(f"{day!r} is not a day; write it as 2026-11-21") from error
    if epoch < 0:
        raise BadUsage(f"{day} is before 1970; write a day like 2026-11-21")
    return epoch


def _statement(found: dict[str, Any]) -> RenderableType:
    head = sheet(
        {
            "account": found["account"],
            "day": found["day"],
            "earned": show.dollars(found["earned_picos"]),
            "payable": show.dollars(found["payable_micros"], unit=show.MICROS_PER_DOLLAR),
            "owed": show.dollars(found["owed_picos"]) if found["owed_picos"] else None,
        }
    )
    lines = [
        (
            show.short_id(line["record"]),
            ", ".join(sorted({share["role"] for share in line["shares"]})) or "consumer",
            line["calls"],
            *_tokens(line["tokens"]),
            show.dollars(line["amount_picos"]),
            show.dollars(sum(share["amount_picos"] for share in line["shares"])),
        )
        for line in found["lines"]
    ]
    columns = ("record", "as", "calls", "tokens in", "cached", "tokens out", "amount", "earned")
    parts = [head, styled("", ""), _figures(columns, lines)] if lines else [head]
    parts += [
        styled(f"not counted: lane {show.short_id(one['lane'])}: {one['reason']}", "yellow")
        for one in found["skipped"]
    ]
    return stack(*parts)


def _earnings(found: dict[str, Any]) -> RenderableType:
    rows = [
        (
            one["day"],
            show.short_id(one["record"]),
            ", ".join(one["roles"]),
            one["calls"],
            *_tokens(one["tokens"]),
            show.dollars(one["earned_picos"]),
        )
        for one in found["earnings"]
    ]
    columns = ("day", "record", "as", "calls", "tokens in", "cached", "tokens out", "earned")
    total = sheet(
        {
            "earned": show.dollars(found["earned_picos"]),
            "payable": show.dollars(found["payable_micros"], unit=show.MICROS_PER_DOLLAR),
        }
    )
    return stack(total, styled("", ""), _figures(columns, rows)) if rows else total


def _usage(found: dict[str, Any]) -> RenderableType:
    rows = [
        (
            one["day"],
            show.short_id(one["record"]),
            show.short_peer(one["peer"]),
            one["calls"],
            *_tokens(one["tokens"]),
            show.dollars(one["amount_picos"]),
            _unsettled(one),
        )
        for one in found["lanes"]
    ]
    other = "consumer" if found["side"] == "provider" else "provider"
    columns = ("day", "record", other, "calls", "tokens in", "cached", "tokens out", "amount", "")
    total = sheet({"amount": show.dollars(found["amount_picos"])})
    return stack(total, styled("", ""), _figures(columns, rows)) if rows else total


def _unsettled(lane: dict[str, Any]) -> str:
    parts = [
        f"{lane['open_calls']} open" if lane["open_calls"] else "",
        f"{lane['disputed_calls']} disputed" if lane["disputed_calls"] else "",
        "forked" if lane["forked"] else "",
    ]
    return ", ".join(part for part in parts if part)


def _tokens(tokens: dict[str, int]) -> tuple[int, int, int]:
    return tokens["input"], tokens["cached"], tokens["output"]


def _figures(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> RenderableType:
    return table(
        columns, rows, right=("calls", "tokens in", "cached", "tokens out", "amount", "earned")
    )
