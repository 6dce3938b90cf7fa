"""The books of two nodes that settle with each other, over real files and the real peer channel."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import (
    Account,
    AccountId,
    EntryType,
    Item,
    ItemId,
    ManifestDigest,
    OperationId,
    Outcome,
    PublicKey,
    RecordId,
    RemoteFault,
    SigningKey,
    Status,
    make_entry,
    make_genesis,
    open_account,
    open_genesis,
    sha3,
    unpack_item,
)
from inference import NodeAdvert, Offer, Offered, Task
from node.api.royalties import peer_routes
from node.gateway.events import TokenCounts
from node.gateway.ports import Admitted, Authorised, Measured
from node.ledger import (
    CallTooDear,
    Exposure,
    Ledger,
    LedgerLimits,
    NotOurLane,
    OperatorNotAdmitted,
    Pace,
    Party,
    Side,
    Spending,
    Surroundings,
    TermsChanged,
)
from node.ledger.terms import ACCOUNT_HEADER, ORDER_HEADER, TICKET_HEADER, most_of
from node.ledger.wire import SETTLE_PATH, encode_settle
from node.peer import NodeKey, PeerEndpoint, PeerServer, PeerSession
from royalties import (
    BadOrder,
    ExposureExceeded,
    OrderExhausted,
    ReceiptRules,
    Tokens,
    open_agreed,
)
from tests.royalties.parties import CONSUMER, CREATOR, NETWORK, NOON_S, PROVIDER
from tests.royalties.parties import Party as Account_

PATH = "/peer/v1/openai/chat/completions"
BODY = b'{"model":"m","messages":[]}'
OFFER = Offer(
    record=RecordId(sha3(b"record")), version=OperationId(sha3(b"version")),
    manifest=ManifestDigest(sha3(b"manifest")), served_name="m", engine="vllm", device="cpu",
    quantization="BF16", context=1000, price_input=100_000, price_output=400_000,
    price_cached=10_000, region="", running=0, waiting=0, slots=4, tokens_per_s_milli=0,
    ttft_ms=0, tasks=Task.CHAT,
)  # fmt: skip
FAST = Pace(settle_s=0.0, publish_s=0.0, retry_s=0.01, retry_s_max=0.02, request_s=5.0)


@dataclass
class Log:
    """The replicated log, as far as publishing goes."""

    items: list[Item] = field(default_factory=list)
    published: asyncio.Event = field(default_factory=asyncio.Event)

    async def publish(self, raws: Sequence[bytes]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for raw in raws:
            item = unpack_item(raw)
            outcomes.append(Outcome(ItemId(item.id), Status.NEW))
            self.items.append(item)
        self.published.set()
        return outcomes

    @property
    def receipts(self) -> list[Item]:
        return [item for item in self.items if item.kind == 3]


@dataclass
class Node:
    """One node's ledger and peer port."""

    account: Account_
    key: NodeKey
    session: PeerSession
    ledger: Ledger
    log: Log
    failed: asyncio.Event
    server: PeerServer | None = None


class World:
    """Two nodes, B serves, C consumes; either can be stopped and started from its files."""

    def __init__(self, folder: Path, limits: LedgerLimits) -> None:
        self.folder = folder
        self.limits = limits
        self.offer: Offer | None = OFFER
        self.endpoints: list[PeerEndpoint] = []
        self.now_s = NOON_S
        self.accounts: dict[AccountId, Account] = {}
        self.seeds = itertools.count(1)

    async def node(self, name: str, account: Account_, *, serves: bool) -> Node:
        key = NodeKey(sha3(name.encode()))
        session = PeerSession(key, NETWORK, now_s=lambda: self.now_s)
        log = Log()
        failed = asyncio.Event()
        around = Surroundings(
            session=session,
            offer_of=lambda record: self.offer if record == OFFER.record else None,
            account_of=self.accounts.get,
            endpoints_of=lambda _peer: self.endpoints,
            publish=log.publish,
            now_s=lambda: self.now_s,
            nonce=lambda: next(self.seeds).to_bytes(16, "big"),
            log=lambda event, **_fields: failed.set() if event == "settlement-failed" else None,
        )
        party = Party(NETWORK, account.key, account.genesis, key.public)
        ledger = Ledger(self.folder / f"{name}.sqlite3", party, around, self.limits)
        await ledger.start()
        node = Node(account, key, session, ledger, log, failed)
        if serves:
            server = PeerServer(key, NETWORK, "127.0.0.1", 0, now_s=lambda: self.now_s)
            server.add_routes(peer_routes(ledger))
            await server.start()
            self.endpoints = [server.endpoint("127.0.0.1")]
            node.server = server
        return node

    async def stop(self, node: Node) -> None:
        if node.server is not None:
            await node.server.stop(grace_s=0)
            self.endpoints = []
        await node.ledger.stop()
        await node.session.close()


