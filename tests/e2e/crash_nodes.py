"""Real nodes that are killed: how one is started, ended at a chosen moment, and what it leaves."""

from __future__ import annotations

import fcntl
import os
import random
import select
import signal
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.node.processes import READY_S, NodeProcess

PORTS = range(20_000, 32_000)
"""Below the ports that systems lend to connections: another process would take a killed node's."""
CHILD_END_S_MAX = 10.0


@dataclass
class Corpse:
    """What a kill left: handles of the network children, and when it happened."""

    children: dict[int, int]
    killed_at_s: float
    child_s: float = 0.0

    def buried(self, timeout_s: float = CHILD_END_S_MAX) -> float:
        """Wait until every child has ended and return how long the last one outlived its node."""
        while self.children:
            left_s = max(0.0, self.killed_at_s + timeout_s - time.monotonic())
            ended = select.select(self.children.values(), [], [], left_s)[0]
            assert ended, f"network child {sorted(self.children)} outlived its node {timeout_s} s"
            self.child_s = time.monotonic() - self.killed_at_s
            for pid, handle in list(self.children.items()):
                if handle in ended:
                    os.close(handle)
                    del self.children[pid]
        return self.child_s


@dataclass
class Member:
    """One node of a crash world: its folder and ports stay, its processes come and go."""

    name: str
    folder: Path
    api_port: int
    p2p_port: int
    peer_port: int
    bootstrap: str = ""
    flags: list[str] = field(default_factory=list)
    process: NodeProcess | None = None
    identity: tuple[str, str] | None = None
    start_s: list[float] = field(default_factory=list)
    ready_s_max: float = READY_S

    @property
    def url(self) -> str:
        """Where the node's API answers."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def node(self) -> NodeProcess:
        """The running process."""
        assert self.process is not None, f"node {self.name} does not run"
        return self.process

    def spawn(self) -> float:
        """Start the process without waiting for anything; return the moment."""
        flags = [
            f"api.port={self.api_port}", f"p2p.listen=/ip4/127.0.0.1/tcp/{self.p2p_port}",
            f"peer.port={self.peer_port}", "storage.sync_interval_s=1",
        ]  # fmt: skip
        flags += self.flags
        if self.bootstrap:
            flags.append(f"p2p.bootstrap={self.bootstrap}")
        self.process = NodeProcess(self.folder, *flags)
        return time.monotonic()

    def await_ready(self, spawned_s: float) -> None:
        """Wait until the node is ready, and check that it is the one it has always been."""
        self.node.ready(timeout_s=self.ready_s_max)
        self.start_s.append(time.monotonic() - spawned_s)
        _status, said = self.node.ask("GET", "/v1/node")
        identity = (said["peer_id"], said["operator_account"])
        assert self.identity in {None, identity}, f"node {self.name} became another: {said}"
        self.identity = identity

    def kill(self, rng: random.Random, *, everything: bool) -> Corpse:
        """End the main process with SIGKILL, and its children too if `everything`, in any order.

        The main process is stopped for a moment first, so that the children listed are all.
        """
        node, self.process = self.node, None
        pid = node.process.pid
        assert node.process.poll() is None, f"node {self.name} ended by itself: {node.lines}"
        os.kill(pid, signal.SIGSTOP)
        children = {child: os.pidfd_open(child) for child in _children(pid)}
        victims = [pid, *(children if everything else ())]
        rng.shuffle(victims)
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        corpse = Corpse(children, time.monotonic())
        status, lines = node.ended()
        assert status == -signal.SIGKILL, (status, lines)
        return corpse

    def stop(self) -> None:
        """Ask the node to stop and check that it does so in order."""
        node, self.process = self.node, None
        status, lines = node.stop()
        assert status == 0, (status, lines)

    def leaves_nothing_behind(self) -> None:
        """Check that neither the folder's lock nor a port is held once all processes ended."""
        if (self.folder / "lock").exists():
            with (self.folder / "lock").open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for port in (self.api_port, self.p2p_port, self.peer_port):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))


def member(name: str, folder: Path, rng: random.Random) -> Member:
    """Return a node that is not started yet, with three ports that nobody uses."""
    api_port, p2p_port, peer_port = _free_ports(rng, 3)
    return Member(name, folder, api_port, p2p_port, peer_port)


def _free_ports(rng: random.Random, count: int) -> Iterable[int]:
    found: list[int] = []
    while len(found) < count:
        port = rng.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def _children(pid: int) -> list[int]:
    return sorted(
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    )
