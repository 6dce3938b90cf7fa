"""Attacks on two running nodes over every border, and what holds after all of them.

Everything is real but the engine, which is the fast fake in its own process. The nodes are shared
by the tests of this file; the last ones look at what the others left behind.
"""

from __future__ import annotations

import base64
import copy
import http.client
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crdt import (
    AccountId,
    Item,
    ItemKind,
    OperationId,
    RecordKind,
    SigningKey,
    encode,
    make_operation,
    network_id,
    pack_item,
    record_id,
    seal,
    sha3,
)
from crdt import OperationType as Type
from examples.demo.processes import Node, StepFailed, get, hansa, wait_for
from node.ledger.terms import ACCOUNT_HEADER, ORDER_HEADER, TICKET_HEADER, armour
from node.ledger.wire import (
    COUNTERSIGN_PATH,
    SETTLE_PATH,
    Settle,
    decode_claimed,
    encode_agreed,
    encode_settle,
)
from node.peer import NodeKey, client_context, make_grant
from registry import encode_record, validate
from royalties import (
    BadStatement,
    Call,
    Lane,
    Order,
    Ticket,
    Tokens,
    countersign,
    open_order,
    open_receipt,
    order_hash,
    sign_order,
    sign_receipt,
    sign_ticket,
    verify,
)
from tests.e2e.hostile_world import (
    HEALTH_S_MAX,
    NETWORK,
    RSS_BYTES_MAX,
    TOKENS,
    Answered,
    Identity,
    World,
    ask,
    health_s,
    memory_of,
    secrets_in,
)

pytestmark = pytest.mark.e2e
JSON = {"Content-Type": "application/json"}
CHAT = "/peer/v1/openai/chat/completions"


def now_s() -> int:
    return int(time.time())  # noqa: TID251 - the clock that the nodes have too


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("hostile"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


# Bodies over HTTP


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"name":"\xff"}', 400),
        (b'{"name":"a","name":"b"}', 400),
        (b'{"name":1e999}', 400),
        (b'{"name":NaN}', 400),
        (b"[" * 200_000, 400),
        (b'{"a":' * 200_000, 400),
        (b'{"name":"\\ud800"}', 422),
        (b'{"\\ud800":1}', 422),
        (b'{"name":5,"version":[],"parameters":"many","surprise":true}', 422),
        (b'{"parameters":' + b"9" * 4000 + b"}", 422),
        (b'{"parameters":' + b"9" * 5000 + b"}", 400),
        (b"x" * 10_000_000, 413),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/agents"])
def test_a_bad_body_is_a_clear_problem(world: World, path: str, raw: bytes, status: int) -> None:
    answered = ask(world.a, "POST", path, raw, world.signed(world.stranger, "POST", path, raw))
    assert answered.status == status, answered.body[:300]
    assert answered.json["status"] == status
    assert answered.json["detail"]


def test_a_record_lists_every_bad_field_at_once(world: World) -> None:
    raw = json.dumps(world.record(name=5, royalty_bps=-1, surprise=True)).encode()
    headers = world.signed(world.stranger, "POST", "/v1/models", raw)
    found = ask(world.a, "POST", "/v1/models", raw, headers).json
    assert {"name", "royalty_bps", "surprise"} <= {one["field"] for one in found["problems"]}


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"\\ud800"}',
        b'{"model":"m","messages":"\\ud800"}',
        b'{"model":"m","model":"n"}',
        b'{"model":"m","n":"128"}',
        b'{"model":"m","messages":' + b"[" * 100_000,
        b'{"model":"any:llm?ctx>=' + b"9" * 400 + b'"}',
        b"x" * 10_000_000,
    ],
)
def test_a_bad_call_is_an_error_an_openai_client_reads(world: World, raw: bytes) -> None:
    headers = {**JSON, "Authorization": f"Bearer {world.api_key}"}
    answered = ask(world.b, "POST", "/v1/chat/completions", raw, headers)
    assert 400 <= answered.status < 500, answered
    assert answered.json["error"]["code"] not in {"bug", "error"}