@asynccontextmanager
async def world(folder: Path, limits: LedgerLimits | None = None) -> AsyncIterator[Any]:
    made = World(folder, limits or LedgerLimits(pace=FAST))
    provider = await made.node("b", PROVIDER, serves=True)
    consumer = await made.node("c", CONSUMER, serves=False)
    try:
        yield made, provider, consumer
    finally:
        await made.stop(consumer)
        await made.stop(provider)


def offered(provider: Node, offer: Offer = OFFER) -> Offered:
    return Offered(NodeAdvert(provider.key.peer, provider.ledger.account, 1), offer)


def measured(output: int = 20, *, complete: bool = True) -> Measured:
    return Measured(
        TokenCounts(input=10, cached=2, output=output), sha3(BODY), sha3(b"answer"),
        complete, 5, 50,
    )  # fmt: skip


def promised(consumer: Node, provider: Node, body: bytes = BODY) -> tuple[Authorised, Admitted]:
    authorised = consumer.ledger.payer.authorise(offered(provider), PATH, body)
    admitted = provider.ledger.payee.admit(consumer.key.peer, authorised.headers, PATH, body)
    return authorised, admitted


def called(consumer: Node, provider: Node, output: int = 20, *, complete: bool = True) -> None:
    authorised, admitted = promised(consumer, provider)
    provider.ledger.payee.served(admitted, measured(output, complete=complete))
    consumer.ledger.payer.received(authorised, measured(output, complete=complete))


async def test_calls_end_in_one_published_receipt_that_any_replica_takes(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, provider, consumer):
        for _call in range(5):
            called(consumer, provider)
        await asyncio.wait_for(consumer.ledger.settling.settled(), 5)
        await asyncio.wait_for(provider.ledger.settling.settled(), 5)
        geneses = {one.id: open_genesis(one.genesis, NETWORK) for one in (CONSUMER, PROVIDER)}
        for log in (consumer.log, provider.log):
            last = open_agreed(log.receipts[-1], NETWORK).receipt
            assert last.tokens == Tokens(50, 10, 100)
            assert last.call_count == 5
            slot = ReceiptRules(NETWORK).judge(log.receipts[-1], geneses.get)
            assert slot.rank == last.sequence
        use = provider.ledger.uses(Side.PROVIDER, 0, 10**6, count_max=10)[0]
        assert (use.open_count, use.disputed_count) == (0, 0)


def rotation(who: Account_, number: int, root: SigningKey) -> Account:
    """Return a party's account after its root key was rotated."""
    entry = make_entry(
        network=NETWORK, type=EntryType.ROTATE_ROOT, account=who.id, predecessor=who.genesis.id,
        signer=SigningKey(sha3(b"recovery %d" % number)), key=root.public,
    )  # fmt: skip
    return open_account([who.genesis, entry], NETWORK)


async def test_an_order_ends_with_the_root_key_that_signed_it(tmp_path: Path) -> None:
    async with world(tmp_path) as (made, provider, consumer):
        authorised, _ = promised(consumer, provider)
        made.accounts[CONSUMER.id] = rotation(CONSUMER, 0, SigningKey(sha3(b"next")))
        body = b"another call under the same order"
        again = consumer.ledger.payer.authorise(offered(provider), PATH, body)
        assert again.headers[ORDER_HEADER] == authorised.headers[ORDER_HEADER]
        with pytest.raises(BadOrder, match="sign a new one"):
            provider.ledger.payee.admit(consumer.key.peer, again.headers, PATH, body)


async def test_what_was_served_before_a_rotation_is_settled_after_it(tmp_path: Path) -> None:
    async with world(tmp_path) as (made, provider, consumer):
        called(consumer, provider)
        made.accounts[CONSUMER.id] = rotation(CONSUMER, 0, SigningKey(sha3(b"next consumer")))
        made.accounts[PROVIDER.id] = rotation(PROVIDER, 1, SigningKey(sha3(b"next provider")))
        await asyncio.wait_for(consumer.ledger.settling.settled(), 5)
        await asyncio.wait_for(provider.ledger.settling.settled(), 5)
        assert ReceiptRules(NETWORK).judge(consumer.log.receipts[-1], made.accounts.get)


