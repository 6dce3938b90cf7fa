"""Calls from a consumer's gateway through a provider's peer port to an engine process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import cast

import pytest
from aiohttp import ClientSession, web

from crdt import AccountId, ManifestDigest, OperationId, PeerId, RecordId, RemoteFault, network_id
from inference import Breaker, Endpoint, NodeAdvert, Offer, Offered
from inference import Task as OfferTask
from node.api.guard import Guard
from node.api.openai import OpenAIRoutes
from node.api.operations import Auth
from node.api.server import ApiLimits, ApiServer
from node.gateway import (
    Admitted,
    Authorised,
    Consumer,
    EngineUpstream,
    Measured,
    NoModel,
    Provider,
    TokenCounts,
)
from node.metrics import Metrics
from node.peer import NodeKey, PeerServer, PeerSession
from tests.engines.fake import PROMPT_TOKENS, FakeEngine, fake_engine

NETWORK = network_id("test")
RECORD = RecordId(b"\x05" * 32)
TOKENS = 16
CHAT = {"model": "ada/tiny", "messages": [{"role": "user", "content": "which peer?"}]}
FULL = TokenCounts(input=PROMPT_TOKENS, output=TOKENS)


class Refused(RemoteFault):
    code = "bad-order"


@dataclass
class Books:
    """Payer and payee that write down what they are told, and nothing else."""

    received_calls: list[Measured] = field(default_factory=list)
    served_calls: list[Measured] = field(default_factory=list)
    booked: asyncio.Event = field(default_factory=asyncio.Event)
    paying: bool = True

    def authorise(self, offered: Offered, path: str, body: bytes) -> Authorised:
        return Authorised(offered, {"Hansa-Order": "yes"} if self.paying else {}, b"n", b"o")

    def received(self, authorised: Authorised, measured: Measured) -> None:
        self.received_calls.append(measured)
        self.booked.set()

    def admit(self, caller: PeerId, headers: Mapping[str, str], path: str, body: bytes) -> Admitted:
        if headers.get("Hansa-Order") != "yes":
            raise Refused("the call has no order")
        return Admitted(RECORD, b"n", b"o")

    def served(self, admitted: Admitted, measured: Measured) -> None:
        self.served_calls.append(measured)
        self.booked.set()


class Anybody:
    """A guard that lets everybody in; who may call is tested with the API."""

    def admit(self, request: web.Request, auth: Auth, body: bytes) -> None:
        return None


@dataclass
class Machine:
    """One engine, as its own node and the adverts know it."""

    url: str | None

    def engine_url(self, record: RecordId) -> str | None:
        return self.url

    def engine_name(self, record: RecordId) -> str:
        return "fake"


@dataclass
class World:
    """Every offer there is; local to the consumer's node."""

    offers: list[Offered] = field(default_factory=list)

    def resolve(self, reference: str) -> Sequence[RecordId]:
        if reference != "ada/tiny":
            raise NoModel(f"no model is known as {reference!r}")
        return [RECORD]

    def offered(self, record: RecordId) -> Sequence[Offered]:
        return self.offers

    def rtt_ms(self, peer: PeerId) -> float:
        return 0.0


def offer(**changes: object) -> Offer:
    values: dict[str, object] = {
        "record": RECORD, "version": OperationId(b"\x06" * 32),
        "manifest": ManifestDigest(b"\x07" * 32), "served_name": "fake", "engine": "vllm",
        "device": "cpu", "quantization": "BF16", "context": 512, "price_input": 1,
        "price_output": 2, "price_cached": 1, "region": "eu", "running": 0, "waiting": 0,
        "slots": 4, "tokens_per_s_milli": 100_000, "ttft_ms": 5,
        "tasks": OfferTask.CHAT | OfferTask.COMPLETIONS,
    }  # fmt: skip
    return Offer(**{**values, **changes})  # type: ignore[arg-type]


class Scene:
    """A consumer with its HTTP API, and providers with their engines."""

    def __init__(self, session: ClientSession, base: str, stack: AsyncStack) -> None:
        self.http = session
        self.base = base
        self.world = stack.world
        self.books = stack.books
        self.breaker = stack.breaker
        self._stack = stack

    async def provider(self, engine_url: str | None, seed: int, **changes: object) -> PeerId:
        return await self._stack.provider(engine_url, seed, **changes)

    async def chat(self, **changes: object) -> tuple[int, bytes, Mapping[str, str]]:
        async with self.http.post(
            f"{self.base}/v1/chat/completions", json={**CHAT, **changes}
        ) as answer:
            return answer.status, await answer.read(), answer.headers

    async def settled(self, count: int = 1) -> None:
        """Wait until both sides have booked so many calls."""
        async with asyncio.timeout(5):
            while min(len(self.books.received_calls), len(self.books.served_calls)) < count:
                self.books.booked.clear()
                await self.books.booked.wait()


