"""`hansa keys`: the API keys that agents call the OpenAI routes with."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from node.cli import format as show
from node.cli.command import OPERATOR, command
from node.cli.screen import sheet, table
from node.cli.session import Session

group = typer.Typer(no_args_is_help=True, help="The API keys agents call this node with.")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(group, name="keys", rich_help_panel="Operate")


@command(group, "create", uses=OPERATOR, example="hansa keys create my-agent")
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="What the key is for; shown in lists and usage.")],
) -> None:
    """Make an API key. It is shown this once: the node keeps only its hash."""
    made = session.operator().post("/v1/keys", {"name": name})
    session.screen.result(
        made,
        lambda: sheet({"key": made["key"], "id": made["id"], "name": made["name"]}),
    )
    session.screen.note(
        f"Agents use it as OPENAI_API_KEY, with OPENAI_BASE_URL={session.node_url}/v1."
        " It will not be shown again."
    )


@command(group, "list", uses=OPERATOR, example="hansa keys list")
def list_(session: Session) -> None:
    """List the API keys of this node."""
    found = session.operator().get("/v1/keys")
    now_s = int(time.time())  # noqa: TID251 - the command line is an edge
    session.screen.result(
        found,
        lambda: table(
            ("id", "name", "made", "last used"),
            [
                (
                    one["id"],
                    one["name"],
                    show.ago(one["created_at"], now_s=now_s),
                    show.ago(one.get("used_at") or 0, now_s=now_s),
                )
                for one in found["items"]
            ],
        ),
    )


@command(group, "revoke", uses=OPERATOR, example="hansa keys revoke 0c0d1650a26a")
def revoke(
    session: Session, key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id.")]
) -> None:
    """Revoke an API key: calls with it are refused from now on."""
    session.operator().delete(f"/v1/keys/{key_id}")
    session.screen.result({"revoked": key_id}, lambda: sheet({"revoked": key_id}))