async def test_a_cut_call_is_paid_for_what_was_delivered(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, provider, consumer):
        authorised, admitted = promised(consumer, provider)
        provider.ledger.payee.served(admitted, measured(20, complete=False))
        consumer.ledger.payer.received(
            authorised, replace(measured(7, complete=False), response_hash=bytes(32))
        )
        await asyncio.wait_for(consumer.ledger.settling.settled(), 5)
        agreed = open_agreed(consumer.log.receipts[-1], NETWORK).receipt
        assert agreed.tokens.output_count == 7


async def test_a_call_that_delivered_nothing_costs_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, provider, consumer):
        authorised, admitted = promised(consumer, provider)
        empty = replace(measured(), counts=TokenCounts(), complete=False)
        provider.ledger.payee.served(admitted, empty)
        consumer.ledger.payer.received(authorised, empty)
        assert provider.ledger.payee._unsigned == {}
        assert [o.committed_picos for o in consumer.ledger.payer._orders.values()] == [0]
        await consumer.ledger.store.flush()
        assert not consumer.ledger.payer.lanes
        assert provider.ledger.uses(Side.PROVIDER, 0, 10**6, count_max=10) == []


async def test_a_provider_that_is_away_is_settled_with_when_it_is_back(tmp_path: Path) -> None:
    async with world(tmp_path) as (made, provider, consumer):
        endpoints, made.endpoints = made.endpoints, []
        called(consumer, provider)
        await asyncio.wait_for(consumer.failed.wait(), 5)
        made.endpoints = endpoints
        await asyncio.wait_for(consumer.ledger.settling.settled(), 5)
        assert len(consumer.log.receipts) == 1


@pytest.mark.parametrize("who", ["consumer", "provider", "both"])
async def test_a_restart_between_serving_and_signing_loses_nothing(
    tmp_path: Path, who: str
) -> None:
    made = World(tmp_path, LedgerLimits(pace=replace(FAST, settle_s=3600.0)))
    provider = await made.node("b", PROVIDER, serves=True)
    consumer = await made.node("c", CONSUMER, serves=False)
    called(consumer, provider, 20)
    called(consumer, provider, 30)
    await consumer.ledger.store.flush()
    await provider.ledger.store.flush()
    # No graceful stop: what the files hold is all that is left.
    made.limits = LedgerLimits(pace=FAST)
    for node in (provider, consumer):
        node.ledger.settling._task.cancel()
        node.ledger.settling._task = None
    if who in {"provider", "both"}:
        await made.stop(provider)
        provider = await made.node("b", PROVIDER, serves=True)
    if who in {"consumer", "both"}:
        consumer.ledger.settling._due.clear()
        await made.stop(consumer)
        consumer = await made.node("c", CONSUMER, serves=False)
    else:
        consumer.ledger.settling._due = dict.fromkeys(consumer.ledger.settling._due, 0.0)
        consumer.ledger.settling._pace = FAST
        consumer.ledger.settling.start()
    await asyncio.wait_for(consumer.ledger.settling.settled(), 5)
    agreed = open_agreed(consumer.log.receipts[-1], NETWORK).receipt
    assert agreed.tokens == Tokens(20, 4, 50)
    await made.stop(consumer)
    await made.stop(provider)


async def test_a_lane_goes_on_after_both_restarted(tmp_path: Path) -> None:
    made = World(tmp_path, LedgerLimits(pace=FAST))
    for round_ in (1, 2, 3):
        provider = await made.node("b", PROVIDER, serves=True)
        consumer = await made.node("c", CONSUMER, serves=False)
        called(consumer, provider)
        await asyncio.wait_for(consumer.ledger.settling.settled(), 5)
        agreed = open_agreed(consumer.log.receipts[-1], NETWORK).receipt
        assert (agreed.sequence, agreed.call_count) == (round_, round_)
        await made.stop(consumer)
        await made.stop(provider)


async def refuse(_raw: bytes) -> bytes:
    raise RemoteFault("not now")


