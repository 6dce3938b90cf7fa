"""One suite for the driver's `Transport`: the real network's child processes, and the fake."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import pytest
import pytest_asyncio

from crdt import HansaError, PeerId, SigningKey, peer_id_of
from node.driver import Driver, Transport, ops_topic, sync_protocol
from node.network import PUBLISH_BYTES_MAX, REQUEST_BYTES_MAX
from tests.node.links import Link
from tests.node.network.swarms import NETWORK, Recorder, ops_frame, seed_of, start

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
TOPIC = ops_topic(NETWORK)
SYNC = sync_protocol(NETWORK)
STRANGER = peer_id_of(SigningKey(seed_of("stranger")).public)


@dataclass(frozen=True)
class Node:
    """One side: its name, its transport, and what its transport told it."""

    peer: PeerId
    transport: Transport
    seen: Recorder

    async def ask(
        self, other: Node, payload: bytes, *, timeout_s: float = 10, most: int = REQUEST_BYTES_MAX
    ) -> bytes:
        return await self.transport.request(
            other.peer, SYNC, payload, timeout_s=timeout_s, answer_bytes_max=most
        )


Pair = tuple[Node, Node]


class _Listener:
    """What a `Link` calls of a driver, passed on to a recorder."""

    def __init__(self, seen: Recorder) -> None:
        self.seen = seen

    def peer_connected(self, peer: PeerId) -> None:
        self.seen.peer_connected(peer, "")

    def addresses_changed(self) -> None:
        return

    def peer_lost(self, peer: PeerId) -> None:
        self.seen.peer_lost(peer)

    def gossip(self, author: PeerId, forwarder: PeerId, data: bytes) -> None:
        self.seen.gossip(TOPIC, author, forwarder, data)

    async def answer(self, peer: PeerId, payload: bytes) -> bytes:
        return await self.seen.answer(peer, SYNC, payload)


@asynccontextmanager
async def real() -> AsyncIterator[Pair]:
    a, seen_a = await start("a")
    b, seen_b = await start("b", *a.addresses)
    try:
        yield Node(a.peer_id, a, seen_a), Node(b.peer_id, b, seen_b)
    finally:
        await asyncio.gather(a.stop(), b.stop())


@asynccontextmanager
async def fake() -> AsyncIterator[Pair]:
    drivers: dict[PeerId, Driver] = {}
    nodes: list[Node] = []
    apart: set[frozenset[PeerId]] = set()
    for name in ("a", "b"):
        peer, seen = PeerId(name), Recorder()
        drivers[peer] = cast("Driver", _Listener(seen))
        nodes.append(Node(peer, Link(peer, drivers, network=NETWORK, apart=apart), seen))
    a, b = nodes
    drivers[a.peer].peer_connected(b.peer)
    drivers[b.peer].peer_connected(a.peer)
    yield a, b


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[fake, real])
async def shared(request: Any) -> AsyncIterator[Pair]:
    async with request.param() as pair:
        yield pair


@pytest_asyncio.fixture(loop_scope="module")
async def pair(shared: Pair) -> Pair:
    a, b = shared
    await a.seen.until(lambda: b.peer in a.seen.connected)
    await b.seen.until(lambda: a.peer in b.seen.connected)
    a.seen.forget()
    b.seen.forget()
    return shared


async def test_a_request_and_its_answer_arrive_whole(pair: Pair) -> None:
    a, b = pair
    for payload in (b"", b"hello", os.urandom(REQUEST_BYTES_MAX)):
        assert await a.ask(b, payload) == payload[::-1]
    assert [peer for peer, _ in b.seen.asked] == [a.peer] * 3


async def test_requests_both_ways_at_once_get_each_their_own_answer(pair: Pair) -> None:
    a, b = pair
    payloads = [b"%d" % number for number in range(20)]
    there = asyncio.gather(*(a.ask(b, payload) for payload in payloads))
    back = asyncio.gather(*(b.ask(a, payload) for payload in payloads))
    assert await there == await back == [payload[::-1] for payload in payloads]


@pytest.mark.parametrize("payload", [b"refuse", b"fail"])
async def test_a_refused_request_is_an_error_and_the_next_is_not(
    pair: Pair, payload: bytes
) -> None:
    a, b = pair
    with pytest.raises(HansaError):
        await a.ask(b, payload)
    assert await a.ask(b, b"next") == b"txen"


async def test_an_answer_over_the_callers_bound_is_an_error(pair: Pair) -> None:
    a, b = pair
    assert await a.ask(b, b"four", most=4) == b"ruof"
    with pytest.raises(HansaError):
        await a.ask(b, b"five!", most=4)


async def test_no_answer_in_time_is_an_error(pair: Pair) -> None:
    a, b = pair
    with pytest.raises(HansaError):
        await a.ask(b, b"hang", timeout_s=0.1)
    assert await a.ask(b, b"next") == b"txen"


async def test_a_peer_that_is_not_there_is_an_error(pair: Pair) -> None:
    a, _ = pair
    with pytest.raises(HansaError):
        await a.transport.request(STRANGER, SYNC, b"", timeout_s=5, answer_bytes_max=9)


async def test_frames_out_of_bounds_are_refused_before_they_leave(pair: Pair) -> None:
    a, b = pair
    with pytest.raises(HansaError):
        await a.ask(b, bytes(REQUEST_BYTES_MAX + 1))
    with pytest.raises(HansaError):
        await a.transport.publish(TOPIC, bytes(PUBLISH_BYTES_MAX + 1))
    assert (b.seen.asked, b.seen.frames) == ([], [])


async def test_a_frame_reaches_the_others_with_its_author_and_garbage_does_not(
    pair: Pair,
) -> None:
    a, b = pair
    await _until_meshed(a, b)
    frame = ops_frame("a frame")
    await a.transport.publish(TOPIC, b"garbage")
    await a.transport.publish(TOPIC, frame)
    await b.seen.until(lambda: frame in [data for _, _, _, data in b.seen.frames])
    assert (TOPIC, a.peer, a.peer, frame) in b.seen.frames
    assert b"garbage" not in [data for _, _, _, data in b.seen.frames]
    assert a.seen.frames == [], "nobody hears itself"


async def test_a_dropped_peer_is_lost_on_both_sides(pair: Pair) -> None:
    a, b = pair
    await a.transport.drop(b.peer, "a test")
    await a.seen.until(lambda: a.seen.lost == [b.peer])
    await b.seen.until(lambda: b.seen.lost == [a.peer])
    if isinstance(a.transport, Link):  # the real network's dial loop does it by itself
        a.transport.connect(b.peer)
    await a.seen.until(lambda: b.peer in a.seen.connected)
    await b.seen.until(lambda: a.peer in b.seen.connected)
    assert await b.ask(a, b"again") == b"niaga"


async def test_a_banned_peer_is_lost_and_gets_no_answers(pair: Pair) -> None:
    a, b = pair
    await a.transport.ban(b.peer, 60)
    await b.seen.until(lambda: b.seen.lost)
    for one, other in ((a, b), (b, a)):
        with pytest.raises(HansaError):
            await one.ask(other, b"hello", timeout_s=1)
    assert (a.seen.asked, b.seen.asked) == ([], [])
    await a.transport.ban(b.peer, 0.001)
    if isinstance(a.transport, Link):
        a.transport.connect(b.peer)
    await a.seen.until(lambda: b.peer in a.seen.connected)


async def _until_meshed(a: Node, b: Node) -> None:
    """Gossip until something arrives: subscriptions and the mesh take a heartbeat or two."""
    for number in range(100):
        await a.transport.publish(TOPIC, ops_frame(f"mesh {number}"))
        try:
            await b.seen.until(lambda: b.seen.frames, timeout_s=0.2)
        except TimeoutError:
            continue
        return
    raise AssertionError("no mesh after 20 s")
