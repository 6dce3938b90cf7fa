import asyncio

import pytest
from pycrdt import (
    Doc,
    Text,
    YMessageType,
    YSyncMessageType,
    create_sync_message,
    handle_sync_message,
)

from node.live import Session, Splice, UpdateRefused
from node.live.protocol import (
    PresenceEntry,
    PresenceSent,
    UpdateSent,
    read_frame,
    write_answer,
    write_presence,
    write_update,
)
from tests.node.live.replicas import Replicas
from tests.node.live.yjs import insert_text, update


class MemoryEditor:
    """A pycrdt document at the other end, with a line on which nothing moves by itself."""

    def __init__(self, session: Session, client: int) -> None:
        self._session = session
        self.doc = Doc(client_id=client)
        self._text = self.doc.get("text", type=Text)
        self.inbox: list[bytes] = []
        self.outbox: list[bytes] = []
        self.join()

    def join(self) -> None:
        self._session.join(self)
        self.outbox.append(create_sync_message(self.doc))

    def send(self, frame: bytes) -> None:
        self.inbox.append(frame)

    @property
    def text(self) -> str:
        return str(self._text)

    def type(self, at: int, insert: str) -> None:
        known = self.doc.get_state()
        self._text.insert(len(self.text[:at].encode()), insert)
        self.outbox.append(write_update(self.doc.get_update(known)))

    def hear(self) -> None:
        inbox, self.inbox = self.inbox, []
        for raw in inbox:
            if raw[0] == YMessageType.SYNC:
                reply = handle_sync_message(raw[1:], self.doc)
                if reply is not None:
                    self.outbox.append(reply)

    def say(self) -> None:
        outbox, self.outbox = self.outbox, []
        for raw in outbox:
            self._session.receive(self, raw)


def open_session(card, *, notices: list[str] | None = None) -> Session:
    edits: list[None] = []
    session = Session(
        card,
        root="text",
        client=99,
        edited=lambda: edits.append(None),
        notice=(notices if notices is not None else []).append,
        broken=lambda fault: pytest.fail(str(fault)),
    )
    session.edits = edits
    return session


def settle(*editors: MemoryEditor) -> None:
    while any(editor.inbox or editor.outbox for editor in editors):
        for editor in editors:
            editor.say()
            editor.hear()


def test_what_one_editor_types_the_other_shows_and_the_card_says():
    card = Replicas("one two").card()
    session = open_session(card)
    ann, bob = MemoryEditor(session, 5), MemoryEditor(session, 6)
    settle(ann, bob)
    ann.type(3, " 😀")
    settle(ann, bob)
    assert ann.text == bob.text == card.text() == session.text == "one 😀 two"


def test_edits_that_cross_with_what_others_wrote_are_neither_lost_nor_doubled():
    card = Replicas("start end").card()
    session = open_session(card)
    ann = MemoryEditor(session, 5)
    settle(ann)
    ann.type(0, "A")
    card.write(Splice(5, 0, "B"))
    ann.type(10, "C")
    settle(ann)
    assert ann.text == card.text() == "AstartB endC"


def test_a_change_the_session_was_not_told_of_yet_does_not_shift_an_edit():
    card = Replicas("start end").card()
    session = open_session(card)
    ann = MemoryEditor(session, 5)
    settle(ann)
    ann.type(5, "A")
    card._apply(Splice(0, 0, "unheard "))  # as if its call back were still on its way
    settle(ann)
    assert ann.text == card.text() == "unheard startA end"


def test_what_the_card_refuses_is_taken_back_and_said():
    notices: list[str] = []
    card = Replicas("12345").card(character_max=8)
    session = open_session(card, notices=notices)
    ann, bob = MemoryEditor(session, 5), MemoryEditor(session, 6)
    settle(ann, bob)
    ann.type(5, "6789")
    ann.type(0, "0")
    settle(ann, bob)
    assert ann.text == bob.text == card.text() == "012345"
    assert notices == ["an edit was taken back: the text would have 9 characters; 8 fit"]


def test_only_edits_are_to_be_published():
    card = Replicas("text").card()
    session = open_session(card)
    ann = MemoryEditor(session, 5)
    settle(ann)
    card.write(Splice(0, 0, "more "))
    settle(ann)
    assert session.edits == []
    ann.type(0, "x")
    settle(ann)
    assert len(session.edits) == 1


def test_edits_that_overtake_the_answer_to_our_question_come_with_it():
    card = Replicas("").card()
    session = open_session(card)
    ann = MemoryEditor(session, 5)
    ann.type(0, "offline")
    first = ann.outbox.pop()
    ann.type(7, "!")
    settle(ann)
    assert card.text() == "offline!"
    assert first


def test_an_editor_that_lost_an_update_is_asked_again():
    card = Replicas("").card()
    session = open_session(card)
    ann = MemoryEditor(session, 5)
    settle(ann)
    ann.type(0, "lost")
    ann.outbox.clear()
    ann.type(4, " found")
    settle(ann)
    assert card.text() == "lost found"


def test_an_answer_that_lacks_something_is_refused():
    session = open_session(Replicas("").card())
    ann = MemoryEditor(session, 5)
    with pytest.raises(UpdateRefused):
        session.receive(ann, write_answer(update(insert_text(5, 3, "later"))))


def test_the_session_knows_whether_every_editor_answered():
    session = open_session(Replicas("").card())
    ann = MemoryEditor(session, 5)
    settle(ann)
    assert not session.waits_for_answers
    session.ask_all()
    assert session.waits_for_answers
    settle(ann)
    assert not session.waits_for_answers


def test_everybody_hears_who_moved_the_one_who_did_too():
    session = open_session(Replicas("").card())
    ann, bob = MemoryEditor(session, 5), MemoryEditor(session, 6)
    settle(ann, bob)
    entry = PresenceEntry(5, 1, '{"cursor":3}')
    session.receive(ann, write_presence([entry]))
    assert [read_frame(raw) for raw in ann.inbox + bob.inbox] == [PresenceSent((entry,))] * 2
    session.leave(ann)
    assert read_frame(bob.inbox[-1]) == PresenceSent((PresenceEntry(5, 1, "null"),))


def test_an_update_is_not_sent_back_to_its_editor():
    session = open_session(Replicas("").card())
    ann, bob = MemoryEditor(session, 5), MemoryEditor(session, 6)
    settle(ann, bob)
    ann.type(0, "x")
    ann.say()
    assert ann.inbox == []
    assert [type(read_frame(raw)) for raw in bob.inbox] == [UpdateSent]
    assert bob.inbox[0][1] == YSyncMessageType.SYNC_UPDATE


async def test_two_sessions_on_two_replicas_become_equal_once_published():
    replicas = Replicas("shared")
    cards = replicas.card(), replicas.card()
    ann = MemoryEditor(open_session(cards[0]), 5)
    bob = MemoryEditor(open_session(cards[1]), 6)
    settle(ann, bob)
    ann.type(0, "Ann ")
    bob.type(6, " Bob")
    settle(ann, bob)
    await asyncio.gather(*(card.publish() for card in cards))
    settle(ann, bob)
    assert ann.text == bob.text == replicas.replayed() == "Ann shared Bob"


def test_a_closed_session_follows_the_card_no_more():
    card = Replicas("text").card()
    session = open_session(card)
    ann = MemoryEditor(session, 5)
    settle(ann)
    session.close()
    card.write(Splice(0, 0, "more "))
    assert ann.inbox == []
