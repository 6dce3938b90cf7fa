import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Array, Doc, Map, Text

from node.live import EditsMissing, UpdateRefused
from node.live.updates import (
    DEPTH_MAX,
    Struct,
    check_known,
    cut_pairs,
    scan_state,
    scan_update,
    without_pairs,
)
from tests.node.live.yjs import embed, insert_text, update


def text_doc(text: str, client: int = 7) -> Doc:
    doc = Doc(client_id=client)
    doc.get("text", type=Text).insert(0, text)
    return doc


def test_an_update_is_scanned_into_its_runs():
    scanned = scan_update(text_doc("a😀").get_update(), "text")
    (struct,) = scanned.structs
    assert struct == Struct(7, 0, 3, None, None, "a😀", struct.span)
    assert scanned.deletions == ()


def test_deletions_are_runs_too():
    doc = text_doc("abcdef")
    del doc.get("text", type=Text)[1:3]
    assert scan_update(doc.get_update(), "text").deletions == ((7, 1, 2),)


@given(st.binary(max_size=60))
def test_garbage_is_refused_or_scanned(raw):
    with contextlib.suppress(UpdateRefused):
        scan_update(raw, "text")


@given(st.binary(max_size=20))
def test_a_garbled_state_is_refused_or_scanned(raw):
    with contextlib.suppress(UpdateRefused):
        scan_state(raw)


@pytest.mark.parametrize("cut", range(1, 12))
def test_an_update_that_ends_early_is_refused(cut):
    with pytest.raises(UpdateRefused):
        scan_update(text_doc("hello").get_update()[:-cut], "text")


def test_an_update_that_goes_on_is_refused():
    with pytest.raises(UpdateRefused, match="goes on after its end, by 1 bytes"):
        scan_update(text_doc("hello").get_update() + b"\x00", "text")


def test_another_root_is_refused_by_name():
    with pytest.raises(UpdateRefused, match="named 'monaco'; the editor writes to 'text'"):
        scan_update(text_doc("hello").get_update(), "monaco")


@pytest.mark.parametrize("value", [Map({"a": 1}), Array([1]), Text("x")])
def test_shared_types_within_the_text_are_refused(value):
    doc = text_doc("hello")
    doc.get("text", type=Text).insert_embed(0, value)
    with pytest.raises(UpdateRefused, match="a session holds one text"):
        scan_update(doc.get_update(), "text")


def test_a_map_under_the_name_of_the_text_is_refused():
    doc = Doc()
    doc.get("text", type=Map)["key"] = 1
    with pytest.raises(UpdateRefused, match="has no keys"):
        scan_update(doc.get_update(), "text")


def test_values_nest_to_a_bound():
    deep = '{"a":' * (DEPTH_MAX - 1) + "1" + "}" * (DEPTH_MAX - 1)
    scan_update(update(embed(7, 0, deep)), "text")
    with pytest.raises(UpdateRefused, match="nests more than 16 levels"):
        scan_update(update(embed(7, 0, "[" * 17 + "]" * 17)), "text")
    with pytest.raises(UpdateRefused, match="is not JSON"):
        scan_update(update(embed(7, 0, "[" * 60_000)), "text")


def test_a_count_beyond_the_bytes_is_refused_before_anything_is_made_of_it():
    with pytest.raises(UpdateRefused, match="announces 268435455 structs"):
        scan_update(bytes.fromhex("01ffffff7f0700"), "text")


@pytest.mark.parametrize(
    "raw",
    [bytes.fromhex("0100070100"), update(insert_text(7, 0, "a"), insert_text(7, 1, "b"))],
    ids=["empty", "split"],
)
def test_blocks_that_make_pycrdt_panic_are_refused(raw):
    with pytest.raises(UpdateRefused, match="empty or split"):
        scan_update(raw, "text")


def test_edits_may_come_in_any_order_of_clients():
    later = insert_text(3, 0, "b", left=(7, 0))
    earlier = insert_text(7, 0, "a")
    check_known(scan_update(update(later, earlier), "text"), {})


@pytest.mark.parametrize(
    "blocks",
    [
        [insert_text(7, 1, "a", left=(7, 0))],
        [insert_text(7, 0, "a", left=(3, 0))],
        [insert_text(7, 0, "a", right=(3, 0))],
        [insert_text(7, 0, "a", left=(3, 0)), insert_text(3, 0, "b", left=(7, 0))],
    ],
    ids=["own past", "left", "right", "circle"],
)
def test_edits_that_build_on_what_is_not_known_are_told(blocks):
    with pytest.raises(EditsMissing):
        check_known(scan_update(update(*blocks), "text"), {})


def test_a_deletion_of_what_is_not_known_is_told():
    scanned = scan_update(bytes.fromhex("00 01 07 01 02 02"), "text")
    check_known(scanned, {7: 4})
    with pytest.raises(EditsMissing):
        check_known(scanned, {7: 3})


@pytest.mark.parametrize(
    "cutter",
    [
        update(insert_text(3, 0, "X", left=(7, 1))),
        update(insert_text(3, 0, "X", right=(7, 2))),
        bytes.fromhex("00 01 07 01 02 01"),
        bytes.fromhex("00 01 07 01 00 02"),
    ],
    ids=["written behind", "written before", "deleted from", "deleted to"],
)
def test_a_pair_that_is_cut_is_found_and_two_replacements_put_for_it(cutter):
    whole = update(insert_text(7, 0, "a😀b😀"))
    cut = cut_pairs(scan_update(cutter, "text"), {7: 6}, {7: {2, 5}})
    assert cut == {7: {2}}
    rewritten = without_pairs(whole, scan_update(whole, "text"), cut)
    assert rewritten == update(insert_text(7, 0, "a\ufffd\ufffdb😀"))


def test_edits_beside_a_pair_do_not_cut_it():
    beside = update(insert_text(3, 0, "X", left=(7, 0)), insert_text(4, 0, "Y", left=(7, 2)))
    assert cut_pairs(scan_update(beside, "text"), {7: 4}, {7: {2}}) == {}


@given(st.text(alphabet="ab\ufffd字😀", min_size=1))
def test_scanning_counts_as_javascript_does(text):
    (struct,) = scan_update(text_doc(text).get_update(), "text").structs
    assert struct.length == len(text.encode("utf-16-le")) // 2
