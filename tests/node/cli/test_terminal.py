"""The command line with a person at it: passphrases, Ctrl-C, progress, completion."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.node.cli.terminal import CTRL_C, hansa

pytestmark = pytest.mark.slow

FIRST, AGAIN, RIGHT = "Passphrase of the new account", "The same again", "correct horse battery"
BUILD = "ab" * 32


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {
        "HANSA_ACCOUNTS_DIR": str(tmp_path / "accounts"),
        "HANSA_NODE__DATA_DIR": str(tmp_path / "node"),
        "HANSA_NODE": "http://127.0.0.1:1",
    }


def create(env: dict[str, str], passphrase: str, again: str) -> tuple[int, str]:
    with hansa("account", "create", "ada", env=env) as terminal:
        terminal.wait_for(FIRST)
        terminal.type(passphrase + "\n")
        terminal.wait_for(AGAIN)
        terminal.type(again + "\n")
        return terminal.end(), terminal.seen


def test_a_passphrase_is_asked_twice_never_shown_and_opens_the_account(
    env: dict[str, str],
) -> None:
    status, seen = create(env, RIGHT, RIGHT)
    assert status == 0, seen
    assert "Account ada is made" in seen
    assert RIGHT not in seen
    for typed, expected, said in ((RIGHT, 7, "no node answers"), ("wrong", 12, "does not open")):
        with hansa("models", "create", "-s", "name=X", env=env) as terminal:
            terminal.wait_for("Passphrase of ada")
            terminal.type(typed + "\n")
            assert (terminal.end(), said in terminal.seen) == (expected, True), terminal.seen
            assert typed not in terminal.seen


def test_two_passphrases_that_differ_make_nothing(env: dict[str, str]) -> None:
    status, seen = create(env, RIGHT, "another")
    assert status == 2
    assert "the two passphrases differ" in seen
    assert not list(Path(env["HANSA_ACCOUNTS_DIR"]).glob("*"))


def test_ctrl_c_at_the_passphrase_ends_with_one_line_and_130(env: dict[str, str]) -> None:
    with hansa("account", "create", "ada", env=env) as terminal:
        terminal.wait_for(FIRST)
        terminal.type(CTRL_C)
        assert terminal.end() == 130
    assert terminal.seen.count("\nhansa: stopped by Ctrl-C") == 1
    assert "Traceback" not in terminal.seen
    assert not list(Path(env["HANSA_ACCOUNTS_DIR"]).glob("*"))


def test_work_for_admission_shows_how_long_it_takes_and_ctrl_c_leaves_nothing(
    env: dict[str, str], tmp_path: Path
) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text(RIGHT + "\n")
    words = ("account", "create", "ada", "--network", "test:work=30")
    with hansa(*words, "--passphrase-file", str(passphrase), env=env) as terminal:
        terminal.wait_for("Working for admission")
        terminal.wait_for("in the mean")
        assert "━" in terminal.seen, "a terminal shows a bar"
        terminal.type(CTRL_C)
        assert terminal.end() == 130
    assert terminal.seen.count("\nhansa: stopped by Ctrl-C") == 1
    assert "Traceback" not in terminal.seen
    assert not list(Path(env["HANSA_ACCOUNTS_DIR"]).glob("*"))


@contextmanager
def endless_node(event: str) -> Generator[str, None, None]:
    """A node that begins every long work, reports one step and says nothing more."""
    server = socket.create_server(("127.0.0.1", 0))
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    missing = '{"code": "unknown-record", "title": "x", "status": 404, "detail": "no such record"}'
    absent = (
        "HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(missing)}\r\n\r\n{missing}"
    )
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            held.append(client)
            threading.Thread(target=talk, args=(client,), daemon=True).start()

    def talk(client: socket.socket) -> None:
        while raw := client.recv(65536):
            if raw.startswith(b"POST"):
                client.sendall(f"{head}event: progress\ndata: {event}\n\n".encode())
                return
            client.sendall(absent.encode())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for client in held:
            client.close()
        thread.join(10)


FETCHING = (
    '{"digest": "ab", "phase": "fetching", "bytes_verified": 1048576, "bytes_total": 4194304,'
    ' "bytes_per_s": 1048576, "holder": "12D3KooWAAAABBBB", "seconds_left": 3}'
)
STARTING = '{"record": "ab", "step": "starting", "text": "starting vLLM", "done": 0, "total": 0}'


@pytest.mark.parametrize(
    ("words", "event", "shown"),
    [
        (["fetch", BUILD], FETCHING, "25%"),
        (["serve", BUILD], STARTING, "starting vLLM"),
    ],
)
def test_ctrl_c_in_the_middle_of_long_work_on_the_node(
    env: dict[str, str], words: list[str], event: str, shown: str
) -> None:
    token = Path(env["HANSA_NODE__DATA_DIR"]) / "operator.token"
    token.parent.mkdir()
    token.write_text("token\n")
    with endless_node(event) as url, hansa(*words, "--node", url, env=env) as terminal:
        terminal.wait_for(shown)
        assert "━" in terminal.seen, "a terminal shows a bar"
        terminal.type(CTRL_C)
        assert terminal.end() == 130
    assert terminal.seen.count("\nhansa: stopped by Ctrl-C") == 1


def test_ctrl_c_while_waiting_for_a_node(env: dict[str, str]) -> None:
    with hansa("sync", "status", "--wait", env=env) as terminal:
        terminal.wait_for("Waiting for the node")
        terminal.type(CTRL_C)
        assert terminal.end() == 130
    assert terminal.seen.count("\nhansa: stopped by Ctrl-C") == 1


def test_ctrl_c_in_the_middle_of_a_build(env: dict[str, str], tmp_path: Path) -> None:
    key = tmp_path / "unlock"
    key.write_bytes(bytes(32))
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(64 << 30)
    env = {**env, "HANSA_KEY_FILE": str(key)}
    with hansa("account", "create", "ada", env=env) as terminal:
        assert terminal.end() == 0, terminal.seen
    with hansa("build", str(tmp_path / "weights.bin"), "--no-upload", env=env) as terminal:
        terminal.wait_for("of 64.0 GiB")
        terminal.type(CTRL_C)
        assert terminal.end() == 130
    assert terminal.seen.count("\nhansa: stopped by Ctrl-C") == 1


COMPLETE = """
source <(hansa --show-completion)
COMP_WORDS=(hansa mod); COMP_CWORD=1; _hansa_completion hansa; echo "${COMPREPLY[@]}"
COMP_WORDS=(hansa models sh); COMP_CWORD=2; _hansa_completion hansa; echo "${COMPREPLY[@]}"
"""


def test_bash_completes_groups_and_commands() -> None:
    folder = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE],
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.split() == ["models", "show"]
