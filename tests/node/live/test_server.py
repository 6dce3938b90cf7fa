"""The WebSocket port, with bare sockets for clients."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest
from pycrdt import write_message

from node.live import LiveLimits, LivePortInUse, LiveServer, PaceLimits, SessionBroken
from node.live.protocol import read_frame, write_answer, write_question, write_update
from tests.node.live.replicas import MemoryCard, Replicas, Unreachable
from tests.node.live.yjs import insert_text, update

LIMITS = LiveLimits(publish_s=0.01, drain_s=0.2)


@asynccontextmanager
async def serving(card=None, **arguments):
    arguments.setdefault("limits", LIMITS)
    arguments.setdefault("notice", lambda _line: None)
    async with (
        LiveServer(card or Replicas().card(), **arguments) as server,
        aiohttp.ClientSession() as client,
    ):
        yield server, client


def connect(client, server, *, room=None, **headers):
    url = f"http://127.0.0.1:{server.port}/{room or server.room}"
    return client.ws_connect(url, headers=headers, timeout=aiohttp.ClientWSTimeout(ws_close=0.2))


async def closing_code(socket) -> int:
    async with asyncio.timeout(20):
        while not (await socket.receive()).type.name.startswith("CLOS"):
            pass
    return socket.close_code


async def test_it_listens_on_this_machine_only():
    async with serving() as (server, _client):
        assert server.url == f"ws://127.0.0.1:{server.port}"
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.2", server.port)


@pytest.mark.parametrize(
    ("room", "headers"),
    [
        ("card-guess", {}),
        (None, {"Host": "rebound.example"}),
        (None, {"Origin": "https://evil.example"}),
    ],
)
async def test_strangers_are_not_let_in(room, headers):
    async with serving() as (server, client):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await connect(client, server, room=room, **headers)
        assert refused.value.status == 403
        assert server.editor_count == 0


async def test_a_page_of_this_machine_is_let_in():
    async with (
        serving() as (server, client),
        connect(client, server, Origin="http://localhost:3000") as socket,
    ):
        assert read_frame(await socket.receive_bytes())


async def test_an_ordinary_request_is_told_what_this_is():
    async with serving() as (server, client):
        url = f"http://127.0.0.1:{server.port}/{server.room}"
        async with client.get(url) as response:
            assert response.status == 426


async def test_a_message_beyond_the_bound_closes_the_connection():
    async with serving() as (server, client), connect(client, server) as socket:
        await socket.send_bytes(b"\x00" * (LIMITS.message_bytes_max + 1))
        assert await closing_code(socket) == 1009


@pytest.mark.parametrize(
    "raw", [b"\x00\x09\x00", write_update(b"\x01"), write_question(b"\x05")], ids=repr
)
async def test_what_is_not_the_protocol_closes_the_connection_for_good(raw):
    notices: list[str] = []
    async with (
        serving(notice=notices.append) as (server, client),
        connect(client, server) as socket,
    ):
        await socket.send_bytes(raw)
        assert await closing_code(socket) == 4400
    assert len(notices) == 1


async def test_a_text_message_closes_the_connection_for_good():
    async with serving() as (server, client), connect(client, server) as socket:
        await socket.send_str("hello")
        assert await closing_code(socket) == 4400


async def test_a_deeply_nested_value_reaches_neither_pycrdt_nor_the_card():
    nested = b"\x01\x01\x07\x00\x08\x01\x04text\x01" + b"\x75\x01" * 26_000 + b"\x7e\x00"
    card = Replicas("safe").card()
    async with serving(card) as (server, client), connect(client, server) as socket:
        await socket.send_bytes(b"\x00\x02" + write_message(nested))
        assert await closing_code(socket) == 4400
    assert card.text() == "safe"


async def test_a_flood_is_held_up_and_then_cut_off():
    limits = LiveLimits(pace=PaceLimits(per_s=200, burst=20, patience_s=0.1), drain_s=0.2)
    async with serving(limits=limits) as (server, client), connect(client, server) as socket:
        for _ in range(200):
            await socket.send_bytes(write_update(b"\x00\x00"))
        assert await closing_code(socket) == 1008


async def test_one_editor_that_floods_does_not_hold_up_another():
    limits = LiveLimits(pace=PaceLimits(per_s=1, burst=5, patience_s=60), drain_s=0.2)
    card = Replicas().card()
    async with (
        serving(card, limits=limits) as (server, client),
        connect(client, server) as flood,
        connect(client, server) as other,
    ):
        for _ in range(100):
            await flood.send_bytes(write_update(b"\x00\x00"))
        await other.send_bytes(write_question(b"\x00"))
        async with asyncio.timeout(5):
            await other.receive_bytes()
            await other.receive_bytes()


async def test_an_editor_that_does_not_read_is_cut_off():
    limits = LiveLimits(queue_bytes_max=2000, drain_s=0.2)
    async with (
        serving(Replicas("x" * 3000).card(), limits=limits) as (server, client),
        connect(client, server) as socket,
    ):
        await socket.send_bytes(write_question(b"\x00"))
        assert await closing_code(socket) == 1013


async def test_the_number_of_editors_is_bounded():
    limits = LiveLimits(editor_count_max=1, drain_s=0.2)
    async with serving(limits=limits) as (server, client), connect(client, server):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await connect(client, server)
        assert refused.value.status == 503


async def test_the_number_of_sockets_is_bounded():
    limits = LiveLimits(socket_count_max=1, drain_s=0.2)
    async with serving(limits=limits) as (server, client), connect(client, server):
        with pytest.raises(aiohttp.ClientConnectionError):
            await connect(client, server)


async def test_sockets_that_ask_for_nothing_keep_no_editor_out():
    limits = LiveLimits(socket_count_max=3, drain_s=0.2)
    async with serving(limits=limits) as (server, client):
        idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
        async with connect(client, server):
            assert await idle[0][0].read() == b"", "the first of them had to go"
        for _reader, writer in idle:
            writer.close()


async def test_a_socket_that_asks_for_nothing_is_closed_in_time():
    async with serving(limits=LiveLimits(head_s=0.1, drain_s=0.2)) as (server, client):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /")
        assert await reader.read() == b""
        writer.close()
        async with connect(client, server):
            pass


async def test_a_taken_port_is_named():
    async with serving() as (server, _client):
        with pytest.raises(LivePortInUse, match=f"port {server.port} on 127.0.0.1 is in use"):
            async with LiveServer(Replicas().card(), server.port):
                pass


async def test_edits_that_come_while_it_ends_are_taken_in_and_published():
    replicas = Replicas()
    limits = LiveLimits(publish_s=3600, drain_s=20)
    async with aiohttp.ClientSession() as client:
        async with LiveServer(replicas.card(), limits=limits) as server:
            socket = await connect(client, server)
            await socket.receive_bytes()
            answering = asyncio.create_task(_answer_the_last_question(socket))
        await answering
    assert replicas.replayed() == "late"


async def _answer_the_last_question(socket) -> None:
    await socket.send_bytes(write_answer(b"\x00\x00"))
    await socket.receive_bytes()
    await socket.send_bytes(write_update(update(insert_text(5, 0, "late"))))
    await socket.send_bytes(write_answer(b"\x00\x00"))
    assert await closing_code(socket) == 4410


async def test_a_session_that_cannot_go_on_says_so_and_still_publishes():
    replicas = Replicas()
    card = replicas.card()
    notices: list[str] = []
    async with (
        serving(card, notice=notices.append) as (server, client),
        connect(client, server) as socket,
    ):
        await socket.send_bytes(write_update(update(insert_text(5, 0, "kept"))))
        await socket.send_bytes(write_question(b"\x00"))
        for _ in range(2):
            await socket.receive_bytes()
        card.say("half a pair: \ud83d")  # what no card may say, and no editor can be sent
        with pytest.raises(SessionBroken, match="could not be shown"):
            await asyncio.wait_for(server.wait(), 20)
    assert replicas.replayed() == "kept"
    assert len(notices) == 1


class CrashingCard(MemoryCard):
    async def publish(self) -> int:
        raise RuntimeError("a bug in the adapter")


async def test_a_bug_while_publishing_does_not_let_anybody_type_on():
    replicas = Replicas()
    server = LiveServer(CrashingCard(replicas, 7, replicas.operations, 100), limits=LIMITS)
    with pytest.raises(RuntimeError, match="a bug in the adapter"):
        await _type_until_it_ends(server)


async def _type_until_it_ends(server: LiveServer) -> None:
    async with server, aiohttp.ClientSession() as client, connect(client, server) as socket:
        await socket.send_bytes(write_update(update(insert_text(5, 0, "x"))))
        with pytest.raises(RuntimeError, match="a bug in the adapter"):
            await asyncio.wait_for(server.wait(), 20)


async def test_an_editor_that_never_answers_does_not_hold_up_the_end():
    async with serving() as (server, client):
        await connect(client, server)


async def test_edits_that_could_not_be_published_are_said_when_it_ends():
    replicas = Replicas()
    with pytest.raises(Unreachable):
        await _type_while_the_node_is_down(replicas)


async def _type_while_the_node_is_down(replicas: Replicas) -> None:
    async with (
        serving(replicas.card()) as (server, client),
        connect(client, server) as socket,
    ):
        replicas.is_down = True
        await socket.send_bytes(write_update(update(insert_text(5, 0, "x"))))
        await socket.send_bytes(write_question(b"\x00"))
        for _ in range(2):  # our question, and its answer: behind the edit
            await socket.receive_bytes()
