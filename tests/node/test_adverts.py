"""The node's adverts: gossip and answers, newcomers, peers that vanish, peers that lie."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from crdt import AccountId, MalformedBytes, ManifestDigest, PeerId, RemoteFault, WorldFault, encode
from inference import Endpoint, Offer
from node import adverts as module
from node.adverts import Adverts, adverts_protocol, adverts_topic
from node.clocks import ClockReading
from tests.inference.adverts import BUILD, NETWORK, OFFER, RECORD, key_of, peer_of, raw_advert


class Swarm:
    """Honest in-memory transport between several `Adverts`."""

    def __init__(self) -> None:
        self.nodes: dict[PeerId, Adverts] = {}
        self.published: list[bytes] = []
        self.canned: dict[PeerId, bytes] = {}

    async def publish(self, topic: str, data: bytes) -> None:
        assert topic == adverts_topic(NETWORK)
        self.published.append(data)
        for node in self.nodes.values():
            node.gossiped(data)

    async def request(
        self,
        peer: PeerId,
        protocol: str,
        payload: bytes,
        *,
        timeout_s: float,
        answer_bytes_max: int,
    ) -> bytes:
        assert protocol == adverts_protocol(NETWORK)
        if peer in self.canned:
            return self.canned[peer]
        if peer not in self.nodes:
            raise WorldFault(f"{peer} does not answer")
        return await self.nodes[peer].answer(peer_of(99), payload)


class Sources:
    """What a test node says of itself."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.offered: tuple[Offer, ...] = (OFFER,)

    def endpoints(self) -> Sequence[Endpoint]:
        return (Endpoint("127.0.0.1", self.port, b"\x07" * 32),)

    def builds(self) -> Sequence[ManifestDigest]:
        return (BUILD,)

    def offers(self) -> Sequence[Offer]:
        return self.offered


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


def make(swarm: Swarm, seed: int, clock: Clock, port: int = 9) -> tuple[Adverts, Sources]:
    sources = Sources(port)
    adverts = Adverts(
        key=key_of(seed),
        operator=AccountId(b"\x09" * 32),
        network=NETWORK,
        sources=sources,
        transport=swarm,
        now_s=clock,
    )
    swarm.nodes[adverts.peer] = adverts
    return adverts, sources


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_gossip_carries_offers_and_builds_and_a_farewell_takes_them_back(clock):
    swarm = Swarm()
    (a, _), (b, _) = make(swarm, 1, clock, port=4711), make(swarm, 2, clock)
    await a.start()
    await settle()
    assert [o.advert.peer for o in b.offered(RECORD)] == [a.peer]
    (holder,) = b.holders(BUILD)
    assert (holder.peer, holder.port) == (a.peer, 4711)
    assert b.endpoint(a.peer) == holder
    await a.stop()
    assert b.offered(RECORD) == []
    assert b.holders(BUILD) == []


async def test_a_change_is_published_and_subscribers_are_told(clock, monkeypatch):
    monkeypatch.setattr(module, "PUBLISH_PAUSE_S", 0.01)
    swarm = Swarm()
    (a, sources), (b, _) = make(swarm, 1, clock), make(swarm, 2, clock)
    told = asyncio.Event()
    await a.start()
    await settle()
    b.subscribe(lambda _peer: told.set())
    sources.offered = ()
    clock.now_s += 1
    a.changed()
    async with asyncio.timeout(2):
        await told.wait()
    assert b.offers() == []
    await a.stop()


async def test_a_newcomer_asks_its_neighbour_and_learns_of_strangers_too(clock):
    swarm = Swarm()
    (a, _), (b, _) = make(swarm, 1, clock), make(swarm, 2, clock)
    a.gossiped(raw_advert(3))
    b.peer_connected(a.peer)
    await settle()
    assert {o.advert.peer for o in b.offers()} == {a.peer, peer_of(3)}
    await b.stop()


async def test_our_own_advert_is_among_the_offers_but_never_a_holder(clock):
    a, _ = make(Swarm(), 1, clock)
    a.refresh()
    assert [o.advert.peer for o in a.offered(RECORD)] == [a.peer]
    assert a.holders(BUILD) == []
    assert a.rtt_ms(a.peer) == 0.0


