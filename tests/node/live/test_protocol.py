import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Awareness, Doc, create_awareness_message, create_sync_message

from node.live import UpdateRefused
from node.live.protocol import (
    PresenceAsked,
    PresenceEntry,
    PresenceSent,
    StateAsked,
    UpdateSent,
    read_frame,
    write_answer,
    write_presence,
    write_question,
    write_update,
)


def test_what_pycrdt_asks_is_understood():
    assert read_frame(create_sync_message(Doc())) == StateAsked(b"\x00")


def test_what_pycrdt_shows_of_itself_is_understood():
    doc = Doc(client_id=7)
    raw = create_awareness_message(Awareness(doc).encode_awareness_update([7]))
    assert read_frame(raw) == PresenceSent((PresenceEntry(7, 0, "{}"),))


@pytest.mark.parametrize(
    ("raw", "frame"),
    [
        (write_question(b"state"), StateAsked(b"state")),
        (write_answer(b"edits"), UpdateSent(b"edits", is_answer=True)),
        (write_update(b"edits"), UpdateSent(b"edits", is_answer=False)),
        (b"\x03", PresenceAsked()),
        (
            write_presence([PresenceEntry(1 << 52, 3, '{"a":"é"}')]),
            PresenceSent((PresenceEntry(1 << 52, 3, '{"a":"é"}'),)),
        ),
    ],
)
def test_frames_read_as_they_were_written(raw, frame):
    assert read_frame(raw) == frame


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x02\x00", b"\x00", b"\x00\x03\x00", b"\x00\x00\x05a", b"\x01\x01\x7f", b"\x03\x00"],
    ids=["empty", "auth", "no step", "step 3", "short", "many cursors", "long"],
)
def test_what_is_not_the_protocol_is_refused(raw):
    with pytest.raises(UpdateRefused):
        read_frame(raw)


@given(st.binary(max_size=40))
def test_garbage_is_refused_or_read(raw):
    with contextlib.suppress(UpdateRefused):
        read_frame(raw)
