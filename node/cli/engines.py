"""`hansa engine`: the environments that models run in, on this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli.command import LOCAL_NODE, command
from node.cli.progress import Meter
from node.cli.screen import sheet, stack, styled, table
from node.cli.session import Session

if TYPE_CHECKING:
    from inference.engines import EngineEnvironment, InstallProgress

group = typer.Typer(no_args_is_help=True, help="The environments that models run in.")

Gpu = Annotated[bool, typer.Option("--gpu", help="The engine for GPUs instead of the CPU's.")]
Folder = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DIR", help="Where engines are; engines.folder otherwise."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(group, name="engine", rich_help_panel="Operate")


@command(group, "install", uses=LOCAL_NODE, example="hansa engine install")
def install(
    session: Session,
    gpu: Gpu = False,
    folder: Folder = None,
    again: Annotated[bool, typer.Option("--again", help="Make it anew if it is there.")] = False,
) -> None:
    """Install vLLM in an environment of its own; an interrupted installation goes on."""
    from inference.engines import install as install_engine

    environment = _environment(session, gpu=gpu, folder=folder)
    with Meter(session.screen, f"Install {environment.spec.name}", unit="MB") as meter:

        def step(at: InstallProgress) -> None:
            meter.at(at.done if at.total else None, at.total or None, stage=at.text)

        install_engine(environment, step, again=again)
    found = {
        "engine": environment.spec.name,
        "folder": str(environment.folder),
        "packages": environment.packages(),
    }
    session.screen.result(
        found,
        lambda: sheet({"engine": found["engine"], "folder": found["folder"]}, title="Installed"),
    )


@command(group, "doctor", uses=LOCAL_NODE, example="hansa engine doctor --json")
def doctor(session: Session, gpu: Gpu = False, folder: Folder = None) -> None:
    """Check what the engine needs on this machine, and say what mends what is missing."""
    from inference.engines import examine
    from node.cli.errors import CheckFailed

    found = examine(_environment(session, gpu=gpu, folder=folder))
    marks = {True: styled("ok", "green"), False: styled("no", "red")}
    session.screen.result(
        {"ok": all(one.ok for one in found), "checks": [asdict(one) for one in found]},
        lambda: stack(
            table(
                ("", "what", "found"),
                [(marks[one.ok], one.name, one.found) for one in found],
                fold=("found",),
            ),
            *(styled(f"→ {one.name}: {one.next_step}", "bold") for one in found if one.next_step),
        ),
    )
    broken = [one.name for one in found if not one.ok]
    if broken:
        raise CheckFailed(f"not in order: {', '.join(broken)}; see what to do above")


def _environment(session: Session, *, gpu: bool, folder: Path | None) -> EngineEnvironment:
    from inference.engines import VLLM_CPU, VLLM_GPU, EngineEnvironment

    root = folder or session.settings().settings.engines_folder
    return EngineEnvironment(VLLM_GPU if gpu else VLLM_CPU, root)