class AsyncStack:
    """What a scene starts and has to stop."""

    def __init__(self) -> None:
        self.world = World()
        self.books = Books()
        self.breaker = Breaker()
        self.upstream = EngineUpstream()
        self.servers: list[PeerServer] = []

    async def provider(self, engine_url: str | None, seed: int, **changes: object) -> PeerId:
        key = NodeKey(bytes([seed]) * 32)
        server = PeerServer(key, NETWORK, "127.0.0.1", 0)
        provider = Provider(payee=self.books, engines=Machine(engine_url), upstream=self.upstream)
        server.add_routes(provider.routes())
        await server.start()
        self.servers.append(server)
        endpoint = Endpoint("127.0.0.1", server.port, key.certificate_sha256)
        advert = NodeAdvert(
            peer=key.peer, operator=AccountId(b"\x08" * 32), sequence_ms=1,
            endpoints=(endpoint,),
        )  # fmt: skip
        self.world.offers.append(Offered(advert, offer(**changes)))
        return key.peer


@asynccontextmanager
async def running() -> AsyncIterator[Scene]:
    stack = AsyncStack()
    key = NodeKey(b"\x01" * 32)
    session = PeerSession(key, NETWORK)
    consumer = Consumer(
        own=key.peer, models=stack.world, offers=stack.world, engines=Machine(None),
        payer=stack.books, session=session, upstream=stack.upstream, breaker=stack.breaker,
        rng=Random(7),
    )  # fmt: skip

    api = ApiServer("127.0.0.1", 0, cast("Guard", Anybody()), Metrics(), ApiLimits())
    api.add_routes(OpenAIRoutes(consumer).routes())
    await api.start()
    async with ClientSession() as http:
        try:
            yield Scene(http, api.url, stack)
        finally:
            await session.close()
            await stack.upstream.close()
            await api.stop(grace_s=1)
            for server in stack.servers:
                await server.stop(grace_s=1)


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with fake_engine(tokens=TOKENS) as found:
        yield found


async def test_a_stream_crosses_both_nodes_and_both_count_the_same(engine: FakeEngine) -> None:
    async with running() as scene:
        peer = await scene.provider(engine.url, 2)
        status, body, headers = await scene.chat(stream=True)
        assert status == 200
        assert body.endswith(b"data: [DONE]\n\n")
        assert b"usage" not in body
        assert json.loads(headers["Hansa-Route"])["peer"] == peer
        await scene.settled()
        received, served = scene.books.received_calls[0], scene.books.served_calls[0]
        assert received.counts == served.counts == FULL
        assert received.complete
        assert received.request_hash == served.request_hash
        assert received.response_hash == served.response_hash


async def test_a_whole_answer_crosses_untouched(engine: FakeEngine) -> None:
    async with running() as scene:
        await scene.provider(engine.url, 2)
        async with scene.http.post(
            f"{engine.url}/v1/chat/completions", json={**CHAT, "model": "fake"}
        ) as direct:
            wanted = await direct.read()
        status, body, _ = await scene.chat()
        assert (status, body) == (200, wanted)
        await scene.settled()
        assert scene.books.received_calls[0].counts == FULL


