"""What `hansa doctor` looks at: one small function per thing that can be missing."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from node.cli import format as show_as
from node.cli.screen import stack, styled, table

if TYPE_CHECKING:
    from node.cli.session import Session
    from node.client import Client
    from node.config import Settings

FREE_BYTES_MIN = 2 << 30
"""Below this the build store accepts nothing (`builds.free_bytes_min`)."""
STORE_FREE_BYTES_MIN = 256 << 20
"""Below this a commit of the log and its write-ahead file may fail."""


@dataclass(frozen=True, slots=True)
class Check:
    """What one look found.

    Attributes:
        ok: False: a node cannot do its work. None: it can, but not all of it.
        mend: What to do about it; empty when there is nothing to do.
    """

    name: str
    ok: bool | None
    found: str
    mend: str = ""


def check_python() -> Check:
    """Look at the interpreter."""
    version = platform.python_version()
    new_enough = sys.version_info >= (3, 11)
    return Check(
        "python", new_enough, f"{version} on {platform.machine()}",
        "" if new_enough else "install Python 3.11 or newer, then run `make setup`",
    )  # fmt: skip


def check_folder(path: Path) -> Check:
    """Look whether a node could keep its data in a folder, and how much room there is."""
    existing = next(one for one in (path, *path.absolute().parents) if one.exists())
    if not os.access(existing, os.W_OK | os.X_OK) or not existing.is_dir():
        return Check(
            "data folder", False, f"{path} cannot be written", f"chown or chmod {existing}"
        )
    if path.exists() and (why := _write(path)):
        return Check(
            "data folder", False, f"{path}: {why}",
            f"make room on that disk, or mount it writable, or move the folder: {path}",
        )  # fmt: skip
    free = shutil.disk_usage(existing).free
    held = f", {show_as.size(_store_bytes(path))} of logs" if path.exists() else ""
    found = f"{path}{held}, {show_as.size(free)} free"
    if not path.exists():
        found += ", made at first start"
    if free < STORE_FREE_BYTES_MIN:
        return Check("data folder", False, found, "make room: the log itself needs 256 MiB free")
    if free < FREE_BYTES_MIN:
        return Check(
            "data folder", None, found,
            "make room (hansa storage prune helps a little): no builds below 2 GiB free",
        )  # fmt: skip
    return Check("data folder", True, found)


def _write(folder: Path) -> str:
    """Write a little to a folder and sync it, as a commit does; return what went wrong, or ""."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"it cannot be written ({error.strerror})"
    return ""


def _store_bytes(folder: Path) -> int:
    """Return what the databases in a folder take, their write-ahead files counted."""
    return sum(one.stat().st_size for one in folder.glob("*.sqlite3*") if one.is_file())


def check_builds(folder: Path, free_bytes_min: int) -> Check:
    """Look how much room there is for builds; their folder may be on a disk of its own."""
    existing = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    free = shutil.disk_usage(existing).free
    found = f"{folder}, {show_as.size(free)} free"
    if free >= free_bytes_min:
        return Check("builds", True, found)
    return Check(
        "builds", None, f"{found}; none is fetched below {show_as.size(free_bytes_min)}",
        "make room, or set builds.folder to a disk that has some",
    )  # fmt: skip


def checks_by_peers(client: Client) -> list[Check]:
    """Look at the node through its peers' eyes; its operator alone may have them asked."""
    from crdt import HansaError
    from node.cli.peer_checks import peer_checks

    try:
        found = client.post("/v1/checkup", {})
    except HansaError as error:
        return [
            Check(
                "peers' view", None, f"not asked: {error}",
                "run this where the node's data folder is, or name it: --data-dir DIR",
            )
        ]  # fmt: skip
    return peer_checks(found)


def check_port(name: str, host: str, port: int, *, ours: bool) -> Check:
    """Look whether a port is free to listen on; taken by the node that runs is as good."""
    label = f"{name} port"
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        if ours:
            return Check(label, True, f"{host}:{port}, in use by the node that runs")
        return Check(
            label,
            False,
            f"{host}:{port}: {error.strerror}",
            f"stop what uses it, or set {name}.port",
        )
    return Check(label, True, f"{host}:{port} is free")


def check_node(client: Client) -> Check:
    """Look whether a node answers."""
    from crdt import HansaError
    from node.client import ApiProblem

    try:
        client.get("/readyz")
    except ApiProblem as error:
        reasons = error.document.get("reasons") or [str(error)]
        return Check("node", None, f"not ready: {'; '.join(reasons)}", "wait, or see its log")
    except HansaError as error:
        return Check("node", None, str(error), "hansa run")
    return Check("node", True, f"ready at {client.url}")


def check_accounts(session: Session) -> Check:
    """Look for the accounts a person publishes with."""
    names = session.accounts.names()
    if not names:
        return Check(
            "account", None, f"none in {session.accounts.path}", "hansa account create NAME"
        )
    return Check("account", True, ", ".join(names))


def all_checks(session: Session, settings: Settings) -> list[Check]:
    """Return what every look found, in the order in which they would stop somebody."""
    from inference.engines import VLLM_CPU, EngineEnvironment, examine

    client = _client(session)
    node = check_node(client)
    engine = examine(EngineEnvironment(VLLM_CPU, settings.engines_folder))
    taken = _ports_of_node(client) if node.ok else set[int]()
    return [
        check_python(),
        check_folder(settings.node.data_dir),
        check_port("api", settings.api.host, settings.api.port, ours=settings.api.port in taken),
        check_port(
            "peer", settings.peer.host, settings.peer.port, ours=settings.peer.port in taken
        ),
        check_builds(settings.builds_folder, settings.builds.free_bytes_min),
        node,
        *(checks_by_peers(client) if node.ok else ()),
        check_accounts(session),
        # An engine is needed to serve models, not to run a node.
        *(Check(f"engine: {one.name}", one.ok or None, one.found, one.next_step) for one in engine),
    ]


def _client(session: Session) -> Client:
    """Return the client that asks as the operator where the token is at hand, else as anybody."""
    from node.client import NoOperatorToken

    try:
        return session.operator()
    except NoOperatorToken:
        return session.client()


def _ports_of_node(client: Client) -> set[int]:
    """Return the ports that the node which answers listens on."""
    said = client.node()
    places = [said["api_url"], *said["peer_endpoints"]]
    return {int(str(one).rpartition(":")[2]) for one in places}


def show(session: Session, found: list[Check]) -> None:
    """Show what was found.

    Raises:
        CheckFailed: something a node cannot do without is missing.
    """
    from node.cli.errors import CheckFailed

    marks = {
        True: styled("ok", "green"),
        None: styled("note", "yellow"),
        False: styled("no", "red"),
    }
    mends = [check for check in found if check.mend]
    session.screen.result(
        {"ok": all(check.ok is not False for check in found), "checks": [asdict(c) for c in found]},
        lambda: stack(
            table(
                ("", "what", "found"),
                [(marks[c.ok], c.name, c.found) for c in found],
                fold=("found",),
            ),
            *(styled(f"→ {check.name}: {check.mend}", "bold") for check in mends),
        ),
    )
    broken = [check.name for check in found if check.ok is False]
    if broken:
        raise CheckFailed(f"not in order: {', '.join(broken)}; see what to do above")
