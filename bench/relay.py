"""The local hop: an agent's call through a node's HTTP API to its own engine, against the engine.

The node's API runs in a process of its own with the real server, key check, body parsing, routing,
metering and relay; the engine is a fast fake in another. The load generator speaks raw HTTP over
kept-alive connections. On a machine with few cores all three compete: requests per second are then
a floor, and the CPU per request is the figure to compare.
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import psutil

from crdt import (
    Account,
    AccountId,
    ManifestDigest,
    OperationId,
    PeerId,
    RecordId,
    network_id,
    peer_id_of,
)
from inference import Breaker, NodeAdvert, Offer, Offered, Task
from tests.engines.fake import fake_engine

NETWORK = network_id("bench")
RECORD = RecordId(b"\x05" * 32)
CALL: dict[str, Any] = {
    "model": "fake",
    "messages": [{"role": "user", "content": "Which peer answers this? " * 3}],
}


def run(
    *, requests: int = 4000, clients: int = 16, streams: int = 64, tokens: int = 50
) -> dict[str, Any]:
    """Return requests per second, added latency and CPU per request of the node's local hop.

    Args:
        requests: Whole answers, shared by the clients; a tenth as many with one client.
        clients: Connections at once for `req_per_s`.
        streams: Streams at once for `events_per_s`.
        tokens: Events in each stream.
    """
    with tempfile.TemporaryDirectory() as folder, fake_engine(tokens=tokens) as engine:
        command = [sys.executable, "-m", "bench.relay", engine.url, folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as node:
            try:
                assert node.stdout is not None
                port, key = node.stdout.readline().split()
                process = psutil.Process(node.pid)
                return asyncio.run(
                    _measured(engine.port, int(port), key, process, requests, clients, streams)
                )
            finally:
                node.terminate()
                node.wait(10)


async def _measured(
    engine: int, node: int, key: str, process: psutil.Process,
    requests: int, clients: int, streams: int,
) -> dict[str, Any]:  # fmt: skip
    whole = json.dumps(CALL).encode()
    streaming = json.dumps({**CALL, "stream": True}).encode()
    await _load(node, key, whole, count=200, clients=clients)  # warm up
    cpu, begun = _cpu_s(process), time.perf_counter()
    await _load(node, key, whole, count=requests, clients=clients)
    wall, used = time.perf_counter() - begun, _cpu_s(process) - cpu
    direct: list[float] = []
    hop: list[float] = []
    for _ in range(10):  # in turns, so that a busy moment of the machine meets both
        direct += await _load(engine, key, whole, count=requests // 100, clients=1)
        hop += await _load(node, key, whole, count=requests // 100, clients=1)
    events_direct = await _events_per_s(engine, key, streaming, streams)
    events = await _events_per_s(node, key, streaming, streams)
    return {
        "req_per_s": round(requests / wall, 1),
        "added_p50_ms": round((statistics.median(hop) - statistics.median(direct)) * 1000, 3),
        "direct_p50_ms": round(statistics.median(direct) * 1000, 3),
        "cpu_us_per_req": round(used / requests * 1e6, 1),
        "req_per_cpu_s": round(requests / used, 1),
        "events_per_s": round(events, 1),
        "events_per_s_direct": round(events_direct, 1),
    }


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _load(port: int, key: str, body: bytes, *, count: int, clients: int) -> list[float]:
    """Make `count` calls over `clients` connections; return each one's seconds."""
    left = count
    seconds: list[float] = []

    async def client() -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request = _request(port, key, body)
        while left > 0:
            left -= 1
            begun = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(_length(head))
            seconds.append(time.perf_counter() - begun)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds


