"""`hansa royalties` and `hansa usage`: who used what, who is owed what, and the proof."""

from __future__ import annotations

import typer

group = typer.Typer(no_args_is_help=True, help="What is owed to an account, and its proof.")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(group, name="royalties", rich_help_panel="Money")
