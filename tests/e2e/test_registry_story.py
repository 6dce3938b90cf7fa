"""A record's life as people live it: shared, edited apart, stolen, recovered and agreed on."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from crdt import (
    Capability,
    EntryType,
    Item,
    OperationType,
    RecordKind,
    make_entry,
    make_operation,
)
from node.client import Client, hand_in
from node.client.handing import texts
from tests.e2e.story_people import Person, World, at_once, haunted, until
from tests.writers import key_of

pytestmark = pytest.mark.e2e

FIRST = "The quick brown fox.\n"
EDITOR = """#!/bin/sh
sed -i -e 's/quick/swift/' -e 's/^tags = .*/tags = ["bobs", "small"]/' "$1"
echo 'Bob was here.' >> "$1"
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path, random.Random(tmp_path.name))
    try:
        yield found
    finally:
        found.stop_all()


class Story:
    """Who takes part, and what they talk about."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ada = world.person("ada", "ada")
        self.bob, self.eve, self.max = (world.person(n, "acme") for n in ("bob", "eve", "max"))
        self.tiny = self.big = ""

    def url(self, name: str) -> str:
        return self.world.nodes[name].url

    def on(self, name: str) -> tuple[str, str]:
        return ("--node", self.url(name))

    def audit(self, name: str, reference: str = "") -> dict[str, Any]:
        found = self.ada.run("audit", reference or self.tiny, *self.on(name))
        assert found["sound"], found["differences"]
        return found

    def send(self, name: str, *items: Item) -> None:
        with Client(self.url(name)) as client:
            assert hand_in(client, texts(items)) == []


def test_a_record_is_shared_edited_apart_stolen_and_recovered(world: World) -> None:
    story = Story(world)
    world.start("a", "b")
    _the_owner_shares(story)
    _they_edit_apart_and_meet(story)
    _the_next_update_settles_it(story)
    _nobody_writes_what_they_were_not_granted(story)
    _a_key_is_ended_and_haunts_nobody(story)
    _the_record_is_deleted_and_brought_back(story)
    _the_past_is_dropped_and_a_newcomer_misses_nothing(story)
    _the_root_is_replaced_and_the_old_one_is_worth_nothing(story)
    _two_machines_freeze_the_log_and_the_owner_heals_it(story)
    _everybody_agrees(story)


def _the_owner_shares(story: Story) -> None:
    ada, world, here = story.ada, story.world, story.on("a")
    account = ada.run("account", "create", "ada", "--network", "test")["account"]
    file = world.folder / "tiny.json"
    file.write_text(json.dumps({"name": "Tiny", "description": FIRST, "tags": ["small"]}))
    story.tiny = ada.run("models", "create", "--file", file, *here)["model_id"]
    story.big, *keys = at_once(
        lambda: ada.run("models", "create", "--set", "name=Big", *here)["model_id"],
        *(
            lambda who=who: who.run("account", "join", "acme", account, *here)["key"]
            for who in (story.bob, story.eve, story.max)
        ),
    )
    grants = (("editor",), ("evaluator",), ("maintainer", "--scope", "tiny"))
    for key, grant in zip(keys, grants, strict=True):
        ada.run("account", "delegate", "ada", "--key", key, "--as", *grant, *here)
    world.meet(ada, "b", "a")
    for record in (story.tiny, story.big):
        world.agreed("ab", record)
    until(
        lambda: len(world.get("b", f"/v1/accounts/{account}")["entries"]) == 4,
        "the delegates are known at node b",
    )


def _they_edit_apart_and_meet(story: Story) -> None:
    world, ada = story.world, story.ada
    world.part("b", "a")
    editor = world.folder / "editor.sh"
    editor.write_text(EDITOR)
    editor.chmod(0o755)
    text = world.folder / "text.md"
    text.write_text(FIRST.replace("fox", "fox jumps over the dog"))

    def here() -> str:
        ada.run("models", "edit", "tiny", "--text", text, "--add-tag", "adas", "--eval", "speed=12",
                *story.on("a"))  # fmt: skip
        return _put(ada, "0.3.0", *story.on("a"), "--set", "license=Apache-2.0")

    def there() -> str:
        there_ = story.on("b")
        shown = story.bob.at_terminal("models", "edit", "tiny", *there_, EDITOR=str(editor))
        assert "Published an edit of tiny" in shown
        story.eve.run("models", "edit", "tiny", "--eval", "mmlu=0.71", *there_)
        return _put(story.max, "0.2.0", *there_, "--set", "context_length=4096")

    winner, loser = at_once(here, there)
    assert (world.shown("a", story.tiny)["version"], world.shown("b", story.tiny)["version"]) == (
        "0.3.0", "0.2.0",
    )  # fmt: skip
    world.meet(ada, "b", "a")
    shown = world.agreed("ab", story.tiny, lambda one: bool(one["conflicts"]))
    card = shown["card"]
    assert card["text"] == "The swift brown fox jumps over the dog.\nBob was here.\n"
    assert card["tags"] == ["adas", "bobs", "small"]
    by_name = {name: value for one in card["evaluations"].values() for name, value in one.items()}
    assert by_name == {"speed": 12, "mmlu": 0.71}
    assert (shown["version_id"], shown["conflicts"]) == (winner, [loser])
    for name in "ab":
        found = ada.run("models", "conflicts", "tiny", *story.on(name))
        assert found == world.get(name, f"/v1/models/{story.tiny}/conflicts")
        assert found["winner"]["version_id"] == winner
        assert [(one["version"], one["lost_by"]) for one in found["conflicts"]] == [
            ("0.2.0", "is_root")
        ]
    audit = story.audit("b", "tiny")
    assert (audit["winner"], audit["conflicts"]) == (winner, [loser])
    assert {one["why"]["cause"] for one in audit["operations"]} == {"current"}


def _put(who: Person, version: str, *more: object) -> str:
    """Publish a version and return its id."""
    words = ("models", "update", "tiny", "--set", f"version={version}", *more)
    return str(who.run(*words)["version_id"])


def _the_next_update_settles_it(story: Story) -> None:
    settled = _put(story.ada, "0.4.0", *story.on("b"))
    shown = story.world.agreed("ab", story.tiny, lambda one: one["version_id"] == settled)
    assert shown["conflicts"] == []
    assert [one["version_id"] for one in shown["heads"]] == [settled]
    assert "Bob was here." in shown["record"]["description"]


def _nobody_writes_what_they_were_not_granted(story: Story) -> None:
    here = story.on("a")
    before = story.world.agreed("ab", story.tiny)
    refused = story.eve.run("models", "edit", "tiny", "--add-tag", "eves", *here, status=5)
    assert "an evaluator writes only evaluations" in refused["message"]
    refused = story.max.run("models", "edit", "big", "--add-tag", "max", *here, status=5)
    assert "may not edit the card" in refused["message"]
    refused = story.max.run("models", "update", "big", "--set", "version=9.9.9", *here, status=5)
    assert refused["code"] == "no-role"
    assert story.world.agreed("ab", story.tiny) == before


def _a_key_is_ended_and_haunts_nobody(story: Story) -> None:
    world, bob, ada = story.world, story.bob, story.ada
    network = ada.card.network
    kept = bob.run("models", "edit", "tiny", "--add-tag", "kept", *story.on("b"))["operation"]
    lost = bob.run("models", "edit", "tiny", "--add-tag", "lost", *story.on("b"))["operation"]
    world.agreed("ab", story.tiny, lambda one: "lost" in one["card"]["tags"])
    stale = world.copy("b", network, story.tiny)
    key = bob.key().public.hex()
    shown = ada.at_terminal(
        "account", "revoke", "ada", "--key", key[:8], *story.on("a"), typed=("1,3-5", "1\n")
    )
    assert "kept" in shown
    assert "void from now on" in shown
    before = world.agreed("ab", story.tiny, lambda one: "lost" not in one["card"]["tags"])
    assert "kept" in before["card"]["tags"]
    ghost = stale.edit(haunted, bob.key(), now_s=1)
    assert ghost is not None
    assert len(stale.publish()) == 1
    for name in "ab":
        until(lambda name=name: world.copy(name, network, story.tiny).knows(ghost.id),
              f"node {name} has the ghost")  # fmt: skip
    assert world.agreed("ab", story.tiny) == before
    for name in "ab":
        audit = story.audit(name)
        of = {one["id"]: one for one in audit["operations"]}
        revoked = audit["entries"][-1]
        assert revoked["type"] == "revoke"
        assert revoked["key"] == key
        whys = [(of[id_]["why"]["cause"], of[id_]["why"]["by"])
                for id_ in (kept, lost, ghost.id.hex())]  # fmt: skip
        assert whys == [("kept", revoked["id"]), *[("key-ended", revoked["id"])] * 2]
    refused = bob.run("models", "edit", "tiny", "--add-tag", "z", *story.on("a"), status=5)
    assert "revoked" in refused["message"]


def _the_record_is_deleted_and_brought_back(story: Story) -> None:
    world, ada = story.world, story.ada
    ada.run("models", "delete", "tiny", "--yes", *story.on("a"))
    for name in "ab":
        until(lambda name=name: not world.shown(name, story.tiny), f"deleted at node {name}")
    refused = ada.run("models", "show", "tiny", *story.on("b"), status=4)
    assert refused["code"] == "gone"
    text = "A phoenix.\nBob was here.\n"
    ada.run("models", "create", "--set", "name=Tiny", "--set", "version=0.5.0", *story.on("b"),
            "--set", f"description={text}")  # fmt: skip
    shown = world.agreed("ab", story.tiny, lambda one: one.get("version") == "0.5.0")
    assert shown["record"]["description"] == text
    assert "kept" in shown["card"]["tags"]


def _the_past_is_dropped_and_a_newcomer_misses_nothing(story: Story) -> None:
    world, ada = story.world, story.ada
    opened = ada.run("models", "checkpoint", "tiny", *story.on("a"))["checkpoint"]
    before = world.agreed("ab", story.tiny, lambda one: one.get("era") == opened)
    assert before["record"]["description"].startswith("A phoenix.")
    pruned = ada.run("storage", "--prune", *story.on("a"), "--data-dir", world.nodes["a"].folder)
    versions = [len(world.get(name, f"/v1/models/{story.tiny}/versions")["items"]) for name in "ab"]
    assert versions[0] == 1
    assert versions[1] > 4
    assert pruned["counts"]["items"] < world.get("b", "/v1/node")["counts"]["items"]
    assert [one["id"] for one in story.audit("a")["operations"]] == [opened]
    world.part("b", "a")
    address = world.get("a", "/v1/node")["addresses"][0]
    world.start("c", bootstrap=address)
    assert world.agreed("abc", story.tiny) == before
    world.agreed("abc", story.big)
    world.meet(ada, "b", "a")


def _the_root_is_replaced_and_the_old_one_is_worth_nothing(story: Story) -> None:
    world, ada = story.world, story.ada
    old = world.agreed("abc", story.tiny)
    rotated = ada.run("account", "rotate", "ada", "--yes", *story.on("a"))
    assert sorted(rotated["endorsed"]) == sorted([story.tiny, story.big])
    root = rotated["root_key"]
    before = [
        world.agreed("abc", record, lambda one: one["signed_by"]["key"] == root)
        for record in (story.tiny, story.big)
    ]
    assert before[0]["card"]["digest"] == old["card"]["digest"]
    assert (before[0]["version"], before[0]["conflicts"]) == (old["version"], [])
    thief, card = ada.key("ada.key.epoch-0"), ada.card
    entry = make_entry(
        network=card.network, type=EntryType.ADD_KEY, account=card.account, signer=thief,
        predecessor=card.log.account.trunk[1].id, key=key_of("accomplice").public,
        capabilities=Capability.MAINTAINER,
    )  # fmt: skip
    deletion = make_operation(
        network=card.network, kind=RecordKind.MODEL, slug="tiny", type=OperationType.DELETE,
        account=card.account, key=thief, account_heads=(card.account,),
        predecessors=(bytes.fromhex(before[0]["version_id"]),),
        depth=before[0]["heads"][0]["depth"] + 1, body=b"", timestamp_s=1,
        era=bytes.fromhex(before[0]["era"]),
    )  # fmt: skip
    story.send("c", entry, deletion)
    for name in "abc":
        until(lambda name=name: world.copy(name, card.network, story.tiny).knows(deletion.id),
              f"node {name} has the thief's deletion")  # fmt: skip
    assert [world.agreed("abc", record) for record in (story.tiny, story.big)] == before
    audit = story.audit("b")
    assert [(one["at"], one["on_trunk"], one["settled"]) for one in audit["forks"]] == [
        (entry_predecessor(audit, entry.id.hex()), True, True)
    ]
    of = {one["id"]: one for one in audit["operations"]}
    assert of[deletion.id.hex()]["why"]["cause"] == "key-ended"
    assert {one["place"] for one in audit["entries"] if one["id"] == entry.id.hex()} == {"lost"}
    assert audit["frozen_at"] is None


def entry_predecessor(audit: dict[str, Any], id_: str) -> str:
    return next(one["predecessor"] for one in audit["entries"] if one["id"] == id_)


def _two_machines_freeze_the_log_and_the_owner_heals_it(story: Story) -> None:
    world, ada = story.world, story.ada
    before = world.agreed("abc", story.tiny)
    account = f"/v1/accounts/{ada.card.account.hex()}"
    other = ada.second_machine()
    world.part("b", "ac")
    grant = ("account", "delegate", "ada", "--as", "editor", "--yes", "--key")
    keys = [key_of(name).public.hex() for name in ("zoe", "yan")]
    mine, theirs = at_once(
        lambda: ada.run(*grant, keys[0], *story.on("a"))["entry"],
        lambda: other.run(*grant, keys[1], *story.on("b"))["entry"],
    )
    world.meet(ada, "b", "a")
    for name in "abc":
        until(lambda name=name: world.get(name, account)["frozen"],
              f"node {name} knows of the fork")  # fmt: skip
    screen = ada.read("account", "show", *story.on("c"))
    assert "FROZEN" in screen
    assert "hansa account recover ada" in screen
    refused = ada.run(*grant, key_of("xaver").public.hex(), *story.on("a"), status=6)
    assert refused["code"] == "account-frozen"
    shown = world.agreed("abc", story.tiny)
    assert len(shown["account_heads"]) == 2
    assert {**shown, "account_heads": before["account_heads"]} == before
    audit = story.audit("a")
    frozen = entry_predecessor(audit, mine)
    assert (audit["frozen_at"], entry_predecessor(audit, theirs)) == (frozen, frozen)
    ada.run("account", "recover", "ada", "--adopt", "--yes", *story.on("a"))
    for name in "abc":
        until(
            lambda name=name: not world.get(name, account)["frozen"],
            f"node {name} knows that it is settled",
        )
    found = ada.run("account", "show", *story.on("b"))
    assert keys[0] in {one["key"] for one in found["delegates"]}
    assert keys[1] not in {one["key"] for one in found["delegates"]}


def _everybody_agrees(story: Story) -> None:
    world = story.world
    last = _put(story.ada, "1.0.0", *story.on("c"))
    shown = world.agreed("abc", story.tiny, lambda one: one["version_id"] == last)
    world.agreed("abc", story.big)
    assert shown["record"]["description"] == "A phoenix.\nBob was here.\n"
    assert "ghost" not in shown["card"]["tags"]
    picture = world.folder / "history.svg"
    story.ada.read("audit", "tiny", "--svg", picture, *story.on("a"))
    assert ET.parse(picture).getroot().tag.endswith("svg")
    audits = at_once(*(lambda name=name: story.audit(name) for name in "abc"))
    said = [{key: one[key] for key in ("winner", "heads", "conflicts", "era", "frozen_at")}
            for one in audits]  # fmt: skip
    assert said[0] == said[1] == said[2]
    assert said[0]["winner"] == last
