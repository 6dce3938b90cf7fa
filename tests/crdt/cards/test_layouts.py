"""Check B: what a card may refer to, where, and who may write what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import CausalFault, MalformedBytes, NotAuthorised
from crdt.cards import Seed, layout_of_seed, layouts_of
from crdt.cards.updates import ANY, DELETED, GC, MAP, STRING, Struct
from crdt.cards.values import TRUE
from tests.crdt.cards.worlds import make_world
from tests.crdt.cards.writing import ANN, BEN, body_of, edit, judge, seed, structs

SEED = seed("ab😀cd", "x", "y")  # clocks 0..5 text (2 and 3 one character), 6 and 7 tags
TAG = b"\x01" + TRUE


def text(clock: int = 0, **where) -> Struct:
    return Struct(clock, 1, STRING, content=b"\x01h", **where)


def tag(clock: int = 0, **where) -> Struct:
    return Struct(clock, 1, ANY, keyed=True, content=TAG, **where)


def holder(clock: int = 0, key=ANN) -> Struct:
    return Struct(clock, 1, MAP, parent="evals", keyed=True, key=key.hex(), content=b"\x01")


def entry(clock: int, parent, name: str = "n") -> Struct:
    return Struct(clock, 1, ANY, parent=parent, keyed=True, key=name, content=TAG)


def deletion(start: int, length: int):
    return structs(deletions=((1, ((start, length),)),))


def test_a_seed_lays_out_its_text_then_tags_then_evaluations() -> None:
    writer = ANN.hex()
    layout = layout_of_seed(Seed("hé", ("t",), ((writer, "a", 1), (writer, "b", 2))))
    roots = [layout.run_at(clock).place.root for clock in range(layout.length)]
    assert roots == ["text", "text", "tags", "evals", "evals", "evals"]
    assert layout.run_at(3).is_map
    assert layout.run_at(5).place.name == "b"


@given(st.integers(0, 2**40))
def test_layouts_can_be_made_again_from_parts_that_were_checked(number: int) -> None:
    world = make_world(number, seeds=2)
    assert layouts_of(world.judged(0.3)) == world.layouts


def test_what_an_editor_writes_passes() -> None:
    part = edit([SEED], lambda draft: (draft.splice(1, 2, "é😀"), draft.add_tag("z")))
    layout = judge(part.content, SEED)
    assert layout.length == part.update.length


GOOD = {
    "between two characters": structs(text(left=(1, 1), right=(1, 2))),
    "at the end": structs(text(left=(1, 5))),
    "crossed": structs(text(left=(1, 5), right=(1, 0))),
    "a tag over the seed's": structs(tag(left=(1, 6))),
    "a whole character": deletion(2, 2),
    "everything": deletion(0, 8),
    "own Map": structs(holder(), entry(1, (0, 0))),
    "after what was deleted at once": structs(
        Struct(0, 2, DELETED, left=(1, 1), content=b"\x02"), text(2, left=(0, 0))
    ),
}

FAULTS = {
    "text past the end": structs(text(left=(1, 8))),
    "a tag past the end": structs(tag(left=(1, 8))),
    "into a character, from the left": structs(text(left=(1, 2))),
    "into a character, from the right": structs(text(left=(1, 1), right=(1, 3))),
    "text after a tag": structs(text(left=(1, 6))),
    "between text and a tag": structs(text(left=(1, 5), right=(1, 6))),
    "between two tags": structs(tag(left=(1, 6), right=(1, 7))),
    "before a tag": structs(tag(right=(1, 6))),
    "a key on text": structs(tag(left=(1, 5))),
    "no key on a tag": structs(text(left=(1, 7))),
    "an entry in a text": structs(entry(0, (1, 0))),
    "an entry in a tag": structs(entry(0, (1, 6))),
    "an entry in what was deleted": structs(
        Struct(0, 1, DELETED, parent="evals", keyed=True, key=ANN.hex(), content=b"\x01"),
        entry(1, (0, 0)),
    ),
    "after nothing": structs(Struct(0, 2, GC), text(2, left=(0, 1))),
    "into an own character": structs(
        Struct(0, 2, STRING, parent="text", content=b"\x04\xf0\x9f\x98\x80"),
        text(2, left=(0, 0)),
    ),
    "a deletion past the end": deletion(7, 2),
    "a deletion that ends in a character": deletion(0, 3),
    "a deletion that starts in a character": deletion(3, 1),
}

CONTENTS = {
    "a value in the text": structs(Struct(0, 1, ANY, parent="text", content=TAG)),
    "a string as a tag": structs(
        Struct(0, 1, STRING, parent="tags", keyed=True, key="z", content=b"\x01h")
    ),
    "a false tag": structs(
        Struct(0, 1, ANY, parent="tags", keyed=True, key="z", content=b"\x01\x79")
    ),
    "a Map as a tag": structs(
        Struct(0, 1, MAP, parent="tags", keyed=True, key="z", content=b"\x01")
    ),
    "a value as a writer": structs(entry(0, "evals", ANN.hex())),
    "a Map in a writer's Map": structs(
        holder(), Struct(1, 1, MAP, parent=(0, 0), keyed=True, key="n", content=b"\x01")
    ),
    "a writer who is no key": structs(
        Struct(0, 1, MAP, parent="evals", keyed=True, key="ann", content=b"\x01")
    ),
    "a writer in capitals": structs(
        Struct(0, 1, MAP, parent="evals", keyed=True, key=ANN.hex().upper(), content=b"\x01")
    ),
    "a tag without a name": structs(tag(parent="tags", key="")),
    "a tag of 129 bytes": structs(tag(parent="tags", key="é" * 64 + "x")),
    "a tag with a line end": structs(tag(parent="tags", key="a\nb")),
    "a tag with a C1 control": structs(tag(parent="tags", key="a\x85b")),
    "an evaluation without a name": structs(holder(), entry(1, (0, 0), "")),
}


@pytest.mark.parametrize("update", GOOD.values(), ids=GOOD.keys())
def test_what_hangs_together_passes(update) -> None:
    table = [SEED] if "own" not in str(update) and any_reference(update) else []
    judge(body_of(update, *table), SEED)


def any_reference(update) -> bool:
    refs = [ref for one in update.structs for ref in (one.left, one.right, one.parent)]
    return bool(update.deletions) or any(isinstance(ref, tuple) and ref[0] for ref in refs)


@pytest.mark.parametrize("update", FAULTS.values(), ids=FAULTS.keys())
def test_what_tears_or_crosses_places_is_refused(update) -> None:
    with pytest.raises(CausalFault):
        judge(body_of(update, *([SEED] if any_reference(update) else [])), SEED)


@pytest.mark.parametrize("update", CONTENTS.values(), ids=CONTENTS.keys())
def test_what_a_place_does_not_hold_is_refused(update) -> None:
    with pytest.raises((MalformedBytes, CausalFault)):
        judge(body_of(update, *([SEED] if any_reference(update) else [])), SEED)


def test_a_table_may_end_with_an_unused_seed_and_with_nothing_else() -> None:
    update = structs(text(parent="text"))
    judge(body_of(update, SEED), SEED)
    card = edit([SEED], lambda draft: draft.splice(0, 0, "x"))
    with pytest.raises(CausalFault, match="no seed"):
        judge(body_of(update, card), SEED, card)


def test_nobody_writes_below_anothers_key() -> None:
    with pytest.raises(NotAuthorised):
        judge(body_of(structs(holder(key=BEN))))
    bens = edit([SEED], lambda draft: draft.set_evaluation(BEN, "n", 1), key=BEN)
    with pytest.raises(NotAuthorised):
        judge(body_of(structs(entry(0, (1, 0), "m")), bens), SEED, bens)
    with pytest.raises(NotAuthorised):
        judge(body_of(structs(tag(left=(1, 1))), bens), SEED, bens)


def test_an_editor_may_delete_anothers_evaluations() -> None:
    bens = edit([SEED], lambda draft: draft.set_evaluation(BEN, "n", 1), key=BEN)
    judge(body_of(structs(deletions=((1, ((0, 2),)),)), bens), SEED, bens)


def test_an_evaluator_writes_and_deletes_its_own_evaluations() -> None:
    first = edit([SEED], lambda draft: draft.set_evaluation(ANN, "n", 1))
    second = edit([SEED, first], lambda draft: draft.set_evaluation(ANN, "n", 2))
    third = edit([SEED, first, second], lambda draft: draft.remove_evaluation(ANN, "n"))
    for part, known in ((first, ()), (second, (first,)), (third, (first, second))):
        judge(part.content, SEED, *known, may_edit=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda draft: draft.splice(0, 0, "x"),
        lambda draft: draft.splice(0, 1, ""),
        lambda draft: draft.add_tag("z"),
        lambda draft: draft.remove_tag("x"),
        lambda draft: draft.remove_evaluation(BEN, "n"),
    ],
    ids=["insert", "delete", "add a tag", "remove a tag", "remove another's evaluation"],
)
def test_an_evaluator_does_nothing_else(change) -> None:
    bens = edit([SEED], lambda draft: draft.set_evaluation(BEN, "n", 1), key=BEN)
    part = edit([SEED, bens], change)
    judge(part.content, SEED, bens)
    with pytest.raises(NotAuthorised):
        judge(part.content, SEED, bens, may_edit=False)


def test_an_evaluator_deletes_no_range_that_holds_more_than_its_own() -> None:
    mixed = edit([SEED], lambda draft: (draft.set_evaluation(ANN, "n", 1), draft.add_tag("z")))
    body = body_of(structs(deletions=((1, ((0, mixed.update.length),)),)), mixed)
    with pytest.raises(NotAuthorised):
        judge(body, SEED, mixed, may_edit=False)
