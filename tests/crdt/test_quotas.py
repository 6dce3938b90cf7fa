"""Quotas: what is over one is not taken, and nothing loops, waits or is judged otherwise for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import (
    LOCAL,
    Capability,
    EntryType,
    Item,
    PeerId,
    QuotaLimits,
    Quotas,
    Replica,
    Status,
    make_entry,
)
from crdt.quotas import PASSED_COUNT_MAX, ROOT_PERCENT
from node.storage.memory import MemoryDisk, MemoryStorage
from tests.crdt.replicas import PEER, accept, registers, statuses
from tests.writers import NETWORK, AnyBody, LaneReceipts, Writer, key_of

ANN, BOB = Writer("ann"), Writer("bob")
HIRED = make_entry(
    network=NETWORK, type=EntryType.ADD_KEY, account=ANN.account, predecessor=ANN.genesis.id,
    signer=ANN.key, key=BOB.key.public, capabilities=Capability.MAINTAINER,
)  # fmt: skip
FEW = QuotaLimits(operation_count_max=4)
DAY_MS = 86_400_000


def replica_with(limits: QuotaLimits, disk: MemoryDisk | None = None) -> Replica:
    storage = MemoryStorage(disk or MemoryDisk(b"e" * 16))
    return Replica(NETWORK, storage, AnyBody(), LaneReceipts(), quotas=Quotas(limits))


def by_delegate(slug: str, *cites: Item) -> Item:
    return ANN.put(slug=slug, key=BOB.key, account_heads=(HIRED.id,), cites=cites)


@pytest.fixture
def full() -> Replica:
    """A replica whose quota of Ann's operations is used up, by her delegate."""
    replica = replica_with(FEW)
    taken = accept(replica, ANN.genesis, HIRED, *(by_delegate(f"s{n}") for n in range(4)))
    assert statuses(taken) == ["new"] * 6
    return replica


def test_over_the_quota_nothing_more_is_taken_and_the_reason_says_what_to_do(full: Replica) -> None:
    (outcome,) = accept(full, by_delegate("more"), source=LOCAL).outcomes
    assert outcome.status is Status.OVER_QUOTA
    assert outcome.over is not None
    for word in (ANN.account.hex()[:16], "4 operations", "quota.operation_count_max", "another"):
        assert word in str(outcome.over)


def test_other_accounts_do_not_notice(full: Replica) -> None:
    assert statuses(accept(full, BOB.genesis, BOB.put())) == ["new", "new"]


def test_what_is_over_is_nobodys_fault_and_is_not_fetched_again(full: Replica) -> None:
    more = by_delegate("more")
    accepted = accept(full, more)
    assert (accepted.faults, accepted.admitted) == ((), ())
    assert full.seen([more.id]) == {more.id}


def test_what_builds_on_what_was_passed_over_does_not_wait_for_it(full: Replica) -> None:
    more = by_delegate("more")
    above = ANN.put(b"above", slug="more", cites=(more,), depth=2)  # the root still has room
    assert statuses(accept(full, more, above)) == ["over-quota", "over-quota"]
    assert len(full.pending) == 0
    assert full.seen([above.id]) == {above.id}


def test_the_root_may_go_on_when_a_delegate_has_used_up_the_quota(full: Replica) -> None:
    own = [ANN.put(slug=f"own{n}") for n in range(3)]
    room = FEW.operation_count_max * ROOT_PERCENT // 100 - FEW.operation_count_max
    assert statuses(accept(full, *own)) == ["new"] * room + ["over-quota"] * (3 - room)


def test_entries_are_taken_from_a_full_account_so_that_a_thief_can_be_revoked(
    full: Replica,
) -> None:
    fired = make_entry(
        network=NETWORK, type=EntryType.REVOKE, account=ANN.account, predecessor=HIRED.id,
        signer=ANN.key, key=BOB.key.public,
    )  # fmt: skip
    assert statuses(accept(full, fired)) == ["new"]


def test_a_stolen_root_cannot_use_up_the_entries_of_the_recovery_key() -> None:
    replica = replica_with(QuotaLimits(entry_count_max=3))
    forks = [
        make_entry(
            network=NETWORK, type=EntryType.ADD_KEY, account=ANN.account,
            predecessor=ANN.genesis.id, signer=ANN.key, key=key_of(f"k{n}").public,
            capabilities=Capability.MAINTAINER,
        )
        for n in range(4)
    ]  # fmt: skip
    rescue = make_entry(
        network=NETWORK, type=EntryType.ROTATE_ROOT, account=ANN.account,
        predecessor=ANN.genesis.id, signer=key_of("ann recovery"), key=key_of("new").public,
    )  # fmt: skip
    taken = accept(replica, ANN.genesis, *forks, rescue)
    assert statuses(taken) == ["new"] * 3 + ["over-quota"] * 2 + ["new"]