async def _events_per_s(port: int, key: str, body: bytes, streams: int) -> float:
    """Return how many events a second arrive over `streams` streams at once, each asked 3 times."""
    events = 0

    async def client() -> None:
        nonlocal events
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(_request(port, key, body))
            raw = b""
            while not raw.endswith(b"0\r\n\r\n"):
                piece = await reader.read(65536)
                assert piece, "the stream was cut"
                raw += piece
            assert b"[DONE]" in raw
            events += raw.count(b"data: ")
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(streams)))
    return events / (time.perf_counter() - begun)


def _request(port: int, key: str, body: bytes) -> bytes:
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    raise AssertionError(f"no length in {head!r}")


class OwnEngine:
    """The one engine, model and offer of the measured node."""

    def __init__(self, url: str, own: PeerId) -> None:
        self._url = url
        offer = Offer(
            record=RECORD, version=OperationId(b"\x06" * 32),
            manifest=ManifestDigest(b"\x07" * 32), served_name="fake", engine="vllm",
            device="cpu", quantization="BF16", context=8192, price_input=1, price_output=2,
            price_cached=1, region="", running=0, waiting=0, slots=64, tokens_per_s_milli=0,
            ttft_ms=0, tasks=Task.CHAT,
        )  # fmt: skip
        advert = NodeAdvert(peer=own, operator=AccountId(b"\x08" * 32), sequence_ms=1)
        self._offers = [Offered(advert, offer)]

    def resolve(self, reference: str) -> Sequence[RecordId]:
        """Return the one record, whatever is asked for."""
        assert reference
        return [RECORD]

    def offered(self, record: RecordId) -> Sequence[Offered]:
        """Return the one offer."""
        assert record == RECORD
        return self._offers

    def rtt_ms(self, peer: PeerId) -> float:
        """Return 0: it is this node."""
        assert peer
        return 0.0

    def engine_url(self, record: RecordId) -> str | None:
        """Return where the fake engine listens."""
        assert record == RECORD
        return self._url

    def engine_name(self, record: RecordId) -> str:
        """Return the name the fake engine knows its model by."""
        assert record == RECORD
        return "fake"


class NobodyPays:
    """No call of this benchmark leaves the node."""

    def authorise(self, offered: Offered, path: str, body: bytes) -> Any:
        """Refuse."""
        raise AssertionError(f"{path} was to be paid for: {offered} {len(body)}")

    def received(self, authorised: Any, measured: Any) -> None:
        """Refuse."""
        raise AssertionError(f"{authorised} {measured}")


async def _serve(engine_url: str, folder: str) -> None:
    """Serve the OpenAI routes of a node until terminated; print the port and a key."""
    import structlog

    from node.access import Access
    from node.api.guard import Guard
    from node.api.openai import OpenAIRoutes
    from node.api.server import ApiLimits, ApiServer
    from node.gateway import Consumer, EngineUpstream
    from node.metrics import Metrics
    from node.peer import NodeKey, PeerSession

    def nobody(_account: AccountId) -> Account | None:
        return None

    # As a node logs by default: a line for each request is for `log.level = "debug"`.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    key = NodeKey(b"\x01" * 32)
    access = Access(Path(folder) / "access.sqlite3")
    secret, _ = access.create("bench", now_s=0)
    own = OwnEngine(engine_url, peer_id_of(key.public))
    consumer = Consumer(
        own=key.peer, models=own, offers=own, engines=own, payer=NobodyPays(),
        session=PeerSession(key, NETWORK), upstream=EngineUpstream(), breaker=Breaker(),
        rng=Random(7),
    )  # fmt: skip
    guard = Guard(
        network=NETWORK, node=key.public, token="-" * 32, access=access, account_of=nobody,
        now_s=lambda: int(time.time()),  # noqa: TID251 - the clock of a benchmark's node
    )  # fmt: skip
    api = ApiServer("127.0.0.1", 0, guard, Metrics(), ApiLimits())
    api.add_routes(OpenAIRoutes(consumer).routes())
    await api.start()
    sys.stdout.write(f"{api.port} {secret}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(sys.argv[1], sys.argv[2]))
