"""The supervised child, seen from the node: real processes on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import psutil
import pytest
import pytest_asyncio

from crdt import PeerId, SigningKey, peer_id_of
from node.network import (
    BadAddress,
    NetworkBusy,
    NetworkClient,
    NetworkFailed,
    PeerRefused,
    PeerUnreachable,
    PortInUse,
    ProtocolUnspoken,
    TooLarge,
)
from tests.node.network.swarms import Recorder, ops_frame, seed_of, settings_for, start

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
Pair = tuple[NetworkClient, Recorder, NetworkClient, Recorder]
SETTINGS = settings_for("a")
PEER_C = peer_id_of(SigningKey(seed_of("c")).public)
SYNC = SETTINGS.protocols[0]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Pair]:
    """Two nodes, the second of which has the first as its bootstrap peer; tests share them."""
    a, seen_a = await start("a")
    b, seen_b = await start("b", *a.addresses)
    try:
        yield a, seen_a, b, seen_b
    finally:
        await asyncio.gather(a.stop(), b.stop())


@pytest_asyncio.fixture(loop_scope="module")
async def pair(shared: Pair) -> Pair:
    """The two, connected, with what earlier tests left forgotten."""
    a, seen_a, b, seen_b = shared
    await seen_b.until(lambda: a.peer_id in seen_b.connected)
    await seen_a.until(lambda: b.peer_id in seen_a.connected)
    seen_a.forget()
    seen_b.forget()
    return shared


async def ask(client: NetworkClient, peer: PeerId, payload: bytes, *, most: int = 2**20) -> bytes:
    return await client.request(peer, SYNC, payload, timeout_s=10, answer_bytes_max=most)


async def test_a_request_is_answered_refused_or_too_long_and_the_next_still_works(
    pair: Pair,
) -> None:
    a, seen_a, b, _ = pair
    assert await ask(b, a.peer_id, b"hello") == b"olleh"
    assert seen_a.asked == [(b.peer_id, b"hello")]
    for payload in (b"refuse", b"fail"):
        with pytest.raises(PeerRefused):
            await ask(b, a.peer_id, payload)
    with pytest.raises(PeerRefused, match="5 bytes"):
        await ask(b, a.peer_id, b"hello", most=4)
    big = os.urandom(2**20)
    assert await ask(a, b.peer_id, big) == big[::-1]
    with pytest.raises(TooLarge):
        await ask(a, b.peer_id, big + b"x")
    with pytest.raises(PeerUnreachable):
        await b.request(a.peer_id, SYNC, b"hang", timeout_s=0.3, answer_bytes_max=10)
    with pytest.raises(ProtocolUnspoken):
        await b.request(a.peer_id, "/other/protocol", b"", timeout_s=5, answer_bytes_max=9)
    assert await ask(b, a.peer_id, b"again") == b"niaga"


async def test_a_protocol_that_a_peer_does_not_speak_is_told_from_a_peer_that_is_gone(
    pair: Pair,
) -> None:
    a, _, b, _ = pair
    with pytest.raises(ProtocolUnspoken, match="/hansa/later/9"):
        await b.request(a.peer_id, "/hansa/later/9", b"x", timeout_s=5, answer_bytes_max=9)
    with pytest.raises(PeerUnreachable):
        await b.request(PEER_C, SYNC, b"x", timeout_s=5, answer_bytes_max=9)
    assert await ask(b, a.peer_id, b"again") == b"niaga"


async def test_a_probe_tells_who_answers_at_an_address_and_leaves_no_connection(
    pair: Pair,
) -> None:
    a, seen_a, b, seen_b = pair
    (address,) = a.addresses
    await b.probe(address)
    with pytest.raises(PeerUnreachable, match="nobody with that identity"):
        await b.probe(address.replace(a.peer_id, PEER_C))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(PeerUnreachable):
        await b.probe(f"/ip4/127.0.0.1/tcp/{port}/p2p/{a.peer_id}")
    with pytest.raises(BadAddress):
        await b.probe("nonsense")
    assert await ask(b, a.peer_id, b"still") == b"llits"
    assert not seen_a.lost
    assert not seen_b.lost
    assert [one.peer for one in a.peers()] == [b.peer_id]


async def test_peers_say_what_they_run_which_protocols_they_speak_and_where_they_see_us(
    pair: Pair,
) -> None:
    a, _, b, _ = pair
    async with asyncio.timeout(10):
        while not all(client.peers()[0].protocols for client in (a, b)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    for client in (a, b):
        (one,) = client.peers()
        assert one.software.startswith("hansa/")
        assert one.protocols == ("adverts/0", "compare/0", "peers/0", "reach/0", "sync/0")
        assert one.observed == "127.0.0.1"


async def test_fifty_requests_at_once_share_few_streams(pair: Pair) -> None:
    a, _, b, _ = pair
    answers = await asyncio.gather(*(ask(b, a.peer_id, b"%d" % i) for i in range(50)))
    assert answers == [(b"%d" % i)[::-1] for i in range(50)]


async def test_requests_that_nobody_waits_for_any_more_block_no_others(pair: Pair) -> None:
    a, seen_a, b, _ = pair
    for count in range(1, 17):
        with pytest.raises(PeerUnreachable, match="no answer"):
            await b.request(a.peer_id, SYNC, b"hang", timeout_s=0.1, answer_bytes_max=10)
        assert len(seen_a.asked) == count
    answers = await asyncio.gather(*(ask(b, a.peer_id, b"%d" % i) for i in range(10)))
    assert len(answers) == 10


async def test_gossip_reaches_with_author_and_what_is_invalid_does_not(pair: Pair) -> None:
    a, seen_a, b, seen_b = pair
    await _mesh(a, seen_b)
    seen_a.frames.clear()
    await b.publish(SETTINGS.ops_topic, b"garbage")
    await b.publish(SETTINGS.adverts_topic, b"garbage")
    good = ops_frame("good")
    await b.publish(SETTINGS.ops_topic, good)
    await seen_a.until(lambda: seen_a.frames)
    assert seen_a.frames == [(SETTINGS.ops_topic, b.peer_id, b.peer_id, good)]
    with pytest.raises(TooLarge):
        await b.publish(SETTINGS.ops_topic, b"x" * 65537)
    with pytest.raises(BadAddress):
        await b.publish("/other/topic", b"x")


async def test_publishing_without_end_is_refused_and_what_was_taken_arrives(pair: Pair) -> None:
    a, _, _, seen_b = pair
    await _mesh(a, seen_b)
    seen_b.frames.clear()
    taken = 0
    for i in range(200):
        try:
            await a.publish(SETTINGS.ops_topic, ops_frame(f"many {i}"))
        except NetworkBusy:
            break
        taken += 1
    else:
        raise AssertionError("200 frames at once are all queued")
    assert taken >= 60
    await seen_b.until(lambda: len(seen_b.frames) == taken)


async def test_a_killed_child_comes_back_on_its_port_and_finds_its_peers(pair: Pair) -> None:
    a, seen_a, b, seen_b = pair
    addresses, pid = a.addresses, a.child_pid
    assert pid is not None
    waiting = asyncio.create_task(ask(a, b.peer_id, b"hang"))
    await seen_b.until(lambda: seen_b.asked)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(PeerUnreachable):
        await waiting
    assert not seen_a.connected
    with pytest.raises(PeerUnreachable):
        await ask(a, b.peer_id, b"at once")
    await seen_b.until(lambda: seen_b.lost)
    await seen_b.until(lambda: seen_b.connected)
    assert a.addresses == addresses
    assert a.child_pid not in (None, pid)
    assert await ask(b, a.peer_id, b"back") == b"kcab"


async def test_a_child_without_room_to_start_is_a_clear_error() -> None:
    recorder = Recorder()
    small = replace(settings_for("small"), memory_bytes_max=64 * 2**20)
    client = NetworkClient(small, recorder)
    with pytest.raises(NetworkFailed, match="network child ended"):
        await client.start()


async def test_a_stopped_peer_is_noticed_and_a_continued_one_returns(pair: Pair) -> None:
    a, _, b, seen_b = pair
    assert a.child_pid is not None
    process = psutil.Process(a.child_pid)
    process.suspend()
    try:
        await seen_b.until(lambda: seen_b.lost, timeout_s=8)
    finally:
        process.resume()
    await seen_b.until(lambda: a.peer_id in seen_b.connected)
    assert b.peers()[0].peer == a.peer_id


async def test_a_banned_peer_stays_out_until_its_time(pair: Pair) -> None:
    a, seen_a, b, seen_b = pair
    await a.ban(b.peer_id, 1.0)
    await seen_b.until(lambda: seen_b.lost)
    with pytest.raises(PeerUnreachable):
        await a.dial(b.addresses[0])
    await seen_a.until(lambda: b.peer_id in seen_a.connected)


async def test_a_dropped_peer_may_return(pair: Pair) -> None:
    a, _, b, seen_b = pair
    await a.drop(b.peer_id, "a test")
    await seen_b.until(lambda: seen_b.lost)
    await seen_b.until(lambda: seen_b.connected)


async def test_dialling_nobody_somebody_else_and_nonsense(pair: Pair) -> None:
    a, _, b, _ = pair
    wrong = a.addresses[0].split("/p2p/")[0] + "/p2p/" + PEER_C
    with pytest.raises(PeerUnreachable):
        await b.dial(wrong)
    for nonsense in ("", "/ip4/1.2.3.4", "http://x", b.addresses[0]):
        with pytest.raises(BadAddress):
            await b.dial(nonsense)
    await b.dial(a.addresses[0])
    assert [peer.direction for peer in b.peers()] == ["out"]
    assert [peer.direction for peer in a.peers()] == ["in"]


async def test_a_taken_port_is_named_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = replace(settings_for("a"), listen=(f"/ip4/127.0.0.1/tcp/{port}",))
        client = NetworkClient(settings, Recorder())
        with pytest.raises(PortInUse, match=rf"port {port} .*p2p\.listen"):
            await client.start()
    await client.stop()


async def test_the_seed_is_in_no_argument_no_environment_and_no_text(pair: Pair) -> None:
    a, _, _, _ = pair
    assert a.child_pid is not None
    child = psutil.Process(a.child_pid)
    shown = " ".join(child.cmdline()) + str(child.environ()) + repr(SETTINGS)
    for spelling in (seed_of("a").hex(), repr(seed_of("a"))):
        assert spelling not in shown


async def test_garbage_from_strangers_hurts_nobody(pair: Pair) -> None:
    a, seen_a, b, _ = pair
    port = int(a.addresses[0].split("/")[4])
    hello = b"\x13/multistream/1.0.0\n"
    noise = b"\x07/noise\n"
    pid = a.child_pid
    for raw in (
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xff" * 30,
        os.urandom(4096),
        hello + b"\xff\xff\xff\x7f" + b"a" * 65536,
        hello + b"\x04\xff\xfe\xfd\n",
        hello + noise + b"\xff\xff" + os.urandom(65535),
        hello + noise + b"\x00\x20" + bytes(32),
    ):
        with contextlib.suppress(ConnectionError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(raw)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
    assert await ask(b, a.peer_id, b"alive") == b"evila"
    assert a.child_pid == pid
    assert seen_a.connected == {b.peer_id}


async def test_stopping_ends_the_child() -> None:
    a, _ = await start("a")
    pid = a.child_pid
    assert pid is not None
    await a.stop()
    assert not psutil.pid_exists(pid)
    await a.stop()


async def _mesh(sender: NetworkClient, receiver: Recorder) -> None:
    """Gossip until something arrives: subscriptions and the mesh take a heartbeat or two."""
    for i in range(100):
        await sender.publish(SETTINGS.ops_topic, ops_frame(f"mesh {i}"))
        try:
            await receiver.until(lambda: receiver.frames, timeout_s=0.2)
        except TimeoutError:
            continue
        return
    raise AssertionError("no mesh after 20 s")