@pytest.mark.parametrize(
    ("method", "path", "raw"),
    [
        ("POST", "/v1/keys", b'{"name":"\\ud800"}'),
        ("POST", "/v1/peers", b'{"address":"\\udfff"}'),
        ("POST", "/v1/serving", b'{"record":"\\ud800"}'),
        ("POST", "/v1/models/search", b'{"q":"\\ud800","\\ud801":1}'),
        ("GET", "/v1/models/%ff%fe", b""),
        ("GET", "/v1/models/..%2f..%2fetc%2fpasswd", b""),
        ("GET", "/v1/models/%00", b""),
        ("GET", "/v1/models?cursor=%00%ff", b""),
        ("GET", "/v1/models?parameters_min=" + "9" * 400, b""),
        ("GET", "/v1/models?updated_since=99999999999999999999", b""),
        ("GET", "/v1/builds/" + "z" * 64, b""),
        ("GET", "/v1/royalties/statement?account=x&epoch=-1", b""),
        ("GET", "/v1/usage?first=9&first=8", b""),
        ("DELETE", "/v1/serving/%ff", b""),
    ],
)
def test_odd_paths_and_operators_bodies_are_clear_problems(
    world: World, method: str, path: str, raw: bytes
) -> None:
    headers = {**JSON, "Authorization": f"Bearer {world.token(world.a)}"}
    answered = ask(world.a, method, path, raw, headers)
    assert 400 <= answered.status < 500, answered
    assert answered.json["code"] not in {"bug", "error"}


# Signatures over HTTP


def put_of(world: World, who: Identity, slug: str, data: dict[str, Any], **changes: Any) -> Item:
    body = encode_record(validate(RecordKind.MODEL, data))
    fields: dict[str, Any] = {
        "network": NETWORK, "kind": RecordKind.MODEL, "slug": slug, "type": Type.PUT,
        "account": who.account, "key": who.key, "account_heads": (bytes(who.account),),
        "predecessors": (), "depth": 1, "body": body, "timestamp_s": now_s(),
    }  # fmt: skip
    return make_operation(**{**fields, **changes})


def create(
    world: World, who: Identity, slug: str, *, node: Node | None = None, **signing: Any
) -> Answered:
    data = world.record(name=slug)
    raw = json.dumps(data).encode()
    item = put_of(world, who, slug, data)
    headers = world.signed(who, "POST", "/v1/models", raw, item, **signing)
    answered = ask(node or world.a, "POST", "/v1/models", raw, headers)
    if answered.status == 201:
        made = answered.json
        world.acknowledged[f"/v1/models/{made['model_id']}"] = made["version_id"]
    return answered


def test_wrong_and_missing_signatures_are_refused(world: World) -> None:
    raw = json.dumps(world.record()).encode()
    item = put_of(world, world.stranger, "forged", world.record())
    good = world.signed(world.stranger, "POST", "/v1/models", raw, item)
    mail = good["Authorization"]
    spoiled = {
        "missing": {k: v for k, v in good.items() if k != "Authorization"},
        "bearer": {**good, "Authorization": "Bearer x"},
        "garbage": {**good, "Authorization": "Hansa !!"},
        "not ascii": {**good, "Hansa-Operation": "\xe9\xe9"},
        "cut": {**good, "Authorization": mail[:-4]},
        "bits": {**good, "Authorization": mail[:-10] + ("A" if mail[-10] != "A" else "B") * 10},
        "no operation": {k: v for k, v in good.items() if k != "Hansa-Operation"},
        "long": {**good, "Authorization": "Hansa " + "A" * 9000},
    }
    for name, headers in spoiled.items():
        answered = ask(world.a, "POST", "/v1/models", raw, headers)
        assert answered.status == 401, (name, answered)
    late = world.signed(world.stranger, "POST", "/v1/models", raw, item, now_s=now_s() - 61)
    early = world.signed(world.stranger, "POST", "/v1/models", raw, item, now_s=now_s() + 65)
    other = world.signed(
        world.stranger, "POST", "/v1/models", raw, item, network=network_id("other")
    )
    wrong_key = world.signed(
        world.stranger, "POST", "/v1/models", raw, item, key=SigningKey(b"k" * 32)
    )
    for headers in (late, early, other):
        answered = ask(world.a, "POST", "/v1/models", raw, headers)
        assert (answered.status, answered.code) == (401, "bad-request-signature")
    answered = ask(world.a, "POST", "/v1/models", raw, wrong_key)
    assert (answered.status, answered.code) == (403, "not-authorised")


