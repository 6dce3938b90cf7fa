"""The typer application: its groups, its shared options, and how it ends.

Only typer is imported here and at the head of the command modules; everything heavier is
imported inside the command that needs it, so that `hansa --help` stays instant.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import typer

from node.cli import (
    accounts,
    audit,
    builds,
    engines,
    keys,
    local,
    peers,
    publishing,
    records,
    royalty,
    serving,
    state,
    template,
)
from node.cli.command import (
    AccountName,
    AsJson,
    DataDir,
    KeyFile,
    NodeUrl,
    PassphraseFile,
)
from node.cli.endings import EXIT_BUG, EXIT_INTERRUPTED, EXIT_USAGE
from node.cli.screen import Screen
from node.cli.session import Options

app = typer.Typer(
    name="hansa",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start a node: [bold]hansa run[/].  Publish a model: [bold]hansa account create NAME[/],"
    " then [bold]hansa publish model.json[/].  Every command explains itself with --help.",
)
PARTS = (
    local, state, peers, audit, serving, builds, engines, keys, accounts, records, publishing,
    template, royalty,
)  # fmt: skip
for part in PARTS:
    part.register(app)


@app.callback()
def shared_options(
    context: typer.Context,
    as_json: AsJson = False,
    node_url: NodeUrl = None,
    data_dir: DataDir = None,
    account: AccountName = None,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
) -> None:
    """Hansa: a market of AI models and agents that nobody owns. Run a node, publish, serve."""
    if not __debug__:
        sys.stderr.write("hansa: python -O removes the checks Hansa relies on; start without -O\n")
        raise typer.Exit(EXIT_USAGE)
    context.obj = Options(as_json, node_url, data_dir, account, passphrase_file, key_file)


def main() -> NoReturn:
    """Run the process's command line and end the process with its exit status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status; errors are one line on standard error."""
    given = list(arguments)
    try:
        status: object = app(given, prog_name="hansa", standalone_mode=False)
    except typer.Abort:
        sys.stderr.write("hansa: stopped\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`hansa ... | head`): nothing is left to say, and nowhere to say it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        told = getattr(error, "format_message", None)
        if told is None:
            return _bug(error)
        return _usage_failure(error, str(told()), as_json="--json" in given)
    return status if isinstance(status, int) else 0


def _bug(error: Exception) -> int:
    """Say that this program failed, in one line; a maintainer gets the rest by asking for it."""
    if os.environ.get("HANSA_DEBUG"):
        traceback.print_exception(error)
    sys.stderr.write(
        f"hansa: a bug in this program ({type(error).__name__}: {' '.join(str(error).split())});"
        " run it again with HANSA_DEBUG=1 and report what it prints\n"
    )
    return EXIT_BUG


def _usage_failure(error: Exception, message: str, *, as_json: bool) -> int:
    path: str = getattr(getattr(error, "ctx", None), "command_path", "hansa")
    if not message:
        # A group called without a command has shown its help page already.
        return EXIT_USAGE
    Screen(json=as_json).failure(
        code="bad-usage",
        message=f"{message.rstrip('.')}; see `{path} --help`",
        exit_status=EXIT_USAGE,
    )
    return EXIT_USAGE
