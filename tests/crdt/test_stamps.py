"""Which geneses a network with a rule takes, and what false stamps can make a node spend."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

import crdt.stamps
from crdt import (
    LOCAL,
    Item,
    Network,
    NetworkId,
    PeerId,
    PublicKey,
    Replica,
    SigningKey,
    StampJudge,
    WorkRule,
    is_good_stamp,
    make_genesis,
    make_operation,
    network_id,
    stamp_bytes,
    stamp_challenge,
)
from crdt.items import pack_item
from crdt.operations import OperationType, RecordKind
from crdt.signed import Signed
from crdt.stamps import FALSE_BURST, GOOD_COUNT_MAX
from node.storage.memory import MemoryDisk, MemoryStorage
from tests.crdt.replicas import PEER, statuses
from tests.writers import AnyBody, LaneReceipts, key_of

RULE = WorkRule(4)
NET = Network("test", RULE)
OTHER = Network("other", RULE)
AUTHOR = PeerId("author")


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries of microseconds; the golden bytes are of real ones."""
    monkeypatch.setattr(crdt.stamps, "SCRYPT_N", 2)


class Counting:
    """The real scrypt, counted."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, challenge: bytes, stamp: bytes, bits: int) -> bool:
        self.count += 1
        return is_good_stamp(challenge, stamp, bits)


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting()
    monkeypatch.setattr(crdt.stamps, "is_good_stamp", counting)
    return counting


def ruled() -> Replica:
    return Replica(
        NET.id,
        MemoryStorage(MemoryDisk(b"e" * 16)),
        AnyBody(),
        LaneReceipts(),
        StampJudge(NET.id, RULE),
    )


def first(network: NetworkId, root: PublicKey, recovery: PublicKey, *, good: bool = True) -> bytes:
    """Return the first stamp that is good for the keys, or the first that is not."""
    challenge = stamp_challenge(network, root, recovery)
    stamps = map(stamp_bytes, range(1 << 16))
    return next(one for one in stamps if is_good_stamp(challenge, one, RULE.bits) is good)


@cache
def keys(name: str) -> tuple[SigningKey, PublicKey]:
    return key_of(name), key_of(f"{name} recovery").public


def genesis(name: str, stamp: bytes | None = None, network: NetworkId = NET.id) -> Item:
    root, recovery = keys(name)
    if stamp is None:
        stamp = first(network, root.public, recovery)
    return make_genesis(network, root, recovery, stamp)


def false_genesis(name: str) -> Item:
    root, recovery = keys(name)
    return genesis(name, first(NET.id, root.public, recovery, good=False))


def bad_stamp(how: str) -> bytes:
    """Return a stamp that is not good for ann, as the simulator's liars have them."""
    root, recovery = keys("ann")
    right = first(NET.id, root.public, recovery)
    bobs = first(NET.id, keys("bob")[0].public, keys("bob")[1])
    return {
        "none": b"",
        "wrong": first(NET.id, root.public, recovery, good=False),
        "another's": bobs,
        "of another network": first(OTHER.id, root.public, recovery),
        "of the open network": first(network_id("test"), root.public, recovery),
        "for the keys the other way round": first(NET.id, recovery, root.public),
        "with a byte too many": right + b"\0",
        "with a byte before": b"\0" + right,
        "with a byte less": right[1:],
        "as long as may be": right * 64,
    }[how]


def test_an_account_with_the_work_done_is_admitted_and_writes() -> None:
    ann, replica = genesis("ann"), ruled()
    assert statuses(replica.accept([ann], source=PEER, now_ms=0)) == ["new"]
    put = make_operation(
        network=NET.id, kind=RecordKind.MODEL, slug="thing", type=OperationType.PUT,
        account=ann.id, key=keys("ann")[0], account_heads=(ann.id,), predecessors=(), depth=1,
        body=b"body", timestamp_s=1,
    )  # type: ignore[arg-type]  # fmt: skip
    assert statuses(replica.accept([put], source=PEER, now_ms=0)) == ["new"]


@pytest.mark.parametrize(
    "how",
    [
        "none", "wrong", "another's", "of another network", "of the open network",
        "for the keys the other way round", "with a byte too many", "with a byte before",
        "with a byte less", "as long as may be",
    ],
)  # fmt: skip
def test_a_stamp_that_does_not_do_the_work_for_these_keys_founds_nothing(how: str) -> None:
    stamp = bad_stamp(how)
    (outcome,) = ruled().accept([genesis("ann", stamp)], source=PEER, now_ms=0).outcomes
    assert outcome.fault is not None
    assert outcome.fault.code == "not-admitted"
    assert "hansa account create" in str(outcome.fault)


def test_an_open_network_looks_at_no_stamp(tries: Counting) -> None:
    open_id = network_id("test")
    storage = MemoryStorage(MemoryDisk(b"e" * 16))
    replica = Replica(open_id, storage, AnyBody(), LaneReceipts())
    items = [genesis(f"n{n}", stamp, open_id) for n, stamp in enumerate([b"", b"x", b"y" * 512])]
    assert statuses(replica.accept(items, source=PEER, now_ms=0)) == ["new"] * 3
    assert tries.count == 0