def test_bytes_are_counted_as_they_lie_in_the_store() -> None:
    replica = replica_with(QuotaLimits(bytes_max=2_000))
    items = [ANN.put(b"x" * 1_000, slug=f"s{n}") for n in range(4)]
    taken = accept(replica, ANN.genesis, *items)
    # Nothing is refused for its own size: what begins below the quota is taken whole.
    assert statuses(taken)[1:3] == ["new", "new"]
    assert statuses(taken)[-1] == "over-quota"
    usage = replica.storage.usage(ANN.account)
    assert usage.bytes == sum(len(item.raw) for item in items[: usage.operations])


def test_a_day_bounds_callers_and_gossip_and_not_what_catch_up_brings() -> None:
    replica = replica_with(QuotaLimits(operations_per_day=2))
    puts = [ANN.put(slug=f"s{n}") for n in range(8)]
    assert statuses(accept(replica, ANN.genesis, *puts[:3], source=LOCAL)) == [
        "new", "new", "new", "over-quota",
    ]  # fmt: skip
    gossiped = replica.accept(puts[3:4], source=PEER, now_ms=0, author=PeerId("author"))
    assert statuses(gossiped) == ["over-quota"]
    assert replica.seen([puts[3].id]) == set(), "catch-up is to bring it"
    assert statuses(accept(replica, *puts[2:])) == ["new"] * 6
    later = replica.accept([ANN.put(slug="next")], source=LOCAL, now_ms=DAY_MS)
    assert statuses(later) == ["new"]


def test_the_refusal_of_a_day_says_when_to_try_again() -> None:
    replica = replica_with(QuotaLimits(operations_per_day=2))
    items = (ANN.genesis, *(ANN.put(slug=f"s{n}") for n in range(3)))
    over = accept(replica, *items, source=LOCAL).outcomes[-1].over
    assert f"{DAY_MS // 2000} s" in str(over)


def test_a_batch_that_was_not_written_used_up_nothing_that_is_stored() -> None:
    disk = MemoryDisk(b"e" * 16)
    replica = replica_with(FEW, disk)
    accept(replica, ANN.genesis)
    disk.failing_commits = 1
    puts = [ANN.put(slug=f"s{n}") for n in range(4)]
    with pytest.raises(Exception, match="memory"):
        accept(replica, *puts)
    assert statuses(accept(replica, *puts)) == ["new"] * 4


def test_room_again_has_peers_read_anew_and_without_room_they_are_not(full: Replica) -> None:
    more = by_delegate("more")
    accept(full, more)
    assert isinstance(full.storage, MemoryStorage)
    assert not full.take_up()
    again = replica_with(replace(FEW, operation_count_max=5), full.storage.disk)
    assert again.take_up()
    assert not again.take_up(), "once is enough"
    assert statuses(accept(again, more)) == ["new"]


def test_memory_of_what_was_passed_over_is_bounded() -> None:
    quotas = Quotas()
    for number in range(PASSED_COUNT_MAX + 10):
        quotas.pass_over(number.to_bytes(32, "big"))  # type: ignore[arg-type]
    oldest, newest = (n.to_bytes(32, "big") for n in (0, PASSED_COUNT_MAX + 9))
    assert quotas.passed([oldest, newest]) == {newest}  # type: ignore[list-item]


@given(st.permutations(range(8)), st.integers(1, 8), st.integers(1, 8))
def test_what_two_nodes_of_other_quotas_both_hold_of_an_account_they_show_alike(
    order: list[int], one_max: int, other_max: int
) -> None:
    puts = [ANN.put(b"v%d" % n, slug=f"s{n % 3}") for n in range(8)]
    nodes = [replica_with(QuotaLimits(operation_count_max=n)) for n in (one_max, other_max)]
    for node in nodes:
        accept(node, ANN.genesis, *(puts[n] for n in order))
    # Given room, each takes the rest, and then both are where a node without quotas is.
    whole = replica_with(QuotaLimits())
    accept(whole, ANN.genesis, *puts)
    for node in nodes:
        assert isinstance(node.storage, MemoryStorage)
        roomy = replica_with(QuotaLimits(), node.storage.disk)
        roomy.take_up()
        accept(roomy, *(puts[n] for n in order))
        assert registers(roomy) == registers(whole)
