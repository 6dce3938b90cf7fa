"""The document is a function of the set of parts, and says what the rules say it does."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import crdt.cards.documents as documents
from crdt.cards import Card, CardDocument, CardPart, Seed
from crdt.cards.engine import Engine
from crdt.cards.updates import STRING, Struct, encode_update
from crdt.errors import CardEngineFault, UserFault
from tests.crdt.cards.model import slow_card
from tests.crdt.cards.worlds import make_world
from tests.crdt.cards.writing import ANN, BEN, edit, forged, op, seed, shown, structs, void

WORLDS = st.integers(0, 2**40)
VOID_SHARES = st.sampled_from((0.0, 0.2, 0.6))


def writes(*texts: str):
    """Return a change that inserts each text at the front."""
    return lambda draft: [draft.splice(0, 0, text) for text in texts]


@given(WORLDS, VOID_SHARES, st.integers(1, 3))
def test_equal_sets_give_equal_cards_that_a_slow_model_confirms(number, void_share, seeds) -> None:
    world = make_world(number, seeds=seeds)
    parts = world.judged(void_share)
    content = CardDocument.of(parts).content()
    world.rng.shuffle(parts)
    assert CardDocument.of(parts).content() == content == slow_card(parts)


@given(WORLDS, VOID_SHARES)
def test_growing_and_restoring_give_what_rebuilding_gives(number, void_share) -> None:
    world = make_world(number, seeds=1 + number % 2)
    arriving = world.judged(void_share)  # in an order that nothing decides
    known: list[CardPart] = []
    document = CardDocument.of([])
    while arriving:
        new = [arriving.pop() for _ in range(min(len(arriving), world.rng.randint(1, 3)))]
        known += new
        if any(set(part.table) - {one.id for one in known} for part in known):
            document = None  # some wait for what they refer to
            continue
        document = (document and document.extended(new)) or CardDocument.of(known)
        if world.rng.random() < 0.5:
            document = CardDocument.restored(document.snapshot(), known)
        assert document.content() == CardDocument.of(known).content()


@given(WORLDS)
def test_honest_writers_lose_no_character_that_nobody_deleted(number) -> None:
    rng = random.Random(number)
    parts = [seed("")]
    marks = [chr(0x4E00 + one) * 2 for one in range(8)]
    for mark in marks:
        known = [parts[0], *rng.sample(parts[1:], rng.randrange(len(parts)))]
        known = closed(known, parts)

        def change(draft, mark=mark):
            draft.splice(rng.randint(0, len(draft.text)), 0, mark)

        parts.append(edit(known, change, name=mark))
    assert sorted(shown(*parts).text) == sorted("".join(marks))


def closed(known, parts):
    """Return what is known with everything that it refers to."""
    by_id = {part.id: part for part in parts}
    found = {part.id: part for part in known}
    for part in sorted(parts, key=lambda one: one.order, reverse=True):
        if part.id in found:
            found |= {one: by_id[one] for one in part.table}
    return list(found.values())


def test_two_who_type_at_one_place_do_not_mix() -> None:
    start = seed("[]")
    parts = [start]
    for name, word in (("a", "ann"), ("b", "ben")):
        known = [start]
        for at, letter in enumerate(word):
            part = edit(
                known,
                lambda draft, at=at, letter=letter: draft.splice(1 + at, 0, letter),
                name=f"{name}{at}",
                depth=2 + at,
            )
            known.append(part)
            parts.append(part)
    assert shown(*parts).text in ("[annben]", "[benann]")


def test_two_who_type_backwards_at_one_place_do_not_mix_either() -> None:
    start = seed("[]")
    parts = [start]
    for name, word in (("a", "nna"), ("b", "neb")):
        known = [start]
        for at, letter in enumerate(word):
            part = edit(
                known,
                lambda draft, letter=letter: draft.splice(1, 0, letter),
                name=f"{name}{at}",
                depth=2 + at,
            )
            known.append(part)
            parts.append(part)
    assert shown(*parts).text in ("[annben]", "[benann]")


def test_equivocation_is_ordinary_concurrency() -> None:
    start = seed("x")
    one = edit([start], lambda draft: draft.splice(1, 0, "1"))
    two = edit([start], lambda draft: draft.splice(1, 0, "2"))
    assert sorted(shown(start, one, two).text) == ["1", "2", "x"]


def test_a_tag_that_is_added_while_another_removes_it_stays() -> None:
    start = seed("", "x")
    removed = edit([start], lambda draft: draft.remove_tag("x"))
    readded = edit([start, removed], lambda draft: draft.add_tag("x"))
    again = edit([start, removed], lambda draft: draft.add_tag("y"), depth=3)
    last = edit([start, removed, readded], lambda draft: draft.remove_tag("x"), depth=4)
    assert shown(start, removed, readded, again).tags == ("x", "y")
    assert shown(start, removed, readded, again, last).tags == ("y",)


def test_a_void_tag_does_not_remove_the_honest_one_beneath() -> None:
    start = seed("")
    honest = edit([start], lambda draft: draft.add_tag("x"))
    parts = [start, honest]
    thief = forged(
        structs(
            Struct(0, 1, 8, left=(1, 0), keyed=True, content=b"\x01\x78"),
            deletions=((1, ((0, 1),)),),
        ),
        honest,
        depth=3,
    )
    assert shown(*parts, void(thief)).tags == ("x",)
    after = edit([*parts, thief], lambda draft: draft.remove_tag("x"), depth=4)
    assert shown(*parts, thief, after).tags == ()
    # The one who removed it removed what the thief had put over it, which never was.
    assert shown(*parts, void(thief), after).tags == ("x",)


def test_text_in_void_text_goes_where_that_would_have_been() -> None:
    start = seed("one two")
    thief = edit([start], lambda draft: draft.splice(3, 0, "EVIL"))
    honest = edit([start, thief], lambda draft: draft.splice(5, 0, "good"))
    later = edit([start, thief, honest], lambda draft: draft.splice(3, 0, "!"))
    assert shown(start, thief, honest, later).text == "one!EVgoodIL two"
    assert shown(start, void(thief), honest, later).text == "one!good two"


def test_void_text_over_void_text_keeps_the_place_of_what_stands_in_it() -> None:
    start = seed("ab")
    known = [start]
    for number in range(50):
        known.append(edit(known, lambda draft, at=number: draft.splice(1 + at, 0, "x")))
    honest = edit(known, lambda draft: draft.splice(51, 0, "y"))
    assert shown(start, *map(void, known[1:]), honest).text == "ayb"


def test_a_void_deletion_deletes_nothing() -> None:
    start = seed("text", "tag")
    thief = edit([start], lambda draft: (draft.splice(0, 4, ""), draft.remove_tag("tag")))
    assert shown(start, thief) == Card("", (), {})
    assert shown(start, void(thief)) == Card("text", ("tag",), {})


def test_what_stands_in_a_void_map_is_dropped_and_the_rest_is_not() -> None:
    start = seed("")
    first = edit([start], lambda draft: draft.set_evaluation(ANN, "a", 1))
    second = edit(
        [start, first], lambda draft: (draft.set_evaluation(ANN, "b", 2), draft.add_tag("t"))
    )
    third = edit([start, first, second], lambda draft: draft.set_evaluation(ANN, "b", 3))
    assert shown(start, first, second, third).evals == {ANN.hex(): {"a": 1, "b": 3}}
    assert shown(start, void(first), second, third) == Card("", ("t",), {})


def test_evaluations_of_several_writers_stand_side_by_side() -> None:
    start = seed("")
    anns = edit([start], lambda draft: draft.set_evaluation(ANN, "mmlu", 0.5))
    bens = edit([start], lambda draft: draft.set_evaluation(BEN, "mmlu", 70), key=BEN)
    assert shown(start, anns, bens).evals == {ANN.hex(): {"mmlu": 0.5}, BEN.hex(): {"mmlu": 70}}


def test_a_lone_seed_shows() -> None:
    assert shown(seed("text", "b", "a")) == Card("text", ("a", "b"), {})


def test_of_the_seeds_that_cards_name_the_last_counts() -> None:
    first, second = seed("first"), seed("second", name="second", depth=2)
    on_first = edit([first], writes("1"), depth=3)
    on_second = edit([second], writes("2"), depth=3)
    assert shown(first, second, on_first).text == "1first"
    assert shown(first, second, on_first, on_second).text in ("12second", "2second1")


def test_a_void_card_names_no_seed_and_a_void_seed_does_not_count() -> None:
    first, second = seed("first"), seed("second", name="second", depth=2)
    on_first, on_second = edit([first], writes("1"), depth=3), edit([second], writes("2"), depth=3)
    assert shown(first, second, on_first, void(on_second)).text == "1first"
    assert "first" in shown(first, void(second), on_second).text


def test_a_card_on_an_empty_description_still_names_its_seed() -> None:
    start = seed("", "kept")
    part = edit([start], writes("text"))
    assert part.table == (start.id,)
    other = seed("other", name="other", depth=9)
    assert shown(start, part, other) == Card("text", ("kept",), {})


def test_a_document_grows_only_at_its_end_and_only_by_cards_of_its_seed() -> None:
    first, second = seed("first"), seed("second", name="second", depth=2)
    on_first = edit([first], writes("1"), depth=3)
    on_second = edit([second], writes("2"), depth=4)
    document = CardDocument.of([first, on_first])
    before = document.content()
    assert document.extended([second]) is None
    assert CardDocument.of([first, second, on_first]).extended([on_second]) is None
    assert document.content() == before
    assert document.extended([]) is document


def test_a_document_does_not_grow_by_a_card_that_makes_a_seed_count_that_was_void_text() -> None:
    first, second = seed("first"), seed("second", name="second", depth=2)
    thief = edit([second], writes("x"), depth=3)
    on_thief = forged(structs(Struct(0, 1, STRING, left=(1, 0), content=b"\x01y")), thief, depth=4)
    known = [first, second, void(thief), on_thief]
    document = CardDocument.of(known)
    assert sorted(document.content().text) == sorted("yfirst")
    on_second = edit([second], writes("2"), depth=5)
    assert document.extended([on_second]) is None
    assert sorted(shown(*known, on_second).text) == sorted("y2second")


def test_a_snapshot_is_of_these_parts_this_engine_and_undamaged() -> None:
    start = seed("text")
    part = edit([start], writes("1"))
    snapshot = CardDocument.of([start, part]).snapshot()
    assert CardDocument.restored(snapshot, [part, start]) is not None
    assert CardDocument.restored(snapshot, [start]) is None
    assert CardDocument.restored(snapshot, [start, void(part)]) is None
    assert CardDocument.restored(snapshot.replace(b"0.14", b"0.13"), [start, part]) is None
    for at in range(len(snapshot)):
        damaged = snapshot[:at] + bytes([snapshot[at] ^ 1]) + snapshot[at + 1 :]
        assert CardDocument.restored(damaged, [start, part]) is None
        assert CardDocument.restored(snapshot[:at], [start, part]) is None


def test_a_full_card_takes_nothing_more_in_whatever_order_it_is_read(monkeypatch) -> None:
    monkeypatch.setattr(documents, "PIECES_MAX", 4)
    start = seed("x")
    many = structs(
        *(Struct(one, 1, STRING, parent="text", content=b"\x01h") for one in range(3))
    )  # fmt: skip
    fits = forged(many, name="fits", depth=2)
    too_much = forged(many, name="too much", depth=3)
    small = forged(structs(many.structs[0]), name="small", depth=4)
    assert shown(start, fits, too_much, small).text == "hhhx"
    grown = CardDocument.of([start, fits]).extended([too_much])
    assert grown is not None
    assert grown.extended([small]) is grown
    assert grown.content().text == "hhhx"
    with pytest.raises(UserFault, match="the card is full"):
        edit([start, fits, too_much], writes("y"))


def test_a_card_full_of_bytes_is_full_too(monkeypatch) -> None:
    start = seed("x")
    long, short = edit([start], writes("y" * 19)), edit([start], writes("z"), name="z", depth=3)
    monkeypatch.setattr(documents, "CONTENT_BYTES_MAX", 20)
    assert shown(start, long, short).text == "x"
    # Once it is void, nobody refers to it and it takes no room.
    assert shown(start, void(long), short).text == "zx"


def test_what_the_engine_keeps_aside_is_a_fault() -> None:
    engine = Engine(1)
    gap = structs(Struct(0, 1, STRING, parent="text", content=b"\x01h"))
    engine.apply(encode_update(gap, client=1, clock=5), "a gap")
    assert engine.clock() == 0
    engine.apply(encode_update(gap, client=2), "another client")
    with pytest.raises(CardEngineFault):
        engine.clock()


def test_what_the_engine_throws_becomes_a_fault_that_names_the_operation() -> None:
    engine = Engine(1)
    with pytest.raises(CardEngineFault, match="card up to 1234"):
        engine.apply(b"\x01\xff", "a card up to 1234")
    with pytest.raises(CardEngineFault):
        Engine(1).apply(b"\xff" * 30, "garbage")


def test_equal_cards_have_equal_json_and_digests() -> None:
    one = shown(seed("é", "b", "a"))
    assert one.canonical_json() == '{"evals":{},"tags":["a","b"],"text":"é"}'.encode()
    assert one.digest() == Card("é", ("a", "b"), {}).digest()
    assert one.digest() != Card("é", ("a",), {}).digest()


def test_numbers_show_as_json_has_them() -> None:
    content = shown(
        CardPart(op("s"), 1, ANN, Seed("", (), ((ANN.hex(), "n", [1.0, 2, 0.5, 2**53 - 1]),)), True)
    )
    assert b'{"n":[1,2,0.5,9007199254740991]}' in content.canonical_json()


@settings(max_examples=20)
@given(WORLDS)
def test_worlds_with_many_writers_at_once_agree(number) -> None:
    world = make_world(number, steps=25, seeds=2, hostile=0.6)
    parts = world.judged(0.2)
    assert CardDocument.of(parts).content() == slow_card(parts)
