"""Three nodes on loopback that know each other, until Ctrl-C: `make swarm`.

Each is an ordinary `hansa run` with a configuration file, a data folder and free ports of its own,
all under one temporary folder that is removed at the end.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from examples.demo.processes import Node, StepFailed, get

NAMES = ("a", "b", "c")
LOOK_EVERY_S = 3.0
COLUMNS = ("node", "state", "peers", "in step", "records", "accounts", "offers", "uptime")


def main() -> int:
    """Run the swarm until it is told to stop; return the process's exit status."""
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, _interrupt)
    with tempfile.TemporaryDirectory(prefix="hansa-swarm-") as folder:
        nodes: list[Node] = []
        try:
            for name in NAMES:
                _start(console, name, Path(folder), nodes)
            _introduce(console, nodes)
            _watch(console, nodes)
        except KeyboardInterrupt:
            console.print("\nStopping")
        except StepFailed as error:
            console.print(f"swarm: {error}", style="red", markup=False)
            return 1
        finally:
            failed = _stop(console, nodes)
    return 1 if failed else 0


def _start(console: Console, name: str, folder: Path, nodes: list[Node]) -> None:
    """Add one more node, which dials those there are, and return once it is ready."""
    node = Node(name, folder / name, bootstrap=[_address(one) for one in nodes])
    node.configure()
    # Listed before it is started, so that an interrupt meanwhile stops it too.
    nodes.append(node)
    console.print(f"Starting node {name}", style="dim")
    node.start()


def _address(node: Node) -> str:
    return str(get(f"{node.url}/v1/node")["addresses"][0])


def _introduce(console: Console, nodes: Sequence[Node]) -> None:
    """Say where each node is, and what to type to use them."""
    first, *_, last = nodes
    console.print()
    for node in nodes:
        console.print(f"  {node.name}  {node.url}   try it: {node.url}/docs")
    console.print(f"\nFiles: {first.folder.parent} (removed at the end)", soft_wrap=True)
    for line in (
        "Try, in another terminal:",
        "  hansa account create me --network demo",
        f"  hansa models create --set name='My model' --node {first.url}",
        f"  hansa models search model --node {last.url}",
        "Ctrl-C stops all of them.\n",
    ):
        console.print(line, soft_wrap=True)


def _watch(console: Console, nodes: Sequence[Node]) -> None:
    """Show the nodes' status over and over; it ends only by an interrupt."""
    if not console.is_terminal:
        while True:
            console.print(_table(nodes))
            time.sleep(LOOK_EVERY_S)
    with Live(_table(nodes), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(LOOK_EVERY_S)
            live.update(_table(nodes), refresh=True)


def _table(nodes: Sequence[Node]) -> Table:
    shown = Table(*COLUMNS, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in shown.columns[2:]:
        column.justify = "right"
    for node in nodes:
        shown.add_row(node.name, *_row(node))
    return shown


def _row(node: Node) -> list[str]:
    """Return what a node says of itself; dashes when it does not answer."""
    try:
        said: dict[str, Any] = get(f"{node.url}/v1/node")
        sync: list[dict[str, Any]] = get(f"{node.url}/v1/sync")["items"]
        offers: list[object] = get(f"{node.url}/v1/offers")["items"]
    except StepFailed:
        assert node.process is not None
        state = "no answer" if node.process.poll() is None else "[red]ended[/]"
        return [state, *("–" for _ in COLUMNS[2:])]
    counts: dict[str, int] = said["counts"]
    records = counts.get("models", 0) + counts.get("agents", 0)
    return [
        "[green]ready[/]",
        str(said["peers"]),
        f"{sum(bool(one['synced']) for one in sync)} of {len(sync)}",
        str(records),
        str(counts.get("accounts", 0)),
        str(len(offers)),
        f"{max(0.0, _now_s() - said['started_at']):.0f} s",
    ]


def _stop(console: Console, nodes: Sequence[Node]) -> list[str]:
    """Stop every node and return those that did not stop as they should."""
    failed: list[str] = []
    with _uninterrupted():
        for node in reversed(nodes):
            if node.process is None:
                continue
            try:
                node.stop()
            except StepFailed as error:
                failed.append(node.name)
                console.print(f"swarm: {error}", style="red", markup=False)
            else:
                console.print(f"Node {node.name} stopped", style="dim")
    return failed


@contextlib.contextmanager
def _uninterrupted() -> Generator[None, None, None]:
    """Let nothing but SIGKILL break off the stopping: no process may be left behind."""
    before = {one: signal.signal(one, signal.SIG_IGN) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _now_s() -> float:
    return time.time()  # noqa: TID251 - an example is an edge


if __name__ == "__main__":
    sys.exit(main())
