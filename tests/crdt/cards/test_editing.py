"""From a change to an operation's body: it does what was meant, minimally, and is always valid."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import OperationId, UserFault, sha3
from crdt.cards import CardDocument, CardPart, Seed, edit_card, open_card
from crdt.cards.editing import DIFF_WORK_MAX
from tests.crdt.cards.worlds import make_world
from tests.crdt.cards.writing import ANN, edit, judge, layouts_of, op, seed, shown

TEXTS = st.text(alphabet="ab \n😀é", max_size=20)


@given(TEXTS, TEXTS)
def test_replacing_the_text_gives_the_new_text(old: str, new: str) -> None:
    start = seed(old)
    body = edit_card(CardDocument.of([start]), lambda draft: draft.replace_text(new))
    if body is None:
        assert old == new
        return
    part = edit([start], lambda draft: draft.replace_text(new))
    assert shown(start, part).text == new
    judge(part.content, start)


@given(st.integers(0, 2**40))
def test_what_a_draft_says_is_what_the_card_says_afterwards(number: int) -> None:
    world = make_world(number, steps=4)
    parts = list(world.parts.values())
    drafts = []

    def change(draft) -> None:
        drafts.append(draft)
        world.edit(draft, ANN)

    document = CardDocument.of(parts)
    before = document.content()
    body = edit_card(document, change)
    assert document.content() == before
    assert drafts[0].text == (before if body is None else after(parts, body)).text


def after(parts, body):
    depth = 1 + max(part.depth for part in parts)
    new = CardPart(OperationId(sha3(body)), depth, ANN, open_card(body), True)
    layouts_of(*parts, new)
    return shown(*parts, new)


def test_a_change_of_nothing_is_no_operation() -> None:
    document = CardDocument.of([seed("text", "tag")])

    def nothing(draft) -> None:
        draft.splice(2, 0, "")
        draft.replace_text("text")
        draft.add_tag("tag")
        draft.remove_tag("other")
        draft.remove_evaluation(ANN, "n")

    def and_back(draft) -> None:
        draft.splice(2, 0, "x")
        draft.splice(2, 1, "")

    assert edit_card(document, nothing) is None
    assert edit_card(document, and_back) is None


def test_setting_an_equal_evaluation_is_no_operation() -> None:
    start = seed("")
    part = edit([start], lambda draft: draft.set_evaluation(ANN, "n", {"b": 1.0, "a": [2]}))
    document = CardDocument.of([start, part])
    same = {"a": [2.0], "b": 1}
    assert edit_card(document, lambda draft: draft.set_evaluation(ANN, "n", same)) is None


def test_a_small_change_of_a_long_text_is_a_small_operation() -> None:
    old = "All work and no play makes a dull model.\n" * 200
    new = old.replace("play", "rest", 1).replace("dull", "fine", 2)
    part = edit([seed(old)], lambda draft: draft.replace_text(new))
    assert len(part.content.raw) < 150


def test_a_replacement_leaves_others_edits_alone() -> None:
    start = seed("The quick brown fox")
    mine = edit([start], lambda draft: draft.replace_text("The slow brown fox"))
    theirs = edit([start], lambda draft: draft.replace_text("The quick brown wolf"))
    assert shown(start, mine, theirs).text == "The slow brown wolf"


def test_unrelated_words_are_not_spliced_from_each_others_letters() -> None:
    start = seed("All work and no play makes a dull model.")
    part = edit([start], lambda draft: draft.replace_text("Play comes after long hours of labour."))
    assert len(part.update.structs) < 10


def test_a_replacement_of_everything_takes_bounded_work() -> None:
    old, new = "ab" * 30_000, "ba c" * 14_000
    assert len(old) * len(new) > DIFF_WORK_MAX
    started = time.process_time()
    part = edit([seed(old)], lambda draft: draft.replace_text(new))
    assert time.process_time() - started < 5
    assert shown(seed(old), part).text == new


def test_a_replacement_of_every_other_word_still_fits_an_operation() -> None:
    old = "".join(f"{number} " for number in range(5000))
    new = "".join(f"{number} " if number % 2 else "x " for number in range(5000))
    assert len(old.split()) * len(new.split()) > DIFF_WORK_MAX
    shorter_old, shorter_new = old[:6000], new[:6000]
    for before, after_ in ((old, new), (shorter_old, shorter_new)):
        start = seed(before)
        part = edit([start], lambda draft, text=after_: draft.replace_text(text))
        assert shown(start, part).text == after_


def test_indices_are_of_characters() -> None:
    start = seed("é😀日x")
    part = edit([start], lambda draft: draft.splice(2, 1, "本😀"))
    assert shown(start, part).text == "é😀本😀x"


@pytest.mark.parametrize(
    "change",
    [
        lambda draft: draft.splice(5, 0, "x"),
        lambda draft: draft.splice(-1, 0, "x"),
        lambda draft: draft.splice(2, 9, ""),
        lambda draft: draft.splice(0, 0, "\ud83d"),
        lambda draft: draft.add_tag(""),
        lambda draft: draft.add_tag("x" * 129),
        lambda draft: draft.add_tag("a\x00b"),
        lambda draft: draft.set_evaluation(ANN, "", 1),
        lambda draft: draft.set_evaluation(ANN, "n", float("nan")),
        lambda draft: draft.set_evaluation(ANN, "n", 2**53),
        lambda draft: draft.set_evaluation(ANN, "n", 10**400),
        lambda draft: draft.set_evaluation(ANN, "n", {"k" * 129: 1}),
        lambda draft: draft.set_evaluation(ANN, "n", {1: 1}),
        lambda draft: draft.set_evaluation(ANN, "n", b"bytes"),
        lambda draft: draft.set_evaluation(ANN, "n", {1, 2}),
        lambda draft: draft.set_evaluation(ANN, "n", nested(17)),
        lambda draft: draft.set_evaluation(ANN, "n", [0] * 5000),
        lambda draft: draft.splice(0, 0, "x" * 70_000),
    ],
)
def test_what_cannot_be_is_the_callers_fault(change) -> None:
    with pytest.raises(UserFault):
        edit_card(CardDocument.of([seed("text")]), change)


def test_what_a_change_raises_passes_through() -> None:
    def change(draft) -> None:
        draft.splice(0, 0, "x")
        raise LookupError("of the caller's own")

    with pytest.raises(LookupError):
        edit_card(CardDocument.of([seed("text")]), change)


def nested(depth: int):
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [nested(16), -0.0, 1e-300, "\x00😀", {"": None}, [True, {}]])
def test_a_value_comes_back(value) -> None:
    start = seed("")
    part = edit([start], lambda draft: draft.set_evaluation(ANN, "n", value))
    judge(part.content, start)
    assert shown(start, part).evals[ANN.hex()]["n"] == value


def test_a_restored_document_is_edited_like_any_other() -> None:
    start = seed("text")
    part = edit([start], lambda draft: draft.splice(4, 0, "!"))
    document = CardDocument.of([start, part])
    restored = CardDocument.restored(document.snapshot(), [start, part])

    def change(draft) -> None:
        draft.splice(4, 1, "?")

    assert edit_card(restored, change) == edit_card(document, change)


def test_a_checkpoints_evaluations_can_be_changed_by_their_writer() -> None:
    start = CardPart(op("checkpoint"), 1, ANN, Seed("", (), ((ANN.hex(), "n", 1),)), True)
    part = edit([start], lambda draft: draft.set_evaluation(ANN, "n", 2))
    judge(part.content, start, may_edit=False)
    assert shown(start, part).evals == {ANN.hex(): {"n": 2}}


def test_a_line_that_is_added_stays_a_line_when_somebody_adds_to_the_one_before() -> None:
    start = seed("The fox jumps.\n")
    mine = edit([start], lambda draft: draft.replace_text("The fox jumps over the dog.\n"))
    theirs = edit([start], lambda draft: draft.replace_text("The fox jumps.\nI was here.\n"))
    assert shown(start, mine, theirs).text == "The fox jumps over the dog.\nI was here.\n"


def test_a_line_that_is_added_between_equal_ends_begins_a_line() -> None:
    start = seed("- one.\n- two.\n- three.\n")
    mine = edit([start], lambda draft: draft.replace_text("- one.\n- two.\n- new.\n- three.\n"))
    theirs = edit([start], lambda draft: draft.replace_text("- one.\n- two!.\n- a three.\n"))
    assert shown(start, mine, theirs).text == "- one.\n- two!.\n- new.\n- a three.\n"
