"""A whole node as its own process: it starts, answers, refuses a second one, and stops clean."""

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

import pytest

pytestmark = pytest.mark.e2e


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def start(folder, port):
    flags = (
        f"api.port={port}", "peer.host=127.0.0.1", "peer.port=0", "node.network=test",
        "p2p.listen=/ip4/127.0.0.1/tcp/0",
    )  # fmt: skip
    words = [word for flag in flags for word in ("--set", flag)]
    return subprocess.Popen(
        [sys.executable, "-m", "node", "run", "--data-dir", str(folder), *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={name: value for name, value in os.environ.items() if "HANSA" not in name},
    )  # fmt: skip


def ready(node, port):
    for _ in range(300):
        assert node.poll() is None, node.communicate()[1]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                return json.load(answer)["status"]
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)  # another process: there is no event to wait for
    raise AssertionError("not ready in 30 s")


def test_a_node_starts_keeps_its_identity_and_stops(tmp_path):
    identities = []
    for _ in range(2):
        port = free_port()
        node = start(tmp_path / "a", port)
        try:
            assert ready(node, port) == "ready"
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/node", timeout=5) as answer:
                identities.append(json.load(answer)["peer_id"])
            second = start(tmp_path / "a", free_port())
            _, said = second.communicate(timeout=30)
            assert (second.returncode, len(said.strip().splitlines())) == (11, 1)
            assert "another node uses" in said
            third = start(tmp_path / "b", port)
            _, said = third.communicate(timeout=30)
            assert third.returncode == 8
            assert "set api.port" in said
        finally:
            node.send_signal(signal.SIGTERM)
            out, _ = node.communicate(timeout=15)
        assert node.returncode == 0
        assert identities[0] in out
    assert identities[0] == identities[1]
