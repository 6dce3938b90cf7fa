"""What a checkup makes of what peers say."""

from __future__ import annotations

from node.checkup import SPOKEN, observed_at, versions_of
from node.network import ConnectedPeer
from node.network.settings import NetworkSettings
from tests.node.network.books import peer
from tests.node.network.swarms import settings_for


def told(
    name: str, host: str, *protocols: str, software: str = "hansa/0.1.0", observed: str = ""
) -> ConnectedPeer:
    return ConnectedPeer(
        peer(name), f"/ip4/{host}/tcp/4001", "out", 1, 1.0, software, protocols, observed
    )


def test_what_is_said_to_be_spoken_is_what_the_child_answers() -> None:
    settings: NetworkSettings = settings_for("any")
    assert {settings.prefix + one for one in SPOKEN} == set(settings.protocols)


def test_software_is_counted_by_peers_and_what_is_newer_by_networks() -> None:
    found = versions_of([
        *(told(f"crowd {n}", f"8.1.0.{n}", *SPOKEN, "sync/9") for n in range(1, 9)),
        told("b", "8.2.0.1", *SPOKEN, "sync/1"),
        told("c", "8.3.0.1", *SPOKEN, "sync/1"),
        told("old", "8.4.0.1", "adverts/0", "sync/0", software="py-libp2p/0.8.1"),
        told("silent", "8.5.0.1"),
    ])  # fmt: skip
    assert found.software == (("hansa/0.1.0", 10), ("py-libp2p/0.8.1", 1))
    assert found.newer == (("sync/1", 2), ("sync/9", 1))
    assert (found.older, found.unknown) == (1, 1)


def test_where_peers_see_the_node_is_counted_by_networks() -> None:
    seen = observed_at([
        *(told(f"crowd {n}", f"8.1.0.{n}", observed="6.6.6.6") for n in range(1, 9)),
        told("b", "8.2.0.1", observed="8.8.8.1"),
        told("c", "8.3.0.1", observed="8.8.8.1"),
        told("d", "8.4.0.1"),
    ])  # fmt: skip
    assert seen == (("8.8.8.1", 2), ("6.6.6.6", 1))