async def test_what_is_not_refreshed_expires(clock):
    swarm = Swarm()
    b, _ = make(swarm, 2, clock)
    b.gossiped(raw_advert(1))
    assert len(b.offers()) == 1
    clock.now_s += 60
    assert b.offers() == []


async def test_numbers_grow_although_the_clock_steps_back(clock):
    a, _ = make(Swarm(), 1, clock)
    first = a.refresh().sequence_ms
    clock.now_s -= 10
    assert a.refresh().sequence_ms > first


async def test_a_lost_peer_whose_port_answers_stays(clock, monkeypatch):
    monkeypatch.setattr(module, "DOUBT_S", 0.0)
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    b, _ = make(Swarm(), 2, clock)
    b.gossiped(raw_advert(1, endpoints=(Endpoint("127.0.0.1", port, bytes(32)),)))
    b.peer_lost(peer_of(1))
    await asyncio.gather(*b._tasks)
    assert len(b.offers()) == 1
    server.close()
    await server.wait_closed()
    b.peer_lost(peer_of(1))
    await asyncio.gather(*b._tasks)
    assert b.offers() == []


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xff" * 50, encode(["adverts", 0, NETWORK, "x"]), encode(["adverts", 1, NETWORK, []]),
     encode(["adverts", 0, NETWORK, [1]]), encode(["adverts", 0, bytes(32), []]),
     encode(["adverts", 0, NETWORK, [b"\x00" * 10] * 5000])],
)  # fmt: skip
async def test_a_peer_that_answers_garbage_hurts_nobody(raw, clock):
    swarm = Swarm()
    b, _ = make(swarm, 2, clock)
    swarm.canned[peer_of(1)] = raw
    b.peer_connected(peer_of(1))
    await asyncio.gather(*b._tasks)
    b.gossiped(raw)
    assert b.adverts() == []


async def test_a_replayed_advert_of_ours_changes_nothing(clock):
    a, sources = make(Swarm(), 1, clock)
    old = a.refresh().raw
    sources.offered = ()
    a.refresh()
    a.gossiped(old)
    assert a.offers() == []


@pytest.mark.parametrize("payload", [b"", b"x" * 300, encode(["adverts", 0, NETWORK])])
async def test_a_wrong_question_is_a_remote_fault(payload, clock):
    a, _ = make(Swarm(), 1, clock)
    with pytest.raises(RemoteFault):
        await a.answer(peer_of(2), payload)
    assert issubclass(MalformedBytes, RemoteFault)


async def test_an_answer_is_bounded(clock):
    a, _ = make(Swarm(), 1, clock)
    builds = tuple(i.to_bytes(32, "big") for i in range(512))
    for seed in range(2, 80):
        a.gossiped(raw_advert(seed, builds=builds))
    raw = await a.answer(peer_of(2), encode(["adverts?", 0, NETWORK]))
    assert 800_000 < len(raw) <= module.ANSWER_BYTES_MAX


async def test_a_peers_clock_is_read_from_what_it_answers_however_wrong_it_is(clock):
    swarm, wrong = Swarm(), Clock()
    wrong.now_s += 3600
    (a, _), (b, _) = make(swarm, 1, clock), make(swarm, 2, wrong)
    a.peer_connected(b.peer)
    await settle()
    assert a.clocks() == {b.peer: ClockReading(3_600_000, 0)}
    assert a.offers() == [], "its adverts are refused, which the reading explains"
    wrong.now_s += 7
    await a.read_clocks([b.peer, peer_of(77)])
    assert a.clocks() == {b.peer: ClockReading(3_607_000, 0)}
    a.peer_lost(b.peer)
    assert a.clocks() == {}


async def test_only_its_own_signed_advert_at_the_first_place_is_a_peers_clock(clock):
    swarm = Swarm()
    (a, _), (b, _) = make(swarm, 1, clock), make(swarm, 2, clock)
    strangers = encode(["adverts", 0, NETWORK, [raw_advert(3), raw_advert(2)]])
    forged = encode(["adverts", 0, NETWORK, [raw_advert(2)[:-1] + b"\0"]])
    for answer in (strangers, forged, encode(["adverts", 0, NETWORK, []])):
        swarm.canned[b.peer] = answer
        a.peer_connected(b.peer)
        await settle()
        assert a.clocks() == {}
