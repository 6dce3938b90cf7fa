"""A document that grew by what is new says what one made of everything says, in every order."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from crdt import (
    LOCAL,
    Capability,
    EntryType,
    OperationType,
    RecordKind,
    Replica,
    Seed,
    encode_checkpoint,
    make_entry,
)
from node.client import RecordCopy
from node.storage import SqliteReader, open_storage
from registry import RegistryRules, encode_record, validate
from tests.writers import NETWORK, NOW_S, LaneReceipts, Writer, key_of

ANN = Writer("ann")
BOB = key_of("bob")
GRANT = make_entry(
    network=NETWORK, type=EntryType.ADD_KEY, account=ANN.account, predecessor=ANN.genesis.id,
    signer=ANN.key, key=BOB.public, capabilities=Capability.EDITOR,
)  # fmt: skip
REVOCATION = make_entry(
    network=NETWORK, type=EntryType.REVOKE, account=ANN.account, predecessor=GRANT.id,
    signer=ANN.key, key=BOB.public,
)  # fmt: skip


def facts(text):
    return encode_record(validate(RecordKind.MODEL, {"name": "Thing", "description": text}))


FIRST = ANN.put(facts("first text"))


def copy_of(*items):
    copy = RecordCopy(SimpleNamespace(url="nowhere"), "models", ANN.record(), NETWORK)
    copy.take([ANN.genesis, GRANT, FIRST, *items])
    return copy


class Pair:
    """Ann's copy and Bob's, what each wrote, and a node's store that gets it all."""

    def __init__(self, seed, path):
        self.rng = random.Random(seed)
        self.copies = {ANN.key: copy_of(), BOB: copy_of()}
        self.items = []
        self.storage = open_storage(path, NETWORK)
        self.reader = SqliteReader(path, NETWORK)
        self.replica = Replica(NETWORK, self.storage, RegistryRules(), LaneReceipts())
        self.store(ANN.genesis, GRANT, FIRST)

    def close(self):
        self.reader.close()
        self.storage.close()

    def store(self, *items):
        accepted = self.replica.accept(items, source=LOCAL, now_ms=0)
        assert not accepted.faults

    def write(self, key):
        def change(draft):
            start = self.rng.randrange(len(draft.text) + 1)
            end = min(len(draft.text), start + self.rng.choice([0, 0, 1, 3]))
            draft.splice(start, end - start, self.rng.choice(["", "x😀", "word "]))
            if self.rng.random() < 0.2:
                draft.add_tag(f"tag{self.rng.randrange(4)}")

        item = self.copies[key].edit(change, key, now_s=NOW_S)
        if item is not None:
            self.items.append(item)
            self.store(item)

    def tell(self, *items):
        """Bring items to both, and to the store."""
        self.items += [item for item in items if item not in self.items]
        self.store(*items)
        for copy in self.copies.values():
            copy.take(items)

    def exchange(self):
        self.tell(*self.items)

    def check(self):
        expected = copy_of(*self.items).card()
        for copy in self.copies.values():
            assert copy.card() == expected
        assert (self.reader.card(ANN.record()) or expected) == expected


@pytest.fixture
def pair(request, tmp_path):
    made = Pair(getattr(request, "param", 1), tmp_path / "log.sqlite3")
    yield made
    made.close()


@pytest.mark.parametrize("pair", range(6), indirect=True)
def test_concurrent_edits_grow_to_what_a_newcomer_sees(pair):
    for _ in range(25):
        pair.write(pair.rng.choice([ANN.key, BOB]))
        if pair.rng.random() < 0.3:
            pair.exchange()
            pair.check()
    pair.exchange()
    pair.check()


def test_what_a_revocation_takes_away_goes_and_more_is_written(pair):
    for _ in range(4):
        pair.write(ANN.key)
        pair.exchange()
        pair.write(BOB)
    pair.tell(REVOCATION)
    pair.exchange()
    pair.check()
    for _ in range(4):
        pair.write(ANN.key)
        pair.exchange()
        pair.check()


def test_a_new_era_starts_from_its_checkpoint_and_grows(pair):
    pair.write(BOB)
    pair.exchange()
    body = encode_checkpoint(1, facts("a new era"), Seed("a new era", ()))
    pair.tell(ANN.write(OperationType.CHECKPOINT, body))
    pair.check()
    for key in (ANN.key, BOB, ANN.key):
        pair.write(key)
        pair.exchange()
        pair.check()


def test_a_new_version_changes_no_card_that_was_edited(pair):
    pair.write(ANN.key)
    pair.exchange()
    put = ANN.put(facts("other words"), cites=(FIRST,))
    pair.tell(put)
    pair.check()
    pair.write(BOB)
    pair.exchange()
    pair.check()
