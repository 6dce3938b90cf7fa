"""`hansa run`, `config`, `doctor`: this machine, without asking a node."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import checks
from node.cli.command import LOCAL_NODE, NODE, command
from node.cli.screen import styled, table
from node.cli.session import Session

if TYPE_CHECKING:
    from rich.text import Text

config_group = typer.Typer(no_args_is_help=True, help="The node's settings and their origins.")

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings as TOML.", envvar="HANSA_CONFIG"),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="SECTION.KEY=VALUE",
        help="Change one setting for this run, for example api.port=9000; repeat for more.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(config_group, name="config", rich_help_panel="Operate")

    @command(
        app,
        "run",
        uses=LOCAL_NODE,
        panel="Operate",
        example="hansa run --set api.port=9000 --data-dir ./node-a",
    )
    def run(session: Session, config: ConfigFile = None, settings: Settings = None) -> None:
        """Run a node until it is told to stop (Ctrl-C or SIGTERM)."""
        from node.launch import launch_network

        network = launch_network()
        try:
            from node.app import run as run_node

            run_node(session.settings(config, settings or ()), network)
        finally:
            network.end()

    @command(
        app, "doctor", uses=(*NODE, *LOCAL_NODE), panel="Operate", example="hansa doctor --json"
    )
    def doctor(session: Session, config: ConfigFile = None) -> None:
        """Check everything a node needs on this machine, and say what mends what is missing.

        A node that runs is looked at through its peers' eyes too: some are asked to dial it back,
        what time they have and what they run. No single peer's word makes a line red.
        """
        found = checks.all_checks(session, session.settings(config, ()).settings)
        checks.show(session, found)


@command(config_group, "show", uses=LOCAL_NODE, example="hansa config show --config hansa.toml")
def config_show(
    session: Session,
    config: ConfigFile = None,
    settings: Settings = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what each is, and why its default is so.")
    ] = False,
) -> None:
    """Show every setting, its value, and where the value comes from."""
    listing = session.settings(config, settings or ()).listing()
    about = ("about",) if explain else ()
    session.screen.result(
        [asdict(one) for one in listing],
        lambda: table(
            ("setting", "value", "from", *about),
            [
                (
                    one.key,
                    _value(one.value),
                    _origin(one.origin),
                    *([styled(one.about, "dim")] if explain else []),
                )
                for one in listing
            ],
            fold=("about",),
        ),
    )


def _value(value: object) -> str:
    """Return a setting's value as its file would have it; nothing is a dash."""
    return "–" if value is None else json.dumps(value, ensure_ascii=False)


def _origin(origin: str) -> Text:
    from rich.text import Text

    return Text(origin, style="dim" if origin == "default" else "bold cyan")