def test_a_request_is_good_once_at_one_node_for_one_path_query_and_body(world: World) -> None:
    data = world.record(name="replayed")
    raw = json.dumps(data).encode()
    item = put_of(world, world.stranger, "replayed", data)
    headers = world.signed(world.stranger, "POST", "/v1/models", raw, item)
    attempts = [
        (world.b, "/v1/models", raw),
        (world.a, "/models", raw),
        (world.a, "/v1/agents", raw),
        (world.a, "/v1/models?x=1", raw),
        (world.a, "/v1/%6dodels", raw),
        (world.a, "/v1/models", raw + b" "),
    ]
    for node, path, body in attempts:
        answered = ask(node, "POST", path, body, headers)
        assert (answered.status, answered.code) == (401, "bad-request-signature"), path
    answered = ask(world.a, "POST", "/v1/models", raw, headers)
    assert answered.status == 201, answered
    made = answered.json
    world.acknowledged[f"/v1/models/{made['model_id']}"] = made["version_id"]
    again = ask(world.a, "POST", "/v1/models", raw, headers)
    assert (again.status, again.code) == (401, "replayed-request")


def test_operations_that_do_not_fit_are_refused_and_leave_nothing(world: World) -> None:
    who, data = world.stranger, world.record(name="misfit")
    raw = json.dumps(data).encode()
    other = Identity("other", network_id("other"))
    elsewhere = put_of(world, who, "misfit", data, network=network_id("other"))
    other_body = put_of(world, who, "misfit", world.record(name="else"))
    of_creator = put_of(
        world, who, "tiny", data, account=world.creator.account,
        account_heads=(bytes(world.creator.account),),
    )  # fmt: skip
    delete = put_of(world, who, "misfit", data, type=Type.DELETE, body=b"", depth=2,
                    predecessors=(OperationId(b"p" * 32),))  # fmt: skip
    orphan = put_of(world, who, "misfit", data, depth=2, predecessors=(OperationId(b"p" * 32),))
    deep = put_of(world, who, "misfit", data, depth=7)
    cases = {
        "another network": elsewhere, "another body": other_body, "another's account": of_creator,
        "a delete": delete, "unknown predecessor": orphan, "wrong depth": deep,
    }  # fmt: skip
    for name, item in cases.items():
        headers = world.signed(who, "POST", "/v1/models", raw, item)
        answered = ask(world.a, "POST", "/v1/models", raw, headers)
        assert 400 <= answered.status < 500, (name, answered)
        assert answered.code not in {"bug", "error"}, name
    headers = world.signed(other, "POST", "/v1/models", raw, put_of(world, other, "x", data))
    assert ask(world.a, "POST", "/v1/models", raw, headers).status == 401
    assert _missing(world.a, record_id(NETWORK, RecordKind.MODEL, who.account, "misfit"))


def test_a_stranger_changes_and_deletes_nothing_of_anothers(world: World) -> None:
    path = f"/v1/models/{world.model.hex()}"
    before = get(world.a.url + path)
    data = world.record(name="stolen")
    raw = json.dumps(data).encode()
    who = world.stranger
    creator = world.creator
    item = put_of(world, creator, "tiny", data, key=who.key, depth=2, predecessors=(world.version,))
    for method, body in (("PUT", raw), ("DELETE", b"")):
        headers = world.signed(who, method, path, body, item)
        answered = ask(world.a, method, path, body, headers)
        assert (answered.status, answered.code) == (403, "wrong-owner")
        impostor = replace_identity(creator, key=who.key)
        headers = world.signed(impostor, method, path, body, item)
        assert ask(world.a, method, path, body, headers).status == 403
    assert get(world.a.url + path) == before


def replace_identity(who: Identity, *, key: SigningKey) -> Identity:
    """Return an identity that says it is `who` and signs with another key."""
    made = Identity(who.name)
    made.account, made.genesis, made.key = who.account, who.genesis, key
    return made


# The peer port


