"""Where a node says it can be reached, and what it says it holds and serves."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import psutil
import pytest

from inference import Endpoint
from node.surroundings import ENDPOINT_COUNT_MAX, AdvertisedSelf, reachable_hosts


def machine(monkeypatch, *addresses):
    """Give the machine these addresses, one an interface, with an IPv6 one on each."""
    found = {
        f"if{number}": [
            SimpleNamespace(family=socket.AF_INET6, address="fe80::1"),
            SimpleNamespace(family=socket.AF_INET, address=address),
        ]
        for number, address in enumerate(addresses)
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_what_the_operator_says_comes_alone(host):
    assert reachable_hosts(host, ["node.example", "10.1.1.1"]) == ["node.example", "10.1.1.1"]


def test_a_bound_address_is_the_address(monkeypatch):
    machine(monkeypatch, "10.0.0.1")
    assert reachable_hosts("192.168.1.5", []) == ["192.168.1.5"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_public_addresses_come_first_and_loopback_not_at_all(monkeypatch, host):
    machine(monkeypatch, "127.0.0.1", "169.254.3.3", "10.0.0.1", "93.184.216.34", "10.0.0.1")
    assert reachable_hosts(host, []) == ["93.184.216.34", "10.0.0.1", "169.254.3.3"]


def test_loopback_is_better_than_nothing(monkeypatch):
    machine(monkeypatch, "127.0.0.1")
    assert reachable_hosts("0.0.0.0", []) == ["127.0.0.1"]
    machine(monkeypatch)
    assert reachable_hosts("0.0.0.0", []) == ["127.0.0.1"]


def test_a_machine_of_many_addresses_says_the_best_few(monkeypatch):
    machine(monkeypatch, *(f"10.0.0.{number}" for number in range(1, 30)), "93.184.216.34")
    found = reachable_hosts("0.0.0.0", [])
    assert len(found) == ENDPOINT_COUNT_MAX
    assert found[0] == "93.184.216.34"


def test_an_advert_says_endpoints_with_their_certificate_builds_and_offers():
    server = SimpleNamespace(
        endpoint=lambda host: SimpleNamespace(host=host, port=7, certificate_sha256=b"c" * 32)
    )
    builds = SimpleNamespace(digests=lambda: ["digest"])
    serving = SimpleNamespace(offers=lambda: ["offer"])
    hosts = [f"h{number}" for number in range(ENDPOINT_COUNT_MAX + 3)]
    said = AdvertisedSelf(server, hosts, builds, serving.offers)
    assert said.endpoints()[0] == Endpoint("h0", 7, b"c" * 32)
    assert len(said.endpoints()) == ENDPOINT_COUNT_MAX
    assert (said.builds(), said.offers()) == (["digest"], ["offer"])
