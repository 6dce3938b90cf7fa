"""The card behind a live session, on a node's real API: typed, signed, sent and merged."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from crdt import Capability, CardFull, EntryType, OperationType, Seed, encode_checkpoint, make_entry
from node.cli.live_card import LiveCard, RecordGone
from node.client import Client, ItemRejected, NoAuthority, NodeUnreachable, RecordCopy
from node.client import publish_items as send_items
from node.live import Splice
from registry import TEXT_CHARACTERS_MAX
from tests.node.api_support import NOW_S, put_of, running_api, write_of
from tests.writers import NETWORK, Writer, key_of

ANN = Writer("ann")
DATA = {"name": "Thing", "description": "Reads old maps."}
EDITOR = key_of("an editor")
GRANT = make_entry(
    network=NETWORK, type=EntryType.ADD_KEY, account=ANN.account, predecessor=ANN.genesis.id,
    signer=ANN.key, key=EDITOR.public, capabilities=Capability.EDITOR,
)  # fmt: skip
REVOCATION = make_entry(
    network=NETWORK, type=EntryType.REVOKE, account=ANN.account, predecessor=GRANT.id,
    signer=ANN.key, key=EDITOR.public,
)  # fmt: skip


class Watch:
    """Notes what it is told."""

    def __init__(self):
        self.sent, self.others, self.faults, self.notices = [], [], [], []

    def published(self, items):
        self.sent += items

    def heard(self, operations):
        self.others += operations

    def reached(self, fault):
        self.faults.append(fault)

    def notice(self, line):
        self.notices.append(line)


class Desk:
    """Ann's record on one node, and whoever edits it."""

    def __init__(self, api):
        self.api = api

    async def send(self, *items):
        with Client(self.api.server.url) as client:
            await asyncio.to_thread(send_items, client, items)

    @asynccontextmanager
    async def card(self, key=ANN.key):
        """Open the card; it follows the node in the block, and `card.over` says how that ended."""

        def connect():
            return Client(self.api.server.url)

        with connect() as first:
            copy = RecordCopy(first, "models", ANN.record(), NETWORK)
            await asyncio.to_thread(copy.refresh)
            watch = Watch()
            card = LiveCard(copy, key, connect=connect, watch=watch, now_s=lambda: NOW_S)
            card.watch = watch
            card.over = asyncio.create_task(card.follow())
            try:
                yield card
            finally:
                card.over.cancel()
                await asyncio.gather(card.over, return_exceptions=True)
                card.close()

    async def shown(self):
        _, found = await self.api.ask("GET", f"/v1/models/{ANN.record().hex()}")
        return found["record"]["description"]

    async def heads(self):
        _, found = await self.api.ask("GET", f"/v1/models/{ANN.record().hex()}")
        return found["heads"]

    async def open_era(self, number, text):
        """Publish a checkpoint whose card says `text`."""
        put = put_of(ANN, DATA | {"description": text})
        body = encode_checkpoint(number, put.body, Seed(text, ()))
        await self.send(write_of(ANN, body, type_=OperationType.CHECKPOINT))


@pytest.fixture
async def desk(tmp_path):
    async with running_api(tmp_path) as api:
        made = Desk(api)
        status, _ = await api.create(ANN, DATA)
        assert status == 201
        await made.send(GRANT)
        yield made


async def until_text(card, text):
    """Wait until the card says this; looked at whenever it calls back."""
    changed = asyncio.Event()
    end = card.subscribe(changed.set)
    try:
        async with asyncio.timeout(20):
            while card.text() != text:
                changed.clear()
                await changed.wait()
    finally:
        end()


async def test_what_was_typed_in_a_row_is_one_operation(desk):
    async with desk.card() as card:
        for at, letter in enumerate("new "):
            card.splice([Splice(at, 0, letter)])
        card.splice([Splice(3, 1, "")])
        card.splice([Splice(3, 0, "er ")])
        assert card.text() == "newer Reads old maps."
        assert (card.waiting_count, await card.publish(), await card.publish()) == (1, 1, 0)
        assert await desk.shown() == "newer Reads old maps."
        assert len(card.watch.sent) == 1


async def test_two_who_type_at_once_both_have_all_of_it(desk):
    async with desk.card() as one, desk.card(EDITOR) as other:
        one.splice([Splice(0, 0, "A😀")])
        other.splice([Splice(15, 0, "Z🎉")])
        other.splice([Splice(0, 5, "")])
        await one.publish()
        await other.publish()
        for card in (one, other):
            await until_text(card, "A😀 old maps.Z🎉")
        assert [item.key for item in one.watch.others] == [EDITOR.public]
        assert await desk.shown() == one.text()


async def test_what_is_not_signed_yet_keeps_its_place_when_others_edits_come(desk):
    async with desk.card() as card, desk.card(EDITOR) as other:
        card.splice([Splice(6, 3, "new")])
        other.splice([Splice(0, 5, "Draws")])
        await other.publish()
        await until_text(card, "Draws new maps.")
        await card.publish()
        await until_text(other, "Draws new maps.")


