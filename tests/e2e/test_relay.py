"""Nodes behind NATs, each in a network namespace of its own, and what reaches them.

The NAT is the kernel's: who is inside may open connections, and nobody outside may. Nothing here
touches the machine's own network.
"""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crdt import Item, RecordKind
from node.client import Client, hand_in
from node.client.handing import texts
from registry import encode_record, validate
from tests.e2e.netns import inside, internet, missing
from tests.node.processes import NodeProcess
from tests.writers import Writer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(missing()), reason=missing() or "everything is there"),
]
PATIENCE_S = 120.0
P2P, PEER = 4001, 8421


@dataclass
class House:
    """A node and the namespace that it lives in."""

    name: str
    namespace: str
    folder: Path
    process: NodeProcess | None = None
    peer: str = ""

    def start(self, *flags: str) -> None:
        """Start the node and wait until it is ready."""
        with inside(self.namespace):
            self.process = NodeProcess(
                self.folder, f"p2p.listen=/ip4/0.0.0.0/tcp/{P2P}", "peer.host=0.0.0.0",
                f"peer.port={PEER}", "storage.sync_interval_s=1", *flags,
            ).ready()  # fmt: skip
            self.peer = self.process.ask("GET", "/v1/node")[1]["peer_id"]

    def ask(self, path: str) -> tuple[int, Any]:
        """Return the status and JSON of an answer."""
        assert self.process is not None
        with inside(self.namespace):
            return self.process.ask("GET", path)

    def peers(self) -> dict[str, dict[str, Any]]:
        """Return whom the node is connected to, by id."""
        status, found = self.ask("/v1/peers")
        assert status == 200
        return {one["peer"]: one for one in found["items"]}

    def publish(self, *items: Item) -> None:
        """Hand signed items to the node, as their creator would."""
        assert self.process is not None
        with inside(self.namespace), Client(f"http://127.0.0.1:{self.process.port}") as client:
            assert hand_in(client, texts(items)) == []

    def names(self) -> set[str]:
        """Return the names of the models that the node lists."""
        status, found = self.ask("/v1/models?limit=100")
        assert status == 200
        return {one["record"]["name"] for one in found["items"]}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the operator's."""
        assert self.process is not None
        with inside(self.namespace):
            return subprocess.run(
                [sys.executable, "-m", "node", *words, "--data-dir", str(self.folder),
                 "--node", f"http://127.0.0.1:{self.process.port}"],
                check=False, capture_output=True, text=True, timeout=60,
            )  # fmt: skip

    def kill(self) -> None:
        """End the node, whatever state it is in."""
        if self.process is not None and self.process.process.poll() is None:
            self.process.kill()


@dataclass
class World:
    """A public node and two behind NATs of their own."""

    public: House
    left: House
    right: House

    @property
    def bootstrap(self) -> str:
        """How the two find the public one."""
        return f"p2p.bootstrap=/ip4/11.1.0.1/tcp/{P2P}/p2p/{self.public.peer}"


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    keeps_ports = getattr(request, "param", True)
    with internet() as net, ExitStack() as stack:
        places = {
            "public": net.public("public", "11.1.0.1"),
            "left": net.behind_nat("left", "11.2.0.1", keeps_ports=keeps_ports),
            "right": net.behind_nat("right", "11.3.0.1", keeps_ports=keeps_ports),
        }
        houses = {name: House(name, place, tmp_path / name) for name, place in places.items()}
        for house in houses.values():
            stack.callback(house.kill)
        yield World(**houses)


