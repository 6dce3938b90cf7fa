"""What can be wrong when a whole node starts ends it with one clear line and its exit status."""

from __future__ import annotations

import socket
import sqlite3

import pytest

from node.keystore import make_key_file, write_secret
from node.storage import SCHEMA_FOLDER, open_database
from tests.node.processes import NodeProcess, free_port, running

pytestmark = pytest.mark.e2e

DATABASES = {"registry": "registry", "access": "access", "ledger": "ledger"}
PEER = "12D3KooWEaADYhzkmHJGkxijqb7YLhdpLMXJZfNfCMDjiXCFh4Bd"


def refused(folder, *flags):
    """Return the exit status and the one line of a node that does not start."""
    status, lines = NodeProcess(folder, *flags).ended()
    assert len(lines) == 1, lines
    assert "Traceback" not in lines[0]
    return status, lines[0]


@pytest.mark.parametrize(
    ("flag", "setting"),
    [
        ("api.port={port}", "api.port"),
        ("peer.port={port}", "peer.port"),
        ("p2p.listen=/ip4/127.0.0.1/tcp/{port}", "p2p.listen"),
    ],
)
def test_a_port_that_is_taken(tmp_path, flag, setting):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, line = refused(tmp_path / "a", flag.format(port=port))
    assert status == 8
    assert f"port {port}" in line
    assert f"set {setting}" in line


@pytest.mark.parametrize("name", DATABASES)
def test_a_store_newer_than_the_program(tmp_path, name):
    path = tmp_path / f"{name}.sqlite3"
    database = open_database(path, SCHEMA_FOLDER / DATABASES[name])
    database.execute("PRAGMA user_version = 99")
    database.close()
    status, line = refused(tmp_path)
    assert status == 10
    assert str(path) in line
    assert "version 99" in line
    assert "install a newer hansa" in line
    with sqlite3.connect(path) as after:
        assert after.execute("PRAGMA user_version").fetchone() == (99,)
    after.close()


@pytest.mark.parametrize("name", DATABASES)
def test_a_damaged_store(tmp_path, name):
    path = tmp_path / f"{name}.sqlite3"
    path.write_bytes(b"not a database " * 1000)
    status, line = refused(tmp_path)
    assert status == 11
    assert f"{path} is damaged" in line
    assert ("move it away" if name == "registry" else "from a backup") in line


def test_a_wrong_key_file(tmp_path):
    write_secret(tmp_path / "data/keys/node.key", b"s" * 32, make_key_file(tmp_path / "right"))
    make_key_file(tmp_path / "wrong")
    status, line = refused(tmp_path / "data", f"node.key_file={tmp_path / 'wrong'}")
    assert status == 12
    assert "node.key does not open with this key file" in line


def test_a_key_file_that_is_gone(tmp_path):
    write_secret(tmp_path / "keys/node.key", b"s" * 32, make_key_file(tmp_path / "right"))
    status, line = refused(tmp_path)
    assert status == 12
    assert "unlock.key, which unlocks the node's keys, is missing" in line


def test_a_setting_that_contradicts_another(tmp_path):
    port = free_port()
    status, line = refused(tmp_path, f"api.port={port}", f"peer.port={port}")
    assert status == 13
    assert f"both {port}" in line


def test_a_bootstrap_peer_that_is_away_is_said_once_and_stops_nothing(tmp_path):
    port = free_port()
    away = f"/ip4/127.0.0.1/tcp/{port}/p2p/{PEER}"
    with running(tmp_path, f"p2p.bootstrap={away}") as node:
        line = node.said("peer unreachable")
        assert "warning" in line
        assert str(port) in line
        node.said("ready")
        assert node.ask("GET", "/v1/models")[0] == 200
        status, lines = node.stop()
    assert status == 0
    assert len([one for one in lines if "peer unreachable" in one]) == 1