async def test_a_lost_countersignature_is_brought_again(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, provider, consumer):
        provider.ledger.on_countersigned = refuse
        called(consumer, provider)
        await asyncio.wait_for(consumer.ledger.settling.settled(), 5)
        await asyncio.wait_for(provider.ledger.settling.settled(), 5)
        assert provider.ledger.payee._unsigned == {}
        assert consumer.ledger.payer.lanes == {}, "nothing is left to settle"
        assert len(provider.log.receipts) == 1


async def test_a_countersignature_is_brought_again_after_a_restart(tmp_path: Path) -> None:
    made = World(tmp_path, LedgerLimits(pace=replace(FAST, retry_s=3600.0, retry_s_max=3600.0)))
    provider = await made.node("b", PROVIDER, serves=True)
    consumer = await made.node("c", CONSUMER, serves=False)
    provider.ledger.on_countersigned = refuse
    called(consumer, provider)
    await asyncio.wait_for(consumer.log.published.wait(), 5)
    endpoints, made.endpoints = made.endpoints, []
    await made.stop(consumer)
    made.endpoints = endpoints
    assert provider.ledger.payee._unsigned != {}
    consumer = await made.node("c", CONSUMER, serves=False)
    await asyncio.wait_for(consumer.ledger.settling.settled(), 5)
    assert provider.ledger.payee._unsigned == {}
    await made.stop(consumer)
    await made.stop(provider)


def _swap(name: str, value: str) -> Callable[[dict[str, str]], dict[str, str]]:
    return lambda headers: {**headers, name: value}


@pytest.mark.parametrize(
    "spoil",
    [
        _swap(ORDER_HEADER, ""),
        _swap(ORDER_HEADER, "!"),
        _swap(ORDER_HEADER, "A" * 5000),
        _swap(ORDER_HEADER, "AAAA"),
        _swap(TICKET_HEADER, ""),
        _swap(TICKET_HEADER, "AAAA"),
        _swap(ACCOUNT_HEADER, ""),
        _swap(ACCOUNT_HEADER, "AAAA"),
        lambda headers: {**headers, TICKET_HEADER: headers[ORDER_HEADER]},
    ],
)
async def test_headers_that_cover_nothing_are_refused(
    tmp_path: Path, spoil: Callable[[dict[str, str]], dict[str, str]]
) -> None:
    async with world(tmp_path) as (_, provider, consumer):
        authorised = consumer.ledger.payer.authorise(offered(provider), PATH, BODY)
        with pytest.raises(RemoteFault):
            provider.ledger.payee.admit(
                consumer.key.peer, spoil(dict(authorised.headers)), PATH, BODY
            )


async def test_a_ticket_is_good_once_and_for_one_body(tmp_path: Path) -> None:
    async with world(tmp_path) as (made, provider, consumer):
        authorised = consumer.ledger.payer.authorise(offered(provider), PATH, BODY)
        admit = provider.ledger.payee.admit
        with pytest.raises(BadOrder, match="another body"):
            admit(consumer.key.peer, authorised.headers, PATH, BODY + b" ")
        admit(consumer.key.peer, authorised.headers, PATH, BODY)
        with pytest.raises(BadOrder, match="used already"):
            admit(consumer.key.peer, authorised.headers, PATH, BODY)
        made.now_s += 3600
        with pytest.raises(BadOrder, match="ended"):
            admit(consumer.key.peer, authorised.headers, PATH, BODY)


@pytest.mark.parametrize(
    "changed",
    [
        None,
        replace(OFFER, price_output=400_001),
        replace(OFFER, price_input=1),
        replace(OFFER, version=OperationId(sha3(b"newer"))),
        replace(OFFER, manifest=ManifestDigest(sha3(b"other"))),
    ],
)
async def test_an_order_for_other_terms_is_refused(tmp_path: Path, changed: Offer | None) -> None:
    async with world(tmp_path) as (made, provider, consumer):
        authorised = consumer.ledger.payer.authorise(offered(provider), PATH, BODY)
        made.offer = changed
        with pytest.raises(TermsChanged):
            provider.ledger.payee.admit(consumer.key.peer, authorised.headers, PATH, BODY)


async def test_a_provider_stops_at_its_exposure_and_goes_on_after_settling(tmp_path: Path) -> None:
    limits = LedgerLimits(
        exposure=Exposure(consumer_micros=20), pace=replace(FAST, settle_s=3600.0)
    )
    async with world(tmp_path, limits) as (_, provider, consumer):
        called(consumer, provider)
        called(consumer, provider)
        called(consumer, provider)
        with pytest.raises(ExposureExceeded, match="settle first"):
            promised(consumer, provider)
        consumer.ledger.settling._due = dict.fromkeys(consumer.ledger.settling._due, 0.0)
        consumer.ledger.settling._changed.set()
        await asyncio.wait_for(consumer.ledger.settling.settled(), 5)
        called(consumer, provider)


