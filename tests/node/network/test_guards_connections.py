"""The guards of connections and streams, each against the fault it answers.

A test that says "the fault is gone" after an upgrade means that its guard can go.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import libp2p.stream_muxer.muxer_multistream as muxer_choice
import pytest
import trio
import trio.testing
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.protocol_muxer import multiselect_communicator
from libp2p.protocol_muxer.exceptions import MultiselectCommunicatorError
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.stream_muxer.mplex.mplex import MPLEX_PROTOCOL_ID, Mplex
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.utils.varint import read_delim
from multiaddr.multiaddr import Multiaddr

from node.network import guards
from tests.node.network.guard_hosts import (
    BREAK,
    ECHO,
    WAIT,
    bare,
    doors_for,
    echoes,
    guarded,
    listening,
    muxed_of,
    run,
    until,
)
from tests.node.network.swarms import seed_of

# The library forgets sockets of failed handshakes; the collector closes them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@contextmanager
def library_yamux() -> Iterator[None]:
    """Put the library's own Yamux back: `make_host` replaces it for the whole process."""
    ours = muxer_choice.Yamux  # type: ignore[attr-defined]
    muxer_choice.Yamux = Yamux  # type: ignore[attr-defined]
    try:
        yield
    finally:
        muxer_choice.Yamux = ours  # type: ignore[attr-defined]


def test_a_handler_that_raises_ends_a_bare_host_and_not_ours() -> None:
    async def attack(victim: Any) -> None:
        client = guarded("client")
        async with listening(victim) as info, listening(client):
            await client.connect(info)
            with suppress(Exception):  # the victim may reset it while it is being opened
                stream = await client.new_stream(info.peer_id, [BREAK])
                await stream.write(b"x")
            # What the victim answers shows that it has had time to break.
            assert await echoes(client, info.peer_id)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert await echoes(client, info.peer_id)

    run(lambda: attack(guarded("victim")))
    with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever its nursery raises
        run(lambda: attack(bare("victim")))


def test_plaintext_and_mplex_are_refused() -> None:
    key_pair = create_new_key_pair(seed_of("client"))
    plain: Any = {"sec_opt": {TProtocol(PLAINTEXT_PROTOCOL_ID): InsecureTransport(key_pair)}}
    mplex: Any = {"muxer_opt": {TProtocol(MPLEX_PROTOCOL_ID): Mplex}}

    async def connects(victim: Any, client: Any) -> bool:
        async with listening(victim) as info, listening(client):
            try:
                await client.connect(info)
            except Exception:
                return False
            return await echoes(client, info.peer_id)

    async def main() -> None:
        for options in (plain, mplex):
            assert await connects(bare("victim"), bare("client", **options)), "the fault is gone"
            assert not await connects(guarded("victim"), bare("client", **options))

    run(main)


def test_closed_inbound_connections_give_their_slots_back() -> None:
    limit = 3

    async def served(victim: Any) -> int:
        async with listening(victim) as info:
            for count in range(2 * limit):
                client = guarded(f"client {count}")
                async with client.run(listen_addrs=[]):
                    try:
                        with trio.fail_after(1):
                            await client.connect(info)
                            assert await echoes(client, info.peer_id)
                    except Exception:
                        return count
                    muxed = muxed_of(victim)
                    await client.disconnect(info.peer_id)
                    await muxed.event_closed.wait()
                    await trio.testing.wait_all_tasks_blocked(0.02)
            return 2 * limit

    config = ConnectionConfig(
        min_connections=0, low_watermark=0, high_watermark=limit, max_connections=limit
    )

    async def main() -> None:
        assert await served(bare("victim", connection_config=config)) == limit, "the fault is gone"
        victim = bare("victim", connection_config=config)
        guards.free_inbound_slots(victim)
        assert await served(victim) == 2 * limit

    run(main)


def test_strangers_that_say_nothing_keep_no_peer_out() -> None:
    limit = 3
    config = ConnectionConfig(
        min_connections=0, low_watermark=0, high_watermark=limit, max_connections=limit
    )

    async def lets_in(victim: Any) -> bool:
        async with listening(victim) as info:
            port = int(info.addrs[0].value_for_protocol("tcp"))
            silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(limit)]
            limiter = victim.get_network()._inbound_limiter
            await until(lambda: limiter.available_tokens == 0)
            client = guarded("client")
            found = False
            async with client.run(listen_addrs=[]):
                with suppress(Exception), trio.fail_after(2):
                    await client.connect(info)
                    found = await echoes(client, info.peer_id)
                if found:
                    assert await silent[0].receive_some(4096), "it had been greeted"
                    with suppress(trio.BrokenResourceError):
                        assert not await silent[0].receive_some(4096), "and then had to go"
                    # Whoever has proved who it is stays, however many strangers come.
                    for _ in range(30):
                        silent.append(await trio.open_tcp_stream("127.0.0.1", port))
                    assert await silent[-1].receive_some(4096), "the last is let in"
                    found = await echoes(client, info.peer_id)
                    counted = victim.get_network()._resource_manager
                    await until(lambda: counted.get_stats()["connections"] <= limit)
            for stream in silent:
                await stream.aclose()
            return found

    async def main() -> None:
        victim = bare("victim", connection_config=config)
        guards.free_inbound_slots(victim)
        assert not await lets_in(victim), "the fault is gone"
        victim = bare("victim", connection_config=config)
        guards.admit_inbound(victim, doors_for(limit))
        guards.free_inbound_slots(victim)
        assert await lets_in(victim)

    run(main)


