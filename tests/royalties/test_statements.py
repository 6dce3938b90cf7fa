"""Statements: recomputed from what they carry, whoever made them, and from nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import (
    AccountId,
    Capability,
    EntryType,
    Item,
    OperationId,
    OperationType,
    RecordId,
    RecordKind,
    SigningKey,
    decode,
    encode,
    make_entry,
    make_operation,
    record_id,
    sha3,
)
from registry import encode_record, validate
from royalties import (
    BadStatement,
    Base,
    Prices,
    Receipt,
    Statement,
    Tokens,
    countersign,
    sign_receipt,
    statement,
    statement_document,
    verify,
)
from tests.royalties.parties import (
    CONSUMER,
    CREATOR,
    EPOCH,
    NETWORK,
    NOON_S,
    PROVIDER,
    STRANGER,
    Party,
    lane,
    party,
)

WRITER = party(7)
"""Wrote the base model."""


def put(
    owner: Party,
    slug: str,
    *,
    signed_by: SigningKey | None = None,
    before: Item | None = None,
    head: Item | None = None,
    **terms: Any,
) -> Item:
    record = validate(RecordKind.MODEL, {"name": slug, **terms})
    return make_operation(
        network=NETWORK, kind=RecordKind.MODEL, slug=slug, type=OperationType.PUT,
        account=owner.id, key=signed_by or owner.key, account_heads=((head or owner.genesis).id,),
        predecessors=(OperationId(before.id),) if before else (), depth=2 if before else 1,
        body=encode_record(record), timestamp_s=NOON_S,
    )  # fmt: skip


def id_of(owner: Party, slug: str) -> RecordId:
    return record_id(NETWORK, RecordKind.MODEL, owner.id, slug)


BASE = put(WRITER, "base")
MODEL = put(
    CREATOR, "model", royalty_bps=2000,
    splits=[{"account": CREATOR.id.hex(), "weight": 3}, {"account": STRANGER.id.hex()}],
    base_models=[{"record": id_of(WRITER, "base").hex(), "share_bps": 1000}],
)  # fmt: skip


@dataclass
class Facts:
    versions: dict[bytes, Item] = field(default_factory=lambda: {MODEL.id: MODEL})
    bases: dict[bytes, Item] = field(default_factory=lambda: {id_of(WRITER, "base"): BASE})
    logs: dict[bytes, list[Item]] = field(
        default_factory=lambda: {
            one.id: [one.genesis] for one in (CONSUMER, PROVIDER, CREATOR, WRITER, STRANGER)
        }
    )

    def version(self, version: OperationId) -> Item | None:
        return self.versions.get(version)

    def base(self, base: Base) -> Item | None:
        return self.bases.get(base.record)

    def entries(self, account: AccountId) -> list[Item]:
        return self.logs.get(account, [])


def agreed(
    sequence: int = 1,
    *,
    output: int = 1000,
    price: int = 100_000,
    model: Item = MODEL,
    record: RecordId | None = None,
    epoch: int = EPOCH,
    provider_key: SigningKey = PROVIDER.key,
) -> Item:
    of = lane(
        record=record or id_of(CREATOR, "model"), version=model.id, epoch=epoch,
        prices=Prices(output_price=price),
    )  # fmt: skip
    made = Receipt(of, bytes(32), sequence, sequence, Tokens(0, 0, output), bytes(32), NOON_S)
    return countersign(sign_receipt(made, provider_key), CONSUMER.key)


def made(who: Party, receipts: list[Item], facts: Facts | None = None) -> Statement:
    return statement(NETWORK, who.id, EPOCH, receipts, facts or Facts())


RECEIPTS = [agreed(), agreed(price=7), agreed(price=333_333, output=77)]
AMOUNT = 1000 * 100_000 + 1000 * 7 + 77 * 333_333


def test_everybody_gets_their_part_and_the_parts_are_the_whole() -> None:
    earned = {
        who: made(who, RECEIPTS).earned_picos for who in (PROVIDER, CREATOR, STRANGER, WRITER)
    }
    assert sum(earned.values()) == AMOUNT
    assert earned[PROVIDER] == AMOUNT * 8 // 10 or abs(earned[PROVIDER] - AMOUNT * 8 / 10) < 3
    assert made(CONSUMER, RECEIPTS).owed_picos == AMOUNT
    assert made(CONSUMER, RECEIPTS).earned_picos == 0
    assert [share.role.value for share in made(WRITER, RECEIPTS).lines[0].shares] == ["base"]


def test_a_statement_verifies_from_its_own_bytes_and_as_a_document() -> None:
    one = made(CREATOR, RECEIPTS)
    assert verify(one.raw) == one
    document = json.dumps(statement_document(one), indent=2).encode()
    assert verify(document) == one
    assert one.payable_micros == one.earned_picos // 1_000_000


def test_an_empty_statement_is_one_too() -> None:
    one = made(CREATOR, [])
    assert (one.earned_picos, one.lines) == (0, ())
    assert verify(one.raw) == one


@given(st.integers(0, 2**32))
def test_order_and_repetition_change_no_byte(seed: int) -> None:
    rng = Random(seed)
    shuffled = [one for one in RECEIPTS for _ in range(rng.randint(1, 3))]
    rng.shuffle(shuffled)
    assert made(CREATOR, shuffled).raw == made(CREATOR, RECEIPTS).raw


def test_of_one_lane_only_the_highest_counts() -> None:
    rising = [agreed(n, output=n * 100) for n in range(1, 6)]
    assert made(CREATOR, rising).raw == made(CREATOR, [rising[-1]]).raw


def test_more_agreed_use_never_lowers_what_is_owed() -> None:
    earned = [made(CREATOR, [agreed(n, output=n * 37)]).earned_picos for n in range(1, 40)]
    assert earned == sorted(earned)


def test_another_day_is_another_statement() -> None:
    assert made(CREATOR, [agreed(epoch=EPOCH - 1)]).lines == ()


@pytest.mark.parametrize(
    ("receipt", "facts"),
    [
        (agreed(provider_key=STRANGER.key), Facts()),
        (agreed(record=id_of(CREATOR, "other")), Facts()),
        (agreed(), Facts(versions={})),
        (agreed(), Facts(bases={})),
        (agreed(), Facts(logs={CREATOR.id: [CREATOR.genesis], WRITER.id: [WRITER.genesis]})),
        (agreed(), Facts(versions={MODEL.id: BASE})),
        (
            agreed(),
            Facts(bases={id_of(WRITER, "base"): put(WRITER, "base", before=BASE)}),
        ),
        (
            agreed(model=put(CREATOR, "model", royalty_bps=9999, signed_by=STRANGER.key)),
            Facts(
                versions={
                    (
                        forged := put(CREATOR, "model", royalty_bps=9999, signed_by=STRANGER.key)
                    ).id: (forged)
                }
            ),
        ),
    ],
)
def test_what_is_not_borne_out_is_skipped_and_named(receipt: Item, facts: Facts) -> None:
    both = made(CREATOR, [receipt, agreed(price=5)] if facts == Facts() else [receipt], facts)
    assert len(both.skipped) == 1
    assert both.skipped[0].reason
    assert verify(both.raw) == both, "the rest still is a statement"


def rotated(who: Party, number: int, *, root: SigningKey) -> Item:
    """Return the entry that gives a party another root key."""
    return make_entry(
        network=NETWORK, type=EntryType.ROTATE_ROOT, account=who.id, predecessor=who.genesis.id,
        signer=SigningKey(sha3(b"recovery %d" % number)), key=root.public,
    )  # fmt: skip


def test_what_was_signed_before_and_after_a_rotation_both_count_and_verify_offline() -> None:
    root = SigningKey(sha3(b"the provider's next root"))
    facts = Facts()
    facts.logs[PROVIDER.id].append(rotated(PROVIDER, 1, root=root))
    receipts = [agreed(), agreed(price=7, provider_key=root)]
    one = made(CREATOR, receipts, facts)
    assert (len(one.lines), one.skipped) == (2, ())
    assert verify(one.raw) == one


def test_a_key_that_never_was_a_root_of_the_party_signs_no_receipt() -> None:
    facts = Facts()
    facts.logs[PROVIDER.id].append(rotated(PROVIDER, 1, root=SigningKey(sha3(b"next"))))
    one = made(CREATOR, [agreed(provider_key=STRANGER.key)], facts)
    assert "none of the party's 2 root keys" in one.skipped[0].reason


def test_a_maintainers_version_counts_by_the_entry_that_lets_it() -> None:
    maintainer = SigningKey(sha3(b"maintainer"))
    granted = make_entry(
        network=NETWORK, type=EntryType.ADD_KEY, account=CREATOR.id,
        predecessor=CREATOR.genesis.id, signer=CREATOR.key, key=maintainer.public,
        capabilities=Capability.MAINTAINER,
    )  # fmt: skip
    revoked = make_entry(
        network=NETWORK, type=EntryType.REVOKE, account=CREATOR.id, predecessor=granted.id,
        signer=CREATOR.key, key=maintainer.public,
    )  # fmt: skip
    model = put(CREATOR, "model", signed_by=maintainer, head=granted, royalty_bps=1000)
    facts = Facts(versions={model.id: model})
    facts.logs[CREATOR.id] += [granted, revoked]
    one = made(CREATOR, [agreed(model=model)], facts)
    assert (len(one.lines), one.skipped) == (1, ())
    assert verify(one.raw) == one
    early = Facts(versions={model.id: model})
    assert len(made(CREATOR, [agreed(model=model)], early).skipped) == 1


def test_a_statement_is_the_same_whatever_order_the_entries_came_in() -> None:
    entries = [rotated(CREATOR, 2, root=SigningKey(sha3(b"%d" % n))) for n in range(3)]
    raws = set()
    for order in (entries, entries[::-1]):
        facts = Facts()
        facts.logs[CREATOR.id] += order
        raws.add(made(CREATOR, RECEIPTS, facts).raw)
    assert len(raws) == 1


def edited(raw: bytes, place: int, value: Any) -> bytes:
    parts = list(decode(raw, bytes_max=2**20))
    parts[place] = value
    return encode(parts)


def test_no_part_of_a_statement_can_be_changed() -> None:
    one = made(CREATOR, RECEIPTS)
    parts = decode(one.raw, bytes_max=2**20)
    other = made(PROVIDER, RECEIPTS)
    changes: list[tuple[int, Any]] = [
        (2, bytes(32)), (3, PROVIDER.id), (4, EPOCH + 1), (5, parts[5][:-1]),
        (5, (*parts[5], parts[5][0])), (6, ()), (7, ()), (8, parts[8][1:]),
        (8, (*parts[8], party(50).genesis.raw)), (9, parts[9][:-1]),
        (9, decode(other.raw, bytes_max=2**20)[9]), (1, 1), (0, "hansa/other"),
    ]  # fmt: skip
    for place, value in changes:
        with pytest.raises(BadStatement):
            verify(edited(one.raw, place, value))


def test_no_figure_of_a_document_can_be_changed() -> None:
    one = statement_document(made(CREATOR, RECEIPTS))
    lines = [{**line, "amount_picos": line["amount_picos"] + 1} for line in one["lines"]]
    for changes in (
        {"earned_picos": one["earned_picos"] + 1}, {"owed_picos": 1}, {"payable_micros": 10**9},
        {"account": PROVIDER.id.hex()}, {"day": "2030-01-01"}, {"lines": lines}, {"lines": []},
        {"proof": one["proof"][:-8]}, {"proof": 5}, {"proof": "!"}, {"format": "x"}, {"extra": 1},
        {"epoch": float(EPOCH)}, {"epoch": None},
    ):  # fmt: skip
        with pytest.raises(BadStatement):
            verify(json.dumps({**one, **changes}).encode())


@given(st.binary(max_size=300))
def test_garbage_is_not_a_statement(raw: bytes) -> None:
    for file in (raw, b"{" + raw, b'{"proof": "' + raw.hex().encode() + b'"}'):
        with pytest.raises(BadStatement):
            verify(file)


@given(st.data())
def test_no_changed_byte_of_a_statement_verifies(data: st.DataObject) -> None:
    raw = bytearray(made(CREATOR, RECEIPTS[:1]).raw)
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadStatement):
        verify(bytes(raw))