async def test_free_calls_are_bounded_in_number(tmp_path: Path) -> None:
    limits = LedgerLimits(exposure=Exposure(consumer_calls=2), pace=replace(FAST, settle_s=3600.0))
    async with world(tmp_path, limits) as (_, provider, consumer):
        called(consumer, provider)
        promised(consumer, provider)
        with pytest.raises(ExposureExceeded, match="2 calls"):
            promised(consumer, provider)


async def test_an_order_never_covers_more_than_its_cap(tmp_path: Path) -> None:
    limits = LedgerLimits(spending=Spending(order_micros=1), pace=FAST)
    async with world(tmp_path, limits) as (_, provider, consumer):
        first, _admitted = promised(consumer, provider)
        second, _admitted = promised(consumer, provider)
        assert first.order != second.order, "the first one's cap is taken: a new one is signed"
        old = {**second.headers, ORDER_HEADER: first.headers[ORDER_HEADER]}
        with pytest.raises(RemoteFault):
            provider.ledger.payee.admit(consumer.key.peer, old, PATH, BODY)
        known = provider.ledger.payee._orders[first.headers[ORDER_HEADER]]
        with pytest.raises(OrderExhausted):
            provider.ledger.payee._check_limits(known, 1)


async def test_a_node_signs_for_no_call_that_is_too_dear_and_not_with_itself(
    tmp_path: Path,
) -> None:
    limits = LedgerLimits(spending=Spending(call_micros_max=1), pace=FAST)
    async with world(tmp_path, limits) as (_, provider, consumer):
        with pytest.raises(CallTooDear):
            consumer.ledger.payer.authorise(
                offered(provider, replace(OFFER, context=10**6)), PATH, BODY
            )
        own = Offered(NodeAdvert(provider.key.peer, consumer.ledger.account, 1), OFFER)
        with pytest.raises(NotOurLane):
            consumer.ledger.payer.authorise(own, PATH, BODY)


async def test_more_answers_are_reserved_for_when_more_are_asked_for(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, provider, consumer):
        promised(consumer, provider)
        one = provider.ledger.payee._unsigned[AccountId(CONSUMER.genesis.id)].picos
        promised(consumer, provider, b'{"model":"m","n":4}')
        both = provider.ledger.payee._unsigned[AccountId(CONSUMER.genesis.id)].picos
        assert both - one > 3 * OFFER.context * OFFER.price_output


@pytest.mark.parametrize("raw", [b"", b"\x90", b"garbage", bytes(300_000)])
async def test_garbage_settles_nothing(tmp_path: Path, raw: bytes) -> None:
    async with world(tmp_path) as (made, provider, consumer):
        for path in ("/peer/v1/receipts/settle", "/peer/v1/receipts/countersign"):
            async with consumer.session.post(made.endpoints[0], path, raw) as response:
                assert response.status == 409
                assert (await response.json())["code"] in {"malformed-bytes", "remote-fault"}
        called(consumer, provider)
        await asyncio.wait_for(consumer.ledger.settling.settled(), 5)


@pytest.mark.parametrize(
    ("body", "times"),
    [
        (b'{"model":"m","\\u006e":4}', 4),
        (b'{"model":"m","n":128}', 128),
        (b'{"model":"m","n":1,"best_of":9}', 9),
        (b'{"model":"m","prompt":["a","b","c"]}', 3),
        (b'{"model":"m","prompt":["a","b"],"n":2}', 4),
        (b'{"model":"m","prompt":[[1,2],[3]]}', 2),
        (b'{"model":"m","prompt":[1,2,3]}', 1),
        (b'{"model":"m","messages":[{"n":7}]}', 1),
        (b"[]", 1),
        (b"{", 1),
    ],
)
def test_every_answer_a_body_asks_for_is_counted_however_it_is_spelled(
    body: bytes, times: int
) -> None:
    assert most_of(OFFER, body).picos == times * OFFER.context * OFFER.price_output


