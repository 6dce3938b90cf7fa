"""`hansa peers`: whom the node is connected to, and whom it could dial."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import format as show
from node.cli.command import OPERATOR, command
from node.cli.screen import styled, table
from node.cli.session import Session

if TYPE_CHECKING:
    from rich.console import RenderableType


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @command(app, "peers", uses=OPERATOR, panel="Operate", example="hansa peers")
    def peers(
        session: Session,
        dial: Annotated[
            str | None,
            typer.Option("--dial", metavar="ADDRESS", help="Connect to this multiaddress first."),
        ] = None,
        known: Annotated[
            bool,
            typer.Option("--known", help="The whole address book: all that the node could dial."),
        ] = False,
    ) -> None:
        """List the peers this node is connected to, or with --known those it knows of."""
        client = session.operator() if known or dial is not None else session.client()
        if dial is not None:
            client.post("/v1/peers", {"address": dial})
        if known:
            book = client.get("/v1/peers/known")
            session.screen.result(book, lambda: _known_peers(book["items"]))
            if not book["items"]:
                session.screen.note("The book is empty: no peer was met or told of yet")
            return
        found = client.get("/v1/peers")
        session.screen.result(found, lambda: _peers(found["items"]))
        if not found["items"]:
            session.screen.note("None yet. Tell the node about one: --set p2p.bootstrap=ADDRESS")


def _peers(items: list[dict[str, Any]]) -> RenderableType:
    now_s = int(time.time())  # noqa: TID251 - the command line is an edge
    return table(
        ("peer", "address, group", "direction", "found", "since", "round trip", "in step"),
        [
            (
                one["peer"],
                f"{one['address']}\n{one['group']}",
                one["direction"],
                f"{one['found']}, anchor" if one["anchor"] else one["found"],
                show.ago(one["since_s"], now_s=now_s),
                f"{one['rtt_ms']:.1f} ms" if one["rtt_ms"] else None,
                styled("yes", "green") if one["synced"] else styled("no", "yellow"),
            )
            for one in items
        ],
        right=("round trip",),
        fold=("peer", "address, group", "found"),
    )


def _known_peers(items: list[dict[str, Any]]) -> RenderableType:
    now_s = int(time.time())  # noqa: TID251 - the command line is an edge
    return table(
        ("peer", "address", "group", "found", "state", "reached", "failed"),
        [
            (
                show.short_peer(one["peer"]),
                _place(one["address"]),
                one["group"],
                one["found"],
                _known_state(one, now_s),
                show.ago(one["tried_s"], now_s=now_s),
                one["failures"],
            )
            for one in items
        ],
        right=("failed",),
        fold=("address", "group", "state"),
    )


def _place(address: str) -> str:
    """Return the host and port of a multiaddress, as people write them."""
    _, kind, host, _, port, *_ = address.split("/")
    return f"[{host}]:{port}" if kind == "ip6" else f"{host}:{port}"


def _known_state(one: dict[str, Any], now_s: int) -> str:
    if one["connected"]:
        state = "connected"
    elif one["next_s"] > now_s:
        state = f"waits {show.duration(one['next_s'] - now_s)}"
    else:
        state = "may be dialled"
    return f"{state}, anchor" if one["anchor"] else state
