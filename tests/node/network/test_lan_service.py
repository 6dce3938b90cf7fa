"""What is believed of an announcement on a LAN."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.network.addresses import Scope, parse_address
from node.network.lan_service import LanSelf, address_in, properties_of, self_in
from tests.node.network.books import peer

OWN = LanSelf("00ff" * 4, peer("own"), 4001, ("192.168.0.2",))
OTHER = LanSelf(OWN.net, peer("other"), 4005, ("192.168.0.3",))
SAID = {key.encode(): value.encode() for key, value in properties_of(OTHER).items()}


def test_an_announcement_of_this_network_is_an_address() -> None:
    found = address_in(SAID, OTHER.hosts, OTHER.port, OWN)
    assert found == f"/ip4/192.168.0.3/tcp/4005/p2p/{OTHER.peer}"
    assert OTHER.service_name == f"{OTHER.peer}._hansa._tcp.local."


def test_the_first_address_that_is_on_a_lan_is_taken() -> None:
    hosts = ["8.8.8.8", "127.0.0.1", "224.0.0.1", "0.0.0.0", "10.0.0.9"]
    assert address_in(SAID, hosts[:4], 1, OWN) is None
    assert address_in(SAID, hosts[1:], 1, OWN) == f"/ip4/10.0.0.9/tcp/1/p2p/{OTHER.peer}"
    assert address_in(SAID, hosts, 1, OWN) is None, "four are looked at"


@pytest.mark.parametrize(
    "said",
    [
        {}, {b"net": SAID[b"net"]}, {b"peer": SAID[b"peer"]}, {**SAID, b"net": None},
        {**SAID, b"net": b"1111" * 4}, {**SAID, b"peer": b"\xff\xfe"}, {**SAID, b"peer": None},
        {**SAID, b"peer": OWN.peer.encode()}, {**SAID, b"peer": b"../x"},
    ],
)  # fmt: skip
def test_another_network_nobody_and_we_ourselves_are_not(said: dict[bytes, bytes | None]) -> None:
    assert address_in(said, OTHER.hosts, OTHER.port, OWN) is None


@given(st.lists(st.text(max_size=20) | st.ip_addresses(v=4).map(str)), st.integers(-1, 70_000))
def test_whatever_is_announced_only_private_addresses_come_of_it(
    hosts: list[str], port: int
) -> None:
    found = address_in(SAID, hosts, port, OWN)
    if found is not None:
        assert parse_address(found).scope is Scope.PRIVATE


def test_what_the_node_tells_its_child_comes_back() -> None:
    told = {"net": OWN.net, "peer": OWN.peer, "port": OWN.port, "hosts": list(OWN.hosts)}
    assert self_in(told) == OWN
