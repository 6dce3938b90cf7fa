"""`hansa templates`: check, render and digest Formfiles, all without a node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import format as show
from node.cli.command import command
from node.cli.screen import sheet, stack, styled, table
from node.cli.session import Session

if TYPE_CHECKING:
    from rich.console import RenderableType

    from templates import Formfile

group = typer.Typer(no_args_is_help=True, help="Check, render and digest Formfiles.")

FormfilePath = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="A Formfile, `-` for stdin, or `vllm`, which is built in."),
]
Values = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="PARAM=VALUE", help="Set a parameter; repeat for more."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(group, name="templates", rich_help_panel="Create")


@command(group, "check", example="hansa templates check Formfile")
def check(session: Session, file: FormfilePath) -> None:
    """Read a Formfile strictly; the first error is shown with its line and column."""
    from templates import template_digest

    formfile = _read(session, file)
    params = [
        {"name": one.name, "type": str(one.type), "default": one.default} for one in formfile.params
    ]
    found = {
        "valid": True,
        "digest": template_digest(formfile).hex(),
        "kind": formfile.kind,
        "name": formfile.name,
        "version": formfile.version,
        "params": params,
    }
    session.screen.result(found, lambda: _checked(found))


@command(
    group, "render", example="hansa templates render vllm --set model_path=. --set served_name=tiny"
)
def render(
    session: Session,
    file: FormfilePath,
    values: Values = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show how this machine would start it instead.")
    ] = False,
) -> None:
    """Fill in every parameter of a Formfile and print the result."""
    from templates import bind, template_digest, write_formfile

    template = _read(session, file)
    given = _values(values or ())
    if plan:
        _plan(session, template, given)
        return
    bound = bind(template, given)
    text = write_formfile(bound)
    if session.screen.json:
        session.screen.line({"formfile": text, "digest": template_digest(bound).hex()})
    else:
        session.screen.text(text)


@command(group, "preset", example="hansa templates preset vllm --set max_model_len=4096")
def preset(session: Session, file: FormfilePath, values: Values = None) -> None:
    """Change a Formfile's defaults and leave the rest to who deploys it, for a record."""
    from templates import preset as with_defaults
    from templates import template_digest, write_formfile

    template = with_defaults(_read(session, file), _values(values or ()))
    text = write_formfile(template)
    if session.screen.json:
        session.screen.line({"formfile": text, "digest": template_digest(template).hex()})
    else:
        session.screen.text(text)


@command(group, "digest", example="hansa templates digest Formfile")
def digest(session: Session, file: FormfilePath) -> None:
    """Print the digest that records pin: the same for every spelling of one template."""
    from templates import template_digest

    found = template_digest(_read(session, file)).hex()
    if session.screen.json:
        session.screen.line({"digest": found})
    else:
        session.screen.text(found)


def _read(session: Session, file: Path) -> Formfile:
    """Return the Formfile in a file, or the built-in one of that name if there is no such file."""
    from templates import BUILTIN_NAMES, builtin_template, parse_formfile

    if str(file) in BUILTIN_NAMES and not file.exists():
        return builtin_template(str(file))
    return parse_formfile(session.read_text(file))


def _plan(session: Session, template: Formfile, given: dict[str, str]) -> None:
    """Show the engine's arguments on this machine, and why they are so."""
    from dataclasses import asdict

    from node.hardware import read_hardware
    from templates import render as render_plan

    folder = session.settings().settings.node.data_dir
    found = render_plan(template, given, read_hardware(folder).free)
    session.screen.result(
        {**asdict(found), "env": dict(found.env)},
        lambda: sheet(
            {
                "engine": f"{found.engine} on {found.device}",
                "context": f"{show.whole(found.context)} tokens",
                "at a time": show.counted(found.slots, "sequence"),
                "arguments": " ".join(found.argv),
                "environment": " ".join(f"{name}={text}" for name, text in found.env.items()),
                "because": "\n".join(found.reasons),
            },
            title="This machine would start",
        ),
    )


def _values(texts: list[str] | tuple[str, ...]) -> dict[str, str]:
    from node.cli.errors import BadUsage

    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise BadUsage(f"--set {text!r} is not PARAM=VALUE; for example context=4096")
        found[name] = value
    return found


def _checked(found: dict[str, Any]) -> RenderableType:
    head = sheet(
        {name: found[name] for name in ("kind", "name", "version", "digest")},
        title="The Formfile is in order",
    )
    if not found["params"]:
        return head
    rows = [(one["name"], one["type"], _default(one["default"])) for one in found["params"]]
    return stack(head, styled("", ""), table(("parameter", "type", "default"), rows))


def _default(value: object) -> object:
    if value is None:
        return "(must be set)"
    return '""' if value == "" else value
