"""`hansa audit` and `hansa models conflicts` against nodes: honest ones, and one that lies."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from crdt import (
    Capability,
    CardDocument,
    EntryType,
    OperationType,
    RecordKind,
    SigningKey,
    audit,
    card_parts,
    edit_card,
)
from node.api.conflicts import conflicts_view
from node.api.views import record_view
from node.catalogue import Catalogue
from node.cli import run
from node.cli.audit_compare import LocalSet
from node.cli.conflicts import differing
from registry import RegistryRules, encode_record, validate
from tests.crdt.histories import History
from tests.writers import NETWORK, key_of

DATA = {"name": "Thing", "description": "reads maps", "license": "MIT"}


def body(**changes: object) -> bytes:
    return encode_record(validate(RecordKind.MODEL, {**DATA, **changes}))


class Node:
    """What a node answers about one record: true at first, then as a test bends it."""

    def __init__(self, history: History) -> None:
        self.history = history
        local = LocalSet(NETWORK)
        audit(local.replica, history.record, history.raws)
        catalogue = Catalogue(None, local.storage, NETWORK)  # type: ignore[arg-type]
        base = f"/v1/models/{history.record.hex()}"
        self.answers: dict[str, Any] = {
            "/v1/node": {"network_id": NETWORK.hex(), "network": "test"},
            f"{base}/log": {
                "entries": [text(item.raw) for item in history.entries],
                "items": [
                    {"n": n, "raw": text(item.raw)} for n, item in enumerate(history.operations)
                ],
                "next_n": len(history.operations),
                "next_entry": len(history.entries),
                "done": True,
            },
        }
        (signed, *_) = local.storage.record_operations(history.record)
        self.conflicts = json.loads(conflicts_view(catalogue, signed).model_dump_json())
        self.answers[f"{base}/conflicts"] = self.conflicts
        self.log = self.answers[f"{base}/log"]
        state = local.storage.record(history.record)
        if state is not None and not state.deleted:
            self.record = json.loads(record_view(catalogue, state).model_dump_json())
            self.answers[base] = self.record

    def answer(self, path: str) -> tuple[int, Any]:
        found = self.answers.get(path.partition("?")[0])
        if found is not None:
            return 200, found
        return 404, {"status": 404, "code": "not-found", "detail": "there is no such thing"}


def text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class Shell:
    """Types commands at a node."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.url = url
        self._capsys = capsys

    def __call__(self, *words: object, status: int = 0) -> str:
        self._capsys.readouterr()
        found = run(["--node", self.url, *map(str, words)])
        out, self.err = self._capsys.readouterr()
        assert found == status, out + self.err
        return out

    def json(self, *words: object, status: int = 0) -> Any:
        return json.loads(self(*words, "--json", status=status))