async def test_edits_made_while_others_are_being_sent_go_next(desk):
    async with desk.card() as card:
        card.splice([Splice(0, 0, "a")])
        sending = asyncio.create_task(card.publish())
        await asyncio.sleep(0)  # it is under way
        card.splice([Splice(1, 0, "b")])
        assert (await sending, await card.publish()) == (1, 1)
        assert await desk.shown() == "abReads old maps."


async def test_a_new_version_before_the_first_edit_changes_the_text(desk):
    async with desk.card() as card:
        put = put_of(
            ANN, DATA | {"description": "Draws.", "version": "0.2.0"}, heads=await desk.heads()
        )
        await desk.send(put)
        await until_text(card, "Draws.")
        card.splice([Splice(5, 0, " well")])
        await card.publish()
        assert await desk.shown() == "Draws well."


async def test_a_new_era_takes_over_what_was_not_published(desk):
    async with desk.card() as card, desk.card(EDITOR) as other:
        card.splice([Splice(0, 0, "Sent. ")])
        await card.publish()
        await until_text(other, "Sent. Reads old maps.")
        other.splice([Splice(12, 3, "new")])  # not sent
        await desk.open_era(1, "Sent. Really reads old maps!")
        await until_text(other, "Sent. Really reads new maps!")
        await other.publish()
        await until_text(card, "Sent. Really reads new maps!")
        assert await desk.shown() == card.text()
        assert other.watch.notices == []


async def test_a_new_era_without_it_takes_back_what_was_published(desk):
    async with desk.card() as card:
        card.splice([Splice(0, 0, "Sent. ")])
        await card.publish()
        await desk.open_era(1, "Fresh.")
        await until_text(card, "Fresh.")
        assert card.waiting_count == 0


async def test_a_revoked_key_edits_no_more_and_what_it_had_not_sent_is_gone(desk):
    async with desk.card(EDITOR) as card:
        card.splice([Splice(0, 0, "Sent. ")])
        await card.publish()
        card.splice([Splice(0, 0, "Unsent. ")])
        await desk.send(REVOCATION)
        with pytest.raises(NoAuthority, match="was revoked"):
            await asyncio.wait_for(card.over, 20)
        assert card.text() == "Reads old maps."
        assert card.waiting_count == 0
        with pytest.raises(NoAuthority):
            card.splice([Splice(0, 0, "x")])
        assert await card.publish() == 0


async def test_a_deleted_record_is_edited_no_more_and_keeps_what_was_typed(desk):
    async with desk.card() as card:
        card.splice([Splice(0, 0, "Typed. ")])
        heads = await desk.heads()
        await desk.send(write_of(ANN, b"", heads=heads, type_=OperationType.DELETE))
        with pytest.raises(RecordGone):
            await asyncio.wait_for(card.over, 20)
        with pytest.raises(RecordGone):
            card.splice([Splice(0, 0, "x")])
        assert await card.publish() == 1


async def test_a_large_paste_is_several_operations(desk):
    async with desk.card() as card:
        paste = "🐈" * 40_000
        card.splice([Splice(0, 15, paste)])
        assert await card.publish() >= 3
        assert await desk.shown() == paste


async def test_a_text_longer_than_a_description_is_refused_at_once(desk):
    async with desk.card() as card:
        with pytest.raises(Exception, match=f"at most {TEXT_CHARACTERS_MAX}"):
            card.splice([Splice(0, 0, "x" * TEXT_CHARACTERS_MAX)])
        assert card.text() == "Reads old maps."


@pytest.mark.slow
async def test_what_the_card_has_no_room_for_is_taken_back_whole(desk):
    async with desk.card() as card:
        size, old = TEXT_CHARACTERS_MAX - 100, 15
        full = None
        for count in range(22):  # four bytes a character, 4 MiB in all
            before = card.text()
            try:
                card.splice([Splice(0, old, chr(0x1F300 + count) * size)])
            except CardFull as fault:
                full = fault
                break
            await card.publish()
            old = size
        assert full is not None
        assert card.text() == before == await desk.shown()


async def test_a_node_that_is_away_is_told_once_and_asked_again(desk):
    async with desk.card() as card:
        await desk.api.server.stop(grace_s=0)
        back = asyncio.Event()
        card.back = back.set
        card.splice([Splice(0, 0, "x")])
        for _ in range(2):
            with pytest.raises(NodeUnreachable):
                await card.publish()
        assert card.waiting_count == 1
        assert card.text() == "xReads old maps."


async def test_an_operation_that_the_node_calls_invalid_ends_the_publishing(desk):
    async with desk.card() as card:

        class Strict:
            def post(self, path, value):
                return {"outcomes": [{"id": "ab" * 32, "status": "rejected", "detail": "no"}]}

            def cut(self):
                pass

            def close(self):
                pass

        card._sending.close()
        card._sending = Strict()
        card.splice([Splice(0, 0, "x")])
        with pytest.raises(ItemRejected):
            await card.publish()
        assert card.waiting_count == 1


async def test_a_key_that_is_no_delegate_is_refused(desk):
    with pytest.raises(NoAuthority):
        async with desk.card(key_of("a stranger")):
            pytest.fail("it was let in")
