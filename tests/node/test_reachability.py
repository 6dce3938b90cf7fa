"""Being dialled back: whom a node asks, whom it dials for others, and how seldom."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Literal

import pytest

from crdt import MalformedBytes, PeerId
from node.network import ConnectedPeer, PeerRefused, PeerUnreachable
from node.network.addresses import Scope
from node.network.reach import Reached, decode_reached, encode_reach, encode_reached
from node.reachability import ASKED_COUNT_MAX, PAUSE_S, Reaching, listening_port
from tests.node.network.books import peer
from tests.node.network.swarms import NETWORK


@dataclass
class Net:
    """A network as one node sees it; peers answer with what the test says."""

    connected: list[ConnectedPeer] = field(default_factory=list)
    says: dict[PeerId, bytes] = field(default_factory=dict)
    asked: list[PeerId] = field(default_factory=list)
    dialled: list[str] = field(default_factory=list)
    open: bool = True

    def add(self, name: str, host: str, direction: Literal["in", "out"] = "out") -> PeerId:
        kind = "ip6" if ":" in host else "ip4"
        one = ConnectedPeer(peer(name), f"/{kind}/{host}/tcp/{50_000}", direction, 1)
        self.connected.append(one)
        return one.peer

    def peers(self) -> list[ConnectedPeer]:
        return list(self.connected)

    def peer(self, peer: PeerId) -> ConnectedPeer | None:
        return next((one for one in self.connected if one.peer == peer), None)

    async def probe(self, multiaddr: str) -> None:
        self.dialled.append(multiaddr)
        if not self.open:
            raise PeerUnreachable("nobody")

    async def request(
        self,
        peer: PeerId,
        protocol: str,
        payload: bytes,
        *,
        timeout_s: float,
        answer_bytes_max: int,
    ) -> bytes:
        self.asked.append(peer)
        if peer not in self.says:
            raise PeerUnreachable("no answer")
        return self.says[peer]


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


def reaching(net: Net, clock: Clock | None = None, port: int = 4001) -> Reaching:
    return Reaching(
        network=NETWORK, transport=net, port=lambda: port, rng=random.Random(1),
        now_s=clock or Clock(),
    )  # fmt: skip


async def asked_by(node: Reaching, one: PeerId, port: int = 4001) -> Reached:
    return decode_reached(await node.answer(one, encode_reach(NETWORK, port)), NETWORK)


async def test_an_asker_is_dialled_at_the_host_it_is_seen_at_and_the_port_it_says() -> None:
    net = Net()
    one, six = net.add("a", "8.1.0.1", "in"), net.add("b", "2600::1", "in")
    node = reaching(net)
    assert await asked_by(node, one) is Reached.YES
    assert await asked_by(node, six, port=9) is Reached.YES
    assert net.dialled == [f"/ip4/8.1.0.1/tcp/4001/p2p/{one}", f"/ip6/2600::1/tcp/9/p2p/{six}"]
    net.open = False
    other = net.add("c", "8.9.0.1", "in")
    assert await asked_by(node, other) is Reached.NO


async def test_a_group_is_dialled_once_a_minute_however_many_ids_ask() -> None:
    net, clock = Net(), Clock()
    node = reaching(net, clock)
    crowd = [net.add(f"id {n}", f"8.1.{n}.1", "in") for n in range(20)]
    said = [await asked_by(node, one) for one in crowd]
    assert said == [Reached.YES] + [Reached.NOT_NOW] * 19
    assert await asked_by(node, net.add("elsewhere", "9.9.0.1", "in")) is Reached.YES
    clock.now_s += PAUSE_S
    assert await asked_by(node, crowd[5]) is Reached.YES
    assert len(net.dialled) == 3


async def test_who_is_gone_or_asks_nonsense_gets_no_dial() -> None:
    net = Net()
    node = reaching(net)
    with pytest.raises(PeerRefused):
        await node.answer(peer("gone"), encode_reach(NETWORK, 1))
    with pytest.raises(MalformedBytes):
        await node.answer(net.add("a", "8.1.0.1"), b"\x93\x00\x00\x00")
    assert net.dialled == []


async def test_three_of_different_groups_are_asked_and_the_far_ones_first() -> None:
    net = Net()
    for n in range(6):
        net.says[net.add(f"near {n}", f"192.168.0.{n + 1}")] = encode_reached(NETWORK, Reached.YES)
    for n in range(30):
        net.says[net.add(f"crowd {n}", f"8.1.0.{n + 1}")] = encode_reached(NETWORK, Reached.NO)
    far = [net.add(f"far {n}", f"9.{n}.0.1") for n in range(4)]
    for one in far:
        net.says[one] = encode_reached(NETWORK, Reached.YES)
    found = await reaching(net).find_out()
    assert len(net.asked) == ASKED_COUNT_MAX
    assert len({one for one in net.asked if one not in far}) <= 1, "a crowd is one voice"
    assert (found.tried, found.scope) == (3, Scope.PUBLIC)
    assert found.reached >= 2


async def test_no_answer_and_not_now_count_as_nothing_and_what_was_found_holds_on() -> None:
    net, clock = Net(), Clock()
    node = reaching(net, clock)
    nobody = await node.find_out()
    assert (nobody.tried, nobody.scope) == (0, None)
    one = net.add("a", "8.1.0.1")
    net.add("in", "8.2.0.1", "in")
    net.says[one] = encode_reached(NETWORK, Reached.YES)
    found = await node.find_out()
    assert (found.reached, found.tried, found.inbound) == (1, 1, 1)
    net.says[one] = encode_reached(NETWORK, Reached.NOT_NOW)
    assert await node.find_out() == found
    clock.now_s += 3 * PAUSE_S
    assert (await node.find_out()).tried == 0
    net.says[one] = b"nonsense"
    assert (await node.find_out()).tried == 0


async def test_a_node_that_listens_at_no_port_asks_nobody() -> None:
    net = Net()
    net.says[net.add("a", "8.1.0.1")] = encode_reached(NETWORK, Reached.YES)
    assert (await reaching(net, port=0).find_out()).tried == 0
    assert net.asked == []
    assert listening_port([]) == 0
    assert listening_port(["/ip4/0.0.0.0/tcp/4001/p2p/x"]) == 4001
