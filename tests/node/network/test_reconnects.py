"""A peer that comes back a thousand times: it costs others nothing, and leaves nothing behind.

Here 260 times, which is more than the library has places in a lifetime (250, see
`guards.free_inbound_slots`); `HANSA_RECONNECTS=1000` for the whole.
"""

from __future__ import annotations

import asyncio
import gc
import os
from typing import Any

import psutil
import pytest
import trio
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr.multiaddr import Multiaddr

from node.network import guards
from tests.node.network.guard_hosts import doors_for, until
from tests.node.network.swarms import LOOPBACK, seed_of, settings_for, start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
TIMES, WARM = int(os.environ.get("HANSA_RECONNECTS", "260")), 50
ASK_EVERY_S = 0.05
"""Well under what one peer may ask (50 a second)."""
GROWN_BYTES_MAX = 24 * 2**20
SYNC = settings_for("a").protocols[0]


def reconnect(address: str, times: int) -> int:
    """Connect, prove who one is, and go, so many times; return how often the peer let one in."""
    return trio.run(_reconnect, address, times)


async def _reconnect(address: str, times: int) -> int:
    info = info_from_p2p_addr(Multiaddr(address))
    host: Any = guards.make_host(seed_of("comes back"), 8, doors_for(24))
    came = 0
    async with host.run(listen_addrs=[Multiaddr(LOOPBACK)]):
        for _ in range(times):
            try:
                await host.connect(info)
            except Exception:  # it is refused: the node may do that
                await trio.sleep(0.01)
                continue
            came += 1
            await guards.close_sockets(host, ID.from_string(address.rpartition("/")[2]))
            await until(lambda: not host.get_network().get_connections(info.peer_id))
    return came


async def test_a_peer_that_reconnects_again_and_again_costs_the_others_nothing() -> None:
    a, seen_a = await start("a")
    b, seen_b = await start("b", *a.addresses)
    try:
        await seen_b.until(lambda: a.peer_id in seen_b.connected)
        await seen_a.until(lambda: b.peer_id in seen_a.connected)
        assert a.child_pid is not None
        child = psutil.Process(a.child_pid)
        await asyncio.to_thread(reconnect, a.addresses[0], WARM)
        before, files = child.memory_info().rss, child.num_fds()
        storm = asyncio.create_task(asyncio.to_thread(reconnect, a.addresses[0], TIMES - WARM))
        answered = 0
        while not storm.done():
            payload = b"%d" % answered
            answer = await b.request(a.peer_id, SYNC, payload, timeout_s=5, answer_bytes_max=99)
            assert answer == payload[::-1]
            answered += 1
            await asyncio.wait([storm], timeout=ASK_EVERY_S)
        assert await storm > TIMES / 2, "it was let in"
        await seen_a.until(lambda: [one.peer for one in a.peers()] == [b.peer_id])
        assert not seen_b.lost, "the others noticed nothing"
        assert b.peer_id not in seen_a.lost
        assert child.memory_info().rss - before < GROWN_BYTES_MAX
        assert child.num_fds() <= files + 8
    finally:
        await asyncio.gather(a.stop(), b.stop())
        gc.collect()
