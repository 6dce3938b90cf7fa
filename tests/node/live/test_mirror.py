import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Doc, Text

from node.live import EditsMissing, Splice, UpdateRefused, spliced
from node.live.mirror import Mirror
from tests.node.live.yjs import embed, insert_text, update

BRIDGE = 99


def mirror_of(text: str) -> Mirror:
    return Mirror("text", text, client=BRIDGE)


def shown(doc: Doc) -> list:
    return doc.get("text", type=Text).diff()


def test_an_editor_that_knows_nothing_is_told_the_text():
    doc = Doc()
    doc.apply_update(mirror_of("hello 😀").since(b"\x00"))
    assert shown(doc) == [("hello 😀", None)]


def test_an_editors_update_becomes_splices():
    mirror = mirror_of("a😀c")
    received = mirror.receive(update(insert_text(7, 0, "X", left=(BRIDGE, 2))))
    assert received.splices == (Splice(2, 0, "X"),)
    assert mirror.text == "a😀Xc"


def test_the_same_update_again_changes_nothing():
    mirror = mirror_of("")
    sent = update(insert_text(7, 0, "X"))
    mirror.receive(sent)
    received = mirror.receive(sent)
    assert (received.splices, received.relay, mirror.text) == ((), None, "X")


def test_a_change_of_the_card_is_one_update_for_the_editors():
    mirror = mirror_of("one 😀 two")
    doc = Doc()
    doc.apply_update(mirror.since(b"\x00"))
    doc.apply_update(mirror.show("One 😀🎉 2"))
    assert shown(doc) == [("One 😀🎉 2", None)]
    assert mirror.show("One 😀🎉 2") is None


def test_a_pair_that_javascript_cuts_becomes_two_replacements_and_nothing_else_goes():
    mirror = mirror_of("x😀y")
    received = mirror.receive(bytes.fromhex("00 01 63 01 02 01"))  # deletes the second half
    assert mirror.text == "x\ufffdy"
    assert spliced("x😀y", received.splices) == "x\ufffdy"
    late = Doc()
    late.apply_update(mirror.since(b"\x00"))
    assert shown(late) == [("x\ufffdy", None)]


def test_half_a_pair_is_written_again_by_the_bridge():
    mirror = mirror_of("xy")
    received = mirror.receive(update(insert_text(7, 0, "\ufffd", left=(BRIDGE, 0))))
    assert received.splices == (Splice(1, 0, "\ufffd"),)
    assert [scan[:2] for scan in received.mends] == [b"\x01\x01"]
    assert mirror.text == "x\ufffdy"


def test_what_is_not_text_is_taken_out_of_every_editor():
    mirror = mirror_of("plain")
    editor = Doc(client_id=7)
    text = editor.get("text", type=Text)
    editor.apply_update(mirror.since(b"\x00"))
    known = editor.get_state()
    text.format(0, 3, {"bold": True})
    text.insert_embed(2, {"image": "x"})
    text.insert(6, "er", {"italic": True})
    received = mirror.receive(editor.get_update(known))
    for mend in received.mends:
        editor.apply_update(mend)
    assert received.splices == (Splice(5, 0, "er"),)
    assert shown(editor) == [("plainer", None)]
    assert mirror.text == "plainer"


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (b"\x00\x00\x00", UpdateRefused),
        (update(embed(7, 0, "[" * 30 + "]" * 30)), UpdateRefused),
        (update(insert_text(BRIDGE, 4, "forged", left=(BRIDGE, 3))), UpdateRefused),
        (update(insert_text(7, 3, "later")), EditsMissing),
        (update(embed(7, 0, '"\\ud800"')), UpdateRefused),
    ],
    ids=["long", "deep", "as the bridge", "missing", "half a pair in a value"],
)
def test_what_a_session_does_not_take_changes_nothing(sent, fault):
    mirror = mirror_of("text")
    state, whole = mirror.state(), mirror.since(b"\x00")
    with pytest.raises(fault):
        mirror.receive(sent)
    assert (mirror.text, mirror.state(), mirror.since(b"\x00")) == ("text", state, whole)


def test_a_state_that_ends_within_a_character_is_refused():
    mirror = mirror_of("x😀y")
    with pytest.raises(UpdateRefused, match="within a character"):
        mirror.since(bytes([1, BRIDGE, 2]))


@given(st.data())
def test_splices_always_lead_to_what_the_mirror_shows(data):
    mirror = mirror_of(data.draw(st.text(alphabet="ab😀", max_size=8)))
    editors = []
    for client in (5, 500):
        doc = Doc(client_id=client)
        doc.get("text", type=Text)
        editors.append(doc)
    for _ in range(data.draw(st.integers(1, 12))):
        doc = data.draw(st.sampled_from(editors))
        if data.draw(st.booleans()):
            doc.apply_update(mirror.since(doc.get_state()))
        known = doc.get_state()
        _edit(data, doc.get("text", type=Text))
        if data.draw(st.integers(0, 3)) == 0:
            mirror.show(data.draw(st.text(alphabet="ab😀", max_size=8)))
        before = mirror.text
        received = mirror.receive(doc.get_update(known))
        assert spliced(before, received.splices) == mirror.text
    for doc in editors:
        doc.apply_update(mirror.since(doc.get_state()))
        assert str(doc.get("text", type=Text)) == mirror.text
    mirror.close()


def _edit(data, text: Text) -> None:
    shown = str(text)
    start = data.draw(st.integers(0, len(shown)))
    end = data.draw(st.integers(start, len(shown)))
    start_bytes = len(shown[:start].encode())
    if data.draw(st.booleans()):
        del text[start_bytes : len(shown[:end].encode())]
    text.insert(start_bytes, data.draw(st.text(alphabet="cd🎉", max_size=3)))
