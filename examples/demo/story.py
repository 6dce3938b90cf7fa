"""The eight steps. Each returns one line of what was seen, or raises `StepFailed`."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from examples.demo.processes import Node, StepFailed, get, hansa, run_module, wait_for, watch_hansa

QUESTION = "Which peer holds the chunk?"
PRICE_INPUT, PRICE_OUTPUT = 100_000, 300_000
"""Micro-USD per million tokens: ten and thirty cents."""
ROYALTY_BPS = 2_000
GOSSIP_MEMORY_S = 8.0
"""Peers offer what they heard in the last five heartbeats of a second; then they forget it."""


class Story:
    """Runs the steps in order; later ones use what earlier ones found."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.say = say
        self.nodes = {name: Node(name, folder / f"node-{name}") for name in "ABCD"}
        self.creator = folder / "creator"
        self.facts: dict[str, Any] = {}
        self.model = ""
        self.agent = ""
        self.key = ""
        self.published = 0.0

    def steps(self) -> list[tuple[str, Callable[[], str]]]:
        """Return the titles and the functions of the story."""
        return [
            ("Three nodes start", self.start_nodes),
            ("A creator publishes a model and an agent to A", self.publish),
            ("Every node shows both records", self.replicate),
            ("B fetches the build and serves it", self.serve),
            ("An agent program chats through C", self.chat),
            ("B is killed; A takes over", self.fail_over),
            ("The creator is owed a royalty that anybody can verify", self.settle),
            ("Everything stops and starts again", self.restart),
        ]

    def end(self) -> None:
        """End every process that is still there."""
        for node in self.nodes.values():
            if node.process is not None and node.process.poll() is None:
                node.process.kill()
                node.process.wait()

    def start_nodes(self) -> str:
        """Step 1: A, B and C; B and C know only A's address."""
        first = self.nodes["A"]
        first.configure()
        first.start()
        identity = hansa("status", node=first)
        address = f"/ip4/127.0.0.1/tcp/{first.p2p_port}/p2p/{identity['peer_id']}"
        self.say(f"A is {identity['peer_id']}, API {first.url}")
        for name in "BCD":
            self.nodes[name].bootstrap = [address]
        for name in "BC":
            self._start(name)
        for name in "BC":
            wait_for(
                f"{name} to see A", lambda name=name: hansa("peers", node=self.nodes[name])["items"]
            )
        return "A, B and C listen; B and C found A"

    def publish(self) -> str:
        """Step 2: account, tiny real model, build, template, record, agent."""
        self.creator.mkdir(parents=True)
        (self.creator / "unlock.key").write_bytes(self._random_bytes())
        account = hansa("account", "create", "ada", "--network", "demo", creator=self.creator)
        self.facts["account"] = account["account"]
        self.say(f"ada's account is {account['account'][:16]}…; its key stays with ada")
        package = self.folder / "tiny-hanse"
        run_module("examples.tiny_model", str(package))
        build = hansa("build", str(package), node=self.nodes["A"], creator=self.creator)
        self.say(f"build {build['manifest'][:16]}… packed and uploaded, {build['bytes']} bytes")
        template = hansa("templates", "preset", "vllm", "--set", "max_model_len=512")
        self.say(f"vLLM template rendered, digest {template['digest'][:16]}…")
        self.model = self._create("models", model_record(build["manifest"], template, package))
        self.agent = self._create("agents", agent_record(self.model))
        self.published = time.monotonic()
        self.facts.update(model=self.model, agent=self.agent, build=build["manifest"])
        return f"model {self.model[:10]}… and agent {self.agent[:10]}… signed by ada, taken by A"

    def replicate(self) -> str:
        """Step 3: B and C by gossip, D by catch-up, every signature checked on arrival."""
        for name in "BC":
            self._wait_for_records(name)
        # D is to come later: when nobody passes the records on by gossip any more.
        time.sleep(max(0.0, self.published + GOSSIP_MEMORY_S - time.monotonic()))
        self._start("D")
        self._wait_for_records("D")
        ways = {name: self._arrivals(name) for name in "BCD"}
        for name, want in (("B", "gossip"), ("C", "gossip"), ("D", "catch-up")):
            self.say(f"{name} received {ways[name]}, each signature checked")
            if not ways[name].get(want):
                raise StepFailed(f"{name} got nothing by {want}: {ways[name]}")
        if ways["D"].get("gossip"):
            raise StepFailed(f"D, which started later, got records by gossip: {ways['D']}")
        self.facts["arrivals"] = ways
        return "B and C by gossip, D by anti-entropy"

    def serve(self) -> str:
        """Step 4: fetch with every chunk verified, engine, CPU by fit, proof, offer."""
        self._serve("B")
        offer = wait_for("C to hear of B's offer", lambda: self._offers("C"), timeout_s=60)
        self.facts["offer"] = offer[0]
        return f"B offers it on {offer[0]['device']} after a real completion"

    def chat(self) -> str:
        """Step 5: the official client, streaming, through C to B, with order and receipts."""
        self.key = hansa("keys", "create", "demo-agent", node=self.nodes["C"])["key"]
        report = self._ask()
        self.say(f"the answer streamed in {report['events']} events: {report['text'][:60]!r}")
        if report["events"] < 3 or not report["text"]:
            raise StepFailed(f"that is not a streamed answer: {report}")
        lane = wait_for("an agreed receipt at C", lambda: self._lanes("C"), timeout_s=30)
        self.facts["chat"] = report
        usage = report["usage"]
        return (
            f"{usage['prompt_tokens']}+{usage['completion_tokens']} tokens; order and receipt "
            f"signed by both ({lane[0]['amount_picos']} pico-USD)"
        )

    def fail_over(self) -> str:
        """Step 6: A serves too, B dies without a word, the next call succeeds."""
        self._serve("A")
        wait_for("C to know both offers", lambda: len(self._offers("C")) >= 2, timeout_s=60)
        self.nodes["B"].kill()
        self.say("B was killed with SIGKILL")
        report = self._ask()
        served_by = (report["route"] or {}).get("peer")
        expected = hansa("status", node=self.nodes["A"])["peer_id"]
        if served_by != expected:
            raise StepFailed(f"the call was served by {served_by}, not by A ({expected})")
        wait_for("a second lane at C", lambda: len(self._lanes("C")) >= 2, timeout_s=30)
        return "the next call through C succeeded on A"

    def settle(self) -> str:
        """Step 7: a statement from receipts both sides signed, verified in an empty folder."""
        wait_for("both lanes at A", lambda: len(self._statement("A")["lines"]) >= 2, timeout_s=60)
        empty = self.folder / "empty"
        empty.mkdir()
        path = empty / "statement.json"
        hansa(
            *("royalties", "statement", self.facts["account"], "--out", str(path)),
            node=self.nodes["A"],
        )
        verified = hansa("royalties", "verify", str(path), cwd=empty)
        self.facts["statement"] = verified
        if verified["earned_picos"] <= 0:
            raise StepFailed(f"nothing is owed: {verified}")
        self._refuse_tampered(path)
        return f"{verified['earned_picos']} pico-USD owed to ada; a changed statement is refused"

    def restart(self) -> str:
        """Step 8: all stop, all start, nothing acknowledged is missing."""
        before = self._statement("A")
        for name in "ACD":
            self.say(f"{name} stopped in {self.nodes[name].stop():.1f} s")
        for name in "ABCD":
            self.nodes[name].start()
        for name in "ABCD":
            self._wait_for_records(name)
        after = wait_for("A's statement", lambda: self._statement("A"))
        if after["lines"] != before["lines"] or after["earned_picos"] != before["earned_picos"]:
            raise StepFailed(f"the statement changed from {before} to {after}")
        for name in "ABCD":
            self.nodes[name].stop()
        return "four nodes back; records, receipts and statement as before"

    def _serve(self, name: str) -> None:
        watch_hansa(
            *("serve", self.model),
            node=self.nodes[name],
            say=lambda line: self.say(line.replace(f"Serve {self.model}", name)),
        )

    def _start(self, name: str) -> None:
        node = self.nodes[name]
        node.configure()
        node.start()
        self.say(f"{name} is {hansa('status', node=node)['peer_id']}, API {node.url}")

    def _create(self, plural: str, record: dict[str, Any]) -> str:
        path = self.folder / f"{plural}.json"
        path.write_text(json.dumps(record, indent=2))
        made = hansa(
            *(plural, "create", "--file", str(path), "--account", "ada"),
            node=self.nodes["A"],
            creator=self.creator,
        )
        return str(made["model_id" if plural == "models" else "agent_id"])

    def _wait_for_records(self, name: str) -> None:
        node = self.nodes[name]

        def shown() -> bool:
            model = get(f"{node.url}/v1/models/{self.model}", missing_ok=True)
            agent = get(f"{node.url}/v1/agents/{self.agent}", missing_ok=True)
            return bool(model and agent)

        wait_for(f"{name} to show both records", shown, timeout_s=60, blame=node.last_lines)

    def _arrivals(self, name: str) -> dict[str, int]:
        prefix = 'hansa_items_received_total{path="'
        return {
            sample.removeprefix(prefix).removesuffix('"}'): int(value)
            for sample, value in self.nodes[name].metrics().items()
            if sample.startswith(prefix) and value
        }

    def _offers(self, name: str) -> list[dict[str, Any]]:
        found = hansa("offers", node=self.nodes[name])
        return [one for one in found["items"] if one["record"] == self.model]

    def _ask(self) -> dict[str, Any]:
        url = f"{self.nodes['C'].url}/v1"
        printed = run_module(
            "examples.agent",
            QUESTION,
            env={"OPENAI_BASE_URL": url, "OPENAI_API_KEY": self.key},
        )
        report: dict[str, Any] = json.loads(printed.splitlines()[-1])
        return report

    def _lanes(self, name: str) -> list[dict[str, Any]]:
        found = hansa("usage", node=self.nodes[name])
        return [one for one in found["lanes"] if one["sequence"] and not one["open_calls"]]

    def _statement(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = hansa(
            "royalties", "statement", self.facts["account"], node=self.nodes[name]
        )
        return found

    def _refuse_tampered(self, path: Path) -> None:
        text = path.read_text()
        changed = path.with_name("changed.json")
        statement = json.loads(text)
        statement["earned_picos"] += 1
        changed.write_text(json.dumps(statement))
        try:
            hansa("royalties", "verify", str(changed), cwd=path.parent)
        except StepFailed:
            return
        raise StepFailed("a statement with one pico-USD more was accepted")

    def _random_bytes(self) -> bytes:
        import secrets

        return secrets.token_bytes(32)


def parameters_of(weights: Path) -> int:
    """Return the count of weights in a safetensors file, from its header."""
    with weights.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(one["shape"]) for name, one in header.items() if name != "__metadata__")


