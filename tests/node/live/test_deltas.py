from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Doc, Text

from node.live import Splice, difference, spliced
from node.live.deltas import from_delta

TEXTS = st.text(alphabet="ab\né字😀", max_size=40)


def test_splices_count_in_what_those_before_left():
    assert spliced("abc", [Splice(0, 1, "xyz"), Splice(3, 1, "")]) == "xyzc"


@given(TEXTS, TEXTS)
def test_a_difference_leads_from_the_old_text_to_the_new(old, new):
    assert spliced(old, difference(old, new)) == new


@given(TEXTS)
def test_equal_texts_do_not_differ(text):
    assert difference(text, text) == []


def test_a_difference_leaves_alone_what_is_between_two_changes():
    old = "first line\nmiddle\nlast line\n"
    new = "first fine\nmiddle\nlast wine\n"
    assert difference(old, new) == [Splice(6, 1, "f"), Splice(23, 1, "w")]


def test_changes_within_one_line_stay_apart():
    assert difference("a-b-c-d-e", "ab-c-de") == [Splice(1, 1, ""), Splice(6, 1, "")]


def test_texts_that_differ_too_much_for_the_search_are_replaced_from_the_first_difference_on():
    old, new = "=" + "ab" * 300 + "=", "=" + "cd" * 300 + "="
    assert difference(old, new) == [Splice(1, 600, "cd" * 300)]


@given(st.data())
def test_an_event_of_pycrdt_says_what_it_did_in_characters(data):
    doc = Doc()
    text = doc.get("text", type=Text)
    text.insert(0, data.draw(TEXTS))
    old = str(text)
    deltas = []
    watch = text.observe(lambda event: deltas.append(event.delta))
    with doc.transaction():
        for _ in range(data.draw(st.integers(0, 4))):
            shown = str(text)
            start = data.draw(st.integers(0, len(shown)))
            end = data.draw(st.integers(start, len(shown)))
            start_bytes = len(shown[:start].encode())
            del text[start_bytes : len(shown[:end].encode())]
            text.insert(start_bytes, data.draw(TEXTS))
    text.unobserve(watch)
    delta = [change for part in deltas for change in part]
    assert spliced(old, from_delta(old, delta)) == str(text)


def test_a_letter_typed_in_a_run_of_the_same_is_where_it_was_typed():
    assert from_delta("aaa", [{"retain": 2}, {"insert": "a"}]) == [Splice(2, 0, "a")]


def test_attributes_and_embedded_values_are_left_out():
    delta = [{"retain": 4, "attributes": {"b": True}}, {"insert": {"image": 1}}, {"insert": "x"}]
    assert from_delta("😀b", delta) == [Splice(1, 0, "x")]
