"""`hansa status`, `peers`, `sync`, `storage`: what the node is and has now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

from node.cli.command import NODE, command
from node.cli.screen import sheet, table
from node.cli.session import Session

if TYPE_CHECKING:
    from rich.console import RenderableType

sync_group = typer.Typer(no_args_is_help=True, help="How far this node agrees with its peers.")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(sync_group, name="sync", rich_help_panel="Operate")

    @command(app, "status", uses=NODE, panel="Operate", example="hansa status --node http://b:8420")
    def status(session: Session) -> None:
        """Show who the node is, where it listens, and what it holds."""
        found = session.client().node()
        session.screen.result(found, lambda: _status(found))

    @command(app, "peers", uses=NODE, panel="Operate", example="hansa peers")
    def peers(session: Session) -> None:
        """List the peers this node is connected to."""
        found = session.client().get("/v1/peers")
        now_s = int(time.time())  # noqa: TID251 - the command line is an edge
        session.screen.result(found, lambda: _peers(found["items"], now_s))
        if not found["items"]:
            session.screen.note("None yet. Give this node a bootstrap peer: see p2p.bootstrap")


def _status(found: dict[str, Any]) -> RenderableType:
    return sheet(found)


def _peers(items: list[dict[str, Any]], now_s: int) -> RenderableType:
    return table(("peer",), [(one["peer"],) for one in items])
