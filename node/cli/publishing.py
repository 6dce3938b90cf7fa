"""`hansa publish`: one command from a file or a folder to a record that the network has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli import writes
from node.cli.builds import upload
from node.cli.command import CREATOR, command
from node.cli.records import Assignments
from node.cli.session import Session

RECORD_FILES = ("model.json", "model.toml", "agent.json", "agent.toml")
BUILD_FOLDER = "build"
AGENT_FIELDS = frozenset({"agent_type", "compatible_model_types", "preferred_models", "tools"})
MODEL_FIELDS = frozenset({"model_type", "parameters", "quantization", "context_length"})


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @command(app, "publish", uses=CREATOR, panel="Create", example="hansa publish ./my-model")
    def publish(
        session: Session,
        path: Annotated[
            Path, typer.Argument(help="A record as JSON or TOML, or a folder that holds one.")
        ],
        build: Annotated[
            Path | None,
            typer.Option(metavar="PATH", help="Pack and upload this, and name it in the record."),
        ] = None,
        template: Annotated[
            Path | None,
            typer.Option(metavar="FILE", help="Put this Formfile into the record."),
        ] = None,
        assignments: Assignments = None,
    ) -> None:
        """Publish a model or an agent: create it, or add a version if it is there.

        In a folder, the record is `model.json`, `model.toml`, `agent.json` or `agent.toml`, and
        what is under `build/` is packed, uploaded and named in the record.
        """
        file = record_file(path)
        if build is None and path.is_dir() and (path / BUILD_FOLDER).is_dir():
            build = path / BUILD_FOLDER
        data = writes.document(session, file, assignments)
        if template is not None:
            data["formfile_template"] = session.read_text(template)
        plural = kind_of(data, file)
        account = session.creator()
        client = session.client(creator=account)
        if build is not None:
            made = upload(session, client, account, build)
            data["builds"] = [made["manifest"]]
        writes.publish(session, plural, data, account, client)


def record_file(path: Path) -> Path:
    """Return the record's file: the path itself, or the one record in that folder.

    Raises:
        BadUsage: the folder holds none, or several.
    """
    from node.cli.errors import BadUsage

    if not path.is_dir():
        return path
    found = [path / name for name in RECORD_FILES if (path / name).is_file()]
    if len(found) != 1:
        names = ", ".join(one.name for one in found) or "none"
        raise BadUsage(f"{path} must hold one of {', '.join(RECORD_FILES)}; it holds {names}")
    return found[0]


def kind_of(data: dict[str, Any], file: Path) -> str:
    """Return `models` or `agents`, by the file's name or the fields only one of them has.

    Raises:
        BadUsage: neither tells.
    """
    from node.cli.errors import BadUsage

    for plural in ("models", "agents"):
        if file.stem == plural.removesuffix("s"):
            return plural
    is_agent, is_model = AGENT_FIELDS & data.keys(), MODEL_FIELDS & data.keys()
    if is_agent and not is_model:
        return "agents"
    if is_model and not is_agent:
        return "models"
    raise BadUsage(
        f"{file} could be a model or an agent; say which with model_type or agent_type in it,"
        " or call it model.json or agent.json"
    )
