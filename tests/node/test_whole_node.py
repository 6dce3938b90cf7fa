"""What a whole node owes whoever it acknowledged: through a full disk, SIGTERM and SIGKILL."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

from crdt import SigningKey, make_genesis, network_id
from node.api.declared import declared_routes
from node.api.openapi import openapi_document
from node.signing import to_header
from tests.node.processes import NodeProcess, running

pytestmark = pytest.mark.e2e
TEST = network_id("test")
NO_LIMIT = resource.RLIM_INFINITY


def genesis(number):
    """Return the genesis of the test's account of a number."""
    root, recovery = SigningKey(number.to_bytes(32)), SigningKey((number + 10_000).to_bytes(32))
    return make_genesis(TEST, root, recovery.public)


def introduce(node, number):
    """Ask a node to take an account, which is a durable write; return status and answer."""
    return node.ask("POST", "/v1/accounts", {"genesis": to_header(genesis(number).raw)})


def has(node, number):
    """Return whether a node shows an account."""
    return node.ask("GET", f"/v1/accounts/{genesis(number).id.hex()}")[0] == 200


class SmallDisk:
    """A file system of a few MiB where root may mount one, else a bound on each file's size."""

    def __init__(self, folder, size):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
        self.mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0

    def fill(self, node):
        """Leave no room."""
        if not self.mounted:
            resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (0, NO_LIMIT))
            return
        with (self.folder / "filler").open("wb", buffering=0) as file:
            for piece in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"x" * piece)
                except OSError:
                    continue

    def free(self, node):
        """Make room again."""
        if self.mounted:
            (self.folder / "filler").unlink()
        else:
            resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (NO_LIMIT, NO_LIMIT))

    def close(self):
        """Take the file system away."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path):
    """A small disk, 24 MiB or as the test's `size` says."""
    made = SmallDisk(tmp_path / "disk", "24m")
    yield made
    made.close()


def test_a_disk_that_is_full_at_the_start_is_one_line(tmp_path):
    small = SmallDisk(tmp_path / "disk", "64k")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if not small.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
        node = NodeProcess(small.folder / "data")
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        status, lines = node.ended()
    finally:
        small.close()
    assert (status, len(lines)) == (9 if small.mounted else 11, 1), lines
    assert ("no space is left" if small.mounted else str(small.folder)) in lines[0]


def test_a_full_disk_refuses_writes_loses_nothing_and_goes_on_reading(disk):
    with running(disk.folder / "data") as node:
        acknowledged = [number for number in range(1, 6) if introduce(node, number)[0] == 201]
        assert len(acknowledged) == 5
        disk.fill(node)
        refusals = 0
        for number in range(100, 400):
            status, said = introduce(node, number)
            if status == 201:  # there was room in a page that was allocated already
                acknowledged.append(number)
                continue
            refusals += 1
            assert status == (507 if disk.mounted else said["status"])
            assert said["code"] == ("storage-full" if disk.mounted else "storage-fault")
            assert str(disk.folder) in said["detail"]
            assert not has(node, number)
            if refusals == 3:
                break
        assert refusals == 3
        assert all(has(node, number) for number in acknowledged)
        assert node.ask("GET", "/v1/models?q=anything")[0] == 200
        assert node.ask("GET", "/readyz")[0] == 200
        disk.free(node)
        assert introduce(node, 1000)[0] == 201
        acknowledged.append(1000)
        assert node.stop()[0] == 0
    with running(disk.folder / "data") as node:
        assert all(has(node, number) for number in acknowledged)


def test_a_kill_right_after_an_acknowledged_write_loses_nothing(tmp_path):
    for number in (1, 2, 3):
        with running(tmp_path) as node:
            assert introduce(node, number)[0] == 201
            node.kill()
    with running(tmp_path) as node:
        assert all(has(node, number) for number in (1, 2, 3))


def test_sigterm_lets_a_write_that_has_begun_end_and_closes_streams_whole(tmp_path):
    with running(tmp_path) as node:
        url = f"http://127.0.0.1:{node.port}/v1/offers/events"
        with (
            urllib.request.urlopen(url, timeout=20) as stream,
            socket.create_connection(("127.0.0.1", node.port), timeout=20) as slow,
        ):
            body = b'{"genesis": "' + to_header(genesis(7).raw).encode() + b'"}'
            slow.sendall(
                b"POST /v1/accounts HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body[:20]
            )
            assert node.ask("GET", "/healthz")[0] == 200  # by now the half request was read
            node.process.send_signal(signal.SIGTERM)
            node.said("stopping")
            slow.sendall(body[20:])
            assert slow.recv(65536).startswith(b"HTTP/1.1 201 ")
            # It ends as chunked bodies do; a cut one would raise IncompleteRead.
            assert b'"stopping"' in stream.read()
        assert node.ended(timeout_s=15)[0] == 0
    with running(tmp_path) as node:
        assert has(node, 7)
        _, served = node.ask("GET", "/openapi.json")
        declared = openapi_document(declared_routes(), version="", url="")
        assert sorted(served["paths"]) == sorted(declared["paths"])


def test_the_network_child_ends_with_a_killed_node(tmp_path):
    with running(tmp_path) as node:
        folder = Path(f"/proc/{node.process.pid}/task")
        children = [
            int(child)
            for task in folder.iterdir()
            for child in (task / "children").read_text().split()
        ]
        assert children
        handles = [os.pidfd_open(child) for child in children]
        node.kill()
        for handle in handles:
            assert select.select([handle], [], [], 10)[0], "the child outlived its node"
            os.close(handle)
