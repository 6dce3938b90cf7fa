"""How a command is declared: its example, the options every command shares, its way to fail.

A command is a plain function whose first parameter is a `Session`. `@command` registers it with
typer, adds the shared options it needs, and turns every error of ours into one line on standard
error and a stable exit status. So the functions hold only what the command is about.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.endings import ended, interrupted
from node.cli.session import Options, Session

NODE = ("node_url",)
"""The command talks to a node."""
OPERATOR = ("node_url", "data_dir")
"""The command acts for the node's operator: it needs the token in the node's data folder."""
LOCAL_NODE = ("data_dir",)
"""The command works on this machine's node without talking to it."""
CREATOR = ("node_url", "account", "passphrase_file", "key_file")
"""The command signs with a creator's key."""
KEYS = ("account", "passphrase_file", "key_file")
"""The command works with a creator's key and talks to no node."""

SHARED = "Shared options (also before the command)"
"""The panel of the help page that holds them."""

AsJson = Annotated[
    bool, typer.Option("--json", help="Print the exact result as JSON.", rich_help_panel=SHARED)
]
NodeUrl = Annotated[
    str | None,
    typer.Option(
        "--node",
        metavar="URL",
        envvar="HANSA_NODE",
        help="The node to talk to; http://127.0.0.1:8420 if nothing is said.",
        rich_help_panel=SHARED,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        envvar="HANSA_NODE__DATA_DIR",
        help="The node's data folder, which holds the operator's token.",
        rich_help_panel=SHARED,
    ),
]
AccountName = Annotated[
    str | None,
    typer.Option(
        "--account",
        metavar="NAME",
        envvar="HANSA_ACCOUNT",
        help="The account to sign as; the only one there is, if nothing is said.",
        rich_help_panel=SHARED,
    ),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        envvar="HANSA_PASSPHRASE_FILE",
        help="Read the account's passphrase from the first line of FILE instead of asking.",
        rich_help_panel=SHARED,
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        envvar="HANSA_KEY_FILE",
        help="Unlock the account with the secret bytes in FILE instead of a passphrase.",
        rich_help_panel=SHARED,
    ),
]
_SHARED_TYPES: dict[str, Any] = {
    "as_json": AsJson,
    "node_url": NodeUrl,
    "data_dir": DataDir,
    "account": AccountName,
    "passphrase_file": PassphraseFile,
    "key_file": KeyFile,
}

Function = Callable[..., None]


def command(
    group: typer.Typer,
    name: str,
    *,
    example: str,
    uses: tuple[str, ...] = (),
    panel: str | None = None,
    streams: bool = False,
) -> Callable[[Function], Function]:
    """Return a decorator that makes a function of a `Session` a command of `group`.

    Args:
        example: What a person would type, shown at the end of the help page.
        uses: Which shared options it takes beside `--json`: `NODE`, `OPERATOR`, `CREATOR`...
        panel: The heading it stands under on its group's help page.
        streams: It prints one JSON document a line, as they come.
    """

    def decorate(function: Function) -> Function:
        shared = ("as_json", *uses)
        hints = typing.get_type_hints(function, include_extras=True)
        own = list(inspect.signature(function).parameters.values())[1:]

        def run(context: typer.Context, **arguments: Any) -> None:
            given = {one: arguments.pop(one) for one in shared}
            if isinstance(context.obj, Options):
                # What the environment says was read before the command, where words go over it.
                given = {one: value for one, value in given.items() if _typed(context, one)}
            base = context.obj if isinstance(context.obj, Options) else Options()
            with Session(_merged(base, given)) as session:
                try:
                    function(session, **arguments)
                except typer.Exit:
                    raise
                except KeyboardInterrupt as stop:
                    raise typer.Exit(interrupted(session.screen)) from stop
                except Exception as error:
                    status = ended(session, error)
                    if status is None:
                        raise
                    raise typer.Exit(status) from error

        parameters = [
            inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD),
            *(one.replace(annotation=hints[one.name]) for one in own),
            *(
                inspect.Parameter(
                    one,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=False if one == "as_json" else None,
                    annotation=_SHARED_TYPES[one],
                )
                for one in shared
            ),
        ]
        run.__name__ = function.__name__
        run.__doc__ = _flowing(function.__doc__ or "")
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {
            "context": typer.Context,
            **{one.name: hints[one.name] for one in own},
            **{one: _SHARED_TYPES[one] for one in shared},
        }
        epilog = f"[bold]Example:[/]  {example}" + ("  [dim](JSON: one a line)[/]" * streams)
        group.command(name, epilog=epilog, rich_help_panel=panel)(run)
        return function

    return decorate


def _flowing(text: str) -> str:
    """Return a docstring with each paragraph on one line, so that any terminal breaks it itself."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(one.split()) for one in paragraphs)


def _typed(context: typer.Context, name: str) -> bool:
    """Return whether an option was given on the command line, not by the environment."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _merged(base: Options, given: dict[str, Any]) -> Options:
    """Return the options said before the command, overridden by those said after it."""
    said = {name: value for name, value in given.items() if value is not None}
    said["as_json"] = bool(said.get("as_json")) or base.as_json
    return replace(base, **said)
