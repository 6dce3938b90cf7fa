"""Peers behind a relay: real network children on loopback, one of them a relay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from crdt import SigningKey, peer_id_of
from node.network import NetworkClient, PeerUnreachable, RelayLimits
from tests.node.network.swarms import Recorder, ops_frame, seed_of, settings_for

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="function")]
RELAY: dict[str, Any] = {"relay": RelayLimits(reservation_count_max=16)}


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


def circuits(client: NetworkClient) -> list[str]:
    return [one for one in client.addresses if "/p2p-circuit/" in one]


@asynccontextmanager
async def reserved(
    relay: NetworkClient, name: str = "hidden", **settings: Any
) -> AsyncIterator[tuple[NetworkClient, Recorder]]:
    """Run a peer that is reached through a relay."""
    async with running(name, reserve=True, **settings) as (client, seen):
        await client.dial(relay.addresses[0])
        await seen.until(lambda: circuits(client))
        yield client, seen


async def test_a_peer_is_reached_through_a_relay_and_talks_both_ways() -> None:
    async with (
        running("relay", **RELAY) as (relay, seen_relay),
        reserved(relay) as (hidden, seen_hidden),
        running("caller") as (caller, seen_caller),
    ):
        (address,) = circuits(hidden)
        assert address == f"{relay.addresses[0]}/p2p-circuit/p2p/{hidden.peer_id}"
        await caller.dial(address)
        await seen_hidden.until(lambda: caller.peer_id in seen_hidden.connected)
        here, there = hidden.peer(caller.peer_id), caller.peer(hidden.peer_id)
        assert here is not None
        assert there is not None
        assert here.address == there.address == f"{relay.addresses[0]}/p2p-circuit"
        assert (here.direction, there.direction) == ("in", "out")

        protocol = settings_for("any").protocols[0]
        for asker, asked in ((caller, hidden), (hidden, caller)):
            answer = await asker.request(
                asked.peer_id, protocol, b"x" * 500_000, timeout_s=20, answer_bytes_max=10**6
            )
            assert answer == b"x" * 500_000
        topic = settings_for("any").ops_topic
        for number in range(100):
            await caller.publish(topic, ops_frame(f"relayed {number}"))
            with suppress(TimeoutError):  # subscriptions and the mesh take a heartbeat or two
                await seen_hidden.until(lambda: seen_hidden.frames, timeout_s=0.2)
                break
        assert seen_hidden.frames

        await hidden.drop(caller.peer_id, "a test")
        await seen_caller.until(lambda: hidden.peer_id in seen_caller.lost)
        assert {relay.peer_id} == seen_hidden.connected, "the relay itself is still connected"
        assert not seen_relay.lost


async def test_a_relay_that_goes_takes_its_circuits_and_addresses_with_it() -> None:
    async with (
        running("relay", **RELAY) as (relay, _),
        running("caller") as (caller, seen_caller),
        reserved(relay) as (hidden, seen_hidden),
    ):
        await caller.dial(circuits(hidden)[0])
        await seen_hidden.until(lambda: caller.peer_id in seen_hidden.connected)
        await relay.stop()
        await seen_hidden.until(lambda: not seen_hidden.connected)
        await seen_caller.until(lambda: not seen_caller.connected)
        await seen_hidden.until(lambda: not circuits(hidden))


async def test_nobody_is_reached_through_a_peer_that_is_no_relay_or_without_a_reservation() -> None:
    async with (
        running("plain") as (plain, seen_plain),
        running("relay", **RELAY) as (relay, seen_relay),
        running("open") as (other, _),
        running("caller") as (caller, _),
    ):
        for through, seen in ((plain, seen_plain), (relay, seen_relay)):
            await other.dial(through.addresses[0])
            await seen.until(lambda seen=seen: other.peer_id in seen.connected)
            address = f"{through.addresses[0]}/p2p-circuit/p2p/{other.peer_id}"
            with pytest.raises(PeerUnreachable, match=r"no reservation|protocol"):
                await caller.dial(address)


async def test_who_answers_behind_a_relay_must_be_who_was_called() -> None:
    async with (
        running("relay", **RELAY) as (relay, _),
        reserved(relay, deny=(id_of("caller"),)) as (hidden, seen_hidden),
        running("caller") as (caller, _),
        running("other", deny=(hidden.peer_id,)) as (other, _),
    ):
        with pytest.raises(PeerUnreachable, match="connection failed"):
            await caller.dial(circuits(hidden)[0])
        with pytest.raises(PeerUnreachable, match=r"p2p\.deny"):
            await other.dial(circuits(hidden)[0])
        assert seen_hidden.connected == {relay.peer_id}


async def test_what_a_relay_gives_has_an_end_in_all_and_for_one_network() -> None:
    small: dict[str, Any] = {"relay": RelayLimits(reservation_count_max=8, circuit_count_max=1)}
    async with (
        running("relay", **small) as (relay, _),
        reserved(relay) as (hidden, seen_hidden),
        running("caller") as (caller, _),
        running("late") as (late, _),
    ):
        await caller.dial(circuits(hidden)[0])
        await seen_hidden.until(lambda: caller.peer_id in seen_hidden.connected)
        with pytest.raises(PeerUnreachable, match="resource limit exceeded"):
            await late.dial(circuits(hidden)[0])
        await caller.drop(hidden.peer_id, "a test")
        await seen_hidden.until(lambda: caller.peer_id in seen_hidden.lost)
        await late.dial(circuits(hidden)[0])
        assert late.peer(hidden.peer_id) is not None
