"""A child that authenticated peers make grow past its memory limit."""

from __future__ import annotations

import asyncio
import resource
import time

import psutil
import pytest

from node.network import PeerUnreachable
from node.network.child import memory_bytes_most
from tests.node.network import attackers
from tests.node.network.swarms import settings_for, start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ROOM_BYTES = 16 * 2**20
SYNC = settings_for("a").protocols[0]
NAMES = tuple(f"attacker {number}" for number in range(6))


def test_the_child_ends_itself_before_the_limit_makes_it_stumble() -> None:
    assert memory_bytes_most(2**31) == 2**31 - 2**27


async def test_a_child_that_grows_past_its_limit_is_back_in_2_s_and_calls_fail_at_once() -> None:
    a, seen_a = await start("a")
    b, seen_b = await start("b", *a.addresses)
    try:
        await seen_b.until(lambda: a.peer_id in seen_b.connected)
        pid = a.child_pid
        assert pid is not None
        # The attack may hold 48 MiB; leave the child less, from where it stands.
        limit = (psutil.Process(pid).memory_info().vms + ROOM_BYTES) * 16 // 15
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
        address = a.addresses[0]
        async with attackers.attacking(*NAMES, address=address, script=attackers.fill_memory):
            await seen_a.until(lambda: b.peer_id in seen_a.lost)
            ended_s = time.monotonic()
            assert a.child_pid is None
            assert a.peers() == []
            with pytest.raises(PeerUnreachable):
                await a.request(b.peer_id, SYNC, b"now", timeout_s=5, answer_bytes_max=9)
            with pytest.raises(PeerUnreachable):
                await a.publish(settings_for("a").ops_topic, b"")
            assert time.monotonic() - ended_s < 0.2
        await seen_a.until(lambda: b.peer_id in seen_a.connected)
        assert time.monotonic() - ended_s < 5, "2 s, on a machine with nothing else to do"
        assert a.child_pid not in (None, pid)
        await seen_b.until(lambda: a.peer_id in seen_b.connected)
        answer = await b.request(a.peer_id, SYNC, b"back", timeout_s=5, answer_bytes_max=9)
        assert answer == b"kcab"
    finally:
        await asyncio.gather(a.stop(), b.stop())
