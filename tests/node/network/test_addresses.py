"""Addresses of peers: which are taken, how they are spelt, and in which group they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.network import BadAddress
from node.network.addresses import (
    RELAYED,
    Scope,
    group_of,
    host_and_port,
    informant_of,
    parse_address,
    plain_host,
    relayed_address,
    scope_of,
)
from tests.node.network.books import peer

P, R = peer("p"), peer("r")


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        (f"/ip4/8.8.4.4/tcp/4001/p2p/{P}", None),
        (f"/ip6/2600:0:0:1:0:0:0:5/tcp/1/p2p/{P}", f"/ip6/2600:0:0:1::5/tcp/1/p2p/{P}"),
        (f"/dns4/Node.Example.org/tcp/65535/p2p/{P}", f"/dns4/node.example.org/tcp/65535/p2p/{P}"),
        (f"/dns/a/tcp/9/p2p/{P}", None),
        (f"/ip4/8.8.4.4/tcp/4001/p2p/{R}/p2p-circuit/p2p/{P}", None),
    ],
)
def test_an_address_is_taken_in_one_spelling(text: str, spelt: str | None) -> None:
    assert str(parse_address(text)) == (spelt or text)
    assert parse_address(spelt or text) == parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"/ip4/8.8.4.4/tcp/4001/p2p/{P}/",
        f"/ip4/8.8.4.4/tcp/4001/p2p/{P}/p2p-circuit",
        f"/ip4/8.8.4.4/tcp/4001/p2p/{P}/p2p-circuit/p2p/{P}",
        f"/ip4/8.8.4.4/tcp/4001/p2p/{R}/p2p-circuit/p2p/{R}/p2p-circuit/p2p/{P}",
        f"/ip4/8.8.4.4/tcp/4001/p2p-circuit/p2p/{P}",
        f"/p2p/{R}/p2p-circuit/p2p/{P}",
        f"/dns/a.example/tcp/4001/p2p/{R}/p2p-circuit/p2p/{P}",
        f"/ip4/8.8.4.4/tcp/4001/p2p/{R}/p2p-circuit/ip4/8.8.4.4/tcp/4001/p2p/{P}",
        f"/ip4/8.8.4.4/udp/4001/p2p/{P}",
        f"/ip4/8.8.4.4/tcp/0/p2p/{P}",
        f"/ip4/8.8.4.4/tcp/04001/p2p/{P}",
        f"/ip4/8.8.4.4/tcp/70000/p2p/{P}",
        f"/ip4/8.8.4.4/tcp/²/p2p/{P}",
        f"/ip4/0.0.0.0/tcp/1/p2p/{P}",
        f"/ip4/224.0.0.251/tcp/1/p2p/{P}",
        f"/ip4/255.255.255.255/tcp/1/p2p/{P}",
        f"/ip4/08.8.4.4/tcp/1/p2p/{P}",
        f"/ip4/2600::1/tcp/1/p2p/{P}",
        f"/ip6/8.8.4.4/tcp/1/p2p/{P}",
        f"/ip6/::/tcp/1/p2p/{P}",
        f"/ip6/ff02::1/tcp/1/p2p/{P}",
        f"/ip6/fe80::1%eth0/tcp/1/p2p/{P}",
        f"/ip6/::ffff:8.8.4.4/tcp/1/p2p/{P}",
        f"/dns/127.0.0.1/tcp/1/p2p/{P}",
        f"/dns/a..b/tcp/1/p2p/{P}",
        f"/dns/{'a' * 64}.org/tcp/1/p2p/{P}",
        f"/dnsaddr/a.org/tcp/1/p2p/{P}",
        "/ip4/8.8.4.4/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        f"/ip4/8.8.4.4/tcp/1/p2p/ {P}",
        f"/ip4/8.8.4.4/tcp/1/p2p/1{P}",
    ],
)
def test_what_nobody_listens_at_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadAddress):
        parse_address(text)


@given(st.text(max_size=400) | st.from_regex(r"/[a-z0-9]{1,6}/[^/]{0,40}/tcp/[^/]{0,6}/p2p/\w*"))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        found = parse_address(text)
    except BadAddress:
        return
    assert parse_address(str(found)) == found


@pytest.mark.parametrize(
    ("host", "group", "scope"),
    [
        ("8.8.4.4", "8.8.0.0/16", Scope.PUBLIC),
        ("2600:1f18:1::5", "2600:1f18::/32", Scope.PUBLIC),
        ("2002:808:404::1", "8.8.0.0/16", Scope.PUBLIC),
        ("64:ff9b::808:404", "8.8.0.0/16", Scope.PUBLIC),
        ("192.168.1.7", "192.168.1.7", Scope.PRIVATE),
        ("100.64.0.9", "100.64.0.9", Scope.PRIVATE),
        ("fd00::7", "fd00::7", Scope.PRIVATE),
        ("fe80::7", "fe80::7", Scope.PRIVATE),
        ("2002:c0a8:107::1", "192.168.1.7", Scope.PRIVATE),
        ("127.0.0.1", "127.0.0.1:4001", Scope.LOOPBACK),
        ("::1", "::1:4001", Scope.LOOPBACK),
        ("node.example.org", "names", Scope.PUBLIC),
        ("printer", "names", Scope.PRIVATE),
        ("printer.local", "names", Scope.PRIVATE),
    ],
)
def test_a_host_is_in_a_group_and_so_far_away(host: str, group: str, scope: Scope) -> None:
    assert (group_of(host, 4001), scope_of(host)) == (group, scope)


def test_many_ids_in_one_network_are_one_informant_and_nodes_on_loopback_are_not() -> None:
    assert informant_of("8.8.1.1", peer("a")) == informant_of("8.8.2.2", peer("b"))
    assert informant_of("192.168.1.1", peer("a")) != informant_of("192.168.1.2", peer("a"))
    assert informant_of("127.0.0.1", peer("a")) != informant_of("127.0.0.1", peer("b"))


def test_what_a_socket_says_is_spelt_as_in_addresses() -> None:
    assert plain_host("::ffff:8.8.4.4") == "8.8.4.4"
    assert plain_host("fe80::1%eth0") == "fe80::1"
    assert host_and_port("/ip4/8.8.4.4/tcp/4001") == ("8.8.4.4", 4001)
    assert host_and_port("") == host_and_port("/ip4/8.8.4.4") == ("", 0)


def test_whoever_is_behind_a_relay_is_of_one_group_and_one_informant() -> None:
    at = f"/ip4/8.8.4.4/tcp/4001/p2p/{R}/p2p-circuit"
    behind = parse_address(f"{at}/p2p/{P}")
    assert (behind.peer, behind.relay, behind.host) == (P, R, "8.8.4.4")
    assert host_and_port(at) == (RELAYED, 0)
    assert behind.group == behind.seen_host == informant_of(RELAYED, P) == RELAYED
    assert group_of("8.8.4.4", 4001) != behind.group
    assert scope_of(RELAYED) is Scope.PUBLIC, "it may be anywhere: told nothing of a LAN"
    assert relayed_address("/ip4/8.8.4.4/tcp/4001", R, P) == str(behind)
