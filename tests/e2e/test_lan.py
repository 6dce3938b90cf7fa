"""Nodes in network namespaces, joined by one wire, find each other by multicast DNS."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e
PATIENCE_S = 60.0
ASK = "import sys, urllib.request as r; sys.stdout.write(r.urlopen(sys.argv[1]).read().decode())"
STRANGER = """
import socket, sys, time
from ipaddress import IPv4Address
from zeroconf import ServiceInfo, Zeroconf
zeroconf = Zeroconf()
for n in range(40):
    zeroconf.register_service(ServiceInfo(
        "_hansa._tcp.local.", f"x{n}._hansa._tcp.local.", port=4001 + n,
        properties={"net": sys.argv[1], "peer": sys.argv[2] if n % 2 else "x" * 200},
        server=f"x{n}.local.", addresses=[IPv4Address(sys.argv[3]).packed],
    ), cooperating_responders=True)
print("said", flush=True)
sys.stdin.read()
"""
"""Announces forty nodes where there is none, for one with another's name."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


@contextmanager
def two_places() -> Iterator[tuple[str, str]]:
    """Two namespaces and a wire between them: 10.77.0.1 and 10.77.0.2."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces take root and the ip command")
    names = (f"hansa-{os.getpid()}-a", f"hansa-{os.getpid()}-b")
    with ExitStack() as stack:
        try:
            for name in names:
                ip("netns", "add", name)
                stack.callback(ip, "netns", "del", name)
            ip(
                "link", "add", "lan", "netns", names[0], "type", "veth",
                "peer", "name", "lan", "netns", names[1],
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not permitted here: {error.stderr[:100]!r}")
        for number, name in enumerate(names, start=1):
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "lan")
            for device in ("lo", "lan"):
                ip("-n", name, "link", "set", device, "up")
            ip("-n", name, "route", "add", "224.0.0.0/4", "dev", "lan")
        yield names


def inside(place: str, *words: str, **options: Any) -> subprocess.Popen[str]:
    """Start a Python process in a namespace."""
    clean = {name: value for name, value in os.environ.items() if "HANSA" not in name}
    return subprocess.Popen(
        ["ip", "netns", "exec", place, sys.executable, *words], text=True, env=clean, **options
    )


@contextmanager
def node(place: str, folder: Path, *flags: str) -> Iterator[None]:
    """Run a node with LAN discovery in a namespace until the block ends."""
    words = [
        word
        for flag in ("p2p.mdns=true", "node.network=lan-test", *flags)
        for word in ("--set", flag)
    ]
    process = inside(
        place, "-m", "node", "run", "--data-dir", str(folder), *words,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def peers(place: str) -> list[dict[str, Any]]:
    """Return whom the node in a namespace is connected to; nobody while it does not answer."""
    asked = inside(
        place, "-c", ASK, "http://127.0.0.1:8420/v1/peers",
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    out, _ = asked.communicate(timeout=20)
    found: list[dict[str, Any]] = json.loads(out)["items"] if out else []
    return found


def until_linked(place: str) -> list[dict[str, Any]]:
    end_s = time.monotonic() + PATIENCE_S
    while not (found := peers(place)):
        assert time.monotonic() < end_s, f"no peer in {PATIENCE_S} s"
        time.sleep(0.2)  # another process: there is no event to wait for
    return found


def test_two_nodes_that_know_nothing_meet_on_a_lan_and_say_good_bye(tmp_path: Path) -> None:
    with two_places() as (a, b):
        with node(a, tmp_path / "a"), node(b, tmp_path / "b"):
            (one,), (other,) = until_linked(a), until_linked(b)
            assert {one["found"], other["found"]} & {"lan"}
            assert {one["address"].split("/")[2], other["address"].split("/")[2]} == {
                "10.77.0.1", "10.77.0.2"
            }  # fmt: skip
        for place in (a, b):
            left = subprocess.run(
                ["ip", "netns", "pids", place], check=True, capture_output=True, text=True
            )
            assert left.stdout.split() == [], "no child is left behind"


def test_a_lan_full_of_made_up_announcements_keeps_nobody_apart(tmp_path: Path) -> None:
    from crdt import SigningKey, parse_network, peer_id_of

    net = parse_network("lan-test").id.hex()[:16]
    stranger = peer_id_of(SigningKey(b"s" * 32).public)
    with two_places() as (a, b):
        liar = inside(
            b, "-c", STRANGER, net, stranger, "10.77.0.2",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert liar.stdin is not None
        assert liar.stdout is not None
        with liar, node(a, tmp_path / "a"), node(b, tmp_path / "b"):
            try:
                assert liar.stdout.readline() == "said\n"
                (one,) = until_linked(a)
                assert one["peer"] != stranger
            finally:
                liar.stdin.close()
                liar.wait(20)
