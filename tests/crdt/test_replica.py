"""What a replica takes in, keeps waiting and refuses, whatever the order."""

from __future__ import annotations

import pytest

from crdt import (
    LOCAL,
    Item,
    ItemKind,
    OperationType,
    RemoteFault,
    Status,
    encode,
    make_genesis,
    pack_item,
    seal,
)
from node.storage import StorageFull
from node.storage.memory import MemoryDisk, MemoryStorage
from tests.crdt.replicas import PEER, accept, new_replica, registers, standing, statuses
from tests.writers import OTHER_NETWORK, Writer, key_of, make_receipt

ANN = Writer("ann")
BOB = Writer("bob")


def fault_of(*items: Item) -> str:
    replica = new_replica()
    outcome = accept(replica, ANN.genesis, BOB.genesis, *items).outcomes[-1]
    assert outcome.status is Status.REJECTED
    assert isinstance(outcome.fault, RemoteFault)
    return outcome.fault.code


def test_a_put_of_a_known_account_shows() -> None:
    replica = new_replica()
    put = ANN.put()
    accepted = accept(replica, ANN.genesis, put)
    assert statuses(accepted) == ["new", "new"]
    assert accepted.changes[0].register.winner == put.id
    assert registers(replica)[ANN.record()].heads == (put.id,)


def test_the_same_items_again_change_nothing() -> None:
    replica = new_replica()
    put = ANN.put()
    accept(replica, ANN.genesis, put)
    again = accept(replica, ANN.genesis, put, put)
    assert statuses(again) == ["known"] * 3
    assert not again.admitted


def test_what_waits_is_judged_when_what_it_cites_arrives() -> None:
    replica = new_replica()
    first = ANN.put()
    second = ANN.put(b"two", cites=(first,))
    third = ANN.put(b"three", cites=(second,))
    assert statuses(accept(replica, third, second)) == ["pending", "pending"]
    assert statuses(accept(replica, first)) == ["pending"]
    accepted = accept(replica, ANN.genesis)
    assert [one.item.id for one in accepted.admitted] == [
        ANN.genesis.id, first.id, second.id, third.id,
    ]  # fmt: skip
    assert not len(replica.pending)
    assert registers(replica)[ANN.record()].heads == (third.id,)


def test_what_arrives_backwards_in_one_batch_is_all_new() -> None:
    first = ANN.put()
    second = ANN.put(b"two", cites=(first,))
    for source in (PEER, LOCAL):
        accepted = accept(new_replica(), second, first, ANN.genesis, source=source)
        assert statuses(accepted) == ["new"] * 3


def test_a_local_write_is_not_kept_waiting() -> None:
    replica = new_replica()
    outcome = accept(replica, ANN.put(), source=LOCAL).outcomes[0]
    assert outcome.status is Status.PENDING
    assert outcome.missing == (ANN.account,)
    assert not len(replica.pending)


def test_concurrent_puts_are_shown_as_conflicts_until_one_cites_both() -> None:
    replica = new_replica()
    first = ANN.put()
    left, right = ANN.put(b"left", cites=(first,)), ANN.put(b"right", cites=(first,))
    accept(replica, ANN.genesis, first, left, right)
    register = registers(replica)[ANN.record()]
    assert register.winner == max(left.id, right.id)
    assert register.conflicts == (min(left.id, right.id),)
    merged = ANN.put(b"both", cites=(left, right))
    accept(replica, merged)
    assert registers(replica)[ANN.record()].heads == (merged.id,)


def test_a_delete_wins_over_a_concurrent_put_and_a_put_that_cites_it_revives() -> None:
    replica = new_replica()
    first = ANN.put()
    gone, kept = ANN.delete(cites=(first,)), ANN.put(b"kept", cites=(first,))
    longer = ANN.put(b"longer", cites=(kept,))
    accept(replica, ANN.genesis, first, gone, kept, longer)
    assert registers(replica)[ANN.record()].deleted
    accept(replica, ANN.put(b"back", cites=(gone, longer)))
    assert not registers(replica)[ANN.record()].deleted


def test_a_stranger_cannot_write_anothers_record() -> None:
    assert fault_of(ANN.put(key=BOB.key)) == "not-authorised"
    # Naming herself as the account derives another record id: it is simply her own record.
    assert ANN.record() != BOB.record()


@pytest.mark.parametrize(
    ("item", "code"),
    [
        pytest.param(ANN.put(depth=2), "causal-fault", id="depth out of nothing"),
        pytest.param(ANN.delete(), "causal-fault", id="a delete of nothing"),
        pytest.param(ANN.put(account_heads=()), "malformed-bytes", id="no account heads"),
        pytest.param(
            ANN.put(account_heads=(ANN.genesis.id, b"x" * 32)), "malformed-bytes", id="two heads"
        ),
        pytest.param(ANN.put(cites=(ANN.genesis,), depth=2), "causal-fault", id="cites no write"),
        pytest.param(ANN.put(b""), "malformed-bytes", id="an empty body"),
        pytest.param(ANN.put(b"bad"), "malformed-bytes", id="a body the registry refuses"),
        pytest.param(ANN.write(OperationType.CARD, b""), "malformed-bytes", id="a card"),
        pytest.param(ANN.write(OperationType.CHECKPOINT, b""), "malformed-bytes", id="checkpoint"),
        pytest.param(ANN.write(OperationType.DELETE, b"x"), "malformed-bytes", id="delete: body"),
        pytest.param(Writer("ann", OTHER_NETWORK).put(), "wrong-network", id="other network"),
        pytest.param(Writer("eve", OTHER_NETWORK).genesis, "wrong-network", id="other genesis"),
        pytest.param(
            pack_item(ItemKind.ACCOUNT, seal(encode(["hansa/account", 0]), ANN.key)),
            "malformed-bytes",
            id="a short account entry",
        ),
        pytest.param(
            pack_item(ItemKind.RECEIPT, seal(encode(["other"]), ANN.key)),
            "malformed-bytes",
            id="a receipt the judge refuses",
        ),
    ],
)
def test_refused(item: Item, code: str) -> None:
    assert fault_of(item) == code