def until(holds: Callable[[], object], what: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s, f"not in {PATIENCE_S} s: {what}"
        time.sleep(0.1)  # another process: there is no event to wait for


def model(who: Writer, slug: str) -> Item:
    return who.put(encode_record(validate(RecordKind.MODEL, {"name": slug})), slug=slug)


def all_agree(world: World) -> None:
    """Let a creator write at each node, and wait until every node has all of it."""
    houses = (world.public, world.left, world.right)
    for house in houses:
        who = Writer(f"creator at {house.name}")
        house.publish(who.genesis, model(who, f"made-{house.name}"))
    made = {f"made-{house.name}" for house in houses}
    for house in houses:
        until(lambda house=house: house.names() >= made, f"{house.name} lists {made}")


def nobody_gets_in(world: World) -> None:
    """Check that the NATs are such: no port of either is reached from outside."""
    for address in ("11.2.0.1", "11.3.0.1"):
        for port in (P2P, PEER):
            with inside(world.public.namespace), pytest.raises(OSError, match="timed out"):
                socket.create_connection((address, port), timeout=1.0).close()


def test_two_behind_nats_and_a_public_one_agree_without_any_relay(world: World) -> None:
    world.public.start()
    for house in (world.left, world.right):
        house.start(world.bootstrap)
    nobody_gets_in(world)
    until(lambda: len(world.public.peers()) == 2, "both are with the public one")
    all_agree(world)
    # They are told on by nobody, so neither knows an address of the other.
    known = json.loads(world.left.run("peers", "--known", "--json").stdout)["items"]
    assert world.right.peer not in {one["peer"] for one in known}


@pytest.mark.parametrize("world", [False], indirect=True, ids=["each connection another port"])
def test_two_behind_nats_that_cannot_be_punched_talk_through_a_relay(world: World) -> None:
    world.public.start("p2p.relay=true")
    for house in (world.left, world.right):
        house.start(world.bootstrap, "p2p.reserve=true")
    nobody_gets_in(world)
    for here, there in ((world.left, world.right), (world.right, world.left)):
        until(lambda here=here, there=there: there.peer in here.peers(), f"{here.name} has a peer")
        assert here.process is not None
        here.process.said("no hole punched", timeout_s=PATIENCE_S)
        # Its builds and calls do not come this way, and it says so.
        here.process.said("relays carry the log, not builds or calls")
    all_agree(world)
    for here, there in ((world.left, world.right), (world.right, world.left)):
        shown = here.peers()[there.peer]
        assert shown["address"].endswith(f"/p2p/{world.public.peer}/p2p-circuit")
        assert (shown["group"], shown["rtt_ms"] > 0) == ("p2p-circuit", True)
    known = json.loads(world.right.run("peers", "--known", "--json").stdout)["items"]
    assert world.left.peer in {one["peer"] for one in known}


def test_two_behind_nats_punch_holes_and_do_without_the_relay_from_then_on(world: World) -> None:
    world.public.start("p2p.relay=true")
    # Asking for what is missing is put off, so that what arrives was gossiped.
    quiet = ("p2p.reserve=true", "storage.sync_interval_s=300")
    for house in (world.left, world.right):
        house.start(world.bootstrap, *quiet)
    nobody_gets_in(world)
    outside = {world.left.peer: "11.2.0.1", world.right.peer: "11.3.0.1"}
    for here, there in ((world.left, world.right), (world.right, world.left)):
        direct = f"/ip4/{outside[there.peer]}/tcp/{P2P}"
        until(
            lambda here=here, there=there, direct=direct: (
                here.peers().get(there.peer, {}).get("address") == direct
            ),
            f"{here.name} is connected to {there.name} directly",
        )
    world.public.kill()
    until(lambda: list(world.left.peers()) == [world.right.peer], "only the other is left")
    for here, there in ((world.left, world.right), (world.right, world.left)):
        who, numbers = Writer(f"creator at {here.name}"), itertools.count()

        def is_gossiped(
            who: Writer = who, here: House = here, there: House = there, numbers=numbers
        ) -> bool:
            # Again and again: until there is a gossip stream on the new connection, nothing is sent
            # to the other, and what was missed would be asked for after 300 s.
            here.publish(who.genesis, model(who, f"made-{here.name}-{next(numbers)}"))
            return any(name.startswith(f"made-{here.name}") for name in there.names())

        until(is_gossiped, "something of it is gossiped")
