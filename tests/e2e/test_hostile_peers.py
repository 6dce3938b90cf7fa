"""Attacks on two running nodes by authenticated libp2p peers, liars of adverts, hosts and holders.

The attacker is a process of its own (`attacker.py`) that writes what a test says, byte for byte.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import blake3
import pytest
from aiohttp import web

from crdt import (
    AccountId,
    Item,
    ItemId,
    ItemKind,
    ManifestDigest,
    NetworkId,
    OperationId,
    RecordKind,
    decode,
    encode,
    make_operation,
    network_id,
    pack_item,
    record_id,
    seal,
)
from crdt import OperationType as Type
from crdt.frames import CatchUp, CatchUpMode, Fetch, encode_caught_up, encode_ops, encode_request
from examples.demo.processes import Node, get, wait_for
from inference import Endpoint, NodeAdvert, Offer, Task, sign_advert
from node.ledger.wire import COUNTERSIGN_PATH, SETTLE_PATH, Claimed, decode_settle, encode_claimed
from node.peer import NodeKey, PeerServer
from registry import encode_record, validate
from royalties import Call, Lane, Prices, Receipt, Tokens, sign_receipt
from royalties.receipts import NO_CALLS, calls_digest
from tests.e2e.attacker import Attacker, Peer, attacker
from tests.e2e.hostile_world import (
    HEALTH_S_MAX,
    NETWORK,
    PRICE_INPUT,
    RSS_BYTES_MAX,
    Answered,
    Identity,
    World,
    ask,
    health_s,
    memory_of,
    secrets_in,
)

pytestmark = pytest.mark.e2e
OTHER = network_id("other")
NET = NETWORK.hex()[:16]
OPS, ADVERTS, SYNC = f"/hansa/{NET}/ops/0", f"/hansa/{NET}/adverts/0", f"/hansa/{NET}/sync/0"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("peers"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def hostile() -> Iterator[Attacker]:
    with attacker() as made:
        yield made


def now_ms() -> int:
    return int(time.time() * 1000)  # noqa: TID251 - the clock that the nodes have too


def peer_of(world: World, hostile: Attacker, *, node: Node | None = None, **options: Any) -> Peer:
    """Return a fresh hostile peer that the node has taken as one."""
    victim = node or world.a
    seed = options.pop("seed", None) or secrets.token_bytes(32)
    made = hostile.open(seed, world.address(victim), **options)
    # Or it has seen the peer, asked it, and let it go again between two looks.
    wait_for("the node to know the attacker", lambda: is_in(world, made, victim) or was_asked(made))
    return made


def was_asked(peer: Peer) -> bool:
    """Whether a node has turned to the attacker as to any peer."""
    return any(peer.asked(protocol) for protocol in (SYNC, ADVERTS))


def is_in(world: World, peer: Peer, node: Node | None = None) -> bool:
    """Whether a node still has the attacker among its peers."""
    with world.operator(node or world.a) as client:
        return peer.peer_id in {one["peer"] for one in client.get("/v1/peers")["items"]}


def is_out(world: World, peer: Peer) -> bool:
    return not is_in(world, peer)


def knows(node: Node, who: Identity) -> bool:
    return ask(node, "GET", f"/v1/accounts/{who.account.hex()}").status == 200


def put(world: World, who: Identity, slug: str, **changes: Any) -> Item:
    network: NetworkId = changes.get("network", NETWORK)
    body = encode_record(validate(RecordKind.MODEL, world.record(name=slug)))
    fields: dict[str, Any] = {
        "network": network, "kind": RecordKind.MODEL, "slug": slug, "type": Type.PUT,
        "account": who.account, "key": who.key, "account_heads": (bytes(who.account),),
        "predecessors": (), "depth": 1, "body": body, "timestamp_s": 1_700_000_000,
    }  # fmt: skip
    return make_operation(**{**fields, **changes})


def unsigned(item: Item) -> Item:
    """Return the item with a signature that does not hold."""
    parts = list(decode(item.raw, bytes_max=70_000))
    parts[3] = bytes(64)
    from crdt import unpack_item

    return unpack_item(encode(parts))


def shown(world: World, who: Identity, slug: str, node: Node | None = None) -> bool:
    record = record_id(NETWORK, RecordKind.MODEL, who.account, slug)
    return ask(node or world.a, "GET", f"/v1/models/{record.hex()}").status == 200


def assert_well(world: World) -> None:
    for node in (world.a, world.b):
        assert health_s(node) < HEALTH_S_MAX


def chat(world: World) -> Answered:
    raw = json.dumps({
        "model": world.model.hex(), "messages": [{"role": "user", "content": "well?"}]
    }).encode()  # fmt: skip
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {world.api_key}"}
    return ask(world.b, "POST", "/v1/chat/completions", raw, headers)


# Gossip


def test_the_attacker_reaches_the_node_with_what_is_valid(world: World, hostile: Attacker) -> None:
    peer, who = peer_of(world, hostile), Identity("honest")
    peer.gossip(OPS, encode_ops([who.genesis, put(world, who, "valid")], NETWORK))
    for node in (world.a, world.b):
        wait_for("the record to be shown", partial(shown, world, who, "valid", node))
    record = record_id(NETWORK, RecordKind.MODEL, who.account, "valid").hex()
    world.acknowledged[f"/v1/models/{record}"] = get(f"{world.a.url}/v1/models/{record}")[
        "version_id"
    ]


def bad_frames(world: World, who: Identity) -> dict[str, bytes]:
    item = put(world, who, "bad")
    good = encode_ops([who.genesis, item], NETWORK)
    return {
        "truncated": good[:-5],
        "empty": b"",
        "random": secrets.token_bytes(500),
        "trailing byte": good + b"\x00",
        "not canonical": good.replace(b"\x94\xa3ops\x00", b"\x94\xa3ops\xcc\x00", 1),
        "no items": encode(["ops", 0, NETWORK, []]),
        "a map": b"\x81\xa3ops\x00",
        "deep": b"\x91" * 5000,
        "long lie": b"\xdd\xff\xff\xff\xff",
        "wrongly signed": encode_ops([who.genesis, unsigned(item)], NETWORK),
        "another network's frame": encode_ops([who.genesis, item], OTHER),
        "another network's operation": encode_ops([put(world, who, "bad", network=OTHER)], NETWORK),
        "over the frame's bound": encode(["have", 0, NETWORK, [bytes(61 * 1024)]]),
        "over the topic's bound": bytes(66 * 1024),
        "one id twice": encode(["have", 0, NETWORK, [bytes(32), bytes(32)]]),
    }


def test_bad_gossip_is_dropped_and_its_sender_is_shut_out(world: World, hostile: Attacker) -> None:
    who = Identity("sender")
    frames = bad_frames(world, who)
    assert len(set(frames.values())) == len(frames)
    for name, frame in frames.items():
        peer = peer_of(world, hostile)
        for _again in range(12):
            peer.gossip(OPS, frame)
        wait_for(f"the sender of {name!r} to be shut out", partial(is_out, world, peer))
        peer.close()
    assert_well(world)
    for node in (world.a, world.b):
        assert not shown(world, who, "bad", node)
        assert ask(node, "GET", f"/v1/accounts/{who.account.hex()}").status == 404


@pytest.mark.parametrize("fault", ["unsigned", "wrongly-signed", "altered", "two-topics"])
def test_a_message_that_is_not_its_authors_is_dropped(
    world: World, hostile: Attacker, fault: str
) -> None:
    peer, who = peer_of(world, hostile), Identity("author")
    for _again in range(3):
        peer.gossip(OPS, encode_ops([who.genesis], NETWORK), fault)
    peer.close()
    assert_well(world)
    assert ask(world.a, "GET", f"/v1/accounts/{who.account.hex()}").status == 404


@pytest.mark.parametrize("raw", [b"\xff" * 64, b"\x05abc", b"\xff\xff\xff\xff\x7f" + bytes(4000)])
def test_garbage_on_the_gossip_stream_ends_only_that_stream(
    world: World, hostile: Attacker, raw: bytes
) -> None:
    peer = peer_of(world, hostile)
    peer.raw_gossip(raw)
    peer.close()
    assert_well(world)


def test_valid_bytes_by_the_wrong_hand_change_nothing(world: World, hostile: Attacker) -> None:
    before = {
        node.name: get(f"{node.url}/v1/models/{world.model.hex()}") for node in (world.a, world.b)
    }
    who, creator = Identity("thief"), world.creator
    heads = (bytes(creator.account),)
    stolen = put(world, creator, "tiny", key=who.key, depth=2, predecessors=(world.version,))
    grabbed = put(world, creator, "new", key=who.key)
    deleted = put(
        world, creator, "tiny", key=who.key, type=Type.DELETE, body=b"", depth=2,
        predecessors=(world.version,), account_heads=heads,
    )  # fmt: skip
    deep = put(world, who, "deep", depth=9)
    nonsense = put(world, who, "nonsense", body=b"\x90")
    receipt = pack_item(
        ItemKind.RECEIPT, seal(encode(["hansa/agreed", 0, b"", bytes(64)]), who.key)
    )
    orphans = [
        put(world, who, f"o{n}", depth=2, predecessors=(OperationId(secrets.token_bytes(32)),))
        for n in range(40)
    ]
    for items in ([stolen], [grabbed], [deleted], [who.genesis, deep, nonsense], [receipt]):
        peer = peer_of(world, hostile)
        peer.gossip(OPS, encode_ops(items, NETWORK))
        peer.close()
    peer = peer_of(world, hostile)
    for start in range(0, len(orphans), 10):
        peer.gossip(OPS, encode_ops(orphans[start : start + 10], NETWORK))
    _drained(world, hostile)
    peer.close()
    for node in (world.a, world.b):
        assert get(f"{node.url}/v1/models/{world.model.hex()}") == before[node.name]
        for slug in ("deep", "nonsense", "o1"):
            assert not shown(world, who, slug, node)
        assert not shown(world, creator, "new", node)
    assert_well(world)


def _drained(world: World, hostile: Attacker) -> None:
    """Wait until a valid frame that was sent after the others has arrived at both nodes."""
    peer, mark = peer_of(world, hostile), Identity("mark")
    peer.gossip(OPS, encode_ops([mark.genesis], NETWORK))
    for node in (world.a, world.b):
        wait_for(
            "what was gossiped to arrive",
            partial(knows, node, mark),
        )
    peer.close()


# Requests and answers


def framed(raw: bytes) -> bytes:
    return len(raw).to_bytes(4, "big") + raw


def test_garbage_requests_are_refused_and_good_ones_answered(
    world: World, hostile: Attacker
) -> None:
    good = {
        SYNC: framed(encode_request(CatchUp(b"", 0, CatchUpMode.IDS), NETWORK)),
        ADVERTS: framed(encode(["adverts?", 0, NETWORK])),
    }
    top = encode_request(CatchUp(b"e" * 16, 2**63 - 1, CatchUpMode.ITEMS), NETWORK)
    fetch = encode_request(Fetch(tuple(secrets.token_bytes(32) for _ in range(1024))), NETWORK)  # type: ignore[misc]
    for protocol in (SYNC, ADVERTS):
        peer = peer_of(world, hostile)
        for raw in (
            framed(b""), framed(b"\xc1"), framed(secrets.token_bytes(2000)), framed(b"\x91" * 4000),
            framed(encode(["after", 0, OTHER, b"", 0, 0])),
            framed(encode(["after", 0, NETWORK, b"", 2**63, 0])),
            framed(encode(["adverts?", 0, OTHER])),
        ):  # fmt: skip
            assert peer.ask(protocol, raw) in {b"", b"\xff\xff\xff\xff"}
        peer.close()
        for broken in (b"\xff\xff\xff\xff", b"\x00\x20\x00\x00", b"\x00\x00"):
            peer = peer_of(world, hostile)
            assert peer.write(protocol, broken) == {}
            peer.close()
    peer = peer_of(world, hostile)
    assert peer.ask(SYNC, framed(top))[4:5] == b"\x99", "a page"
    assert peer.ask(SYNC, framed(fetch))[4:5] == b"\x95", "all of them absent"
    for protocol, raw in good.items():
        assert len(peer.ask(protocol, raw)) > 100
    peer.close()
    assert_well(world)


def page(world: World, *items: Item, done: bool = True, network: NetworkId = NETWORK) -> bytes:
    raw = encode_caught_up(
        network=network, epoch=b"e" * 16, next_n=len(items) or 1, last_n=9, done=done,
        raws=[item.raw for item in items],
    )  # fmt: skip
    return framed(raw)


def test_lying_answers_are_seen_through(world: World, hostile: Attacker) -> None:
    who, creator = Identity("liar"), world.creator
    stolen = put(world, creator, "tiny", key=who.key, depth=2, predecessors=(world.version,))
    lies = {
        "garbage": framed(secrets.token_bytes(3000)),
        "nothing": framed(b""),
        "longer than asked": (900 * 1024).to_bytes(4, "big") + bytes(1000),
        "longer than any": b"\xff\xff\xff\xf0",
        "another network": page(world, who.genesis, network=OTHER),
        "wrongly signed": page(world, who.genesis, unsigned(put(world, who, "lie"))),
        "another's record": page(world, stolen),
        "not asked for": framed(encode(["items", 0, NETWORK, [who.genesis.raw], []])),
        "an end that is none": page(world, done=False),
    }
    malformed = {"garbage", "nothing", "another network", "not asked for", "an end that is none"}
    before = get(f"{world.a.url}/v1/models/{world.model.hex()}")
    # One by one: for the worst of them a peer is let go before it is asked on another protocol.
    for (name, lie), protocol in itertools.product(lies.items(), (SYNC, ADVERTS)):
        peer = peer_of(world, hostile, serve={protocol: [lie]})
        wait_for(f"A to ask the one that answers {name}", partial(peer.asked, protocol))
        if name in malformed and protocol == SYNC:
            wait_for(f"A to be done with {name}", partial(is_out, world, peer))
        peer.close()
    assert get(f"{world.a.url}/v1/models/{world.model.hex()}") == before
    assert not shown(world, who, "lie")
    assert_well(world)


def test_endless_pages_of_nothing_new_cost_little(world: World, hostile: Attacker) -> None:
    endless = [
        framed(
            encode_caught_up(
                network=NETWORK, epoch=b"e" * 16, next_n=n, last_n=2**40, done=False,
                ids=[ItemId(world.creator.genesis.id)],
            )
        )
        for n in range(1, 2000)
    ]  # fmt: skip
    peer = peer_of(world, hostile, serve={SYNC: endless})
    wait_for("A to read some of it", lambda: len(peer.asked(SYNC)) > 10)
    first, at = len(peer.asked(SYNC)), time.monotonic()
    assert_well(world)
    wait_for("a second to pass", lambda: time.monotonic() > at + 1)
    rate = (len(peer.asked(SYNC)) - first) / (time.monotonic() - at)
    assert rate < 100, "a peer that invents pages gets nowhere fast"
    peer.close()


# Adverts, hosts and holders


def an_offer(world: World, **changes: Any) -> Offer:
    fields: dict[str, Any] = {
        "record": world.model, "version": world.version, "manifest": world.build,
        "served_name": "m", "engine": "vllm", "device": "cpu", "quantization": "BF16",
        "context": 2048, "price_input": PRICE_INPUT, "price_output": 1, "price_cached": 0,
        "region": "", "running": 0, "waiting": 0, "slots": 64, "tokens_per_s_milli": 10**8,
        "ttft_ms": 1, "tasks": Task.CHAT,
    }  # fmt: skip
    return Offer(**{**fields, **changes})


def an_advert(key: NodeKey, account: AccountId, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "peer": key.peer, "operator": account, "sequence_ms": now_ms(),
    }  # fmt: skip
    network: NetworkId = changes.pop("network", NETWORK)
    return sign_advert(NodeAdvert(**{**fields, **changes}), network, key.signing)


def offers_of(node: Node, peer: str) -> list[dict[str, Any]]:
    return [one for one in get(f"{node.url}/v1/offers")["items"] if one["peer"] == peer]


def test_adverts_that_are_forged_stale_or_elsewhere_are_not_believed(
    world: World, hostile: Attacker
) -> None:
    key, account = NodeKey(secrets.token_bytes(32)), Identity("x").account
    at_ms = now_ms()
    offers = (an_offer(world),)
    good = an_advert(key, account, offers=offers)
    content, signature = decode(good, bytes_max=70_000)
    parts = list(decode(content, bytes_max=70_000))
    parts[3] = world.public_key(world.a)
    impostor = seal(encode(parts), key.signing)
    bad = {
        "forged": encode([content, bytes(64)]),
        "in A's name": encode([impostor.content, impostor.signature]),
        "stale": an_advert(key, account, offers=offers, sequence_ms=at_ms - 61_000),
        "future": an_advert(key, account, offers=offers, sequence_ms=at_ms + 40_000),
        "elsewhere": an_advert(key, account, offers=offers, network=OTHER),
        "cut": good[:-3],
        "host": an_advert(key, account, offers=offers, endpoints=(Endpoint("[", 1, bytes(32)),)),
    }
    assert signature
    for raw in bad.values():
        peer = peer_of(world, hostile)
        peer.gossip(ADVERTS, raw)
        peer.close()
    newer = an_advert(key, account, sequence_ms=at_ms + 5000)
    peer = peer_of(world, hostile)
    peer.gossip(ADVERTS, good)
    wait_for("A to believe the good one", lambda: offers_of(world.a, key.peer))
    peer.gossip(ADVERTS, newer)
    wait_for("A to believe the newer one", lambda: not offers_of(world.a, key.peer))
    peer.gossip(ADVERTS, good)
    _drained(world, hostile)
    assert not offers_of(world.a, key.peer), "nothing stale comes back"
    assert len(offers_of(world.a, str(world.facts(world.a)["peer_id"]))) == 1
    peer.close()


def test_an_advert_that_claims_anothers_endpoint_takes_no_call(
    world: World, hostile: Attacker
) -> None:
    key, who = NodeKey(secrets.token_bytes(32)), Identity("y")
    at = world.endpoint(world.a)
    endpoint = Endpoint(at.host, at.port, at.certificate_sha256)
    peer = peer_of(world, hostile, node=world.b)
    peer.gossip(
        ADVERTS, an_advert(key, who.account, offers=(an_offer(world),), endpoints=(endpoint,))
    )
    wait_for("B to believe it", lambda: offers_of(world.b, key.peer))
    answered = chat(world)
    assert answered.status == 200
    assert json.loads(answered.headers["hansa-route"])["peer"] == str(at.peer)
    _withdraw(world, peer, key, who)


def _withdraw(world: World, peer: Peer, key: NodeKey, who: Identity) -> None:
    peer.gossip(ADVERTS, an_advert(key, who.account))
    wait_for("B to forget the offer", lambda: not offers_of(world.b, key.peer))
    peer.close()


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextmanager
def serving(key: NodeKey, routes: dict[tuple[str, str], Handler]) -> Generator[Endpoint]:
    """Run a hostile peer port in a thread of its own."""
    loop = asyncio.new_event_loop()
    server = PeerServer(key, NETWORK, "127.0.0.1", 0)
    server.add_routes([web.route(method, path, one) for (method, path), one in routes.items()])
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        at = server.endpoint("127.0.0.1")
        yield Endpoint(at.host, at.port, at.certificate_sha256)
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(grace_s=0), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(asyncio.sleep(0.01))  # lets aborted connections be told
        loop.close()


class LyingHost:
    """Serves answers with usage that nobody had, and settles as the test says."""

    def __init__(self, world: World, usage: int) -> None:
        self.world = world
        self.usage = usage
        self.who = Identity("host")
        self.key = NodeKey(secrets.token_bytes(32))
        self.asked = 0
        self.settled: list[tuple[Call, ...]] = []
        self.countersigned = 0
        self.claim: Callable[[LyingHost, Any], bytes] = lambda _host, _report: b""

    def routes(self) -> dict[tuple[str, str], Handler]:
        return {
            ("POST", "/peer/v1/openai/chat/completions"): self.chat,
            ("POST", SETTLE_PATH): self.settle,
            ("POST", COUNTERSIGN_PATH): self.countersign,
        }

    async def chat(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.asked += 1
        message = {"role": "assistant", "content": "short"}
        usage = {"prompt_tokens": 12, "completion_tokens": self.usage}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return web.json_response({"object": "chat.completion", "choices": choices, "usage": usage})

    async def settle(self, request: web.Request) -> web.StreamResponse:
        report = decode_settle(await request.read(), NETWORK)
        self.settled.append(report.calls)
        return web.Response(body=self.claim(self, report))

    async def countersign(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.countersigned += 1
        return web.Response(body=b"thanks")


def claimed(host: LyingHost, report: Any, calls: list[Call], sequence: int = 1) -> bytes:
    """Return a claim over these calls, signed by the host's own account."""
    consumer = AccountId(report.genesis.id)
    offer = an_offer(host.world)
    prices = Prices(offer.price_input, offer.price_cached, offer.price_output)
    lane = Lane(
        NETWORK, consumer, host.who.account, offer.record, offer.version, offer.manifest, prices,
        now_ms() // 86_400_000,
    )  # fmt: skip
    tokens = Tokens()
    for call in calls:
        tokens += call.tokens
    receipt = Receipt(
        lane, calls[-1].order, sequence, len(calls), tokens, calls_digest(NO_CALLS, calls),
        now_ms() // 1000,
    )  # fmt: skip
    made = sign_receipt(receipt, host.who.key)
    return encode_claimed(Claimed(host.who.genesis, made, tuple(calls), ()), NETWORK)


