"""A record's copy: verified here, edited here, and merged with everybody else's edits."""

from __future__ import annotations

import asyncio
import base64

import pytest

from crdt import Capability, EntryType, Seed, SigningKey, make_entry
from node.client import BadAnswer, Client, NoAuthority, RecordCopy, publish_items
from tests.node.api_support import NOW_S, put_of, running_api
from tests.writers import NETWORK, Writer, key_of

ANN = Writer("ann")
DATA = {"name": "Thing", "description": "Reads old maps.", "tags": ["maps"]}
EDITOR, EVALUATOR = key_of("an editor"), key_of("an evaluator")


@pytest.fixture
async def api(tmp_path):
    async with running_api(tmp_path) as made:
        status, _ = await made.create(ANN, DATA)
        assert status == 201
        yield made


class Desk:
    """Copies of Ann's record at one node, used off the event loop's thread as a command would."""

    def __init__(self, api):
        self.api = api
        self.clients = []

    def client(self):
        client = Client(self.api.server.url)
        self.clients.append(client)
        return client

    async def copy(self):
        client = self.client()
        copy = RecordCopy(client, "models", ANN.record(), NETWORK)
        await asyncio.to_thread(copy.refresh)
        return copy

    async def grant(self, key: SigningKey, capability: Capability):
        entry = make_entry(
            network=NETWORK, type=EntryType.ADD_KEY, account=ANN.account,
            predecessor=self.tip, signer=ANN.key, key=key.public, capabilities=capability,
        )  # fmt: skip
        self.tip = entry.id
        await asyncio.to_thread(publish_items, self.client(), [entry])

    tip = ANN.genesis.id

    async def publish(self, copy):
        return await asyncio.to_thread(copy.publish)

    async def shown(self):
        status, found = await self.api.ask("GET", f"/v1/models/{ANN.record().hex()}")
        assert status == 200
        return found


@pytest.fixture
async def desk(api):
    made = Desk(api)
    yield made
    for client in made.clients:
        client.close()


async def test_a_first_edit_starts_from_what_the_put_says(desk):
    copy = await desk.copy()
    assert copy.card().text == "Reads old maps."
    copy.edit(lambda card: card.replace_text("Reads very old maps."), ANN.key, now_s=NOW_S)
    await desk.publish(copy)
    found = await desk.shown()
    assert found["record"]["description"] == "Reads very old maps."
    assert found["record"]["tags"] == ["maps"]
    assert found["card"]["digest"] == copy.card().digest().hex()


async def test_edits_made_apart_are_merged_whoever_publishes_first(desk):
    await desk.grant(EDITOR, Capability.EDITOR)
    one, two = await desk.copy(), await desk.copy()
    one.edit(lambda card: card.splice(0, 0, "Quickly: "), ANN.key, now_s=NOW_S)
    one.edit(lambda card: card.add_tag("fast"), ANN.key, now_s=NOW_S)
    end = len("Reads old maps.")
    two.edit(lambda card: card.splice(end, 0, " And new ones."), EDITOR, now_s=NOW_S)
    two.edit(lambda card: card.remove_tag("maps"), EDITOR, now_s=NOW_S)
    await desk.publish(two)
    await desk.publish(one)
    for copy in (one, two):
        await asyncio.to_thread(copy.refresh)
    assert one.card().text == "Quickly: Reads old maps. And new ones."
    assert one.card() == two.card()
    found = await desk.shown()
    assert found["card"]["digest"] == one.card().digest().hex()
    assert found["record"]["tags"] == ["fast"]


async def test_a_search_finds_what_a_card_says(desk):
    copy = await desk.copy()
    copy.edit(lambda card: card.replace_text("Forecasts weather."), ANN.key, now_s=NOW_S)
    await desk.publish(copy)
    _, found = await desk.api.ask("GET", "/v1/models?q=weather")
    assert [one["slug"] for one in found["items"]] == ["thing"]
    _, found = await desk.api.ask("GET", "/v1/models?q=maps")
    assert [one["slug"] for one in found["items"]] == ["thing"]  # the tag
    copy.edit(lambda card: card.remove_tag("maps"), ANN.key, now_s=NOW_S)
    await desk.publish(copy)
    _, found = await desk.api.ask("GET", "/v1/models?q=maps")
    assert found["items"] == []


