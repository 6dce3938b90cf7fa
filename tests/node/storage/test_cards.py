"""Cards by record: what is worked out bit by bit is what is worked out at once, and is bounded."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from crdt import (
    CardDocument,
    CardPart,
    Item,
    Operation,
    OperationId,
    OperationType,
    PublicKey,
    RecordId,
    Register,
    Resolution,
    Seed,
    Written,
    card_parts,
    open_card,
)
from crdt.cards import encode_card
from crdt.cards.updates import GC, STRING, Struct, Update, string_content
from node.storage.cards import CardShelf
from registry import RegistryRules
from tests.crdt.test_vouching import operation
from tests.wire.rounds import Tally, make_round_maker
from tests.wire.town import Town, make_town, model

SEED_OF = RegistryRules().seed_of


class CountingSource:
    """A store as a shelf sees it, and how many operations it was asked for."""

    def __init__(self, town: Town) -> None:
        self._storage = town.replica.storage
        self.asked = 0

    def __getattr__(self, name: str):
        return getattr(self._storage, name)

    def written(self, record: RecordId, after_n: int = 0) -> list[Written]:
        found = self._storage.written(record, after_n)
        self.asked += len(found)
        return found


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_a_shelf_that_was_asked_all_along_says_what_a_new_one_says(seed: int) -> None:
    one = make_round_maker()(Tally(), seed=seed, number=0)
    storage = one.replica.storage
    shelf = CardShelf(storage, SEED_OF)
    for _ in range(120):
        one.feed(one.payload())
        for record in storage.disk.records:
            assert shelf.card(record) == CardShelf(storage, SEED_OF).card(record)


def test_a_card_that_grows_reads_what_is_new() -> None:
    town = make_town()
    ann = town.found("new")
    put = town.write(ann, OperationType.PUT, model(), slug="long")
    record = town.disk.operations[OperationId(put.id)].record
    for number in range(30):
        _type(town, ann, f"{number} ")
    source = CountingSource(town)
    shelf = CardShelf(source, SEED_OF)
    assert shelf.card(record) is not None
    before = source.asked
    for number in range(5):
        _type(town, ann, f"more {number} ")
        shown = shelf.card(record)
        assert shown == CardShelf(town.replica.storage, SEED_OF).card(record)
    assert source.asked - before == 5


def _type(town: Town, owner, text: str) -> Item:
    return town.edit(owner, lambda draft: draft.splice(0, 0, text), slug="long")


def dense(number: int, last: bytes, *table: bytes, text: str = "") -> Written:
    """A card operation of many structs that hold nothing, or of one that holds text."""
    structs = [Struct(at, 1, GC) for at in range(4095)]
    raw, length, _ = string_content(text or "x")
    left = (1, 0) if table else None
    structs.append(
        Struct(4095, length, STRING, left, None, None if table else "text", False, None, raw)
    )
    body = encode_card([OperationId(one) for one in table], Update(tuple(structs), ()))
    one = operation(number, number, b"k" * 32, b"h" * 32, [last])
    return Written(_as_card(one, body), body)


def _as_card(one: Operation, body: bytes) -> Operation:
    return one._replace(type=OperationType.CARD, body_bytes=len(body), key=PublicKey(b"k" * 32))


def test_what_comes_when_a_card_is_full_is_read_as_far_as_its_table() -> None:
    """A struct of two bytes takes 170 when it is read: 8 MB of cards took 700 MB."""
    seeds = [operation(number, 1, b"k" * 32, b"h" * 32, []) for number in (101, 102)]
    written = [Written(one, b"seed %d" % one.depth) for one in seeds]
    for number in range(2, 14):
        last = written[-1].operation.id
        table = [seeds[1].id] if number == 13 else []
        written.append(dense(number, last, *table, text=f"[{number}]"))
    effective = frozenset(one.operation.id for one in written)
    register = Register(seeds[0].id, (), False, (), b"", 0, 12)
    resolution = Resolution(register, effective, frozenset(), frozenset(), ())
    parts = card_parts(written, resolution, lambda one, body: Seed(body.decode(), ()))
    read = [part for part in parts if part.table == () and part.update.structs]
    assert len(read) == 10, "the seed, and cards up to the first that surely does not fit"
    assert [len(part.update.structs) for part in parts[-2:]] == [0, 0]
    assert parts[-1].table == (seeds[1].id,)
    document = CardDocument.of(parts)
    bodies = {one.operation.id: one.body for one in written}
    whole = [
        part
        if isinstance(part.content, Seed)
        else CardPart(part.id, part.depth, part.key, open_card(bodies[part.id]), effective=True)
        for part in parts
    ]
    assert document.content() == CardDocument.of(whole).content()
    assert document.content().text == "[8][7][6][5][4][3][2]seed 1"
    assert document.seed == seeds[1].id, "what names a seed names it, also where nothing fits"
    assert not document.has_room(parts[1].update)
