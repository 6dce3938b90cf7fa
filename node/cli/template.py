"""`hansa templates`: check, render and digest Formfiles, all without a node."""

from __future__ import annotations

import typer

group = typer.Typer(no_args_is_help=True, help="Check, render and digest Formfiles.")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(group, name="templates", rich_help_panel="Create")
