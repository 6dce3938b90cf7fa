"""Completions, chat and embeddings by the real vLLM, through a node that serves none of them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import NotFoundError, OpenAI

from examples.demo.processes import Node, hansa, run_module, wait_for, watch_hansa
from examples.demo.story import model_record

pytestmark = [pytest.mark.e2e, pytest.mark.engine]
KINDS = {"Chat One": "LLM", "Embed One": "Embedding"}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Node]]:
    """A, which will serve, and C, which knows A and serves nothing."""
    folder = tmp_path_factory.mktemp("tasks")
    found = {name: Node(name, folder / name) for name in "AC"}
    try:
        found["A"].configure()
        found["A"].start()
        peer = hansa("status", node=found["A"])["peer_id"]
        found["C"].bootstrap = [f"/ip4/127.0.0.1/tcp/{found['A'].p2p_port}/p2p/{peer}"]
        found["C"].configure()
        found["C"].start()
        yield found
    finally:
        for node in found.values():
            if node.process is not None:
                node.stop()


@pytest.fixture(scope="module")
def models(nodes: dict[str, Node], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One build, published as a chat model and as an embedding model, both served by A."""
    folder = tmp_path_factory.mktemp("creator")
    (folder / "unlock.key").write_bytes(secrets.token_bytes(32))
    hansa("account", "create", "ada", "--network", "demo", creator=folder)
    package = folder / "tiny"
    run_module("examples.tiny_model", str(package))
    build = hansa("build", str(package), node=nodes["A"], creator=folder)["manifest"]
    template = hansa("templates", "preset", "vllm")
    found: dict[str, str] = {}
    for name, kind in KINDS.items():
        record = {**model_record(build, template, package), "name": name, "model_type": kind}
        path = folder / f"{kind}.json"
        path.write_text(json.dumps(record))
        words = ("models", "create", "--file", str(path), "--account", "ada")
        found[kind] = hansa(*words, node=nodes["A"], creator=folder)["model_id"]
        watch_hansa("serve", found[kind], node=nodes["A"], say=print)
    wait_for(
        "both offers at C",
        lambda: len(hansa("offers", node=nodes["C"])["items"]) == len(KINDS),
        timeout_s=60,
    )
    return found


@pytest.fixture(scope="module")
def client(nodes: dict[str, Node]) -> OpenAI:
    key = hansa("keys", "create", "tasks", node=nodes["C"])["key"]
    return OpenAI(base_url=f"{nodes['C'].url}/v1", api_key=key, max_retries=0)


def test_the_listing_says_what_each_model_can_do(client: OpenAI, models: dict[str, str]) -> None:
    tasks = [sorted((one.model_extra or {})["tasks"]) for one in client.models.list()]
    assert sorted(tasks) == [["chat", "completions"], ["embeddings"]]


def test_a_completion_whole_and_streamed_is_the_same(
    client: OpenAI, models: dict[str, str]
) -> None:
    asked = {"model": models["LLM"], "prompt": "The peer holds", "max_tokens": 8, "temperature": 0}
    whole = client.completions.create(**asked)  # type: ignore[call-overload]
    stream = client.completions.create(**asked, stream=True)  # type: ignore[call-overload]
    assert "".join(one.choices[0].text for one in stream) == whole.choices[0].text
    assert whole.usage.completion_tokens == 8


def test_a_requirement_finds_the_model_that_can_chat(
    client: OpenAI, models: dict[str, str]
) -> None:
    answer = client.chat.completions.create(
        model="any:llm?caps=chat", messages=[{"role": "user", "content": "hi"}], max_tokens=5
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


def test_texts_are_embedded(client: OpenAI, models: dict[str, str]) -> None:
    answer = client.embeddings.create(model=models["Embedding"], input=["a node", "a peer"])
    assert [len(one.embedding) for one in answer.data] == [64, 64]
    assert answer.data[0].embedding != answer.data[1].embedding


def test_a_model_nobody_knows_is_an_error_that_teaches(client: OpenAI) -> None:
    with pytest.raises(NotFoundError, match="owner/slug"):
        client.chat.completions.create(model="nope", messages=[])


def test_every_call_is_settled(
    client: OpenAI, nodes: dict[str, Node], models: dict[str, str], tmp_path: Path
) -> None:
    def settled() -> bool:
        lanes = hansa("usage", node=nodes["C"])["lanes"]
        return len(lanes) == len(KINDS) and not any(one["open_calls"] for one in lanes)

    client.embeddings.create(model=models["Embedding"], input="a last one")
    wait_for("both lanes to be settled", settled, timeout_s=30)
