"""Nodes on machines of their own, with slow and lossy links between them: they part and meet.

The machines are network namespaces (`namespaces.py`), so the kernel's own TCP meets the delay and
the loss. Skipped, with the reason, where none can be made.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.crash_load import LoadWriter, Notes
from tests.e2e.crash_nodes import Member
from tests.e2e.namespaces import Host, Impairment, Kind, Lan, has_netem, why_not
from tests.e2e.store_audit import ids_in
from tests.writers import Writer

pytestmark = pytest.mark.e2e
SLOW_AND_LOSSY = Impairment(delay_s=0.05, loss=0.02)
PATIENCE_S = 90.0
WRITTEN_COUNT = 25


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    if reason := why_not():
        pytest.skip(f"network namespaces: {reason}")


def until(holds: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s, f"not in {PATIENCE_S} s: {what}"
        time.sleep(0.1)  # other processes: there is no event to wait for


def names_left() -> list[str]:
    told = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True)
    return [line for line in told.stdout.splitlines() if line.startswith(f"hansa-{os.getpid()}-")]


def round_trip_s(one: Host, two: Host) -> float:
    """Return how long one byte and its answer take on an open connection."""
    server = two.run(lambda: socket.create_server((two.address, 0)))
    client = one.run(lambda: socket.create_connection(server.getsockname(), timeout=20))
    with server, client, server.accept()[0] as answering:
        began_s = time.monotonic()
        client.sendall(b"?")
        answering.sendall(answering.recv(1))
        assert client.recv(1) == b"?"
        return time.monotonic() - began_s


@pytest.mark.parametrize("kind", ["emulated", "plain", "netem"])
def test_links_carry_what_they_should_as_late_as_they_should(kind: Kind) -> None:
    if kind == "netem" and not has_netem():
        pytest.skip("this kernel has no netem")
    impairment = Impairment() if kind == "plain" else Impairment(delay_s=0.05)
    with Lan(2, impairment, kind=kind) as lan:
        one, two = lan.hosts
        assert round_trip_s(one, two) >= 2 * impairment.delay_s
        two.set_link(up=False)
        server = two.run(lambda: socket.create_server((two.address, 0)))
        with server, pytest.raises(TimeoutError):
            one.run(lambda: socket.create_connection(server.getsockname(), timeout=0.5))
        two.set_link(up=True)
        assert round_trip_s(one, two) >= 2 * impairment.delay_s
        assert one.run(_reaches_outside) is False, "no way leads out"
    assert names_left() == []


def _reaches_outside() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET: sends nothing, asks for a route only
        except OSError:
            return False
        return True


def test_all_is_lost_where_all_is_to_be_lost() -> None:
    with Lan(2, Impairment(loss=1.0), kind="emulated") as lan:
        one, two = lan.hosts
        server = two.run(lambda: socket.create_server((two.address, 0)))
        with server, pytest.raises(TimeoutError):
            one.run(lambda: socket.create_connection(server.getsockname(), timeout=0.5))


class WriterInside(LoadWriter):
    """A creator on the machine of the node that is written to."""

    def __init__(self, host: Host, member: Member, notes: Notes) -> None:
        super().__init__(
            member.url, Writer(f"creator at {member.name}"), random.getrandbits(64), notes,
            pause_s_max=0.1,
        )  # fmt: skip
        self._host = host

    def run(self) -> None:
        """Write, from there."""
        self._host.enter()
        super().run()


@pytest.fixture
def town(tmp_path: Path) -> Iterator[list[tuple[Host, Member]]]:
    """Three nodes that run, each in a namespace; the second and third dial the first."""
    with Lan(3, SLOW_AND_LOSSY) as lan:
        town: list[tuple[Host, Member]] = []
        try:
            for number, host in enumerate(lan.hosts):
                one = Member(f"n{number}", tmp_path / f"n{number}", 8420, 4001, 8421)
                one.flags = [f"p2p.listen=/ip4/{host.address}/tcp/4001"]
                if town:
                    first = town[0][1]
                    assert first.identity is not None
                    one.bootstrap = f"/ip4/{town[0][0].address}/tcp/4001/p2p/{first.identity[0]}"
                town.append((host, one))
                host.run(lambda one=one: one.await_ready(one.spawn()))  # type: ignore[misc]
            yield town
        finally:
            for _host, one in town:
                if one.process is not None and one.process.process.poll() is None:
                    one.process.kill()
    assert names_left() == []


def peer_count(host: Host, one: Member) -> int:
    return len(host.run(lambda: one.node.ask("GET", "/v1/peers"))[1]["items"])


def written_everywhere(town: list[tuple[Host, Member]], notes: Notes) -> None:
    """Let a creator write on each machine until each has some more writes acknowledged."""
    writers = [WriterInside(host, one, notes) for host, one in town]
    acknowledged = len(notes.acknowledged)
    for writer in writers:
        writer.start()
    until(lambda: len(notes.acknowledged) >= acknowledged + WRITTEN_COUNT, "creators write")
    for writer in writers:
        writer.stop.set()
    for writer in writers:
        writer.join()
        assert writer.lost is None
    assert not notes.complaints


def agree(town: list[tuple[Host, Member]], notes: Notes) -> bool:
    held = {ids_in(one.folder) for _host, one in town}
    return len(held) == 1 and held.pop() >= notes.acknowledged.keys()


def test_nodes_on_slow_and_lossy_links_agree_after_a_part(town: list[tuple[Host, Member]]) -> None:
    notes = Notes()
    until(lambda: all(peer_count(host, one) == 2 for host, one in town), "all are connected")
    written_everywhere(town, notes)
    until(lambda: agree(town, notes), "all hold what was written")

    (far_host, far), *near = town[2], *town[:2]
    far_host.set_link(up=False)
    until(lambda: peer_count(far_host, far) == 0, "the far one sees that it is alone")
    until(lambda: all(peer_count(host, one) == 1 for host, one in near), "the others see it too")
    written_everywhere(town, notes)
    assert not agree(town, notes), "nothing crossed a link that is down"
    until(lambda: len({ids_in(one.folder) for _host, one in near}) == 1, "the two agree")

    far_host.set_link(up=True)
    until(lambda: agree(town, notes), "all hold everything once the link is back")
    assert not notes.acknowledged.keys() - ids_in(far.folder)
    assert not notes.spoiled.keys() & ids_in(far.folder)
