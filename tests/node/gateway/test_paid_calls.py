"""Calls between two nodes with their real books: what was streamed is what both sign for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from secrets import token_bytes
from typing import Any

import pytest

from crdt import Item, ItemId, Outcome, PeerId, Status, unpack_item
from inference import Breaker, Endpoint, NodeAdvert, Offered
from inference import Task as OfferTask
from node.api.royalties import peer_routes
from node.gateway import AllRefused, Consumer, EngineUpstream, Provider, Task, parse_call
from node.ledger import Exposure, Ledger, LedgerLimits, Pace, Party, Side, Surroundings
from node.peer import NodeKey, PeerEndpoint, PeerServer, PeerSession
from royalties import Receipt, Tokens, open_agreed
from tests.engines.fake import PROMPT_TOKENS, FakeEngine, fake_engine
from tests.node.gateway.test_between_nodes import CHAT, TOKENS, Machine, World, offer
from tests.royalties.parties import CONSUMER, NETWORK, NOON_S, PROVIDER
from tests.royalties.parties import Party as Account

FAST = Pace(settle_s=0.0, publish_s=0.0, retry_s=0.01, retry_s_max=0.05)


@dataclass
class Scene:
    """A consumer and a provider, each with its own ledger file."""

    consumer: Consumer
    payer: Ledger
    payee: Ledger
    published: list[Item]

    async def call(self, task: Task = Task.CHAT, *, leave_after: int = 0, **changes: Any) -> bytes:
        raw = json.dumps({**CHAT, **changes}).encode()
        whole = b""
        async with self.consumer.answer(parse_call(task, raw), request_id="r") as answer:
            async for piece in answer.pieces:
                whole += piece
                if leave_after and len(whole) >= leave_after:
                    break
        return whole

    async def agreed(self) -> Receipt:
        await asyncio.wait_for(self.payer.settling.settled(), 5)
        await asyncio.wait_for(self.payee.settling.settled(), 5)
        return open_agreed(self.published[-1], NETWORK).receipt


@asynccontextmanager
async def running(
    folder: Path, engine: str, limits: LedgerLimits | None = None
) -> AsyncIterator[Scene]:
    served, world, upstream = offer(tasks=OfferTask(7), context=4096), World(), EngineUpstream()
    published: list[Item] = []
    endpoints: list[PeerEndpoint] = []
    keys = {"b": NodeKey(b"\x02" * 32), "c": NodeKey(b"\x01" * 32)}
    sessions = {name: PeerSession(key, NETWORK) for name, key in keys.items()}

    async def publish(raws: Any) -> list[Outcome]:
        published.extend(item for raw in raws if (item := unpack_item(raw)).kind == 3)
        return [Outcome(ItemId(unpack_item(raw).id), Status.NEW) for raw in raws]

    def ledger(name: str, account: Account) -> Ledger:
        around = Surroundings(
            session=sessions[name], offer_of=lambda _record: served,
            account_of=lambda _account: None, endpoints_of=lambda _peer: endpoints,
            publish=publish, now_s=lambda: NOON_S, nonce=lambda: token_bytes(16),
            log=lambda *_words, **_fields: None,
        )  # fmt: skip
        party = Party(NETWORK, account.key, account.genesis, keys[name].public)
        limits_ = limits or LedgerLimits(pace=FAST)
        return Ledger(folder / f"{name}.sqlite3", party, around, limits_)

    payee, payer = ledger("b", PROVIDER), ledger("c", CONSUMER)
    server = PeerServer(keys["b"], NETWORK, "127.0.0.1", 0)
    provider = Provider(payee=payee.payee, engines=Machine(engine), upstream=upstream)
    server.add_routes([*provider.routes(), *peer_routes(payee)])
    await server.start()
    endpoints.append(server.endpoint("127.0.0.1"))
    advert = NodeAdvert(
        peer=keys["b"].peer, operator=payee.account, sequence_ms=1,
        endpoints=(Endpoint("127.0.0.1", server.port, keys["b"].certificate_sha256),),
    )  # fmt: skip
    world.offers.append(Offered(advert, served))
    consumer = Consumer(
        own=PeerId("me"), models=world, offers=world, engines=Machine(None), payer=payer.payer,
        session=sessions["c"], upstream=upstream, breaker=Breaker(), rng=Random(7),
    )  # fmt: skip
    await payee.start()
    await payer.start()
    try:
        yield Scene(consumer, payer, payee, published)
    finally:
        await payer.stop()
        await server.stop(grace_s=1)
        await payee.stop()
        for session in sessions.values():
            await session.close()
        await upstream.close()


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with fake_engine(tokens=TOKENS) as found:
        yield found


async def test_streams_and_whole_answers_count_the_same(tmp_path: Path, engine: FakeEngine) -> None:
    async with running(tmp_path, engine.url) as scene:
        await scene.call(stream=True)
        await scene.call()
        receipt = await scene.agreed()
        assert receipt.call_count == 2
        assert receipt.tokens == Tokens(2 * PROMPT_TOKENS, 0, 2 * TOKENS)
        assert receipt.amount_picos == 2 * (PROMPT_TOKENS * 1 + TOKENS * 2)
        for ledger, side in ((scene.payer, Side.CONSUMER), (scene.payee, Side.PROVIDER)):
            use = ledger.uses(side, 0, 10**6, count_max=9)[0]
            assert (use.open_count, use.disputed_count) == (0, 0)


async def test_many_calls_at_once_are_all_agreed(tmp_path: Path, engine: FakeEngine) -> None:
    async with running(tmp_path, engine.url) as scene:
        await asyncio.gather(*(scene.call(stream=n % 2 == 0) for n in range(40)))
        receipt = await scene.agreed()
        assert receipt.call_count == 40
        assert receipt.tokens.output_count == 40 * TOKENS


async def test_a_stream_that_its_client_leaves_pays_for_what_arrived(tmp_path: Path) -> None:
    with fake_engine(tokens=1000, pace_ms=2) as slow:
        async with running(tmp_path, slow.url) as scene:
            seen = await scene.call(stream=True, leave_after=2000)
            receipt = await scene.agreed()
            assert 0 < receipt.tokens.output_count < 1000
            assert receipt.tokens.output_count >= seen.count(b'"content"') - 1
            use = scene.payee.uses(Side.PROVIDER, 0, 10**6, count_max=9)[0]
            assert (use.open_count, use.disputed_count) == (0, 0)


@pytest.mark.parametrize("fault", ["cut", "error-event", "die-midstream"])
async def test_a_stream_that_its_engine_breaks_pays_for_what_arrived(
    tmp_path: Path, fault: str
) -> None:
    with fake_engine(tokens=TOKENS, fault=fault) as broken:
        async with running(tmp_path, broken.url) as scene:
            with pytest.raises(Exception, match=r"broke off|failed|ended"):
                await scene.call(stream=True)
            receipt = await scene.agreed()
            assert 0 < receipt.tokens.output_count < TOKENS


async def test_a_busy_engine_costs_nobody_anything(tmp_path: Path) -> None:
    limits = LedgerLimits(exposure=Exposure(consumer_calls=2), pace=FAST)
    with fake_engine(tokens=TOKENS, fault="busy") as busy:
        async with running(tmp_path, busy.url, limits) as scene:
            for _ in range(4):
                with pytest.raises(AllRefused, match="503"):
                    await scene.call(stream=True)
            assert scene.payee.payee._unsigned == {}
            assert scene.payer.payer.lanes == {}