def test_a_known_peer_is_not_dialled_unasked() -> None:
    async def dials(host: Any) -> bool:
        other = guarded("other")
        async with listening(other) as info, listening(host):
            host.get_peerstore().add_addrs(info.peer_id, info.addrs, 600)
            # What the library does every 30 s and after every lost connection.
            await host.get_network().auto_connector.maybe_connect()
            return bool(host.get_network().get_connections(info.peer_id))

    async def main() -> None:
        assert await dials(bare("host")), "the fault is gone"
        assert not await dials(guarded("host"))

    run(main)


def test_a_stream_to_a_peer_that_is_gone_dials_nobody() -> None:
    async def dials(host: Any) -> bool:
        other = guarded("other")
        async with listening(other) as info, listening(host):
            host.get_peerstore().add_addrs(info.peer_id, info.addrs, 600)
            # As a ping or a retry of gossip does to a peer that was just dropped, or banned.
            with suppress(Exception):
                await host.new_stream(info.peer_id, [ECHO])
            return bool(host.get_network().get_connections(info.peer_id))

    async def main() -> None:
        assert await dials(bare("host")), "the fault is gone"
        assert not await dials(guarded("host"))

    run(main)


def test_a_peer_that_failed_is_dialled_again_at_once() -> None:
    async def tries(client: Any) -> bool:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"/ip4/127.0.0.1/tcp/{free.getsockname()[1]}"
        victim = guarded("victim")
        info = info_from_p2p_addr(Multiaddr(f"{address}/p2p/{victim.get_id()}"))
        async with listening(client):
            with pytest.raises(Exception, match=r".*"):
                await client.connect(info)
            async with victim.run(listen_addrs=[Multiaddr(address)]):
                try:
                    await client.connect(info)
                except Exception:
                    return False
                return True

    async def main() -> None:
        assert not await tries(bare("client")), "the fault is gone"
        assert await tries(guarded("client"))

    run(main)


@pytest.mark.parametrize("said", [b"", b"\x13/multistream/1.0.0\n\x07/noise\n"])
def test_a_stranger_that_does_not_go_on_is_closed_soon(
    said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "UPGRADE_TIMEOUT_S", 0.3)

    async def closed_within(victim: Any, seconds: float) -> bool:
        async with listening(victim) as info:
            port = int(info.addrs[0].value_for_protocol("tcp"))
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(said)
            with trio.move_on_after(seconds), suppress(trio.BrokenResourceError):
                while await stream.receive_some(4096):
                    pass
                return True
            await stream.aclose()
            return False

    async def main() -> None:
        assert not await closed_within(bare("victim"), 1), "the fault is gone"
        assert await closed_within(guarded("victim"), 3)

    run(main)
    assert guards.UPGRADE_TIMEOUT_S < 10, "what the library allows"


def test_a_handler_that_waits_for_its_peer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "HANDLER_TIMEOUT_S", 0.2)

    async def waits(stream: Any) -> None:
        await stream.read(1)

    async def is_cut(handler: Any) -> bool:
        victim, client = guarded("victim"), guarded("client")
        victim.set_stream_handler(ECHO, handler)
        async with listening(victim) as info, listening(client):
            await client.connect(info)
            stream = await client.new_stream(info.peer_id, [ECHO])
            with trio.move_on_after(1), suppress(Exception):
                await stream.read(1)
            return bool(muxed_of(victim).streams == {}) or stream.muxed_stream.reset_received

    async def main() -> None:
        assert not await is_cut(waits), "the fault is gone"
        assert await is_cut(guards.timed(waits))

    run(main)


