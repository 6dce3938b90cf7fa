"""Two real nodes under attack, what an attacker knows of them, and what must hold afterwards."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from crdt import (
    AccountId,
    Item,
    ManifestDigest,
    NetworkId,
    OperationId,
    PeerId,
    PublicKey,
    RecordId,
    SigningKey,
    make_genesis,
    network_id,
    public_key_of,
)
from examples.demo.processes import Node, get, wait_for
from examples.demo.story import model_record
from examples.tiny_model import make_tiny_model
from inference.engines import VLLM_CPU
from node.builds import pack
from node.client import (
    AccountCard,
    Client,
    CreatorAccount,
    Writer,
    open_log,
    prepare,
    upload_build,
)
from node.peer import PeerEndpoint
from node.signing import RequestFacts, account_header, authorization, operation_header
from royalties import Prices

ROOT = Path(__file__).resolve().parent.parent.parent
NETWORK = network_id("demo")
TOKENS = 16
PROMPT_TOKENS = 12
PRICE_INPUT, PRICE_OUTPUT = 100_000, 4 * 10**9
"""So dear that 79 unpaid answers reach the exposure bound of 5 USD."""
RSS_BYTES_MAX = 200 << 20
"""Of the main process and of the network child, each, after all attacks. Measured: at most 113 MiB
and 95 MiB; idle they take 93 MiB and 95 MiB."""
HEALTH_S_MAX = 1.0
SECRET_TEXTS = re.compile(r"hsk_[A-Za-z0-9_-]{16,}|(?:Bearer|Hansa) [A-Za-z0-9_.=-]{20,}")
SHIM = """#!{python}
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # die with the node, as the real engine's launcher does
name = sys.argv[sys.argv.index("--served-model-name") + 1]
port = sys.argv[sys.argv.index("--port") + 1]
os.environ["PYTHONPATH"] = {root!r}
words = ["-m", "tests.engines.fake", "--port", port, "--model", name, "--tokens", "{tokens}"]
os.execv({python!r}, [{python!r}, *words])
"""


@dataclass
class Identity:
    """An account of the test's making: a creator, a consumer, a stranger."""

    name: str
    network: NetworkId = NETWORK
    key: SigningKey = field(init=False)
    genesis: Item = field(init=False)
    account: AccountId = field(init=False)

    def __post_init__(self) -> None:
        self.key = SigningKey(secrets.token_bytes(32))
        recovery = SigningKey(secrets.token_bytes(32))
        self.genesis = make_genesis(self.network, self.key, recovery.public)
        self.account = AccountId(self.genesis.id)

    def creator(self) -> CreatorAccount:
        """Return it as the command line's client takes it."""
        card = AccountCard(
            self.name, self.account, "demo", self.network, self.key.public,
            open_log([self.genesis], self.account, self.network),
        )  # fmt: skip
        return CreatorAccount(card, self.key)


@dataclass(frozen=True)
class Answered:
    """What a node answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The stable code of a problem, in whichever dialect."""
        document = self.json
        return str((document.get("error") or document)["code"])


