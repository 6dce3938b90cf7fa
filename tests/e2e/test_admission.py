"""Real nodes on a network that asks for work, one that was told another rule, and people."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crdt import (
    SigningKey,
    WorkRule,
    is_good_stamp,
    make_genesis,
    parse_network,
    stamp_bytes,
)
from node.client import AccountFolder
from node.keystore import passphrase_from_file, write_secret
from node.signing import to_header
from tests.node.processes import NodeProcess, running

pytestmark = pytest.mark.e2e

RULED, OTHER_RULE = "test:work=4", "test:work=3"
PATIENCE_S = 60


def until(holds: Callable[[], bool], what: str) -> None:
    """Ask other processes until something is so."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.05)  # another process: there is no event to wait for


class Person:
    """Somebody at a command line, with accounts of their own."""

    def __init__(self, folder: Path, node: NodeProcess) -> None:
        folder.mkdir(parents=True)
        self.accounts = AccountFolder(folder / "accounts")
        self.passphrase_file = folder / "passphrase"
        self.passphrase_file.write_text("open sesame\n")
        self._env = {name: value for name, value in os.environ.items() if "HANSA" not in name} | {
            "HANSA_ACCOUNTS_DIR": str(self.accounts.path),
            "HANSA_NODE": f"http://127.0.0.1:{node.port}",
            "HANSA_PASSPHRASE_FILE": str(self.passphrase_file),
        }

    def hansa(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Run a command; return its exit status and the one JSON document that it wrote."""
        ran = subprocess.run(
            [sys.executable, "-m", "node", *words, "--json"],
            env=self._env, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert not (ran.stdout and ran.stderr), ran
        return ran.returncode, json.loads(ran.stdout or ran.stderr)

    def cheat(self, name: str, network: str) -> None:
        """Make an account whose genesis has a stamp that does not do the work."""
        unlock = passphrase_from_file(self.passphrase_file)
        self.accounts.create(
            name, network, random_bytes=secrets.token_bytes, find_stamp=false_stamp,
            lock=lambda path, secret: write_secret(path, secret, unlock, log2_n=10),
        )  # fmt: skip


def false_stamp(challenge: bytes, rule: WorkRule) -> bytes:
    """Return a stamp that does not do the work, not even by luck."""
    return next(
        stamp for stamp in map(stamp_bytes, range(99))
        if not is_good_stamp(challenge, stamp, rule.bits)
    )  # fmt: skip


@dataclass
class World:
    """Nodes a and b on one network, c on the same name with another rule, all told of a."""

    a: NodeProcess
    b: NodeProcess
    c: NodeProcess


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        a = stack.enter_context(running(tmp_path / "a", f"node.network={RULED}"))
        told = f"p2p.bootstrap={a.ask('GET', '/v1/node')[1]['addresses'][0]}"
        b = stack.enter_context(running(tmp_path / "b", f"node.network={RULED}", told))
        c = stack.enter_context(running(tmp_path / "c", f"node.network={OTHER_RULE}", told))
        yield World(a, b, c)


def operator(node: NodeProcess) -> str | None:
    found: str | None = node.ask("GET", "/v1/node")[1]["operator_account"]
    return found


def knows(node: NodeProcess, account: str) -> bool:
    return node.ask("GET", f"/v1/accounts/{account}")[0] == 200


def test_work_admits_and_nothing_else_does(world: World, tmp_path: Path) -> None:
    for node in (world.a, world.b, world.c):
        until(lambda one=node: operator(one) is not None, "the operator is admitted")  # type: ignore[misc]
    until(lambda: knows(world.b, str(operator(world.a))), "a's operator is known at b")

    # An account without work is refused, with a line that says what to do.
    keys = SigningKey(secrets.token_bytes(32)), SigningKey(secrets.token_bytes(32))
    unstamped = make_genesis(parse_network(RULED).id, keys[0], keys[1].public)
    status, problem = world.a.ask("POST", "/v1/accounts", {"genesis": to_header(unstamped.raw)})
    assert (status, problem["code"]) == (403, "not-admitted"), problem
    assert "no admission stamp" in problem["detail"]
    assert "make the account for this network, with `hansa account create`" in problem["detail"]

    # So is one with a false stamp, when it writes.
    ann = Person(tmp_path / "ann", world.a)
    ann.cheat("ann", RULED)
    status, said = ann.hansa("models", "create", "-s", "name=Thing")
    assert status == 5, said
    assert "does not do 4 bits of work for its keys" in json.dumps(said)

    # One of the open network of that name is for another network; that is said before it is sent.
    bob = Person(tmp_path / "bob", world.a)
    assert bob.hansa("account", "create", "bob", "--network", "test")[0] == 0
    status, said = bob.hansa("models", "create", "-s", "name=Thing")
    assert status != 0
    assert f"hansa account create NAME --network {RULED}" in json.dumps(said)

    # With the work done it is admitted, and replicated with what it wrote.
    cid = Person(tmp_path / "cid", world.a)
    status, made = cid.hansa("account", "create", "cid", "--network", RULED)
    assert (status, made["network"]) == (0, RULED), made
    status, record = cid.hansa("models", "create", "-s", "name=Thing")
    assert status == 0, record
    id_ = record["model_id"]
    until(lambda: world.b.ask("GET", f"/v1/models/{id_}")[0] == 200, "the record is at b")
    assert knows(world.b, made["account"])

    # Who was told another rule is on another network: they meet, and have nothing to say.
    world.c.said("peer is none of this network")
    assert world.c.ask("GET", "/v1/node")[1]["counts"]["accounts"] == 1, "its own operator's"
    for node in (world.a, world.b):
        assert not knows(node, str(operator(world.c)))
        assert not knows(node, unstamped.id.hex())
        assert not knows(node, ann.accounts.card("ann").account.hex())


def test_a_node_serves_reads_while_it_works_and_is_admitted_as_the_same_ever_after(
    tmp_path: Path,
) -> None:
    hard, flags = "node.network=test:work=32", ("log.level=info",)
    with running(tmp_path / "hard", hard, *flags) as node:
        said = node.ask("GET", "/v1/node")[1]
        assert (said["operator_account"], said["network"]) == (None, "test:work=32")
        assert node.ask("GET", "/v1/models?limit=1")[0] == 200
        until(lambda: bool(node.ask("GET", "/v1/node")[1]["admission_s"]), "its speed is measured")
        told = subprocess.run(
            [sys.executable, "-m", "node", "status", "--node", f"http://127.0.0.1:{node.port}"],
            capture_output=True, text=True, timeout=PATIENCE_S, check=True,
        ).stdout  # fmt: skip
        assert "working for its admission" in " ".join(told.split())
        status, lines = node.stop()
        assert status == 0, lines
    with running(tmp_path / "soft", f"node.network={RULED}") as node:
        until(lambda: operator(node) is not None, "it is admitted")
        first = operator(node)
        node.kill()
    with running(tmp_path / "soft", f"node.network={RULED}") as node:
        assert operator(node) == first, "at once"
        assert knows(node, str(first))
