"""`hansa status`, `sync`, `storage`: what the node is and has now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import format as show
from node.cli.command import NODE, OPERATOR, command
from node.cli.progress import Meter
from node.cli.screen import sheet, stack, styled, table
from node.cli.session import Session

if TYPE_CHECKING:
    from rich.console import RenderableType

    from node.client import Client

sync_group = typer.Typer(no_args_is_help=True, help="How far this node agrees with its peers.")
LOOK_EVERY_S = 0.5
READY_EVERY_S = 0.2
STATUS_UNREADY = 503
READY_S_MAX = 60.0
"""A node is ready in 2 s; a slow disk or a big store to migrate gets a minute."""


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(sync_group, name="sync", rich_help_panel="Operate")

    @command(app, "status", uses=NODE, panel="Operate", example="hansa status --node http://b:8420")
    def status(
        session: Session,
        wait: Annotated[
            bool, typer.Option("--wait", help="Until the node is ready, at most a minute.")
        ] = False,
        address: Annotated[
            bool,
            typer.Option("--address", help="Print only where other nodes reach it, to bootstrap."),
        ] = False,
    ) -> None:
        """Show who the node is, where it listens, and what it holds."""
        client = session.client()
        if wait:
            _wait_until_ready(session, client)
        found = client.node()
        if address and not session.screen.json:
            session.screen.text(_dialable(found))
            return
        session.screen.result(found, lambda: _status(found))

    @command(app, "storage", uses=OPERATOR, panel="Operate", example="hansa storage --prune")
    def storage(
        session: Session,
        prune: Annotated[
            bool,
            typer.Option(
                "--prune", help="First drop what came before checkpoints, old versions with it."
            ),
        ] = False,
    ) -> None:
        """Show what the node stores: the catalogue's counts, and its builds with their sizes."""
        client = session.operator() if prune else session.client()
        if prune:
            pruned = client.post("/v1/storage/prune", None)
            session.screen.note(
                f"Dropped {show.counted(pruned['operations'], 'operation')} that the checkpoints "
                f"of {show.counted(pruned['records'], 'record')} stand for"
            )
        found = {"counts": client.node()["counts"], **client.get("/v1/builds")}
        session.screen.result(found, lambda: _storage(found))


@command(sync_group, "status", uses=NODE, example="hansa sync status --wait")
def sync_status(
    session: Session,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until everything the peers had is here.")
    ] = False,
) -> None:
    """Show how far the node has read each peer's log."""
    client = session.client()
    found = _waited(session, client) if wait else client.get("/v1/sync")
    session.screen.result(found, lambda: _sync(found))


def _wait_until_ready(session: Session, client: Client) -> None:
    """Return when the node says that it is ready; one that is not there yet may be starting.

    Raises:
        NodeUnreachable: nothing answered for a minute.
        ApiProblem: the node answered for a minute, that it is not ready.
    """
    from node.client import ApiProblem, NodeUnreachable

    give_up_at_s = time.monotonic() + READY_S_MAX
    said = False
    while True:
        try:
            client.get("/readyz")
        except (NodeUnreachable, ApiProblem) as error:
            starting = isinstance(error, NodeUnreachable) or error.status == STATUS_UNREADY
            if not starting or time.monotonic() > give_up_at_s:
                raise
            if not said:
                session.screen.note(f"Waiting for the node at {session.node_url} to be ready")
                said = True
            time.sleep(READY_EVERY_S)
        else:
            return


def _dialable(found: dict[str, Any]) -> str:
    """Return an address of the node that another node can dial.

    Raises:
        NotReady: its peer-to-peer side listens nowhere.
    """
    if not found["addresses"]:
        from node.cli.errors import NotReady

        raise NotReady("the node listens for no peers; set p2p.listen and start it again")
    return str(found["addresses"][0])


def _waited(session: Session, client: Client) -> dict[str, Any]:
    """Return the state of synchronisation once it is complete; Ctrl-C ends the waiting."""
    _wait_until_ready(session, client)
    with Meter(session.screen, "Sync", unit="operations") as meter:
        while True:
            found: dict[str, Any] = client.get("/v1/sync")
            items = found["items"]
            meter.at(
                sum(one["n"] for one in items),
                sum(max(one["last_n"], one["n"]) for one in items),
                note=f"{show.counted(len(items), 'peer')}, {found['pending']} waiting for others",
            )
            if items and all(one["synced"] for one in items) and not found["pending"]:
                return found
            time.sleep(LOOK_EVERY_S)


def _status(found: dict[str, Any]) -> RenderableType:
    now_s = int(time.time())  # noqa: TID251 - the command line is an edge
    counts = found["counts"]
    kinds = ", ".join(
        show.counted(counts[f"{one}s"], one) for one in ("model", "agent", "account", "receipt")
    )
    return sheet(
        {
            "node": found["peer_id"],
            "operator account": found["operator_account"] or _admission(found["admission_s"]),
            "network": found["network"],
            "started": show.ago(found["started_at"], now_s=now_s),
            "peers": found["peers"],
            "holds": f"{kinds}; {show.size(counts['bytes'])} on disk{_partly(found)}",
            "listens": "\n".join(found["addresses"]),
            "peer port": "\n".join(found["peer_endpoints"]),
            "API": found["api_url"],
            "API documentation": found["docs_url"],
            "version": found["version"],
        }
    )


def _admission(mean_s: int | None) -> RenderableType:
    mean = "" if mean_s is None else f", {show.duration(mean_s)} more in the mean"
    return styled(f"working for its admission{mean}; nothing is offered or paid yet", "yellow")


def _partly(found: dict[str, Any]) -> str:
    return "; a part only, `hansa sync status` says which" if found.get("partial") else ""


def _held_part(found: dict[str, Any]) -> str:
    if not found["partial"]:
        return "everything"
    owners = f" of {show.counted(len(found['owners']), 'account')}" if found["owners"] else ""
    return f"only {' and '.join(f'{kind}s' for kind in found['kinds'])}{owners}"


def _sync(found: dict[str, Any]) -> RenderableType:
    return stack(
        sheet(
            {
                "in the store": found["n"],
                "waiting for others": found["pending"],
                "holds": _held_part(found),
                # A node of an earlier version does not say.
                "over a quota": sum(found.get("over_quota", {}).values()),
            }
        ),
        styled("", ""),
        table(
            ("peer", "read", "of", "phase", "in step", "holds"),
            [
                (
                    one["peer"],
                    one["n"],
                    one["last_n"],
                    one["phase"],
                    styled("yes", "green") if one["synced"] else styled("no", "yellow"),
                    "a part" if one["partial"] else "all",
                )
                for one in found["items"]
            ],
            right=("read", "of"),
        ),
    )


def _storage(found: dict[str, Any]) -> RenderableType:
    return stack(
        sheet(
            {
                **{
                    name: show.size(number) if name == "bytes" else number
                    for name, number in found["counts"].items()
                },
                "builds": f"{len(found['builds'])}, {show.size(found['bytes_held'])}",
                "free": show.size(found["bytes_free"]),
            }
        ),
        *([styled("", ""), _builds(found["builds"])] if found["builds"] else []),
    )


def _builds(builds: list[dict[str, Any]]) -> RenderableType:
    return table(
        ("build", "files", "size", "kind"),
        [
            (one["digest"], one["file_count"], show.size(one["size"]), one["media_type"])
            for one in builds
        ],
        right=("files", "size"),
        fold=("kind",),
    )