@given(
    st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 2**40), st.integers(1, 3),
    st.integers(0, 2000),
)  # fmt: skip
def test_nothing_is_signed_for_beyond_what_a_call_can_come_to(
    input_: int, cached: int, output: int, choices: int, limit: int
) -> None:
    most = most_of(OFFER, b'{"n":%d,"max_tokens":%d}' % (choices, limit))
    tokens = most.clipped(Tokens(input_, cached, output))
    assert tokens.at_most(Tokens(input_, cached, output))
    assert most.prices.amount_picos(tokens) <= most.picos
    assert tokens.output_count <= choices * min(limit or 2000, OFFER.context)
    honest = Tokens(600, 100, min(300 * choices, limit or 300))
    assert most.clipped(honest) == honest


async def test_a_provider_that_reports_more_than_can_be_is_not_signed_for(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, provider, consumer):
        authorised, admitted = promised(consumer, provider)
        lie = measured(2**39)
        provider.ledger.payee.served(admitted, lie)
        consumer.ledger.payer.received(authorised, lie)
        await asyncio.wait_for(consumer.ledger.settling.settled(), 5)
        assert consumer.log.receipts == []
        order = next(iter(consumer.ledger.payer._orders.values()))
        assert order.committed_picos <= order.order.cap_picos


async def test_a_stranger_learns_and_changes_nothing_of_a_lane(tmp_path: Path) -> None:
    limits = LedgerLimits(pace=replace(FAST, settle_s=3600.0))
    async with world(tmp_path, limits) as (made, provider, consumer):
        called(consumer, provider)
        (lane_id,) = consumer.ledger.payer.lanes
        report = encode_settle(consumer.ledger.payer.report(lane_id), NETWORK)
        stranger = PeerSession(NodeKey(b"s" * 32), NETWORK, now_s=lambda: made.now_s)
        async with stranger.post(made.endpoints[0], SETTLE_PATH, report) as response:
            assert (await response.json())["code"] == "not-our-lane"
        await stranger.close()
        assert provider.ledger.payee._unsigned[consumer.ledger.account].calls == 1
        await provider.ledger.store.flush()
        use = provider.ledger.uses(Side.PROVIDER, 0, 10**6, count_max=10)[0]
        assert (use.open_count, use.disputed_count) == (1, 0)


async def test_reports_of_calls_that_never_were_leave_nothing_on_the_disk(tmp_path: Path) -> None:
    limits = LedgerLimits(pace=replace(FAST, settle_s=3600.0))
    async with world(tmp_path, limits) as (_, provider, consumer):
        called(consumer, provider)
        (lane_id,) = consumer.ledger.payer.lanes
        report = consumer.ledger.payer.report(lane_id)
        made_up = [replace(report.calls[0], nonce=n.to_bytes(16, "big")) for n in range(900, 1000)]
        settle = replace(report, calls=tuple(made_up))
        claimed = await provider.ledger.payee.settle(settle, consumer.key.peer)
        assert len(claimed.disputes) == 100, "each is answered"
        await provider.ledger.store.flush()
        rows = provider.ledger.store._reader.execute("SELECT count(*) FROM disputes_v1").fetchone()
        assert rows == (0,)


async def test_an_order_takes_room_on_the_disk_only_once_it_covers_a_call(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, provider, consumer):

        def orders() -> int:
            database = provider.ledger.store._reader
            return int(database.execute("SELECT count(*) FROM orders_v1").fetchone()[0])

        authorised = consumer.ledger.payer.authorise(offered(provider), PATH, BODY)
        with pytest.raises(BadOrder):
            provider.ledger.payee.admit(consumer.key.peer, authorised.headers, PATH, b"other")
        await provider.ledger.store.flush()
        assert orders() == 0
        provider.ledger.payee.admit(consumer.key.peer, authorised.headers, PATH, BODY)
        await provider.ledger.store.flush()
        assert orders() == 1


async def test_two_consumers_may_choose_one_nonce(tmp_path: Path) -> None:
    async with world(tmp_path) as (made, provider, consumer):
        other = await made.node("d", CREATOR, serves=False)
        try:
            made.seeds = itertools.repeat(7)
            first = promised(consumer, provider)
            second = promised(other, provider)
            for _authorised, admitted in (first, second):
                provider.ledger.payee.served(admitted, replace(measured(), counts=TokenCounts()))
            assert provider.ledger.payee._unsigned == {}
            assert not provider.ledger.payee._under_way
        finally:
            await made.stop(other)