@pytest.mark.parametrize("fault", ["busy", "busy-event", "garbage", "die"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_host_that_fails_before_its_first_byte_costs_a_retry(
    engine: FakeEngine, fault: str, stream: bool
) -> None:
    if fault == "busy-event" and not stream:
        fault = "busy"
    with fake_engine(tokens=TOKENS, fault=fault) as broken:
        async with running() as scene:
            bad = await scene.provider(broken.url, 2, ttft_ms=1, tokens_per_s_milli=10**9)
            good = await scene.provider(engine.url, 3)
            status, _, headers = await scene.chat(stream=stream)
            route = json.loads(headers["Hansa-Route"])
            assert status == 200
            assert (route["peer"], route["attempts"]) == (good, 2)
            assert {one["peer"] for one in route["refused"]} == {bad}


async def test_a_dead_host_costs_a_retry(engine: FakeEngine) -> None:
    async with running() as scene:
        await scene.provider(engine.url, 2, tokens_per_s_milli=10**9)
        dead = scene._stack.servers[0]
        good = await scene.provider(engine.url, 3)
        await dead.stop(grace_s=0)
        status, _, headers = await scene.chat(stream=True)
        assert status == 200
        assert json.loads(headers["Hansa-Route"])["peer"] == good


async def test_nobody_left_is_one_clear_error() -> None:
    with fake_engine(fault="busy") as broken:
        async with running() as scene:
            await scene.provider(broken.url, 2)
            await scene.provider(None, 3)
            status, body, _ = await scene.chat()
            error = json.loads(body)["error"]
            assert status == 503
            assert error["code"] == "all-offers-failed"
            assert "2 offers failed" in error["message"]


@pytest.mark.parametrize("fault", ["error-event", "cut", "die-midstream"])
async def test_a_stream_that_breaks_off_says_so_and_counts_what_came(fault: str) -> None:
    with fake_engine(tokens=TOKENS, fault=fault) as broken:
        async with running() as scene:
            await scene.provider(broken.url, 2)
            status, body, _ = await scene.chat(stream=True)
            assert status == 200
            assert b"[DONE]" not in body.split(b"\n\n")[-2]
            assert json.loads(body.split(b"\n\n")[-2].removeprefix(b"data: "))["error"]
            await scene.settled()
            received, served = scene.books.received_calls[0], scene.books.served_calls[0]
            assert received.counts == served.counts
            assert 0 < received.counts.output < TOKENS
            assert not received.complete


async def test_five_failures_open_the_breaker(engine: FakeEngine) -> None:
    with fake_engine(tokens=TOKENS, fault="busy") as broken:
        async with running() as scene:
            bad = await scene.provider(broken.url, 2)
            for _ in range(5):
                await scene.chat()
            status, body, _ = await scene.chat()
            assert status == 503
            assert "breaker open" in json.loads(body)["error"]["message"]
            assert scene.breaker.share(bad, RECORD, 0) == 0


async def test_a_client_that_leaves_stops_the_engine_and_pays_for_what_it_got() -> None:
    with fake_engine(tokens=1000, pace_ms=5) as slow:
        async with running() as scene:
            await scene.provider(slow.url, 2)
            async with scene.http.post(
                f"{scene.base}/v1/chat/completions", json={**CHAT, "stream": True}
            ) as answer:
                for _ in range(10):
                    await answer.content.readuntil(b"\n\n")
                answer.close()
            await scene.settled()
            async with asyncio.timeout(5):
                while True:
                    async with scene.http.get(f"{slow.url}/fake") as told:
                        if (await told.json())["aborted"]:
                            break
            assert 0 < scene.books.received_calls[0].counts.output < 1000


async def test_without_an_order_nothing_is_served(engine: FakeEngine) -> None:
    async with running() as scene:
        await scene.provider(engine.url, 2)
        scene.books.paying = False
        status, body, _ = await scene.chat()
        assert status == 503
        assert "no order" in json.loads(body)["error"]["message"]
        assert not scene.books.served_calls


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "bad-call"),
        (b'{"model":"nobody/nothing","messages":[]}', 404, "model-not-found"),
        (b'{"model":"ada/tiny","hansa":{"price_input_max":"cheap"}}', 400, "bad-call"),
        (b'{"model":"ada/tiny","hansa":{"regions":[1]}}', 400, "bad-call"),
        (b'{"model":"ada/tiny","hansa":{"price_input_max":0}}', 503, "no-offer"),
    ],
)
async def test_a_bad_call_is_answered_in_openais_shape(
    engine: FakeEngine, body: bytes, status: int, code: str
) -> None:
    async with running() as scene:
        await scene.provider(engine.url, 2)
        async with scene.http.post(
            f"{scene.base}/v1/chat/completions",
            data=body,
            headers={"Content-Type": "application/json"},
        ) as answer:
            error = (await answer.json())["error"]
            assert (answer.status, error["code"]) == (status, code)
            assert error["message"]


async def test_an_engines_own_refusal_reaches_the_client_in_its_words(engine: FakeEngine) -> None:
    async with running() as scene:
        await scene.provider(engine.url, 2)
        async with scene.http.post(
            f"{scene.base}/v1/embeddings", json={"model": "ada/tiny", "input": "x"}
        ) as answer:
            assert answer.status == 503  # the offer cannot embed
            assert "cannot do embeddings" in (await answer.json())["error"]["message"]