def _start_peer() -> tuple[int, str]:
    """Run a host in a process of its own; its process id and address."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:

        async def serve() -> None:
            async with listening(guarded("stopped")) as info:
                os.write(theirs, f"{info.addrs[0]}/p2p/{info.peer_id}".encode())
                os.close(theirs)
                await trio.sleep(30)

        try:
            trio.run(serve)
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as reader:
        return pid, reader.read()


def test_the_connection_to_a_stopped_peer_can_be_closed() -> None:
    async def fill(stream: Any) -> None:
        with suppress(Exception):
            await stream.write(bytes(256 * 1024))

    async def closes(pid: int, address: str, close: Callable[[Any, ID], Awaitable[None]]) -> bool:
        closed = trio.Event()
        host = guarded("host")
        info = info_from_p2p_addr(Multiaddr(address))

        async def closing() -> None:
            with suppress(Exception):
                await close(host, info.peer_id)
            closed.set()

        async with listening(host), trio.open_nursery() as nursery:
            await host.connect(info)
            streams = [await host.new_stream(info.peer_id, [WAIT]) for _ in range(100)]
            os.kill(pid, signal.SIGSTOP)
            for stream in streams:
                nursery.start_soon(fill, stream)
            await trio.testing.wait_all_tasks_blocked(0.2)  # the socket's buffers are full
            assert host.get_network().get_connections(info.peer_id), "a stop is noticed"
            nursery.start_soon(closing)
            with trio.move_on_after(1.5):
                await closed.wait()
            found = closed.is_set()
            os.kill(pid, signal.SIGKILL)
            nursery.cancel_scope.cancel()
        return found

    async def by_the_library(host: Any, peer: ID) -> None:
        await host.disconnect(peer)

    def found(close: Callable[[Any, ID], Awaitable[None]]) -> bool:
        pid, address = _start_peer()
        results: list[bool] = []

        async def main() -> None:
            results.append(await closes(pid, address, close))

        try:
            run(main)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return results[0]

    assert not found(by_the_library), "the fault is gone"
    assert found(guards.close_sockets)


class _Bytes:
    """A reader of given bytes that counts what was asked for."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.most = 0

    async def read(self, count: int | None = None) -> bytes:
        assert count is not None
        self.most = max(self.most, count)
        part, self.raw = self.raw[:count], self.raw[count:]
        return part


@pytest.mark.parametrize("raw", [b"\xff\xff\xff\x7f" + b"a" * 5000, b"\x03\xff\xfe\n", b"\x02ab"])
def test_negotiation_reads_short_ascii_lines_only(raw: bytes) -> None:
    guards.bound_negotiation()

    async def main() -> None:
        reader = _Bytes(raw)
        communicator = multiselect_communicator.MultiselectCommunicator(reader)  # type: ignore[arg-type]
        with pytest.raises(MultiselectCommunicatorError):
            await communicator.read()
        assert reader.most <= guards.MULTISTREAM_BYTES_MAX

    run(main)


def test_the_librarys_own_negotiation_reads_any_length() -> None:
    async def main() -> None:
        reader = _Bytes(b"\xff\xff\xff\x7f" + b"a" * 5000)
        with pytest.raises(Exception, match=r".*"):
            await read_delim(reader)  # type: ignore[arg-type]
        assert reader.most > 10**8, "the fault is gone"

    run(main)


OVERRUN_COUNT = 300


async def _overrun(client: Any, peer: ID) -> None:
    """Send 19 MB on one stream whose window is 256 KiB and whose reader is slow."""
    stream = await client.new_stream(peer, [WAIT])
    number = stream.muxed_stream.stream_id
    for _ in range(OVERRUN_COUNT):
        frame = struct.pack("!BBHII", 0, 0, 0, number, 65000) + bytes(65000)
        await muxed_of(client, peer)._write_frame(frame)


async def _flood(client: Any, peer: ID) -> None:
    """Open 500 streams and say nothing on them."""
    for number in range(1_000_001, 1_001_001, 2):
        await muxed_of(client, peer)._write_frame(struct.pack("!BBHII", 0, 1, 1, number, 0))


def _unread(muxed: Any) -> int:
    return sum(map(len, muxed.stream_buffers.values()))


@pytest.mark.parametrize(
    ("attack", "held"),
    [
        (_overrun, lambda muxed: _unread(muxed) >= OVERRUN_COUNT * 65000),
        (_flood, lambda muxed: len(muxed.streams) >= 500),
    ],
    ids=["overruns its window", "opens endless streams"],
)
def test_who_ignores_flow_control_is_closed(
    attack: Callable[[Any, ID], Awaitable[None]], held: Callable[[Any], bool]
) -> None:
    async def attacked(victim: Any, client: Any, condition: Callable[[Any], bool]) -> bool:
        async with listening(victim) as info, listening(client):
            await client.connect(info)
            muxed = muxed_of(victim)
            with suppress(Exception):  # the attacker's end of a closed connection
                await attack(client, info.peer_id)
            await until(lambda: condition(muxed))
            return bool(muxed.event_closed.is_set())

    async def main() -> None:
        with library_yamux():
            assert not await attacked(bare("victim"), bare("client"), held), "the fault is gone"
        victim, client = guarded("victim"), guarded("client")
        assert await attacked(victim, client, lambda muxed: muxed.event_closed.is_set())

    run(main)


def test_the_library_does_not_obey_which_muxer_it_is_given() -> None:
    async def main() -> None:
        option: Any = {TProtocol(YAMUX): guards.BoundedYamux}
        with library_yamux():
            victim, client = bare("victim", muxer_opt=option), bare("client", muxer_opt=option)
            async with listening(victim) as info, listening(client):
                await client.connect(info)
                assert type(muxed_of(victim)) is Yamux, "the fault is gone"
        victim, client = guarded("victim"), guarded("client")
        async with listening(victim) as info, listening(client):
            await client.connect(info)
            assert type(muxed_of(victim)) is guards.BoundedYamux

    run(main)
