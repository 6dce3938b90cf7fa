"""Real nodes that find each other through one, lose it, and come back without it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.crash_nodes import Member, member

pytestmark = pytest.mark.e2e
PATIENCE_S = 60.0


def peers(node: Member) -> dict[str, dict[str, Any]]:
    """Return whom a node is connected to, by id."""
    status, found = node.node.ask("GET", "/v1/peers")
    assert status == 200
    return {one["peer"]: one for one in found["items"]}


def id_of(node: Member) -> str:
    assert node.identity is not None
    return node.identity[0]


def address_of(node: Member) -> str:
    return f"/ip4/127.0.0.1/tcp/{node.p2p_port}/p2p/{id_of(node)}"


def until(holds: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s, f"not in {PATIENCE_S} s: {what}"
        time.sleep(0.05)  # another process: there is no event to wait for


def run(node: Member, *words: str) -> str:
    """Run a command of the operator's and return what it says."""
    return subprocess.run(
        [sys.executable, "-m", "node", *words, "--node", node.url, "--data-dir", str(node.folder)],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip


@pytest.fixture
def town(tmp_path: Path) -> Iterator[dict[str, Member]]:
    rng = random.Random()
    nodes = {name: member(name, tmp_path / name, rng) for name in "abcn"}
    with ExitStack() as stack:
        stack.callback(lambda: [one.node.kill() for one in nodes.values() if one.process])
        yield nodes


def start(*nodes: Member, bootstrap: str = "") -> None:
    for one in nodes:
        one.bootstrap = bootstrap
    for one, spawned_s in [(one, one.spawn()) for one in nodes]:
        one.await_ready(spawned_s)


def test_a_node_that_knows_one_learns_of_others_and_returns_without_it(
    town: dict[str, Member],
) -> None:
    a, b, c, n = (town[name] for name in "abcn")
    start(a)
    start(b, c, bootstrap=address_of(a))
    until(lambda: {id_of(b), id_of(c)} <= set(peers(a)), "b and c are with a")
    start(n, bootstrap=address_of(a))
    until(lambda: {id_of(a), id_of(b), id_of(c)} <= set(peers(n)), "n knows all through a")
    found = peers(n)
    assert (found[id_of(a)]["found"], found[id_of(a)]["direction"]) == ("bootstrap", "out")
    assert {found[id_of(one)]["found"] for one in (b, c)} <= {"exchange", "inbound"}
    assert not any(one["anchor"] for one in found.values())

    a.node.kill()
    a.process = None
    until(lambda: set(peers(n)) == {id_of(b), id_of(c)}, "n keeps the others")

    n.stop()
    assert (n.folder / "peers.book").stat().st_mode & 0o777 == 0o600
    until(lambda: id_of(n) not in peers(b) and id_of(n) not in peers(c), "n is seen to be gone")
    start(n, bootstrap=address_of(a))
    until(lambda: {id_of(b), id_of(c)} <= set(peers(n)), "n is back without a")

    children = psutil.Process(n.node.process.pid).children()
    (child,) = [one for one in children if "node.network.child" in one.cmdline()]
    child.kill()
    n.node.said("network child ended")
    until(lambda: {id_of(b), id_of(c)} <= set(peers(n)), "n's next network child is back too")

    book = json.loads(run(n, "peers", "--known", "--json"))
    assert book["outbound_max"] == 8
    known = {one["peer"]: one for one in book["items"]}
    assert {id_of(a), id_of(b), id_of(c)} <= set(known)
    assert known[id_of(a)]["connected"] is False
    assert all(known[id_of(one)]["connected"] for one in (b, c))
    table = run(n, "peers", "--known")
    assert all(id_of(one)[-8:] in table for one in (a, b, c))
    shown = json.loads(run(n, "peers", "--json"))["items"]
    assert {one["group"] for one in shown if one["direction"] == "out"} <= {
        f"127.0.0.1:{one.p2p_port}" for one in (b, c)
    }


def test_a_broken_book_is_put_aside_and_a_denied_peer_stays_out(town: dict[str, Member]) -> None:
    a, b = town["a"], town["b"]
    start(a)
    a.stop()
    (a.folder / "peers.book").write_bytes(b"broken")
    start(a)
    a.node.said("peers file is broken")
    assert (a.folder / "peers.book.broken").read_bytes() == b"broken"
    start(b, bootstrap=address_of(a))
    until(lambda: id_of(b) in peers(a), "b is with a")
    a.stop()
    a.flags = [f"p2p.deny={id_of(b)}"]
    start(a)
    refused = subprocess.run(
        [sys.executable, "-m", "node", "peers", "--dial", address_of(b), "--node", a.url,
         "--data-dir", str(a.folder)], check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert refused.returncode != 0
    assert "p2p.deny" in refused.stderr
    assert not peers(a)
    assert json.loads(run(a, "peers", "--known", "--json"))["items"] == []
