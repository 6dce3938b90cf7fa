"""What our hosts do not say: on hosts that talk to each other over loopback."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

import pytest
import trio
from libp2p.stream_muxer.yamux.yamux import (
    DEFAULT_WINDOW_SIZE,
    TYPE_DATA,
    TYPE_PING,
    TYPE_WINDOW_UPDATE,
    YAMUX_HEADER_FORMAT,
)

from node.network.economy import UNWANTED_BYTES_MIN
from tests.node.network.guard_hosts import (
    ECHO,
    TOPIC,
    Judge,
    gossiping,
    guarded,
    listening,
    muxed_of,
    run,
    until,
)

# The library forgets sockets of failed handshakes; the collector closes them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LARGE = bytes(8 * DEFAULT_WINDOW_SIZE)


class Frames:
    """Counts the frames that one end of a connection sends, by type."""

    def __init__(self, muxed: Any) -> None:
        self.counts: Counter[int] = Counter()
        self._inner = muxed._write_frame
        muxed._write_frame = self._write

    async def _write(self, frame: bytes) -> None:
        self.counts[struct.unpack_from(YAMUX_HEADER_FORMAT, frame)[1]] += 1
        await self._inner(frame)


async def _talked(message: bytes, count: int) -> Counter[int]:
    """Let a host echo messages on one stream; return the frames that it sent after the first."""
    server, client = guarded("server"), guarded("client")

    async def echo_all(stream: Any) -> None:
        while True:
            await stream.write(await stream.read(65536))

    server.set_stream_handler(ECHO, echo_all)
    async with listening(server) as info, listening(client):
        await client.connect(info)
        stream = await client.new_stream(info.peer_id, [ECHO])
        frames: Frames | None = None
        for _ in range(count):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.write, message)
                got = 0
                while got < len(message):
                    got += len(await stream.read(len(message) - got))
            frames = frames or Frames(muxed_of(server))
    assert frames is not None
    return frames.counts


def test_small_reads_give_no_credit_one_by_one() -> None:
    async def main() -> None:
        counts = await _talked(b"little", 50)
        assert counts[TYPE_DATA] == 49
        assert counts[TYPE_WINDOW_UPDATE] == 0

    run(main)


def test_what_is_larger_than_the_window_gets_through() -> None:
    async def main() -> None:
        counts = await _talked(LARGE, 2)
        assert 0 < counts[TYPE_WINDOW_UPDATE] <= 16, "half a window at a time"

    run(main)


@pytest.mark.parametrize("size", [100, UNWANTED_BYTES_MIN])
def test_neighbours_are_told_of_large_messages_only_and_no_addresses_are_sent(size: int) -> None:
    async def main() -> None:
        judges = Judge(), Judge()
        hosts = guarded("one"), guarded("two")
        one, two = (judge.pubsub(host) for judge, host in zip(judges, hosts, strict=True))
        heard: list[Any] = []
        inner = two.router.handle_rpc

        async def noted(rpc: Any, sender: Any) -> None:
            heard.append(rpc)
            await inner(rpc, sender)

        two.router.handle_rpc = noted
        async with gossiping(hosts[0], one), gossiping(hosts[1], two) as info:
            await hosts[0].connect(info)
            await until(lambda: all(pubsub.router.mesh.get(TOPIC) for pubsub in (one, two)))
            await one.publish(TOPIC, bytes(size))
            await until(lambda: judges[1].delivered)
            # In order on one stream: all that was said before this message has been heard.
            await one.router.emit_graft(TOPIC, hosts[1].get_id())
            grafts = len([rpc for rpc in heard if rpc.control.graft])
            await until(lambda: len([rpc for rpc in heard if rpc.control.graft]) > grafts)
        told = [rpc for rpc in heard if rpc.control.idontwant]
        assert bool(told) == (size >= UNWANTED_BYTES_MIN)
        assert not any(rpc.HasField("senderRecord") for rpc in heard)

    run(main)


def test_a_ping_is_one_frame_each_way() -> None:
    async def main() -> None:
        server, client = guarded("server"), guarded("client")
        async with listening(server) as info, listening(client):
            await client.connect(info)
            await until(lambda: server.get_network().get_connections())
            frames = Frames(muxed_of(server))
            with trio.fail_after(5):
                await muxed_of(client, info.peer_id).ping()
            assert frames.counts[TYPE_PING] == 1
            streams = len(muxed_of(client, info.peer_id).streams)
            with trio.fail_after(5):
                await muxed_of(client, info.peer_id).ping()
            assert len(muxed_of(client, info.peer_id).streams) == streams

    run(main)
