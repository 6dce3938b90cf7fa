"""Nodes and commands as separate processes: what the story starts, and what it asks of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

READY_S_MAX = 60
STOP_S_MAX = 20
COMMAND_S_MAX = 600
HANSA = str(Path(sys.executable).parent / "hansa")


class StepFailed(Exception):
    """A step of the story did not come true; the message says what was seen instead."""


@dataclass
class Node:
    """One `hansa run` with its own folder and ports."""

    name: str
    folder: Path
    bootstrap: list[str] = field(default_factory=list)
    api_port: int = 0
    p2p_port: int = 0
    peer_port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the node's API answers."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def log(self) -> Path:
        """Where everything the process prints goes."""
        return self.folder / "log.txt"

    def configure(self) -> None:
        """Choose free ports and write the node's configuration file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.api_port, self.p2p_port, self.peer_port = free_ports(3)
        peers = ", ".join(json.dumps(one) for one in self.bootstrap)
        (self.folder / "hansa.toml").write_text(
            f'[node]\ndata_dir = "{self.folder / "data"}"\nnetwork = "demo"\n'
            f"[api]\nport = {self.api_port}\n"
            f'[p2p]\nlisten = "/ip4/127.0.0.1/tcp/{self.p2p_port}"\nbootstrap = [{peers}]\n'
            f'[peer]\nhost = "127.0.0.1"\nport = {self.peer_port}\n'
        )

    def start(self) -> None:
        """Start the process and wait until it says that it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [HANSA, "run", "--config", str(self.folder / "hansa.toml")],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                # A Ctrl-C is for us, who then stop every node in order.
                start_new_session=True,
            )
        wait_for(
            f"node {self.name} to be ready",
            self._ready,
            timeout_s=READY_S_MAX,
            blame=self.last_lines,
        )

    def _ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            status = self.process.returncode
            raise StepFailed(f"node {self.name} ended with {status}:\n{self.last_lines()}")
        return get(f"{self.url}/readyz", missing_ok=True) is not None

    def kill(self) -> None:
        """End the process as a power cut would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(STOP_S_MAX)

    def stop(self) -> float:
        """Ask the process to stop and return how many seconds that took."""
        assert self.process is not None
        if self.process.poll() is not None:
            return 0.0
        started = time.monotonic()
        self.process.terminate()
        try:
            status = self.process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            self.process.wait(STOP_S_MAX)
            raise StepFailed(f"node {self.name} ignored SIGTERM for {STOP_S_MAX} s") from error
        if status != 0:
            raise StepFailed(f"node {self.name} stopped with status {status}:\n{self.last_lines()}")
        return time.monotonic() - started

    def last_lines(self) -> str:
        """Return the end of the node's log."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def metrics(self) -> dict[str, float]:
        """Return the node's Prometheus samples by their full name with labels."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if line and not line.startswith("#")]
        return {name: float(value) for name, value in pairs}


def hansa(
    *words: str,
    node: Node | None = None,
    creator: Path | None = None,
    cwd: Path | None = None,
) -> Any:
    """Run one `hansa` command as a user would and return what its `--json` printed.

    Args:
        node: Whom the command talks to; the operator's token is read from its data folder.
        creator: The folder that holds the creator's accounts and the file that unlocks them.
    """
    environment = dict(os.environ)
    if node is not None:
        environment["HANSA_NODE"] = node.url
        environment["HANSA_NODE__DATA_DIR"] = str(node.folder / "data")
    if creator is not None:
        environment["HANSA_ACCOUNTS_DIR"] = str(creator / "accounts")
        environment["HANSA_KEY_FILE"] = str(creator / "unlock.key")
    result = subprocess.run(
        [HANSA, *words, "--json"],
        capture_output=True,
        env=environment,
        cwd=cwd,
        timeout=COMMAND_S_MAX,
        check=False,
    )
    if result.returncode != 0:
        said = (result.stderr or b"").decode(errors="replace").strip()
        raise StepFailed(
            f"`hansa {' '.join(words)}` ended with {result.returncode}: {said[-2000:]}"
        )
    return last_document(result.stdout.decode())


def watch_hansa(*words: str, node: Node, say: Callable[[str], None]) -> None:
    """Run one `hansa` command on a node as a user would, telling its progress as it comes."""
    environment = {
        **os.environ,
        "HANSA_NODE": node.url,
        "HANSA_NODE__DATA_DIR": str(node.folder / "data"),
    }
    with subprocess.Popen(
        [HANSA, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        assert process.stderr is not None
        last = ""
        for line in process.stderr:
            last = line.rstrip() or last
            say(line.rstrip())
    if process.returncode != 0:
        raise StepFailed(f"`hansa {' '.join(words)}` ended with {process.returncode}: {last}")


def last_document(text: str) -> Any:
    """Return the JSON document in `text`, or the last of several that stand one a line."""
    try:
        return json.loads(text)
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        return json.loads(lines[-1]) if lines else None


def run_module(module: str, *words: str, env: Mapping[str, str] | None = None) -> str:
    """Run one of our Python modules in a process of its own and return what it printed."""
    result = subprocess.run(
        [sys.executable, "-m", module, *words],
        capture_output=True,
        env={**os.environ, **(env or {})},
        cwd=Path(__file__).resolve().parent.parent.parent,
        timeout=COMMAND_S_MAX,
        check=False,
    )
    if result.returncode != 0:
        said = result.stderr.decode(errors="replace").strip()
        raise StepFailed(f"`python -m {module}` ended with {result.returncode}: {said[-2000:]}")
    return result.stdout.decode()


def get(url: str, *, missing_ok: bool = False) -> Any:
    """Return the JSON (or text) at a URL; None for an error status or no answer if `missing_ok`."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            raw = answer.read().decode()
    except (urllib.error.URLError, OSError) as error:
        if missing_ok:
            return None
        raise StepFailed(f"GET {url}: {error}") from error
    try:
        return json.loads(raw)
    except ValueError:
        return raw


def wait_for(
    what: str,
    check: Callable[[], Any],
    *,
    timeout_s: float = 30,
    blame: Callable[[], str] | None = None,
) -> Any:
    """Return the first truthy result of `check`, asked ten times a second.

    Raises:
        StepFailed: it did not come in time.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.1)
    raise StepFailed(f"waited {timeout_s:g} s for {what}" + (f":\n{blame()}" if blame else ""))


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody uses right now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