def test_an_account_entry_that_claims_to_be_an_operation_is_refused() -> None:
    disguised = pack_item(ItemKind.OPERATION, ANN.genesis.signed)
    outcome = accept(new_replica(), disguised).outcomes[0]
    assert outcome.fault is not None
    assert outcome.fault.code == "malformed-bytes"


def test_a_predecessor_of_another_record_is_refused() -> None:
    other = ANN.put(slug="other")
    assert fault_of(other, ANN.put(cites=(other,))) == "causal-fault"


def test_an_entry_of_another_account_is_no_head() -> None:
    put = ANN.put(account_heads=(BOB.genesis.id,))
    assert fault_of(BOB.genesis, put) == "causal-fault"


def test_an_operation_waits_for_the_account_entry_it_cites() -> None:
    put = ANN.put(account_heads=(b"x" * 32,))
    accepted = accept(new_replica(), ANN.genesis, put)
    assert statuses(accepted) == ["new", "pending"]
    assert accepted.outcomes[1].missing == (b"x" * 32,)


def test_a_wrong_signature_is_refused_and_does_not_taint_the_id() -> None:
    put = ANN.put()
    forged = pack_item(put.kind, type(put.signed)(put.signed.content, b"\0" * 64), put.body)
    assert forged.id == put.id
    replica = new_replica()
    accepted = accept(replica, ANN.genesis, forged)
    assert accepted.faults[0][1].code == "bad-signature"
    assert statuses(accept(replica, put)) == ["new"]


def test_a_genesis_signed_by_another_key_is_refused() -> None:
    genesis = make_genesis(ANN.network, ANN.key, key_of("r").public)
    forged = pack_item(ItemKind.ACCOUNT, seal(genesis.signed.content, BOB.key))
    assert fault_of(forged) == "bad-signature"


def test_a_swapped_body_is_refused() -> None:
    put = ANN.put()
    assert fault_of(pack_item(put.kind, put.signed, b"other")) == "malformed-bytes"


def test_a_released_item_that_turns_out_bad_is_blamed_on_who_sent_it() -> None:
    replica = new_replica()
    stranger = ANN.put(key=BOB.key)
    accept(replica, stranger)
    accepted = accept(replica, ANN.genesis, source=LOCAL)
    assert [(who, fault.code) for who, fault in accepted.faults] == [(PEER, "not-authorised")]
    assert not len(replica.pending)


def test_pending_is_bounded_per_peer() -> None:
    replica = new_replica()
    puts = [ANN.put(slug=f"s{i}") for i in range(300)]
    accept(replica, *puts)
    assert len(replica.pending) == 256
    replica.pending.expire(before_ms=1)
    assert not len(replica.pending)


def test_a_full_disk_changes_nothing_and_what_waited_still_waits() -> None:
    disk = MemoryDisk(b"e" * 16)
    replica = new_replica(disk)
    put = ANN.put()
    accept(replica, put)
    disk.failing_commits = 1
    with pytest.raises(StorageFull):
        accept(replica, ANN.genesis)
    assert put.id in replica.pending
    assert not disk.items
    assert replica.account(ANN.account) is None
    assert len(accept(replica, ANN.genesis).admitted) == 2


def test_receipts_are_maxima_in_every_order() -> None:
    receipts = [make_receipt(ANN.account, b"lane", rank, key=ANN.key) for rank in (1, 3, 2)]
    one, other = new_replica(), new_replica()
    for replica, order in ((one, receipts), (other, receipts[::-1])):
        accept(replica, ANN.genesis)
        for receipt in order:
            accept(replica, receipt)
    assert standing(one) == standing(other)
    assert isinstance(one.storage, MemoryStorage)
    assert [item.id for item in one.storage.receipts(None, None, 9)] == [receipts[1].id]
    assert statuses(accept(one, receipts[0])) == ["known"]


def test_a_receipt_waits_for_its_accounts() -> None:
    replica = new_replica()
    receipt = make_receipt(ANN.account, b"lane", 1, key=ANN.key)
    assert accept(replica, receipt).outcomes[0].missing == (ANN.account,)
    assert len(accept(replica, ANN.genesis).admitted) == 2


def test_two_receipts_of_one_slot_in_one_batch_store_one() -> None:
    replica = new_replica()
    low, high = (make_receipt(ANN.account, b"lane", rank, key=ANN.key) for rank in (1, 2))
    accepted = accept(replica, ANN.genesis, low, high)
    assert [one.item.id for one in accepted.admitted] == [ANN.genesis.id, high.id]