async def test_a_put_that_says_something_else_than_the_card_is_told_so(desk):
    copy = await desk.copy()
    copy.edit(lambda card: card.replace_text("Through the card."), ANN.key, now_s=NOW_S)
    await desk.publish(copy)
    heads = (await desk.shown())["heads"]
    path = f"/v1/models/{ANN.record().hex()}"
    other = {**DATA, "version": "0.2.0", "description": "Past the card."}
    status, problem = await desk.api.write(ANN, "PUT", path, other, put_of(ANN, other, heads=heads))
    assert (status, problem["code"]) == (409, "card-differs")
    same = {**other, "description": "Through the card."}
    status, shown = await desk.api.write(ANN, "PUT", path, same, put_of(ANN, same, heads=heads))
    assert (status, shown["version"]) == (200, "0.2.0")
    assert shown["record"]["description"] == "Through the card."


async def test_an_evaluator_writes_its_own_evaluations_and_nothing_else(desk):
    await desk.grant(EVALUATOR, Capability.EVALUATOR)
    copy = await desk.copy()
    with pytest.raises(NoAuthority, match="refused"):
        copy.edit(lambda card: card.replace_text("x"), EVALUATOR, now_s=NOW_S)
    own = EVALUATOR.public
    copy.edit(lambda card: card.set_evaluation(own, "mmlu", 0.5), EVALUATOR, now_s=NOW_S)
    await desk.publish(copy)
    found = await desk.shown()
    assert found["card"]["evaluations"] == {own.hex(): {"mmlu": 0.5}}
    assert found["record"]["description"] == "Reads old maps."


async def test_a_stranger_cannot_edit(desk):
    copy = await desk.copy()
    with pytest.raises(NoAuthority, match="hansa account delegate"):
        copy.edit(lambda card: card.add_tag("x"), EDITOR, now_s=NOW_S)


async def test_revoked_edits_leave_the_card_and_the_search(desk):
    await desk.grant(EDITOR, Capability.EDITOR)
    copy = await desk.copy()
    copy.edit(lambda card: card.splice(0, 0, "SPAM "), EDITOR, now_s=NOW_S)
    copy.edit(lambda card: card.add_tag("spam"), EDITOR, now_s=NOW_S)
    await desk.publish(copy)
    assert (await desk.shown())["record"]["description"] == "SPAM Reads old maps."
    revoke = make_entry(
        network=NETWORK, type=EntryType.REVOKE, account=ANN.account, predecessor=desk.tip,
        signer=ANN.key, key=EDITOR.public,
    )  # fmt: skip
    await asyncio.to_thread(publish_items, desk.client(), [revoke])
    found = await desk.shown()
    assert found["record"]["description"] == "Reads old maps."
    assert (found["card"], found["record"]["tags"]) == (None, ["maps"])
    _, page = await desk.api.ask("GET", "/v1/models?q=spam")
    assert page["items"] == []


async def test_a_checkpoint_holds_everything_and_is_built_on(desk):
    copy = await desk.copy()
    own = ANN.key.public
    copy.edit(lambda card: card.replace_text("Whole state."), ANN.key, now_s=NOW_S)
    copy.edit(lambda card: card.set_evaluation(own, "mmlu", 1), ANN.key, now_s=NOW_S)
    before = copy.card()
    item = copy.checkpoint(ANN.key, now_s=NOW_S)
    copy.edit(lambda card: card.add_tag("later"), ANN.key, now_s=NOW_S)
    await desk.publish(copy)
    found = await desk.shown()
    assert found["era"] == item.id.hex()
    assert found["record"]["description"] == before.text
    assert found["record"]["tags"] == ["later", "maps"]
    assert found["card"]["evaluations"] == {own.hex(): {"mmlu": 1}}
    assert await desk.api.catalogue.prune() == (1, 3)
    assert await desk.shown() == found
    fresh = await desk.copy()
    assert fresh.card().digest().hex() == found["card"]["digest"]


async def test_only_the_root_makes_checkpoints(desk):
    await desk.grant(EDITOR, Capability.MAINTAINER)
    copy = await desk.copy()
    with pytest.raises(NoAuthority):
        copy.checkpoint(EDITOR, now_s=NOW_S)


async def test_a_node_that_sends_what_does_not_hold_is_not_believed(desk):
    copy = await desk.copy()
    forged = ANN.put(b"not a record", cites=(ANN.put(b"unknown"),))
    raw = base64.urlsafe_b64encode(forged.raw).decode()

    class Liar:
        url = "http://liar"

        def get(self, path, query):
            page = {"entries": [], "items": [{"n": 9, "raw": raw}], "next_n": 9, "next_entry": 0}
            return {**page, "done": True}

    copy.pages = copy.pages.through(Liar())
    with pytest.raises(BadAnswer, match="does not hold"):
        copy.refresh()
    assert copy.card().text == "Reads old maps."


async def test_the_seed_of_a_put_is_its_description_and_tags(desk):
    from registry import RegistryRules

    item = put_of(ANN, DATA)
    assert RegistryRules().seed_of(ANN.opened(item), item.body) == Seed(
        "Reads old maps.", ("maps",)
    )
