"""Whom the network child lets in and lets us dial: real processes on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from crdt import SigningKey, peer_id_of
from node.network import NetworkClient, PeerUnreachable
from tests.node.network.swarms import Recorder, ops_frame, seed_of, settings_for

SMALL: dict[str, Any] = {"peer_count_max": 1, "outbound_count": 1}
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="function")]


def id_of(name: str) -> str:
    return peer_id_of(SigningKey(seed_of(name)).public)


@asynccontextmanager
async def running(name: str, **settings: Any) -> AsyncIterator[tuple[NetworkClient, Recorder]]:
    recorder = Recorder()
    client = NetworkClient(replace(settings_for(name), **settings), recorder)
    await client.start()
    try:
        yield client, recorder
    finally:
        await client.stop()


async def test_a_denied_peer_is_never_told_of_and_never_dialled() -> None:
    async with (
        running("a", deny=(id_of("b"),)) as (a, seen_a),
        running("b") as (b, seen_b),
        running("c") as (c, _),
    ):
        try:
            await b.dial(a.addresses[0])
        except PeerUnreachable:
            pass
        else:
            await seen_b.until(lambda: seen_b.lost)
        await c.dial(a.addresses[0])
        await seen_a.until(lambda: seen_a.connected)
        assert seen_a.connected == {c.peer_id}
        assert not seen_a.lost
        with pytest.raises(PeerUnreachable, match=r"p2p\.deny"):
            await a.dial(b.addresses[0])


async def test_a_denied_network_gets_no_handshake_and_an_allowed_one_is_let_in() -> None:
    async with (
        running("a", deny=("127.0.0.0/8",)) as (a, seen_a),
        running("d", allow=("127.0.0.0/8",)) as (d, seen_d),
        running("e", allow=(id_of("b"),)) as (e, seen_e),
        running("b") as (b, _),
    ):
        with pytest.raises(PeerUnreachable):
            await b.dial(a.addresses[0])
        assert not seen_a.connected
        for other, seen in ((d, seen_d), (e, seen_e)):
            await b.dial(other.addresses[0])
            await seen.until(lambda seen=seen: b.peer_id in seen.connected)
        with pytest.raises(PeerUnreachable, match=r"p2p\.allow"):
            await e.dial(d.addresses[0])


async def test_strangers_that_fill_the_house_keep_nobody_out() -> None:
    async with (
        running("a", **SMALL) as (a, seen_a),
        running("b") as (b, seen_b),
        running("c") as (c, _),
    ):
        port = int(a.addresses[0].split("/")[4])
        with ExitStack() as strangers:
            for _ in range(2 * replace(settings_for("a"), **SMALL).inbound_count_max):
                strangers.enter_context(socket.create_connection(("127.0.0.1", port)))
            await a.dial(c.addresses[0])
            await seen_a.until(lambda: c.peer_id in seen_a.connected)
            await b.dial(a.addresses[0])
            await seen_b.until(lambda: seen_b.connected)
            await seen_a.until(lambda: b.peer_id in seen_a.connected)


async def test_connections_say_where_they_really_go() -> None:
    async with running("a") as (a, seen_a), running("b") as (b, seen_b):
        await b.dial(a.addresses[0])
        await seen_a.until(lambda: seen_a.connected)
        await seen_b.until(lambda: seen_b.connected)
        (there,) = b.peers()
        assert there.address == a.addresses[0].split("/p2p/")[0]
        assert b.peer(a.peer_id) == there
        (here,) = a.peers()
        assert here.address.startswith("/ip4/127.0.0.1/tcp/")
        assert here.address != b.addresses[0].split("/p2p/")[0]
        assert a.is_up


async def test_two_that_dial_each_other_at_once_are_connected_once_and_gossip_both_ways() -> None:
    async with running("a") as (a, seen_a), running("b") as (b, seen_b):
        await asyncio.gather(a.dial(b.addresses[0]), b.dial(a.addresses[0]))
        await seen_a.until(lambda: seen_a.connected)
        await seen_b.until(lambda: seen_b.connected)
        topic = settings_for("a").ops_topic
        for sender, receiver in ((a, seen_b), (b, seen_a)):
            for number in range(100):
                await sender.publish(topic, ops_frame(f"{sender.peer_id} {number}"))
                with suppress(TimeoutError):  # subscriptions and the mesh take a heartbeat or two
                    await receiver.until(lambda seen=receiver: seen.frames, timeout_s=0.2)
                    break
            assert receiver.frames
        assert len(a.peers()) == len(b.peers()) == 1
        await a.drop(b.peer_id, "a test")
        await seen_b.until(lambda: seen_b.lost)
        assert not b.peers()
