"""Whom a peer behind a relay can make this node dial."""

from __future__ import annotations

import pytest
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import dcutr_pb2 as pb
from multiaddr.multiaddr import Multiaddr

from node.network.punching import ADDRESS_COUNT_MAX, to_dial
from tests.node.network.books import peer

PEER = ID.from_string(peer("p"))


def named(*texts: str, junk: bytes = b"") -> pb.HolePunch:
    addresses = [Multiaddr(text).to_bytes() for text in texts]
    return pb.HolePunch(
        type=pb.HolePunch.CONNECT, ObsAddrs=[junk, *addresses] if junk else addresses
    )


def test_only_public_tcp_addresses_are_dialled_that_the_operator_allows_and_few_of_them() -> None:
    good = "/ip4/8.8.4.4/tcp/4001"
    message = named("/ip4/127.0.0.1/tcp/22", "/ip4/192.168.1.1/tcp/80", good, junk=b"\xff\x00")
    assert [str(one) for one in to_dial(PEER, message, lambda _p, _h: True)] == [
        f"{good}/p2p/{PEER}"
    ]
    with pytest.raises(ValueError, match="no address"):
        to_dial(PEER, named(good), lambda _peer, host: host != "8.8.4.4")
    for text in ("/ip4/10.0.0.1/tcp/4001", "/ip6/fe80::1/tcp/1", "/ip4/8.8.4.4/udp/4001/quic-v1"):
        with pytest.raises(ValueError, match="no address"):
            to_dial(PEER, named(text), lambda _p, _h: True)
    many = named(*(f"/ip4/8.8.4.{number}/tcp/1" for number in range(1, 40)))
    assert len(to_dial(PEER, many, lambda _p, _h: True)) == ADDRESS_COUNT_MAX


def test_another_message_names_nobody() -> None:
    with pytest.raises(ValueError, match="no address"):
        to_dial(PEER, pb.HolePunch(type=pb.HolePunch.SYNC), lambda _p, _h: True)
