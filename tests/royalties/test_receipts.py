"""Receipts: two signatures or nothing, and one slot for one lane's day."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import (
    Account,
    AccountId,
    BadSignature,
    EntryType,
    Item,
    ItemKind,
    MalformedBytes,
    MissingAccount,
    RemoteFault,
    SigningKey,
    encode,
    make_entry,
    network_id,
    open_account,
    open_genesis,
    pack_item,
    seal,
    sha3,
    unpack_item,
)
from royalties import (
    BadReceipt,
    Lane,
    Prices,
    Receipt,
    ReceiptRules,
    Tokens,
    countersign,
    open_agreed,
    open_call,
    sign_receipt,
)
from royalties.receipts import AGREED_DOMAIN, calls_digest
from tests.royalties.parties import (
    CONSUMER,
    CREATOR,
    NETWORK,
    NOON_S,
    PROVIDER,
    STRANGER,
    Party,
    call,
    lane,
)

RULES = ReceiptRules(NETWORK)
KNOWN = {party.id: open_genesis(party.genesis, NETWORK) for party in (CONSUMER, PROVIDER, CREATOR)}


def receipt(sequence: int = 1, *, of: Lane | None = None, output: int = 20) -> Receipt:
    return Receipt(
        lane=of or lane(),
        order=bytes(range(32)),
        sequence=sequence,
        call_count=sequence,
        tokens=Tokens(10, 2, output),
        calls=bytes(32),
        issued_s=NOON_S,
    )


def agreed(made: Receipt, provider: Party = PROVIDER, consumer: Party = CONSUMER) -> Item:
    return countersign(sign_receipt(made, provider.key), consumer.key)


def account_of(account: AccountId) -> Account | None:
    return KNOWN.get(account)


def test_a_receipt_that_both_signed_takes_its_lanes_slot() -> None:
    made = receipt(7)
    slot = RULES.judge(unpack_item(agreed(made).raw), account_of)
    assert (slot.slot, slot.rank) == (made.lane.id, 7)
    assert (slot.subject, slot.period) == (made.lane.record, made.lane.epoch)


@pytest.mark.parametrize(("provider", "consumer"), [
    (STRANGER, CONSUMER), (PROVIDER, STRANGER), (CONSUMER, PROVIDER), (PROVIDER, PROVIDER),
    (CONSUMER, CONSUMER), (CREATOR, CREATOR),
])  # fmt: skip
def test_one_signature_is_no_agreement(provider: Party, consumer: Party) -> None:
    with pytest.raises(BadSignature):
        RULES.judge(agreed(receipt(), provider, consumer), account_of)


def test_a_rotated_party_may_have_signed_with_either_root() -> None:
    root = SigningKey(sha3(b"the consumer's next root"))
    rotation = make_entry(
        network=NETWORK, type=EntryType.ROTATE_ROOT, account=CONSUMER.id,
        predecessor=CONSUMER.genesis.id, signer=SigningKey(sha3(b"recovery 0")), key=root.public,
    )  # fmt: skip
    account = open_account([CONSUMER.genesis, rotation], NETWORK)
    known = {**KNOWN, CONSUMER.id: account}
    for key in (CONSUMER.key, root):
        item = countersign(sign_receipt(receipt(), PROVIDER.key), key)
        assert RULES.judge(item, known.get).rank == 1
    with pytest.raises(BadSignature):
        RULES.judge(countersign(sign_receipt(receipt(), PROVIDER.key), root), account_of)


def test_parties_that_are_not_known_yet_are_named() -> None:
    with pytest.raises(MissingAccount) as caught:
        RULES.judge(agreed(receipt(of=lane(provider=STRANGER)), STRANGER), account_of)
    assert caught.value.ids == (STRANGER.id,)


@pytest.mark.parametrize(
    "made",
    [
        receipt(0),
        replace(receipt(), call_count=0),
        receipt(of=lane(provider=CONSUMER)),
        receipt(of=lane(prices=Prices(10**12, 0, 0)), output=1),
    ],
)
def test_a_receipt_that_says_what_it_may_not_is_refused(made: Receipt) -> None:
    made = (
        replace(made, tokens=Tokens(2**53 - 1, 0, 0))
        if made.lane.prices.input_price > 10**11
        else made
    )
    with pytest.raises(BadReceipt):
        open_agreed(agreed(made), NETWORK)


def test_a_receipt_of_another_network_is_refused() -> None:
    with pytest.raises(RemoteFault):
        ReceiptRules(network_id("other")).judge(agreed(receipt()), account_of)


def test_a_body_or_another_kind_makes_it_something_else() -> None:
    item = agreed(receipt())
    for other in (
        pack_item(ItemKind.RECEIPT, item.signed, b"more"),
        pack_item(ItemKind.OPERATION, item.signed),
        pack_item(
            ItemKind.RECEIPT, seal(encode([AGREED_DOMAIN, 0, b"x", bytes(63)]), CONSUMER.key)
        ),
        pack_item(
            ItemKind.RECEIPT, seal(encode(["hansa/other", 0, b"x", bytes(64)]), CONSUMER.key)
        ),
    ):
        with pytest.raises(MalformedBytes):
            RULES.judge(other, account_of)


@given(st.binary(max_size=1200))
def test_garbage_content_is_a_remote_fault(content: bytes) -> None:
    with pytest.raises(RemoteFault):
        RULES.judge(pack_item(ItemKind.RECEIPT, seal(content, CONSUMER.key)), account_of)


@given(st.data())
def test_no_changed_byte_of_a_receipt_passes(data: st.DataObject) -> None:
    raw = bytearray(agreed(receipt()).raw)
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises((RemoteFault, MissingAccount)):
        RULES.judge(unpack_item(bytes(raw)), account_of)


def test_every_fact_of_a_lane_makes_another_lane() -> None:
    lanes = [
        lane(), lane(record=bytes(32)), lane(version=bytes(32)), lane(epoch=1),
        lane(prices=Prices(1, 2, 3)), lane(consumer=STRANGER), lane(provider=STRANGER),
        replace(lane(), manifest=bytes(32)), replace(lane(), network=network_id("other")),
    ]  # fmt: skip
    assert len({one.id for one in lanes}) == len(lanes)


def test_a_raw_call_comes_back_and_its_digest_binds_order_and_content() -> None:
    one, two = call(1), call(2, finish="cut")
    assert open_call(one.wire()) == one
    assert open_call(two.wire()) == two
    assert calls_digest(bytes(32), [one, two]) != calls_digest(bytes(32), [two, one])
    assert calls_digest(bytes(32), [one]) != calls_digest(b"1" * 32, [one])
    with pytest.raises(MalformedBytes):
        open_call(replace(one, finish="half").wire())