def more_of(call: Call, output: int) -> Call:
    return replace(call, tokens=replace(call.tokens, output_count=output))


LIES: dict[str, Callable[[LyingHost, Any], bytes]] = {
    "garbage": lambda _host, _report: secrets.token_bytes(900),
    "nothing": lambda _host, _report: b"",
    "endless": lambda _host, _report: bytes(3 << 20),
    "more tokens": lambda host, r: claimed(host, r, [more_of(r.calls[0], 10**9)]),
    "one call twice": lambda host, r: claimed(host, r, [r.calls[0], r.calls[0]]),
    "a fork": lambda host, r: claimed(host, r, [more_of(r.calls[0], len(host.settled))]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_host_that_lies_is_signed_for_nothing_and_holds_up_nobody(
    world: World, hostile: Attacker, lie: str
) -> None:
    host = LyingHost(world, usage=10**9)
    host.claim = LIES[lie]
    b_account = world.facts(world.b)["operator_account"]
    with serving(host.key, host.routes()) as endpoint:
        peer = peer_of(world, hostile, node=world.b)
        raw = an_advert(
            host.key, host.who.account, offers=(an_offer(world),), endpoints=(endpoint,)
        )
        peer.gossip(ADVERTS, raw)
        wait_for("B to believe the offer", lambda: offers_of(world.b, host.key.peer))
        for _again in range(20):
            chat(world)
            if host.asked:
                break
        assert host.asked, "B went to the cheaper host"
        wait_for("B to settle", lambda: len(host.settled) >= 2)
        reported = host.settled[0][0].tokens
        assert reported.output_count <= 2048, "no more than the context can be counted"
        _withdraw(world, peer, host.key, host.who)
    assert host.countersigned == 0
    with world.operator(world.b) as client:
        lanes = client.get("/v1/usage")["lanes"]
        (lane,) = [one for one in lanes if one["other"] == host.who.account.hex()]
        assert lane["sequence"] == 0
        assert lane["amount_picos"] == 0

    def calls_at_a() -> int:
        with world.operator(world.a) as client:
            lanes = client.get("/v1/usage", {"side": "provider"})["lanes"]
            return sum(one["calls"] for one in lanes if one["other"] == b_account)

    before = calls_at_a()
    assert chat(world).status == 200
    wait_for("B to settle with the honest host all the same", lambda: calls_at_a() > before)


def fetch_events(world: World, digest: str) -> list[Any]:
    with world.operator(world.b) as client:
        return list(client.events("POST", f"/v1/builds/{digest}/fetch"))


def test_a_flipped_bit_and_a_path_outside_are_refused(world: World, hostile: Attacker) -> None:
    key, who = NodeKey(secrets.token_bytes(32)), Identity("holder")
    store = world.a.folder / "data" / "builds"
    from node.builds import pack

    packed = pack(world.folder / "tiny", world.creator.key)
    content = decode(packed.sealed.raw, bytes_max=1 << 20)[0]
    parts = list(decode(content, bytes_max=1 << 20))
    parts[2] = world.creator.key.public
    files = [list(one) for one in parts[4]]
    files[0][0] = "../outside"
    parts[4] = sorted(files)
    escaping = seal(encode(parts), world.creator.key)
    outside = blake3.blake3(escaping.content).hexdigest()
    stream = b"".join(
        (world.folder / "tiny" / file.path).read_bytes() for file in packed.sealed.manifest.files
    )
    spoiled = bytearray(stream)
    spoiled[len(spoiled) // 2] ^= 1
    sent = {"ranges": 0, "manifests": 0}

    async def manifest(request: web.Request) -> web.StreamResponse:
        sent["manifests"] += 1
        if request.match_info["digest"] == outside:
            return web.Response(body=encode([escaping.content, escaping.signature]))
        return web.Response(body=packed.sealed.raw)

    async def table(request: web.Request) -> web.StreamResponse:
        return web.Response(body=packed.tables[int(request.match_info["number"])])

    async def data(request: web.Request) -> web.StreamResponse:
        sent["ranges"] += 1
        first, last = request.headers["Range"].removeprefix("bytes=").split("-")
        return web.Response(status=206, body=bytes(spoiled[int(first) : int(last) + 1]))

    base = "/peer/v1/builds/{digest}"
    routes: dict[tuple[str, str], Handler] = {
        ("GET", f"{base}/manifest"): manifest,
        ("GET", base + "/tables/{number}"): table,
        ("GET", f"{base}/data"): data,
    }
    assert store.exists()
    with serving(key, routes) as endpoint:
        peer = peer_of(world, hostile, node=world.b)
        builds = (ManifestDigest(bytes.fromhex(outside)), world.build)
        peer.gossip(ADVERTS, an_advert(key, who.account, builds=builds, endpoints=(endpoint,)))
        path = f"{world.b.url}/v1/builds/{outside}/availability"
        wait_for("B to know the holder", lambda: get(path)["holders"])
        refused = fetch_events(world, outside)[-1]
        assert refused.name == "error", refused
        assert sent["manifests"]
        for digest in (world.build.hex(),):
            assert fetch_events(world, digest)[-1].name == "done", "the honest holder has it too"
        peer.close()
    assert not list(world.folder.rglob("outside"))
    held = get(f"{world.b.url}/v1/builds/{world.build.hex()}")
    assert held["state"] == "complete"


# After all of it


def test_after_all_of_it_nothing_is_lost_and_nothing_false_is_shown(world: World) -> None:
    for node in (world.a, world.b):
        for path, version in world.acknowledged.items():
            assert get(node.url + path)["version_id"] == version
        listed = get(f"{node.url}/v1/models?limit=200")["items"]
        assert {f"/v1/models/{one['model_id']}" for one in listed} == set(world.acknowledged)


def test_after_all_of_it_both_nodes_are_well_and_their_memory_is_bounded(world: World) -> None:
    for node in (world.a, world.b):
        assert max(health_s(node) for _ in range(5)) < HEALTH_S_MAX
        used = memory_of(node)
        print(node.name, {name: size >> 20 for name, size in used.items()}, "MiB")
        assert set(used) == {"main", "child"}
        assert all(size < RSS_BYTES_MAX for size in used.values()), used
        log = node.log.read_text()
        assert "Traceback" not in log
        assert "network process ended" not in log
        assert secrets_in(node, world) == []
    assert chat(world).status == 200