@pytest.fixture
def serve(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Any]:
    monkeypatch.setenv("HANSA_ACCOUNTS_DIR", str(tmp_path / "accounts"))
    monkeypatch.setenv("COLUMNS", "250")
    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def begin(node: Node) -> Shell:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, value = node.answer(self.path)
                raw = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args: object) -> None:
                """Stay silent."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        running.append((server, thread))
        return Shell(f"http://127.0.0.1:{server.server_port}", capsys)

    yield begin
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def history() -> History:
    """Two versions, one of which lost, and a write of a key that was revoked."""
    made = History()
    eve, grant = made.grant("eve")
    first = made.put(body=body(version="0.1.0"))
    made.put(first, body=body(version="0.2.0"))
    made.put(first, by=eve, head=grant, body=body(version="0.3.0"))
    mallory, second = made.grant("mallory")
    made.put(first, by=mallory, head=second, body=body(version="6.6.6"))
    made.entry(EntryType.REVOKE, by=made.recovery, key=mallory)
    return made


def ref(history: History) -> str:
    return history.record.hex()


def test_an_honest_history_is_explained_and_ends_well(serve: Any, history: History) -> None:
    out = serve(Node(history))("audit", ref(history))
    assert "Version 0.2.0 shows: " in out
    assert "1 write lost: 1 by is_root: the root key outranks a delegate's." in out
    assert "1 operation is void: 1 by a key that was ended." in out
    assert "The account's log has 4 entries and is not frozen." in out
    assert "The node shows what follows from its log." in out
    assert "its key was ended by e3; no root's operation vouches for it" in out


def test_the_json_has_everything(serve: Any, history: History) -> None:
    found = serve(Node(history)).json("audit", ref(history))
    assert (found["sound"], found["differences"], found["refusals"]) == (True, [], [])
    by_version = {one["version"]: one for one in found["operations"]}
    assert by_version["0.2.0"]["is_winner"]
    assert by_version["0.3.0"]["lost_by"] == "is_root"
    assert by_version["6.6.6"]["why"]["cause"] == "key-ended"
    assert by_version["6.6.6"]["why"]["by"] == history.entries[-1].id.hex()
    assert [one["type"] for one in found["entries"]] == [
        "genesis", "add_key", "add_key", "revoke"
    ]  # fmt: skip


def test_one_operation_is_shown_with_all_there_is(serve: Any, history: History) -> None:
    shell = serve(Node(history))
    id_ = history.operations[2].id.hex()
    out = shell("audit", ref(history), "--operation", id_[:12])
    assert id_ in out
    assert "maintainer, granted by e1" in out
    assert shell.json("audit", ref(history), "--operation", id_)["id"] == id_
    shell("audit", ref(history), "--operation", "abcdef0123", status=2)
    assert "fits 0 of the record's operations" in shell.err


def test_a_deleted_record_and_one_that_does_not_show_are_audited(serve: Any) -> None:
    deleted = History()
    deleted.delete(deleted.put(body=body()))
    assert "It is deleted: " in serve(Node(deleted))("audit", ref(deleted))
    hidden = History("bob")
    eve, grant = hidden.grant("eve")
    hidden.put(by=eve, head=grant, body=body())
    hidden.entry(EntryType.REVOKE, key=eve)
    out = serve(Node(hidden))("audit", ref(hidden))
    assert "Nothing shows: no effective operation says what the record is." in out


def test_a_frozen_log_is_told_and_is_no_failure(serve: Any) -> None:
    made = History()
    made.put(body=body())
    for name in ("left", "right"):
        made.grant(name, on=made.entries[0])
    out = serve(Node(made))("audit", ref(made))
    assert "is FROZEN" in out
    assert "frozen until the recovery key signs on one branch" in out


def test_a_node_that_shows_another_winner_is_found_out(serve: Any, history: History) -> None:
    node = Node(history)
    loser = node.conflicts["conflicts"][0]
    node.conflicts["winner"], node.conflicts["conflicts"] = loser, [node.conflicts["winner"]]
    shell = serve(node)
    out = shell("audit", ref(history), status=15)
    assert "THE NODE SHOWS SOMETHING ELSE: winner: the node shows" in out
    assert "shows something else than follows from its log" in shell.err


def test_a_node_that_alters_a_field_is_found_out(serve: Any, history: History) -> None:
    node = Node(history)
    node.record["record"]["license"] = "Apache-2.0"
    out = serve(node)("audit", ref(history), status=15)
    assert "THE NODE SHOWS SOMETHING ELSE: record: " in out


@pytest.mark.parametrize("hide", ["winner", "record"])
def test_a_node_that_hides_a_write_or_the_record_is_found_out(
    serve: Any, history: History, hide: str
) -> None:
    node = Node(history)
    if hide == "winner":
        del node.log["items"][1]
    else:
        del node.answers[f"/v1/models/{ref(history)}"]
    assert "THE NODE SHOWS SOMETHING ELSE" in serve(node)("audit", ref(history), status=15)


def test_a_forged_operation_is_named_with_the_reason(serve: Any, history: History) -> None:
    node = Node(history)
    forged = History("ann").put(history.operations[0], by=key_of("stranger"), body=body())
    node.log["items"].append({"n": 99, "raw": text(forged.raw)})
    shell = serve(node)
    out = shell("audit", ref(history), status=15)
    assert f"NOT VALID: operation {forged.id.hex()[:10]}" in out
    assert "(not-authorised)" in out
    found = shell.json("audit", ref(history), status=15)
    assert found["sound"] is False
    assert found["refusals"][0]["id"] == forged.id.hex()


def test_a_log_without_end_is_not_followed(serve: Any, history: History) -> None:
    node = Node(history)
    node.log.update({"done": False, "items": [], "entries": []})
    shell = serve(node)
    shell("audit", ref(history), status=15)
    assert "sends nothing" in shell.err


def test_an_unknown_record_is_not_found(serve: Any, history: History) -> None:
    serve(Node(history))("audit", "ab" * 32, status=4)


def test_the_picture_has_every_operation_and_entry(
    serve: Any, history: History, tmp_path: Path
) -> None:
    file = tmp_path / "history.svg"
    serve(Node(history))("audit", ref(history), "--svg", file)
    ids = [node.get("data-id") for node in ET.parse(file).iter() if node.get("data-id")]
    expected = {item.id.hex() for item in (*history.entries, *history.operations)}
    assert sorted(ids) == sorted(expected)


# -- conflicts


def test_conflicts_are_compared_field_by_field(serve: Any, history: History) -> None:
    shell = serve(Node(history))
    out = shell("models", "conflicts", ref(history))
    assert "lost by is_root" in out
    assert '"0.2.0"' in out
    assert '"0.3.0"' in out
    assert "settles them: hansa models update" in shell.err
    assert shell.json("models", "conflicts", ref(history))["conflict_count"] == 1


def test_without_conflicts_that_is_said(serve: Any) -> None:
    made = History()
    made.put(body=body())
    shell = serve(Node(made))
    shell("models", "conflicts", ref(made))
    assert "nothing lost" in shell.err


def test_what_differs_between_two_versions() -> None:
    one = {"model_id": "a", "name": "x", "tags": ["t"], "gone": 1}
    other = {"model_id": "b", "name": "x", "tags": [], "new": "\x1b[31m"}
    assert differing(one, other) == [
        ("tags", '["t"]', "[]"), ("gone", "1", "null"), ("new", "null", '"\\u001b[31m"'),
    ]  # fmt: skip
    assert differing(one, "deleted") == [("record", "a record", '"deleted"')]
    assert differing("deleted", "deleted") == []


def test_capabilities_of_a_delegate_are_named(serve: Any) -> None:
    made = History()
    key: SigningKey
    key, grant = made.grant("both", capabilities=Capability.EDITOR | Capability.MAINTAINER)
    made.put(by=key, head=grant, body=body())
    out = serve(Node(made))("audit", ref(made))
    assert "maintainer and editor, granted by e1" in out


def with_card() -> History:
    """A record whose description was edited as a card."""
    made = History()
    put = made.put(body=body())
    local = LocalSet(NETWORK)
    audit(local.replica, made.record, made.raws)
    resolution = local.replica.resolution(made.record)
    rules = RegistryRules()
    parts = card_parts(local.storage.written(made.record), resolution, rules.seed_of)
    change = edit_card(CardDocument.of(parts), lambda draft: draft.splice(0, 0, "It "))
    made.write(OperationType.CARD, put, body=change)
    return made


def test_a_card_is_derived_here_and_its_operation_told(serve: Any) -> None:
    history = with_card()
    node = Node(history)
    assert node.record["record"]["description"] == "It reads maps"
    shell = serve(node)
    found = shell.json("audit", ref(history))
    assert [one["references"] for one in found["operations"]] == [None, 1]
    assert found["sound"] is True
    node.record["card"]["text"] = "It reads minds"
    assert "card: the node shows" in shell("audit", ref(history), status=15)


def test_a_narrow_terminal_shows_who_wrote_what_and_why(
    serve: Any, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    shell = serve(Node(history))
    out = shell("audit", ref(history))
    assert max(len(line) for line in out.splitlines()) <= 100
    assert "put 0.2.0" in out
    assert "root of epoch 0, by e0;" in out
    conflicts = shell("models", "conflicts", ref(history))
    assert "lost by is_root" in conflicts
    assert "outranks" in conflicts
    assert "…" not in conflicts.splitlines()[0]


def test_what_was_void_before_the_era_is_told_apart_and_eras_are_listed_in_order(
    serve: Any, history: History
) -> None:
    opened = history.checkpoint(1, body(version="1.0.0"))
    history.put(opened, era=opened, body=body(version="1.1.0"))
    out = serve(Node(history))("audit", ref(history))
    assert "1 operation is void in eras that are over" in out
    rows = [line.split() for line in out.splitlines() if line.split()[1:2] == ["put"]]
    assert [(row[2], row[4]) for row in rows if row[2] in {"6.6.6", "1.1.0"}] == [
        ("6.6.6", "first"),
        ("1.1.0", "1"),
    ]