class Consumer:
    """A consumer of the test's making that talks to A's peer port byte by byte."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.node = NodeKey(secrets.token_bytes(32))
        self.who = Identity("consumer")
        self.endpoint = world.endpoint(world.a)
        self.server = world.public_key(world.a)
        self.provider = AccountId(bytes.fromhex(world.facts(world.a)["operator_account"]))
        self.body = json.dumps({
            "model": world.model.hex(), "messages": [{"role": "user", "content": "hi"}]
        }).encode()  # fmt: skip
        self.answers: dict[bytes, Call] = {}

    def order(self, *, key: SigningKey | None = None, **changes: Any) -> bytes:
        world, issued_s = self.world, now_s()
        fields: dict[str, Any] = {
            "network": NETWORK, "consumer": self.who.account, "provider": self.provider,
            "record": world.model, "version": world.version, "manifest": world.build,
            "prices": world.prices, "cap_picos": 10**15, "issued_s": issued_s,
            "expires_s": issued_s + 600, "nonce": secrets.token_bytes(16),
        }  # fmt: skip
        return sign_order(Order(**{**fields, **changes}), key or self.who.key)

    def headers(
        self, order: bytes, /, *, key: SigningKey | None = None, **changes: Any
    ) -> dict[str, str]:
        hash_ = order_hash(open_order(order, NETWORK)[1])
        fields: dict[str, Any] = {
            "network": NETWORK, "order": hash_, "server": self.server, "path": CHAT,
            "body_hash": sha3(self.body), "time_s": now_s(), "nonce": secrets.token_bytes(16),
        }  # fmt: skip
        ticket = sign_ticket(Ticket(**{**fields, **changes}), key or self.who.key)
        return {
            ORDER_HEADER: armour(order), TICKET_HEADER: armour(ticket),
            ACCOUNT_HEADER: armour(self.who.genesis.raw), **JSON,
        }  # fmt: skip

    def grant(self, path: str, body: bytes, **changes: Any) -> str:
        fields: dict[str, Any] = {
            "key": self.node.signing, "network": NETWORK, "server": self.server,
            "purpose": f"POST {path}", "body": body, "now_s": now_s(),
            "nonce": secrets.token_bytes(16),
        }  # fmt: skip
        return make_grant(**{**fields, **changes})

    def send(
        self, path: str, body: bytes, headers: dict[str, str], *, grant: str | None = None
    ) -> Answered:
        """Send this, under a fresh grant unless one (or none, with "") is given."""
        port = self.world.a.peer_port
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=10, context=client_context()
        )
        found = dict(headers)
        if grant != "":
            found["Hansa-Grant"] = grant or self.grant(path, body)
        try:
            connection.request("POST", path, body, found)
            answer = connection.getresponse()
            return Answered(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def call(self, order: bytes) -> tuple[Answered, Call]:
        """Make one paid call; return the answer and the call as an honest consumer counts it."""
        nonce = secrets.token_bytes(16)
        answered = self.send(CHAT, self.body, self.headers(order, nonce=nonce))
        hash_ = order_hash(open_order(order, NETWORK)[1])
        call = Call(
            nonce, hash_, sha3(self.body), sha3(answered.body), Tokens(12, 0, TOKENS),
            "complete", 1, 1,
        )  # fmt: skip
        return answered, call

    def lane(self) -> Lane:
        world = self.world
        return Lane(
            NETWORK, self.who.account, self.provider, world.model, world.version, world.build,
            world.prices, now_s() // 86_400,
        )  # fmt: skip

    def settle(self, *calls: Call, agreed: Item | None = None) -> Answered:
        report = Settle(self.lane().id, self.who.genesis, agreed, calls)
        return self.send(SETTLE_PATH, encode_settle(report, NETWORK), {})


def test_a_request_without_its_own_grant_is_nobodys(world: World) -> None:
    it = Consumer(world)
    headers = it.headers(it.order())
    stolen = it.grant(CHAT, it.body)
    stranger = NodeKey(b"s" * 32).signing
    cases = {
        "none": "",
        "garbage": "AAAA",
        "expired": it.grant(CHAT, it.body, now_s=now_s() - 600),
        "too long": it.grant(CHAT, it.body, now_s=now_s() + 600),
        "another network": it.grant(CHAT, it.body, network=network_id("other")),
        "another server": it.grant(CHAT, it.body, server=stranger.public),
        "another path": it.grant(SETTLE_PATH, it.body),
        "another body": it.grant(CHAT, b"x"),
    }
    for name, grant in cases.items():
        answered = it.send(CHAT, it.body, headers, grant=grant)
        assert (answered.status, answered.json["code"]) == (401, "grant-refused"), name
    assert it.send(CHAT, it.body, headers, grant=stolen).status == 200
    again = it.send(CHAT, it.body, headers, grant=stolen)
    assert (again.status, again.json["code"]) == (401, "grant-replayed")


def test_only_a_valid_order_with_its_ticket_is_served(world: World) -> None:
    it = Consumer(world)
    order = it.order()
    dear = it.order(cap_picos=10**6)
    headers = it.headers(order)
    cases = {
        "no order": {**headers, ORDER_HEADER: ""},
        "garbage": {**headers, ORDER_HEADER: "AAAA"},
        "order by another account": it.headers(it.order(key=world.stranger.key)),
        "ticket by another account": it.headers(order, key=world.stranger.key),
        "over the cap": it.headers(dear),
        "order of another provider": it.headers(it.order(provider=world.stranger.account)),
        "other prices": it.headers(it.order(prices=replace(world.prices, output_price=1))),
        "other build": it.headers(it.order(manifest=bytes(32))),
        "other record": it.headers(it.order(record=bytes(32))),
        "ended order": it.headers(it.order(issued_s=1000, expires_s=2000)),
        "old ticket": it.headers(order, time_s=now_s() - 600),
        "ticket for another body": it.headers(order, body_hash=sha3(b"x")),
        "ticket for another path": it.headers(order, path=SETTLE_PATH),
        "ticket for another node": it.headers(order, server=SigningKey(b"o" * 32).public),
        "ticket of another order": it.headers(order, order=bytes(32)),
        "no account": {**it.headers(it.order()), ACCOUNT_HEADER: ""},
        "another's account": {
            **it.headers(it.order()),
            ACCOUNT_HEADER: armour(world.stranger.genesis.raw),
        },
    }
    for name, found in cases.items():
        answered = it.send(CHAT, it.body, found)
        assert answered.status == 402, (name, answered)
        assert answered.json["error"]["code"] not in {"bug", "error"}, name
    assert it.send(CHAT, it.body, headers).status == 200
    replayed = it.send(CHAT, it.body, headers)
    assert (replayed.status, replayed.json["error"]["code"]) == (402, "bad-order")


@pytest.mark.parametrize(
    "more", [{"n": 128}, {"best_of": 128}, {"n": 10**9}, {"n": "128"}, {"prompt": ["a"] * 200}]
)
def test_a_call_for_many_answers_does_not_fit_an_order_for_one(
    world: World, more: dict[str, Any]
) -> None:
    it = Consumer(world)
    document = json.loads(it.body) | more
    for raw in (json.dumps(document), json.dumps(document).replace('"n"', '"\\u006e"')):
        it.body = raw.encode()
        answered = it.send(CHAT, it.body, it.headers(it.order(cap_picos=9 * 10**12)))
        assert answered.status in {400, 402}, answered


def test_a_consumer_that_never_countersigns_is_served_up_to_the_bound(world: World) -> None:
    it = Consumer(world)
    order = it.order()
    statuses = [it.call(order)[0].status for _ in range(90)]
    served = statuses.count(200)
    assert statuses == [200] * served + [402] * (90 - served)
    price = world.prices.amount_picos(Tokens(12, 0, TOKENS))
    assert 5 * 10**12 <= served * price < 5 * 10**12 + price
    honest = Consumer(world)
    assert honest.call(honest.order())[0].status == 200, "nobody else pays for that"


def test_a_consumer_that_calls_everything_cut_is_stopped_too(world: World) -> None:
    it = Consumer(world)
    order = it.order()
    agreed: Item | None = None
    paid = served = status = 0
    for _round in range(200):
        answered, call = it.call(order)
        status = answered.status
        if status != 200:
            break
        served += 1
        lie = replace(call, tokens=Tokens(0, 0, 1), finish="cut", response_hash=bytes(32))
        claimed = decode_claimed(it.settle(lie, agreed=agreed).body, NETWORK)
        if claimed.claim is not None and open_receipt(claimed.claim.content, NETWORK):
            agreed = countersign(claimed.claim, it.who.key)
            paid = open_receipt(claimed.claim.content, NETWORK).tokens.output_count
    assert status == 402, "a consumer that pays for nothing is not served for ever"
    assert served * TOKENS - paid < 200 * TOKENS


def test_settlement_garbage_is_refused_and_changes_nothing(world: World) -> None:
    it = Consumer(world)
    answered, call = it.call(it.order())
    assert answered.status == 200
    for path in (SETTLE_PATH, COUNTERSIGN_PATH):
        for raw in (b"", b"\x90", b"\xc1" * 100, b"\xdd\xff\xff\xff\xff", bytes(300_000)):
            refused = it.send(path, raw, {})
            assert refused.status == 409, refused
        assert it.send(path, b"x" * (11 << 20), {}).status == 413
    other = encode_settle(Settle(it.lane().id, it.who.genesis, None, ()), network_id("other"))
    assert it.send(SETTLE_PATH, other, {}).json["code"] == "wrong-network"
    stranger = Consumer(world)
    stranger.who = it.who
    assert stranger.settle(call).json["code"] == "not-our-lane"

    claimed = decode_claimed(it.settle(call).body, NETWORK)
    assert claimed.claim is not None
    receipt = open_receipt(claimed.claim.content, NETWORK)
    forged_key = world.stranger.key
    more = replace(receipt, tokens=Tokens(1, 0, 1))
    gap = replace(receipt, sequence=receipt.sequence + 5)
    bad = {
        "signed by a stranger": countersign(claimed.claim, forged_key),
        "claim not the provider's": countersign(sign_receipt(more, it.who.key), it.who.key),
        "fork": countersign(sign_receipt(more, forged_key), it.who.key),
        "gap": countersign(sign_receipt(gap, forged_key), it.who.key),
        "not a receipt": pack_item(ItemKind.RECEIPT, seal(encode(["x"]), it.who.key)),
    }
    for name, item in bad.items():
        refused = it.send(COUNTERSIGN_PATH, encode_agreed(item, it.who.genesis, NETWORK), {})
        assert refused.status == 409, (name, refused)
    good = countersign(claimed.claim, it.who.key)
    raw = encode_agreed(good, it.who.genesis, NETWORK)
    assert it.send(COUNTERSIGN_PATH, raw, {}).status == 200
    assert it.send(COUNTERSIGN_PATH, raw, {}).status == 200, "brought twice is harmless"


# Statements


def chat(world: World) -> Answered:
    raw = json.dumps({
        "model": world.model.hex(), "messages": [{"role": "user", "content": "well?"}]
    }).encode()  # fmt: skip
    headers = {**JSON, "Authorization": f"Bearer {world.api_key}"}
    return ask(world.b, "POST", "/v1/chat/completions", raw, headers)


@pytest.fixture(scope="module")
def statement(world: World) -> dict[str, Any]:
    """The creator's statement at A after an honest, settled call of B."""
    assert chat(world).status == 200
    path = f"{world.a.url}/v1/royalties/statement?account={world.creator.account.hex()}"
    b_account = world.facts(world.b)["operator_account"]

    def settled() -> Any:
        found = get(path)
        return found if any(one["consumer"] == b_account for one in found["lines"]) else None

    found: dict[str, Any] = wait_for("the statement to hold B's lane", settled)
    assert found["earned_picos"] > 0
    return found


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a JSON document, containers included."""
    if path:
        yield path
    items: Any = ()
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
    elif isinstance(value, list):
        items = enumerate(cast("list[Any]", value))
    for name, inner in items:
        yield from leaves(inner, (*path, name))


def changed(document: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """Return a copy of a document with one value changed."""
    made = copy.deepcopy(document)
    inner = made
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = change(inner[path[-1]])
    return made


def flipped(value: Any, at: int) -> Any:
    """Return another value of the same kind."""
    if isinstance(value, bool | None):
        return 1
    if isinstance(value, int):
        return value + (at or 1)
    if isinstance(value, str) and value:
        at %= len(value)
        other = "b" if value[at] == "a" else "a"
        return value[:at] + other + value[at + 1 :]
    if isinstance(value, list):
        found = cast("list[Any]", value)
        return [*found, *found[:1]] or [{}]
    return "x" if isinstance(value, str) else {**value, "more": None}


def test_every_changed_field_of_a_statement_is_refused(statement: dict[str, Any]) -> None:
    raw = json.dumps(statement).encode()
    assert verify(raw).earned_picos == statement["earned_picos"]
    changes: list[Callable[[Any], Any]] = [
        lambda value: flipped(value, 3), lambda _value: None, lambda value: [value],
    ]  # fmt: skip
    tried = 0
    for path in leaves(statement):
        if path[0] == "skipped":
            continue  # what this node could not count is its own word, and no part of the proof
        for change in changes:
            with pytest.raises(BadStatement):
                verify(json.dumps(changed(statement, path, change)).encode())
            tried += 1
    assert tried > 60
    for name in statement:
        left = {key: value for key, value in statement.items() if key != name}
        if name != "skipped":
            with pytest.raises(BadStatement):
                verify(json.dumps(left).encode())
    extras: list[Any] = [None, 1, "x", {}]
    for extra in extras:
        with pytest.raises(BadStatement):
            verify(json.dumps({**statement, "bonus_picos": extra}).encode())
    twice = b'{"earned_picos": 10000000000000,' + raw[1:]
    with pytest.raises(BadStatement):
        verify(twice)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_every_changed_byte_of_a_proof_is_refused(
    statement: dict[str, Any], data: st.DataObject
) -> None:
    text = statement["proof"]
    proof = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    how = data.draw(st.sampled_from(["flip", "cut", "double", "grow"]))
    at = data.draw(st.integers(0, len(proof) - 1))
    if how == "flip":
        proof[at] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "cut":
        del proof[at:]
    elif how == "double":
        proof[at:at] = proof[at : at + 32]
    else:
        proof += bytes(at % 64 + 1)
    with pytest.raises(BadStatement):
        verify(bytes(proof))


def test_the_command_refuses_a_changed_statement(statement: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "statement.json"
    path.write_text(json.dumps(statement))
    assert hansa("royalties", "verify", str(path), cwd=tmp_path)["verified"]
    more = changed(statement, ("lines", 0, "amount_picos"), lambda amount: amount + 1)
    path.write_text(json.dumps(more))
    with pytest.raises(StepFailed, match="ended with 15"):
        hansa("royalties", "verify", str(path), cwd=tmp_path)


# After all of it


def _missing(node: Node, record: bytes) -> bool:
    return ask(node, "GET", f"/v1/models/{record.hex()}").status == 404


def test_after_all_of_it_nothing_acknowledged_is_lost(world: World) -> None:
    assert world.acknowledged
    for node in (world.a, world.b):
        for path, version in world.acknowledged.items():
            wait_for(
                f"{node.name} to show {path}",
                partial(get, node.url + path, missing_ok=True),
            )
            assert get(node.url + path)["version_id"] == version
        listed = get(f"{node.url}/v1/models?limit=200")
        assert {f"/v1/models/{one['model_id']}" for one in listed["items"]} == set(
            world.acknowledged
        ), "and nothing else is visible"


def test_after_all_of_it_both_nodes_are_well_and_their_memory_is_bounded(world: World) -> None:
    for node in (world.a, world.b):
        assert max(health_s(node) for _ in range(5)) < HEALTH_S_MAX
        used = memory_of(node)
        print(node.name, {name: size >> 20 for name, size in used.items()}, "MiB")
        assert set(used) == {"main", "child"}
        assert all(size < RSS_BYTES_MAX for size in used.values()), used
        assert "Traceback" not in node.log.read_text(), "no handler failed on the way"


def test_no_secret_is_in_any_log(world: World) -> None:
    for node in (world.a, world.b):
        assert secrets_in(node, world) == []
    for path in world.folder.rglob("*.log"):
        assert world.api_key not in path.read_text(errors="replace")


def test_the_model_is_still_served_to_an_honest_client(world: World) -> None:
    assert chat(world).status == 200
