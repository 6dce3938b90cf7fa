"""Accounts that grow entry by entry are what all their entries make at once, and take no square."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from crdt import (
    Account,
    Capability,
    Entry,
    EntryType,
    Item,
    ItemId,
    OperationType,
    PublicKey,
    RecordId,
    RemoteFault,
    Status,
    account_of,
    make_entry,
    open_entry,
    open_genesis,
)
from crdt.accounts import PATH_LENGTH_MAX
from tests.crdt.replicas import accept, new_replica, registers
from tests.writers import NETWORK, Writer, key_of

ANN = Writer("ann")
NAMES = ("ann", "ann recovery", *(f"key {n}" for n in range(6)))
KEYS = {key_of(name).public: key_of(name) for name in NAMES}


@dataclass(frozen=True)
class Path:
    """The slow reading: entries from the genesis to one, walked."""

    entries: tuple[Entry, ...]

    @property
    def roles(self) -> set[PublicKey]:
        """The keys that write at its end."""
        root = self.entries[0].key
        found = {root}
        for entry in self.entries[1:]:
            if entry.type is EntryType.ADD_KEY:
                found.add(entry.key)
            elif entry.type is EntryType.REVOKE:
                found.discard(entry.key)
            elif entry.type is EntryType.ROTATE_ROOT:
                found = (found - {root}) | {entry.key}
                root = entry.key
        return found


def path_to(account: Account, id_: ItemId) -> Path:
    by_id = {entry.id: entry for entry in account.entries}
    found = [by_id[id_]]
    while found[0].predecessor is not None:
        found.insert(0, by_id[found[0].predecessor])
    return Path(tuple(found))


def entry(account: Account, type_: EntryType, at: ItemId, signer: bytes, key: bytes) -> Item:
    return make_entry(
        network=NETWORK, type=type_, account=account.id, predecessor=at,
        signer=KEYS[PublicKey(signer)], key=PublicKey(key), capabilities=Capability.MAINTAINER,
    )  # fmt: skip


@st.composite
def grown(draw: st.DrawFn) -> Account:
    """An account that joined entries anywhere, one by one."""
    account = open_genesis(ANN.genesis, NETWORK)
    for _ in range(draw(st.integers(0, 14))):
        at = draw(st.sampled_from(account.entries)).id
        state = account.states[at]
        signer = draw(st.sampled_from([state.root_key, state.recovery_key]))
        type_ = draw(st.sampled_from(list(EntryType)[1:]))
        key = draw(st.sampled_from(sorted(KEYS)))
        one = open_entry(entry(account, type_, at, signer, key), NETWORK)
        try:
            account.check(one)
        except RemoteFault:
            continue
        if one.id not in account.states:
            assert account.trunk  # so that the next one can be handed something
            account = account.joined(one)
    return account


@given(grown())
def test_joined_is_made_at_once(account: Account) -> None:
    again = account_of(account.entries)
    assert (account.trunk, account.fork, account.live) == (again.trunk, again.fork, again.live)
    for one in account.entries:
        assert account.states[one.id] == again.states[one.id]
        slow = path_to(account, one.id)
        standing = account.standing(one.id, account.root_key)
        assert account.states[one.id].roles == slow.roles
        assert {key for key in KEYS if key in standing.roles} == slow.roles
        on_path = {other.id for other in account.entries if other.id in standing.path}
        assert on_path == {other.id for other in slow.entries}


def add(at: Item, number: int) -> Item:
    return make_entry(
        network=NETWORK, type=EntryType.ADD_KEY, account=ANN.account, predecessor=ItemId(at.id),
        signer=ANN.key, key=PublicKey(number.to_bytes(32, "big")), capabilities=Capability.EDITOR,
    )  # fmt: skip


def longest() -> list[Item]:
    entries = [ANN.genesis]
    for number in range(PATH_LENGTH_MAX - 2):
        entries.append(add(entries[-1], number))
    return entries


def test_forks_at_the_end_of_the_longest_log_take_memory_by_their_number_only() -> None:
    """A state for each took 100 KB a fork of 260 bytes."""
    replica = new_replica()
    entries = longest()
    accept(replica, *entries)
    forks = [add(entries[-1], 10**6 + number) for number in range(500)]
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    accept(replica, *forks)
    account = replica.account(ANN.account)
    for fork in forks:
        assert fork.id in account.standing(ItemId(fork.id), ANN.key.public).path
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 12 * 1024


def test_a_fork_beside_others_resolves_no_record_anew() -> None:
    """Nothing that is known cites it, so what shows stays: it costs nothing by the record."""
    replica = new_replica()
    accept(replica, ANN.genesis, add(ANN.genesis, 1), add(ANN.genesis, 2))
    accept(replica, *(ANN.put(slug=f"s{number}") for number in range(3)))
    before = registers(replica)
    accepted = accept(replica, add(ANN.genesis, 3))
    assert [one.status for one in accepted.outcomes] == [Status.NEW]
    assert accepted.changes == ()
    assert registers(replica) == before


def test_a_fork_that_freezes_resolves_every_record() -> None:
    replica = new_replica()
    accept(replica, ANN.genesis, add(ANN.genesis, 1))
    accept(replica, ANN.write(OperationType.PUT, b"body"))
    accepted = accept(replica, add(ANN.genesis, 2))
    assert [change.record for change in accepted.changes] == [RecordId(ANN.record())]


def test_a_long_log_costs_no_square() -> None:
    replica = new_replica()
    started_s = time.process_time()
    for one in longest():
        accept(replica, one)
    assert time.process_time() - started_s < 5