class World:
    """Node A serves a model at a price; node B buys from it; a creator owns the model."""

    def __init__(self, folder: Path) -> None:
        self.a = Node("A", folder / "a")
        self.b = Node("B", folder / "b")
        self.folder = folder
        self.creator = Identity("ada")
        self.stranger = Identity("mallory")
        self.model = RecordId(b"")
        self.version = OperationId(b"")
        self.build = ManifestDigest(b"")
        self.api_key = ""
        self.acknowledged: dict[str, str] = {}
        """Path of every record that a node took, and the version it named."""

    def start(self) -> None:
        """Start both nodes, publish and serve the model, make an API key at B."""
        engines = self.folder / "engines"
        _fake_environment(engines)
        for node in (self.a, self.b):
            if node is self.b:
                self.b.bootstrap = [self.address(self.a)]
            node.configure()
            with (node.folder / "hansa.toml").open("a") as file:
                file.write(
                    f'[engines]\nfolder = "{engines}"\ndevice = "cpu"\n'
                    '[storage]\nsync_interval_s = 1\n[log]\nlevel = "debug"\nformat = "json"\n'
                )
            node.start()
        self._publish()
        with self.operator(self.a) as client:
            for event in client.events("POST", "/v1/serving", {"record": self.model.hex()}):
                assert event.name != "error", event
        wait_for("B to hear of the offer", lambda: get(f"{self.b.url}/v1/offers")["items"])
        with self.operator(self.b) as client:
            self.api_key = client.post("/v1/keys", {"name": "agent"})["key"]

    def stop(self) -> None:
        """End both nodes."""
        for node in (self.a, self.b):
            if node.process is not None and node.process.poll() is None:
                node.process.kill()
                node.process.wait()

    def operator(self, node: Node) -> Client:
        """Return a client of a node's operator."""
        return Client(node.url, operator_token=self.token(node))

    def token(self, node: Node) -> str:
        """Return a node's operator token."""
        return (node.folder / "data" / "operator.token").read_text().strip()

    def facts(self, node: Node) -> dict[str, Any]:
        """Return what a node says of itself."""
        found: dict[str, Any] = get(f"{node.url}/v1/node")
        return found

    def address(self, node: Node) -> str:
        """Return where a node's libp2p is."""
        return f"/ip4/127.0.0.1/tcp/{node.p2p_port}/p2p/{self.facts(node)['peer_id']}"

    def public_key(self, node: Node) -> PublicKey:
        """Return a node's key."""
        return public_key_of(PeerId(self.facts(node)["peer_id"]))

    def endpoint(self, node: Node) -> PeerEndpoint:
        """Return a node's peer port, with the certificate it shows there."""
        import hashlib
        import ssl

        pem = ssl.get_server_certificate(("127.0.0.1", node.peer_port))
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest()
        peer = PeerId(self.facts(node)["peer_id"])
        return PeerEndpoint(peer, "127.0.0.1", node.peer_port, digest)

    @property
    def prices(self) -> Prices:
        """What A asks."""
        return Prices(PRICE_INPUT, PRICE_INPUT, PRICE_OUTPUT)

    def record(self, **changes: Any) -> dict[str, Any]:
        """Return a valid model record, changed."""
        found: dict[str, Any] = json.loads(self._record)
        found.update(changes)
        return found

    def signed(
        self, who: Identity, method: str, target: str, body: bytes, item: Item | None = None,
        *, node: Node | None = None, now_s: int | None = None, nonce: bytes | None = None,
        network: NetworkId = NETWORK, key: SigningKey | None = None,
    ) -> dict[str, str]:  # fmt: skip
        """Return the headers of a request that `who` signed for a node."""
        path, _, query = target.partition("?")
        carried = operation_header(item) if item is not None else ""
        key_of_node = self.public_key(node or self.a)
        facts = RequestFacts(network, key_of_node, method, path, query, body, carried.encode())
        headers = {
            "Content-Type": "application/json",
            "Hansa-Account": account_header(who.genesis),
            "Authorization": authorization(
                facts, who.account, key or who.key,
                now_s=int(time.time()) if now_s is None else now_s,  # noqa: TID251 - a test's clock
                nonce=nonce or secrets.token_bytes(16),
            ),
        }  # fmt: skip
        return headers | ({"Hansa-Operation": carried} if carried else {})

    def _publish(self) -> None:
        package = self.folder / "tiny"
        make_tiny_model(package)
        with Client(self.a.url, creator=self.creator.creator()) as client:
            packed = pack(package, self.creator.key)
            upload_build(client, packed)
            self.build = packed.sealed.digest
            record = model_record(self.build.hex(), _preset(), package)
            record["price"] = {"input": PRICE_INPUT, "output": PRICE_OUTPUT}
            self._record = json.dumps(record)
            draft = prepare("models", record, slug="tiny", now_s=1_700_000_000)
            made = Writer(client, self.creator.creator()).create(draft, now_s=1_700_000_000)
        self.model = RecordId(bytes.fromhex(made["model_id"]))
        self.version = OperationId(bytes.fromhex(made["version_id"]))
        self.acknowledged[f"/v1/models/{made['model_id']}"] = made["version_id"]


def ask(
    node: Node, method: str, target: str, body: bytes = b"",
    headers: dict[str, str] | None = None, *, timeout_s: float = 10,
) -> Answered:  # fmt: skip
    """Send exactly this to a node's API and return what it answered."""
    connection = http.client.HTTPConnection("127.0.0.1", node.api_port, timeout=timeout_s)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body or method in {"POST", "PUT"}:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        with contextlib.suppress(OSError):  # it may refuse by the length alone, and close
            connection.send(body)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answered(answer.status, found, answer.read())
    finally:
        connection.close()


def memory_of(node: Node) -> dict[str, int]:
    """Return the resident bytes of a node's main process and of its network child."""
    assert node.process is not None
    main = psutil.Process(node.process.pid)
    found = {"main": main.memory_info().rss}
    for child in main.children():
        if "node.network.child" in child.cmdline():
            found["child"] = child.memory_info().rss
    return found


def health_s(node: Node) -> float:
    """Return how long a node takes to say that it is alive."""
    started = time.monotonic()
    assert ask(node, "GET", "/healthz", timeout_s=5).status == 200
    return time.monotonic() - started


def secrets_in(node: Node, world: World) -> list[str]:
    """Return what of a node's secrets is found in its log, in any spelling."""
    text = node.log.read_text(errors="replace")
    data = node.folder / "data"
    known = [world.token(node), world.api_key]
    for path in data.rglob("*.key"):
        raw = path.read_bytes()
        known += [raw.hex(), raw.decode("latin-1")] if len(raw) >= 16 else []
    found = [one for one in known if one and one in text]
    return found + SECRET_TEXTS.findall(text)


def _preset() -> dict[str, Any]:
    from examples.demo.processes import hansa

    found: dict[str, Any] = hansa("templates", "preset", "vllm", "--set", "max_model_len=512")
    return found


def _fake_environment(root: Path) -> None:
    """Put the fast fake engine where the node looks for vLLM."""
    folder = root / VLLM_CPU.name
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(SHIM.format(python=sys.executable, root=str(ROOT), tokens=TOKENS))
    os.chmod(python, 0o755)
    marker: dict[str, Any] = {"spec": VLLM_CPU.digest, "packages": {}}
    (folder / "hansa-engine.json").write_text(json.dumps(marker))
