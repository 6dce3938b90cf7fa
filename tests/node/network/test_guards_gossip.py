"""The guards of gossip, each against the fault it answers: on the library's own, and on ours.

A test that says "the fault is gone" after an upgrade means that its guard can go.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import ValidationCache, ValidationResult
from libp2p.tools.anyio_service import background_trio_service

from node.network import guards
from tests.node.network.guard_hosts import (
    MESH,
    TOPIC,
    Judge,
    bare,
    bare_pubsub,
    echoes,
    gossiping,
    guarded,
    listening,
    message_of,
    queued,
    run,
    send_gossip,
    subscribed,
    until,
    with_garbage_key,
)

# The library forgets sockets of failed handshakes; the collector closes them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
Attack = Callable[[Any, ID], Awaitable[None]]
NOT_PROTOBUF = b"\x0a" + b"\xff" * 10


def _raising(_forwarder: ID, message: Any) -> bool:
    if message.data == b"raise":
        raise ValueError("a bug in a validator")
    return True


async def _attacked(victim: Any, pubsub: Any, attack: Attack) -> None:
    """Attack a victim until it can be seen to have survived, or raise what it died of."""
    pubsub.set_topic_validator(TOPIC, _raising, False)
    client = guarded("client")
    async with gossiping(victim, pubsub) as info, listening(client):
        await client.connect(info)
        await attack(client, info.peer_id)
        good = message_of(client, b"good", 99)
        await send_gossip(client, info.peer_id, good)
        await until(lambda: pubsub.seen_messages.has(pubsub.get_message_id(good)), timeout_s=3)
        assert await echoes(client, info.peer_id)


async def _send_garbage(client: Any, peer: ID) -> None:
    await send_gossip(client, peer, raw=NOT_PROTOBUF)


async def _send_garbage_key(client: Any, peer: ID) -> None:
    await send_gossip(client, peer, with_garbage_key())


async def _send_what_raises(client: Any, peer: ID) -> None:
    await send_gossip(client, peer, message_of(client, b"raise", 1))


@pytest.mark.parametrize(
    ("attack", "points"),
    [(_send_garbage, 50), (_send_garbage_key, 20), (_send_what_raises, 20)],
    ids=["not protobuf", "garbage key", "raising validator"],
)
def test_one_bad_message_ends_a_bare_host_and_costs_points_with_ours(
    attack: Attack, points: int
) -> None:
    judge = Judge()

    async def ours() -> None:
        victim = guarded("victim")
        await _attacked(victim, judge.pubsub(victim), attack)

    async def theirs() -> None:
        victim = bare("victim")
        await _attacked(victim, bare_pubsub(victim), attack)

    run(ours)
    assert judge.points == [points]
    assert judge.delivered == [b"good"]
    with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever its nurseries raise
        run(theirs)


@pytest.mark.parametrize(
    "raw", [b"\xff" * 30, b"\x80\x80\x80\x08" + b"x" * 100], ids=["endless length", "16 MiB"]
)
def test_a_length_out_of_bounds_costs_the_stream_and_nothing_else(raw: bytes) -> None:
    async def attack(client: Any, peer: ID) -> None:
        await send_gossip(client, peer, raw=raw)

    async def main() -> None:
        victim = guarded("victim")
        await _attacked(victim, Judge().pubsub(victim), attack)

    run(main)


def test_messages_out_of_bounds_or_rate_are_dropped_and_counted() -> None:
    client = guarded("client")
    messages = (
        message_of(client, b"x" * 65537, 1),
        message_of(client, b"two topics", 2, [TOPIC, "u"]),
        message_of(client, b"fits", 3),
        message_of(client, b"too many", 4),
    )

    async def theirs() -> None:
        victim = bare("victim")
        pubsub = bare_pubsub(victim)
        async with gossiping(victim, pubsub):
            subscription = await subscribed(pubsub)
            for message in messages:
                await pubsub.push_msg(client.get_id(), message)
            assert len(queued(subscription)) == len(messages), "the fault is gone"

    async def ours() -> None:
        judge, victim = Judge(), guarded("victim")
        judge.allowed = 3
        pubsub = judge.pubsub(victim)
        async with gossiping(victim, pubsub):
            for message in messages:
                await pubsub.push_msg(client.get_id(), message)
        assert (judge.delivered, judge.points) == ([b"fits"], [20, 20, 1])

    run(theirs)
    run(ours)


def test_a_verdict_is_not_kept_for_other_bytes_under_the_same_number() -> None:
    async def passed(victim: Any, pubsub: Any) -> bool:
        client = guarded("client")
        async with gossiping(victim, pubsub):
            pubsub.set_topic_validator(TOPIC, lambda _peer, message: message.data == b"good", False)
            # As if 120 s had passed: the message is not "seen" any more, the verdict still kept.
            message = message_of(client, b"bad", 2)
            name = pubsub.get_message_id(message)
            now_s = time.time()  # noqa: TID251 - the library's own clock
            pubsub.validation_cache.put(name, ValidationResult(True, now_s))
            await pubsub.push_msg(client.get_id(), message)
            return bool(pubsub.seen_messages.has(name))

    async def main() -> None:
        victim = bare("victim")
        assert await passed(victim, bare_pubsub(victim)), "the fault is gone"
        victim, judge = guarded("victim"), Judge()
        assert not await passed(victim, judge.pubsub(victim))
        assert judge.delivered == []
        pubsub = judge.pubsub(guarded("other"))
        assert type(pubsub.validation_cache) is not ValidationCache

    run(main)


def test_two_hundred_messages_at_once_are_all_delivered() -> None:
    client = guarded("client")
    messages = [message_of(client, b"%d" % number, number) for number in range(200)]

    async def theirs() -> None:
        victim = bare("victim")
        pubsub = bare_pubsub(victim)
        async with gossiping(victim, pubsub):
            subscription = await subscribed(pubsub)
            for message in messages:
                await pubsub.push_msg(client.get_id(), message)
            assert len(queued(subscription)) < 50, "the fault is gone"

    async def ours() -> None:
        judge, victim = Judge(), guarded("victim")
        pubsub = judge.pubsub(victim)
        async with gossiping(victim, pubsub):
            for message in messages:
                await pubsub.push_msg(client.get_id(), message)
        assert len(judge.delivered) == 200

    run(theirs)
    run(ours)


def _library_router(**options: Any) -> GossipSub:
    return GossipSub(protocols=MESH, degree=6, degree_low=4, degree_high=12, **options)


def test_the_heartbeat_is_a_second_and_stays_one() -> None:
    def beats_of(make: Callable[[], Any]) -> int:
        """Count heartbeats in ten seconds of a simulated clock."""
        beats = 0

        async def main() -> None:
            nonlocal beats
            router = make()
            # As it is with few and bad neighbours; the library looks again in 30 s.
            router.network_health_score = 0.3
            router.last_health_update = int(time.time())  # noqa: TID251 - its own clock
            pubsub = guards.GuardedPubsub(bare("host"), router, strict_signing=True)
            inner = router.mesh_heartbeat

            def counted() -> Any:
                nonlocal beats
                beats += 1
                return inner()

            router.mesh_heartbeat = counted
            async with background_trio_service(pubsub), background_trio_service(router):
                await trio.sleep(10.5)

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        return beats

    assert beats_of(_library_router) <= 1, "the fault is gone"
    fast = {"heartbeat_interval": 1, "heartbeat_initial_delay": 0.1}
    assert beats_of(lambda: _library_router(**fast)) <= 2, "adaptive mode is mended"
    assert beats_of(guards.make_router) >= 10


def test_twenty_messages_in_a_second_are_all_forwarded() -> None:
    async def forwarded(router: Any) -> int:
        host, author = guarded("host"), guarded("author")
        pubsub = guards.GuardedPubsub(host, router, strict_signing=True)
        pubsub.router.attach(pubsub)
        for number in range(20):
            await router.publish(author.get_id(), message_of(author, b"%d" % number, number))
        return len(router.mcache.msgs)

    async def main() -> None:
        assert await forwarded(_library_router(spam_protection_enabled=True)) == 10, "mended"
        assert await forwarded(guards.make_router()) == 20

    run(main)


def test_numbers_of_a_restarted_node_are_new() -> None:
    def numbers(pubsub: Any) -> set[bytes]:
        return {pubsub._next_seqno() for _ in range(100)}

    def repeated(make: Callable[[Any], Any]) -> int:
        return len(numbers(make(guarded("host"))) & numbers(make(guarded("host"))))

    assert repeated(bare_pubsub) > 90, "the fault is gone"
    assert repeated(Judge().pubsub) == 0


def test_a_broken_stream_of_ours_makes_us_forget_no_topics_of_a_peer_that_stays() -> None:
    async def remembers(pubsub: Any, host: Any) -> bool:
        other, theirs = guarded("other"), Judge()
        their_pubsub = theirs.pubsub(other)
        async with gossiping(host, pubsub), gossiping(other, their_pubsub) as there:
            await host.connect(there)
            peer = there.peer_id
            await until(lambda: peer in pubsub.peer_topics.get(TOPIC, ()) and peer in pubsub.peers)
            first = pubsub.peers[peer]
            await first.reset()
            for number in range(2):  # the first finds it broken
                await pubsub.publish(TOPIC, f"{number}".encode())
                await until(lambda: pubsub.peers.get(peer) not in (None, first))
            return peer in pubsub.peer_topics.get(TOPIC, ())

    async def main() -> None:
        host = bare("host")
        assert not await remembers(bare_pubsub(host), host), "the fault is gone"
        host = guarded("host")
        assert await remembers(Judge().pubsub(host), host)

    run(main)
