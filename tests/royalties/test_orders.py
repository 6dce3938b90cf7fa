"""Orders and tickets: what they cover, and everything that they do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import BadSignature, MalformedBytes, RemoteFault, WrongNetwork, network_id
from royalties import (
    BadOrder,
    check_order,
    check_ticket,
    open_order,
    open_ticket,
    order_hash,
    sign_order,
    sign_ticket,
)
from royalties.orders import CLOCK_SKEW_S, ORDER_LIFE_S_MAX
from tests.royalties.parties import (
    CONSUMER,
    NETWORK,
    NOON_S,
    PROVIDER,
    STRANGER,
    order,
    ticket,
)

BODY = b'{"model":"m"}'
HASH = bytes(range(32))


def test_an_order_comes_back_as_it_was_signed() -> None:
    made = order()
    opened, signed = open_order(sign_order(made, CONSUMER.key), NETWORK)
    assert opened == made
    check_order(opened, signed, consumer_key=CONSUMER.key.public, now_s=NOON_S)
    assert len(order_hash(signed)) == 32


def test_an_order_signed_by_somebody_else_covers_nothing() -> None:
    opened, signed = open_order(sign_order(order(), STRANGER.key), NETWORK)
    with pytest.raises(BadSignature):
        check_order(opened, signed, consumer_key=CONSUMER.key.public, now_s=NOON_S)


@pytest.mark.parametrize("now_s", [NOON_S - CLOCK_SKEW_S - 1, NOON_S + 3600, NOON_S + 10**6])
def test_an_order_is_in_force_between_its_times_only(now_s: int) -> None:
    opened, signed = open_order(sign_order(order(), CONSUMER.key), NETWORK)
    with pytest.raises(BadOrder, match="order"):
        check_order(opened, signed, consumer_key=CONSUMER.key.public, now_s=now_s)


@pytest.mark.parametrize(
    "changes",
    [
        {"provider": CONSUMER.id},
        {"expires_s": NOON_S},
        {"expires_s": NOON_S + ORDER_LIFE_S_MAX + 1},
        {"nonce": bytes(15)},
        {"cap_picos": 2**63},
        {"consumer": b"short"},
    ],
)
def test_an_order_with_a_bad_field_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedBytes):
        open_order(sign_order(order(**changes), CONSUMER.key), NETWORK)


def test_an_order_of_another_network_is_refused() -> None:
    with pytest.raises(WrongNetwork):
        open_order(sign_order(order(), CONSUMER.key), network_id("other"))


def test_a_ticket_is_good_for_its_call() -> None:
    opened, signed = open_ticket(sign_ticket(ticket(HASH, BODY), CONSUMER.key), NETWORK)
    check_ticket(
        opened, signed, order=HASH, server=PROVIDER.key.public, path=opened.path, body=BODY,
        consumer_key=CONSUMER.key.public, now_s=NOON_S + CLOCK_SKEW_S,
    )  # fmt: skip
    assert opened.epoch == NOON_S // 86_400


@pytest.mark.parametrize(
    "wrong",
    [
        {"order": bytes(32)},
        {"server": STRANGER.key.public},
        {"path": "/peer/v1/openai/embeddings"},
        {"body": BODY + b" "},
        {"now_s": NOON_S + CLOCK_SKEW_S + 1},
        {"now_s": NOON_S - CLOCK_SKEW_S - 1},
        {"consumer_key": STRANGER.key.public},
    ],
)
def test_a_ticket_is_good_for_nothing_else(wrong: dict[str, object]) -> None:
    opened, signed = open_ticket(sign_ticket(ticket(HASH, BODY), CONSUMER.key), NETWORK)
    facts: dict[str, object] = {
        "order": HASH, "server": PROVIDER.key.public, "path": opened.path, "body": BODY,
        "consumer_key": CONSUMER.key.public, "now_s": NOON_S,
    }  # fmt: skip
    with pytest.raises((BadOrder, BadSignature)):
        check_ticket(opened, signed, **{**facts, **wrong})  # type: ignore[arg-type]


@given(st.binary(max_size=600))
def test_garbage_is_a_remote_fault(raw: bytes) -> None:
    for read in (open_order, open_ticket):
        with pytest.raises(RemoteFault):
            read(raw, NETWORK)


@given(st.data())
def test_a_changed_byte_never_passes(data: st.DataObject) -> None:
    raw = bytearray(sign_order(order(), CONSUMER.key))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RemoteFault):
        _accept(bytes(raw))


def test_a_signature_cannot_be_moved_from_a_ticket_to_an_order() -> None:
    content = sign_ticket(ticket(HASH, BODY), CONSUMER.key)
    with pytest.raises(MalformedBytes):
        open_order(content, NETWORK)


def _accept(raw: bytes) -> None:
    opened, signed = open_order(raw, NETWORK)
    check_order(opened, signed, consumer_key=CONSUMER.key.public, now_s=NOON_S)
