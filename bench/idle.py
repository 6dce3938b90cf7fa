"""Nodes with peers and nothing to do: the CPU they take, and what their networks say all the same.

All are whole nodes, `hansa run`, on loopback, each connected to each; but for that their settings
are as delivered. CPU is that of a node and its network child. Bytes are what TCP carried on one
connection in both directions, as the kernel counts it (`ss`, of iproute2), without TCP's headers.
"""

from __future__ import annotations

import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from node.config import Settings
from tests.e2e.crash_nodes import Member, member

CONNECTED_S_MAX = 120.0
SETTLE_S = 20.0
"""After the last connection: what follows a start (identify, catch-up, first adverts) is over."""

SYNC_INTERVAL_S = Settings().storage.sync_interval_s
"""As delivered; nodes of the tests compare more often."""


def run(peers: int = 10, seconds: int = 60) -> dict[str, Any]:
    """Return a node's percent of one core, and bytes a second for each of its peers."""
    if shutil.which("ss") is None:
        raise RuntimeError("bench idle asks `ss` what connections carried; install iproute2")
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        rng = random.Random()
        nodes = [member(f"node-{k}", Path(scratch) / f"{k}", rng) for k in range(peers + 1)]
        stack.callback(_end, nodes)
        _start(nodes)
        time.sleep(SETTLE_S)
        ports = [one.p2p_port for one in nodes]
        cpu_s, carried = [_cpu_s(one) for one in nodes], _carried(ports)
        begun_s = time.monotonic()
        time.sleep(seconds)
        wall_s = time.monotonic() - begun_s
        used = [
            (main - main_before, child - child_before)
            for (main_before, child_before), (main, child) in zip(
                cpu_s, [_cpu_s(one) for one in nodes], strict=True
            )
        ]
        after = _carried(ports)
    kept = carried.keys() & after.keys()
    sent = sum(after[end] - carried[end] for end in kept)
    return {
        "peers": peers,
        "seconds": round(wall_s, 1),
        "cpu_percent": round(
            statistics.median(main + child for main, child in used) / wall_s * 100, 2
        ),
        "cpu_percent_child": round(statistics.median(child for _, child in used) / wall_s * 100, 2),
        "bytes_per_s": round(sent / (len(kept) / 2) / wall_s),
        "connections": len(kept) // 2,
    }


def _start(nodes: Sequence[Member]) -> None:
    """Start nodes one after the other, each connected to all before it."""
    addresses: list[str] = []
    for one in nodes:
        one.flags = ["p2p.outbound_count=0", f"storage.sync_interval_s={SYNC_INTERVAL_S}"]
        one.bootstrap = ",".join(addresses)
        one.ready_s_max = CONNECTED_S_MAX
        one.await_ready(one.spawn())
        assert one.identity is not None
        addresses.append(f"/ip4/127.0.0.1/tcp/{one.p2p_port}/p2p/{one.identity[0]}")
    until_s = time.monotonic() + CONNECTED_S_MAX
    while any(len(one.node.ask("GET", "/v1/peers")[1]["items"]) < len(nodes) - 1 for one in nodes):
        if time.monotonic() > until_s:
            raise RuntimeError(f"not everybody is connected after {CONNECTED_S_MAX} s")
        time.sleep(0.2)


def _end(nodes: Sequence[Member]) -> None:
    for one in nodes:
        if one.process is not None:
            one.process.kill()


def _cpu_s(one: Member) -> tuple[float, float]:
    """Return the seconds of CPU that a node's main process and its children have taken."""
    main = psutil.Process(one.node.process.pid)
    seconds = [times.user + times.system for times in (
        process.cpu_times() for process in (main, *main.children())
    )]  # fmt: skip
    return seconds[0], sum(seconds[1:])


def _carried(ports: Sequence[int]) -> dict[tuple[str, str], int]:
    """Return the bytes sent so far by each end of each connection to one of the ports."""
    told = subprocess.run(
        ["ss", "-Htin", "state", "established"], check=True, capture_output=True, text=True
    ).stdout
    found: dict[tuple[str, str], int] = {}
    # Each connection is a line with its two ends and a line with its counts, which is indented.
    for line, counts in re.findall(r"^(\S.*)\n(\s.*)$", told, re.MULTILINE):
        local, remote = line.split()[2:4]
        if {int(local.rpartition(":")[2]), int(remote.rpartition(":")[2])} & set(ports):
            sent = re.search(r"bytes_sent:(\d+)", counts)
            found[local, remote] = int(sent[1]) if sent else 0
    return found
