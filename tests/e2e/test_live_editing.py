"""Stock editors on live sessions, over real sockets: what one types, all show and the card says."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from node.live import LiveLimits, LiveServer
from tests.e2e.stock_editors import install, js_editors, pycrdt_editor
from tests.node.live.replicas import Replicas

pytestmark = pytest.mark.e2e

LIMITS = LiveLimits(publish_s=0.02)


@pytest.fixture(scope="module")
def folder() -> Path:
    return install()


async def test_two_editors_of_one_session_see_each_other_type(folder):
    replicas = Replicas("Hello world")
    card = replicas.card()
    async with LiveServer(card, limits=LIMITS) as server, js_editors(folder) as editors:
        for name in ("ann", "bob"):
            editors.open(name, server)
            await editors.until_text(name, "Hello world")
        editors.do("ann", "insert", at=5, insert=" 😀 big")
        await editors.until_text("bob", "Hello 😀 big world")
        editors.do("bob", "remove", at=6, length=3)
        await editors.until_text("ann", "Hello big world")
    assert card.text() == replicas.replayed() == "Hello big world"


async def test_an_editor_learns_who_else_is_there_and_that_they_left(folder):
    async with (
        LiveServer(Replicas().card(), limits=LIMITS) as server,
        js_editors(folder) as editors,
    ):
        for name in ("ann", "bob"):
            editors.open(name, server)
            await editors.until_synced(name)
        editors.do("ann", "show", state={"name": "Ann"})
        await editors.until("bob", lambda shown: {"user": {"name": "Ann"}} in shown["others"])
        editors.do("ann", "disconnect")
        await editors.until("bob", lambda shown: shown["others"] == [])


async def test_editors_of_two_replicas_type_at_the_same_time(folder):
    replicas = Replicas("One two three")
    cards = replicas.card(), replicas.card()
    async with (
        LiveServer(cards[0], limits=LIMITS) as here,
        LiveServer(cards[1], limits=LIMITS) as there,
        js_editors(folder) as editors,
        pycrdt_editor(there) as other,
    ):
        editors.open("ann", here)
        await editors.until_text("ann", "One two three")
        editors.do("ann", "insert", at=3, insert="🐈‍⬛")
        editors.do("ann", "remove", at=0, length=1)
        other.insert(13, " four 🎉")
        other.remove(3, 4)
        expected = "ne🐈‍⬛ three four 🎉"
        await editors.until_text("ann", expected)
        await other.until_text(expected)
    assert [card.text() for card in cards] == [expected] * 2
    assert replicas.replayed() == expected


async def test_a_late_joiner_sees_what_was_typed_before(folder):
    async with (
        LiveServer(Replicas().card(), limits=LIMITS) as server,
        js_editors(folder) as editors,
    ):
        editors.open("ann", server)
        for letter in "typed 😀 early":
            editors.do("ann", "press", where=1, insert=letter)
        await editors.until_text("ann", "typed 😀 early")
        editors.open("late", server)
        await editors.until_text("late", "typed 😀 early")
        async with pycrdt_editor(server) as other:
            await other.until_text("typed 😀 early")


async def test_edits_made_while_disconnected_arrive_when_the_editor_is_back(folder):
    replicas = Replicas("base")
    here, elsewhere = replicas.card(), replicas.card()
    async with (
        LiveServer(here, limits=LIMITS) as server,
        LiveServer(elsewhere, limits=LIMITS) as other,
        js_editors(folder) as editors,
    ):
        editors.open("ann", server)
        editors.open("bob", other)
        for name in ("ann", "bob"):
            await editors.until_text(name, "base")
        editors.do("ann", "disconnect")
        editors.do("ann", "insert", at=0, insert="off😀line ")
        editors.do("bob", "insert", at=4, insert=" online")
        await editors.until_text("bob", "base online")
        editors.do("ann", "connect")
        editors.do("ann", "insert", at=0, insert="and typing ")
        for name in ("ann", "bob"):
            await editors.until_text(name, "and typing off😀line base online")
    assert here.text() == elsewhere.text() == replicas.replayed()


async def test_an_editor_that_cuts_a_surrogate_pair_leaves_all_with_the_same_text(folder):
    replicas = Replicas("a😀b😀c")
    card = replicas.card()
    async with LiveServer(card, limits=LIMITS) as server, js_editors(folder) as editors:
        for name in ("ann", "bob"):
            editors.open(name, server)
            await editors.until_text(name, "a😀b😀c")
        editors.do("ann", "remove", at=2, length=1)
        await editors.until_text("bob", "a\ufffdb😀c")
        editors.do("ann", "insert", at=2, insert="\ude01")
        editors.do("bob", "insert", at=4, insert="X")
        expected = "a\ufffd\ufffdb\ufffdX\ufffdc"
        for name in ("ann", "bob"):
            await editors.until_text(name, expected)
        editors.open("late", server)
        await editors.until_text("late", expected)
    assert card.text() == replicas.replayed() == expected


async def test_formats_and_embedded_values_are_taken_out_again(folder):
    card = Replicas("some text").card()
    async with LiveServer(card, limits=LIMITS) as server, js_editors(folder) as editors:
        for name in ("ann", "bob"):
            editors.open(name, server)
            await editors.until_synced(name)
        editors.do("ann", "format", at=0, length=4, attributes={"bold": True})
        editors.do("ann", "embed", at=5, value={"image": "data:"})
        editors.do("ann", "insert", at=2, insert="lid and wi")
        for name in ("ann", "bob"):
            await editors.until(
                name, lambda shown: shown["plain"] and shown["text"] == "solid and wime text"
            )
    assert card.text() == "solid and wime text"


async def test_what_was_just_typed_is_published_when_the_session_ends(folder):
    replicas = Replicas()
    slow = LiveLimits(publish_s=60)
    async with js_editors(folder) as editors:
        async with LiveServer(replicas.card(), limits=slow) as server:
            editors.open("ann", server)
            await editors.until_synced("ann")
            editors.do("ann", "insert", at=0, insert="last words")
            await editors.until_text("ann", "last words")
        await editors.until("ann", lambda shown: shown["closed"] == 4410)
    assert replicas.replayed() == "last words"


async def test_an_editor_with_the_wrong_room_is_let_know_nothing(folder):
    card = Replicas("private").card()
    async with LiveServer(card, limits=LIMITS) as server, js_editors(folder) as editors:
        editors.open("eve", server, room="card-guess")
        editors.do("eve", "insert", at=0, insert="forged ")
        await editors.until("eve", lambda shown: shown["closed"] == 1006)
        assert server.editor_count == 0
    assert editors.text("eve") == "forged "
    assert card.text() == "private"


async def test_an_editor_that_shares_more_than_the_text_is_told_not_to_come_back(folder):
    notices: list[str] = []
    server = LiveServer(Replicas().card(), limits=LIMITS, notice=notices.append)
    async with server, js_editors(folder) as editors:
        editors.open("ann", server, root="codemirror")
        editors.do("ann", "insert", at=0, insert="x")
        await editors.until("ann", lambda shown: shown["closed"] == 4400)
    assert "named 'text'" in notices[0]


@pytest.mark.parametrize(("seed", "held"), [(1, False), (2, False), (3, True), (4, True)])
async def test_whatever_is_typed_anywhere_shows_everywhere_once(folder, seed, held):
    """Every keystroke is a character of its own; what is erased is only dots of the first text.

    Operations arrive at the other replica at once, or only now and then (held).
    """
    rng = random.Random(seed)
    replicas = Replicas("." * 60, held=held)
    cards = replicas.card(), replicas.card()
    alphabet = [chr(0x4E00 + i) for i in range(300)] + [chr(0x1F300 + i) for i in range(300)]
    typed = rng.sample(alphabet, 400)
    async with (
        LiveServer(cards[0], limits=LIMITS) as here,
        LiveServer(cards[1], limits=LIMITS) as there,
        js_editors(folder) as editors,
        pycrdt_editor(there) as other,
    ):
        names = {"ann": here, "bob": here, "cid": there}
        for name, server in names.items():
            editors.open(name, server)
            await editors.until_synced(name)
        writers = [*names, None]
        for count, character in enumerate(typed):
            _press(rng, editors, other, rng.choice(writers), character)
            if count % 25 == 24:  # let some of it meet the rest half way
                seen = typed[count - 12]
                await replicas.until(lambda seen=seen: seen in replicas.replayed())
                replicas.deliver()
        for writer, last in zip(writers, "ABCD", strict=True):
            _insert(editors, other, writer, rng.random(), last)
        replicas.release()
        await replicas.until(lambda: all(set("ABCD") <= set(card.text()) for card in cards))
        final = cards[0].text()
        for name in names:
            await editors.until_text(name, final)
        await other.until_text(final)
    assert cards[0].text() == cards[1].text() == replicas.replayed() == final
    assert sorted(final.replace(".", "")) == sorted([*typed, *"ABCD"])
    assert len(replicas.operations) < len(typed) / 2


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_editors_that_cut_characters_at_random_still_show_the_same(folder, seed):
    rng = random.Random(seed)
    replicas = Replicas("🐈🦜b😀c🎉" * 10)
    cards = replicas.card(), replicas.card()
    async with (
        LiveServer(cards[0], limits=LIMITS) as here,
        LiveServer(cards[1], limits=LIMITS) as there,
        js_editors(folder) as editors,
    ):
        names = {"ann": here, "bob": here, "cid": there}
        for name, server in names.items():
            editors.open(name, server)
            await editors.until_synced(name)
        for count in range(120):
            insert = rng.choice(["", "x", "🐟", "\ude01", "\ud83d"])
            editors.do(rng.choice([*names]), "cut", where=rng.random(), insert=insert)
            if count % 30 == 29:
                name = rng.choice([*names])
                editors.do(name, "disconnect")
                editors.do(name, "cut", where=rng.random(), insert="🐟")
                editors.do(name, "connect")
        for name, last in zip(names, "ABC", strict=True):
            await editors.until_synced(name)
            editors.do(name, "insert", at=0, insert=last)
        await replicas.until(lambda: all(set("ABC") <= set(card.text()) for card in cards))
        final = cards[0].text()
        editors.open("late", here)
        for name in [*names, "late"]:
            await editors.until_text(name, final)
    assert cards[0].text() == cards[1].text() == replicas.replayed() == final


def _press(rng, editors, other, writer, character) -> None:
    _insert(editors, other, writer, rng.random(), character)
    if rng.random() < 0.15:
        where = rng.random()
        if writer is not None:
            editors.do(writer, "erase", where=where, what=".")
        elif (at := other.text.find(".", int(where * len(other.text)))) >= 0:
            other.remove(at, 1)


def _insert(editors, other, writer, where, character) -> None:
    if writer is None:
        other.insert(int(where * (len(other.text) + 1)), character)
    else:
        editors.do(writer, "press", where=where, insert=character)