def model_record(build: str, template: dict[str, Any], package: Path) -> dict[str, Any]:
    """Return the AIModel of the tiny model, with the facts its own files state."""
    config = json.loads((package / "config.json").read_text())
    return {
        "name": "Tiny Hanse",
        "version": "0.1.0",
        "description": "A very small chat model, made on this machine to show the whole way.",
        "license": "Apache-2.0",
        "model_type": "LLM",
        "framework": "PyTorch",
        "parameters": parameters_of(package / "model.safetensors"),
        "quantization": "BF16",
        "context_length": config["max_position_embeddings"],
        "tags": ["demo", "tiny"],
        "capabilities": ["chat"],
        "formfile_template": template["formfile"],
        "price": {"input": PRICE_INPUT, "output": PRICE_OUTPUT},
        "pricing_tier": "paid",
        "royalty_bps": ROYALTY_BPS,
        "builds": [build],
        "resource_requirements": {
            "min_vcpus": 1, "recommended_vcpus": 2,
            "min_memory_mb": 2048, "recommended_memory_mb": 4096,
            "min_disk_gb": 1, "recommended_disk_gb": 2,
        },
    }  # fmt: skip


def agent_record(model: str) -> dict[str, Any]:
    """Return an AIAgent that prefers the model."""
    return {
        "name": "Harbour Clerk",
        "version": "0.1.0",
        "description": "Answers questions about peers and chunks.",
        "license": "Apache-2.0",
        "agent_type": "Assistant",
        "framework": "CustomPython",
        "preferred_models": [model],
        "capabilities": ["chat"],
        "tags": ["demo"],
    }
