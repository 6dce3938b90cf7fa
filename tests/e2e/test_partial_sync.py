"""Real nodes of which one wants agents only: what it holds, what it says, and whom it misleads."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.crash_nodes import Member, member
from tests.e2e.live_nodes import Person, until

pytestmark = pytest.mark.e2e


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[dict[str, Member]]:
    rng = random.Random(tmp_path.name)
    nodes = {name: member(name, tmp_path / name, rng) for name in "ABC"}
    nodes["B"].flags = ["sync.kinds=agent"]
    try:
        yield nodes
    finally:
        for one in nodes.values():
            if one.process is not None and one.node.process.poll() is None:
                one.node.kill()


async def start(node: Member, *, bootstrap: Member | None = None) -> None:
    if bootstrap is not None:
        node.bootstrap = got(bootstrap, "/v1/node")["addresses"][0]
    await asyncio.to_thread(lambda: node.await_ready(node.spawn()))


def got(node: Member, path: str) -> dict[str, Any]:
    status, found = node.node.ask("GET", path)
    return dict(found) if status == 200 else {}


async def test_a_node_of_agents_only_says_so_and_the_others_are_whole(
    town: dict[str, Member], tmp_path: Path
) -> None:
    a, b, c = (town[name] for name in "ABC")
    await start(a)
    ann = Person(tmp_path / "ann", a)
    account = (await ann.run("account", "create", "ann", "--network", "test"))["account"]
    made: dict[str, list[str]] = {"models": [], "agents": []}

    async def create(kind: str, name: str) -> None:
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps({"name": name, "description": "of Ann"}))
        found = await ann.run(kind, "create", "--file", str(file))
        made[kind].append(found[f"{kind[:-1]}_id"])

    def shows(node: Member, kind: str) -> bool:
        return all(got(node, f"/v1/{kind}/{record}") for record in made[kind])

    await create("models", "first-model")
    await create("agents", "first-agent")
    await start(b, bootstrap=a)
    await until(lambda: shows(b, "agents"), "what was there has come by catch-up")
    await create("models", "second-model")
    await create("agents", "second-agent")
    await until(lambda: shows(b, "agents"), "what is new has come")
    assert got(b, f"/v1/accounts/{account}")["entries"]
    assert not any(got(b, f"/v1/models/{record}") for record in made["models"])

    assert got(b, "/v1/node")["partial"] is True
    said = got(b, "/v1/sync")
    assert (said["partial"], said["kinds"], said["owners"]) == (True, ["agent"], [])
    assert [one["partial"] for one in said["items"]] == [False]
    assert [one["partial"] for one in got(a, "/v1/sync")["items"]] == [True]
    assert got(a, "/v1/node")["partial"] is False

    # Who comes to the partial node first has what it holds, and goes on with the other.
    await start(c, bootstrap=b)
    await until(lambda: shows(c, "agents"), "the agents are there")
    await until(lambda: shows(c, "models"), "the models have come from another node")

    # It wants all from now on, and gets what it had passed by.
    await asyncio.to_thread(b.stop)
    b.flags = []
    await start(b)
    await until(lambda: shows(b, "models"), "a node that wants more gets the rest")
    assert got(b, "/v1/sync")["partial"] is False
