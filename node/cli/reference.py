"""Writes docs/cli.md from the typer application: every command, its options and its example.

Run `python -m node.cli.reference docs/cli.md` after a change; a test compares.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEADER = """# The command line

Written from the program by `python -m node.cli.reference docs/cli.md`; a test fails if it is not
up to date. `hansa COMMAND --help` shows the same in the terminal.

Every command takes `--json`: standard output then holds the exact result and nothing else (one
document, or one a line where the command streams). Notes, progress and errors go to standard
error. An error is one line that says what to do next (with `--json`, one JSON document with
`code`, `message` and `exit_status`); the exit status depends only on the error's code and is
listed at the end.

The shared options may stand before the command or after it. `hansa --install-completion` sets up
completion for bash, zsh, fish and PowerShell.
"""
_MARKUP = re.compile(r"\[/?(?:bold|dim|cyan|green|red|blue|yellow)?\]")


def reference() -> str:
    """Return the text of docs/cli.md."""
    import typer.main

    from node.cli.app import app

    root: Any = typer.main.get_command(app)
    found = list(commands(root))
    lines = [HEADER, "| command | |", "|---|---|"]
    for path, one in found:
        name = " ".join(path)
        anchor = re.sub(r"[^a-z0-9 -]", "", name).replace(" ", "-")
        lines.append(f"| [`{name}`](#{anchor}) | {_first_line(one)} |")
    lines += ["", "## Shared options", "", *_options(root, skip=_COMPLETION)]
    for path, one in found:
        lines += ["", f"## {' '.join(path)}", "", *_page(path, one)]
    lines += ["", "## Exit status", "", *_exit_statuses(), ""]
    return "\n".join(lines)


def commands(root: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each command under a group with the words that call it."""
    yield from _under(root, ("hansa",))


def example_of(one: Any) -> str:
    """Return the call that a command gives as its example."""
    text = _MARKUP.sub("", one.epilog or "").removeprefix("Example:").strip()
    return text.partition("  (JSON")[0]


_COMPLETION = ("help", "install_completion", "show_completion")
_SHARED = ("as_json", "node_url", "data_dir", "account", "passphrase_file", "key_file", "help")


def _under(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, one in group.commands.items():
        if one.hidden:
            continue
        if hasattr(one, "commands"):
            yield from _under(one, (*path, name))
        else:
            yield (*path, name), one


def _page(path: tuple[str, ...], one: Any) -> list[str]:
    usage = [" ".join(path)]
    arguments = [p for p in one.params if p.param_type_name == "argument"]
    for argument in arguments:
        word = argument.metavar or argument.name.upper()
        many = "..." if argument.nargs == -1 else ""
        usage.append(f"{word}{many}" if argument.required else f"[{word}{many}]")
    text = "\n".join(line.strip() for line in (one.help or "").strip().splitlines())
    lines = [text, "", "```", " ".join(usage) + " [options]", "```", ""]
    lines += ["For example:", "", "```sh", example_of(one), "```"]
    described = [
        f"- `{argument.metavar or argument.name.upper()}`: {argument.help}"
        for argument in arguments
        if argument.help
    ]
    options = _options(one, skip=_SHARED)
    shared = [_flag(p) for p in one.params if p.name in _SHARED and p.name != "help"]
    lines += ["", *described] if described else []
    lines += ["", *options] if options else []
    return [*lines, "", "Shared options: " + ", ".join(f"`{flag}`" for flag in shared) + "."]


def _options(one: Any, *, skip: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for option in one.params:
        if option.param_type_name != "option" or option.name in skip or option.hidden:
            continue
        flags = ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))
        word = f" {option.metavar}" if option.metavar and not option.is_flag else ""
        variable = f" (`{option.envvar}`)" if isinstance(option.envvar, str) else ""
        found.append(f"- {flags}{word}{variable}: {option.help}")
    return found


def _flag(option: Any) -> str:
    return str(option.opts[0])


def _first_line(one: Any) -> str:
    return str((one.help or "").strip().splitlines()[0])


def _exit_statuses() -> list[str]:
    from node.api.problems import EXIT_MEANINGS

    rows = [f"| {int(status)} | {meaning} |" for status, meaning in EXIT_MEANINGS.items()]
    return ["| status | meaning |", "|---|---|", *rows, "| 130 | stopped with Ctrl-C |"]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference())