async def test_a_provider_that_stalls_holds_up_no_other_lane(tmp_path: Path) -> None:
    limits = LedgerLimits(pace=replace(FAST, settle_s=3600.0))
    async with world(tmp_path, limits) as (made, provider, consumer):
        settling = consumer.ledger.settling
        ask, both, started = settling._ask, asyncio.Event(), 0

        async def stalled(peer: Any, path: str, body: bytes) -> bytes:
            nonlocal started
            started += path == SETTLE_PATH
            if started == 2:
                both.set()
            await asyncio.wait_for(both.wait(), 3)
            return await ask(peer, path, body)

        settling._ask = stalled
        for price in (400_000, 500_000):
            made.offer = replace(OFFER, price_output=price)
            authorised = consumer.ledger.payer.authorise(offered(provider, made.offer), PATH, BODY)
            admitted = provider.ledger.payee.admit(
                consumer.key.peer, authorised.headers, PATH, BODY
            )
            provider.ledger.payee.served(admitted, measured())
            consumer.ledger.payer.received(authorised, measured())
        settling._due = dict.fromkeys(settling._due, 0.0)
        settling._changed.set()
        await asyncio.wait_for(settling.settled(), 5)
        assert len(consumer.log.receipts) == 2


async def test_an_advert_that_names_anothers_account_does_not_draw_its_lane(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, provider, consumer):
        called(consumer, provider)
        await asyncio.wait_for(consumer.ledger.settling.settled(), 5)
        await consumer.ledger.store.flush()
        liar = Offered(NodeAdvert(NodeKey(b"l" * 32).peer, provider.ledger.account, 1), OFFER)
        authorised = consumer.ledger.payer.authorise(liar, PATH, BODY)
        consumer.ledger.payer.received(authorised, measured(20))
        (lane,) = consumer.ledger.payer.lanes.values()
        assert lane.peer == provider.key.peer


async def test_an_operator_who_is_not_admitted_signs_for_nothing_until_it_is(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (made, provider, _):
        unstamped = make_genesis(NETWORK, CONSUMER.key, PublicKey(b"\x05" * 32))
        key = NodeKey(b"n" * 32)
        around = Surroundings(
            session=PeerSession(key, NETWORK), offer_of=lambda _record: None,
            account_of=made.accounts.get, endpoints_of=lambda _peer: [], publish=Log().publish,
            now_s=lambda: made.now_s, nonce=lambda: b"n" * 16, log=lambda _event, **_fields: None,
        )  # fmt: skip
        party = Party(NETWORK, CONSUMER.key, unstamped, key.public, is_admitted=False)
        ledger = Ledger(tmp_path / "new.sqlite3", party, around)
        await ledger.start()
        with pytest.raises(OperatorNotAdmitted, match="`hansa status` says how long"):
            ledger.payer.authorise(offered(provider), PATH, BODY)
        ledger.admitted(CONSUMER.genesis)
        assert ledger.account == ledger.payer.account == ledger.payee.account == CONSUMER.id
        authorised = ledger.payer.authorise(offered(provider), PATH, BODY)
        admitted = provider.ledger.payee.admit(key.peer, authorised.headers, PATH, BODY)
        assert admitted is not None
        await ledger.stop()
        await around.session.close()


async def test_where_accounts_take_work_a_consumer_is_one_that_the_log_knows(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (made, provider, consumer):
        key = NodeKey(b"p" * 32)
        around = Surroundings(
            session=provider.session, offer_of=lambda _record: OFFER,
            account_of=made.accounts.get, endpoints_of=lambda _peer: [], publish=Log().publish,
            now_s=lambda: made.now_s, nonce=lambda: b"n" * 16, log=lambda _event, **_fields: None,
        )  # fmt: skip
        party = Party(NETWORK, PROVIDER.key, PROVIDER.genesis, key.public, introduces=False)
        ledger = Ledger(tmp_path / "new.sqlite3", party, around)
        await ledger.start()
        offer = Offered(NodeAdvert(key.peer, ledger.account, 1), OFFER)
        authorised = consumer.ledger.payer.authorise(offer, PATH, BODY)
        with pytest.raises(BadOrder, match="not in the log here"):
            ledger.payee.admit(consumer.key.peer, authorised.headers, PATH, BODY)
        made.accounts[CONSUMER.id] = open_genesis(CONSUMER.genesis, NETWORK)
        authorised = consumer.ledger.payer.authorise(offer, PATH, BODY)
        assert ledger.payee.admit(consumer.key.peer, authorised.headers, PATH, BODY) is not None
        await ledger.stop()