def spoilt(item: Item) -> Item:
    """Return an item under a signature that is not its key's."""
    signature = bytes([item.signed.signature[0] ^ 1]) + item.signed.signature[1:]
    return pack_item(item.kind, Signed(item.signed.content, signature))


@pytest.mark.parametrize(
    "cheap",
    [
        lambda: spoilt(genesis("ann")),
        lambda: genesis("ann", b""),
        lambda: genesis("ann", b"long" * 100),
        lambda: genesis("ann", network=OTHER.id),
    ],
)
def test_what_is_wrong_anyway_costs_no_work(cheap: Callable[[], Item], tries: Counting) -> None:
    item = cheap()
    tries.count = 0
    assert statuses(ruled().accept([item], source=PEER, now_ms=0)) == ["rejected"]
    assert tries.count == 0


def test_a_genesis_costs_one_try_and_a_known_one_none(tries: Counting) -> None:
    replica, ann = ruled(), genesis("ann")
    tries.count = 0
    assert statuses(replica.accept([ann, ann], source=PEER, now_ms=0)) == ["new", "known"]
    replica.accept([ann], source=PEER, now_ms=0)
    assert tries.count == 1


def test_whoever_sends_a_false_stamp_has_none_of_the_others_worked_out(tries: Counting) -> None:
    """A page of a thousand false geneses costs one try; the liar pays with a fault for it."""
    replica, honest = ruled(), genesis("ann")
    liars = [false_genesis(f"liar {n}") for n in range(5)]
    tries.count = 0
    accepted = replica.accept([*liars, honest], source=PEER, now_ms=0)
    assert statuses(accepted) == ["rejected", *["declined"] * 5]
    assert (tries.count, len(accepted.faults)) == (1, 1)
    # Nothing is held against what stood beside it.
    assert statuses(replica.accept([honest], source=PEER, now_ms=0)) == ["new"]


def test_gossip_by_authors_whom_nobody_knows_costs_a_bounded_number_of_tries(
    tries: Counting,
) -> None:
    replica, honest = ruled(), genesis("ann")
    liars = [false_genesis(f"liar {n}") for n in range(FALSE_BURST + 4)]
    tries.count = 0
    found = [
        statuses(replica.accept([one], source=PEER, author=PeerId(f"author {n}"), now_ms=0))[0]
        for n, one in enumerate(liars)
    ]
    assert found == ["rejected"] * FALSE_BURST + ["declined"] * 4
    assert tries.count == FALSE_BURST
    gossiped = replica.accept([honest], source=PEER, author=AUTHOR, now_ms=0)
    assert statuses(gossiped) == ["declined"]
    # Whoever is asked for it by id answers for it, so it is judged; a second later so is gossip.
    assert statuses(replica.accept([honest], source=PEER, now_ms=0)) == ["new"]
    later = replica.accept([genesis("bob")], source=PEER, author=AUTHOR, now_ms=2_000)
    assert statuses(later) == ["new"]


def test_callers_of_this_node_share_batches_and_not_blame(tries: Counting) -> None:
    replica = ruled()
    items = [false_genesis("liar"), genesis("ann"), false_genesis("liar 2"), genesis("bob")]
    accepted = replica.accept(items, source=LOCAL, now_ms=0)
    assert statuses(accepted) == ["rejected", "new", "rejected", "new"]
    liars = [false_genesis(f"liar {n}") for n in range(3, 3 + FALSE_BURST)]
    tries.count = 0
    replica.accept(liars, source=LOCAL, now_ms=0)
    assert tries.count == FALSE_BURST - 2


def test_what_another_thread_found_good_is_not_worked_out_again(tries: Counting) -> None:
    judge = StampJudge(NET.id, RULE)
    storage = MemoryStorage(MemoryDisk(b"e" * 16))
    replica = Replica(NET.id, storage, AnyBody(), LaneReceipts(), judge)
    ann, bob = genesis("ann"), genesis("bob")
    judge.learn([ann.id])
    tries.count = 0
    assert statuses(replica.accept([ann, bob], source=PEER, now_ms=0)) == ["new", "new"]
    assert tries.count == 1


def test_what_is_remembered_to_be_good_is_bounded(tries: Counting) -> None:
    judge = StampJudge(NET.id, RULE)
    storage = MemoryStorage(MemoryDisk(b"e" * 16))
    replica = Replica(NET.id, storage, AnyBody(), LaneReceipts(), judge)
    ann = genesis("ann")
    judge.learn([ann.id])
    judge.learn(number.to_bytes(32) for number in range(GOOD_COUNT_MAX))  # type: ignore[misc]
    tries.count = 0
    replica.accept([ann], source=PEER, now_ms=0)
    assert tries.count == 1
