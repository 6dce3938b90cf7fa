"""Commands against a real node's API: what a creator and an operator do, and what they see."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from node.cli.checks import check_builds, check_folder, checks_by_peers
from node.client import Client
from tests.node.cli.api_node import TOKEN
from tests.node.cli.shell import MODEL, Shell

# aiohttp 3.14 advises typed keys where the server notes things on a request by name.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")


def test_a_record_from_birth_to_death(shell: Shell) -> None:
    made = shell.json("models", "create", "--file", shell.file("m.json"))
    assert made["slug"] == "tiny-chat"
    shown = shell.json("models", "show", "tiny-chat")
    assert shown["record"] == made["record"]
    assert shown["signed_by"]["account"] == shell.json("account", "show")["account"]
    again = shell.json(
        "models", "update", "anna/tiny-chat", "--set", "version=0.2.0", "--set", "tags=null"
    )
    assert again["record"]["tags"] == []
    assert again["record"]["created_at"] == made["record"]["created_at"]
    history = shell.json("models", "versions", made["model_id"])["items"]
    assert {one["version"] for one in history} == {"0.1.0", "0.2.0"}
    old = shell.json("models", "versions", "tiny-chat", "0.1.0")
    assert old["record"]["tags"] == ["chat", "tiny"]
    assert shell.json("models", "deps", "tiny-chat")["resolved"] is True
    shell("models", "delete", "tiny-chat", "--yes")
    gone = shell.json("models", "show", made["model_id"], status=4)
    assert gone["code"] == "gone"
    back = shell.json("models", "create", "--file", shell.file("m.json", version="0.3.0"))
    assert back["model_id"] == made["model_id"]
    assert back["heads"][0]["depth"] > again["heads"][0]["depth"]


def test_a_deleted_record_is_gone_by_its_name_too_and_its_versions_are_listed(shell: Shell) -> None:
    shell("models", "create", "--file", shell.file("m.json"))
    shell("models", "delete", "tiny-chat", "--yes")
    for name in ("tiny-chat", "anna/tiny-chat"):
        assert shell.json("models", "show", name, status=4)["code"] == "gone"
    assert shell.json("models", "versions", "tiny-chat")["items"]


def test_a_model_and_an_agent_may_have_one_name(shell: Shell) -> None:
    shell("models", "create", "--set", "name=Twin")
    shell("agents", "create", "--set", "name=Twin")
    assert "model_id" in shell.json("models", "show", "twin")
    assert "agent_id" in shell.json("agents", "show", "twin")


@pytest.mark.parametrize("again", ["create", "publish"])
def test_a_record_comes_back_with_the_description_that_is_given(shell: Shell, again: str) -> None:
    shell("models", "create", "--file", shell.file("m.json", description="First."))
    shell("models", "edit", "tiny-chat", "--add-tag", "edited", "--eval", "speed=12")
    shell("models", "delete", "tiny-chat", "--yes")
    file = shell.file("model.json", description="Second.", tags=["fresh"])
    words = ("publish", file) if again == "publish" else ("models", "create", "--file", file)
    back = shell.json(*words)
    assert (back["record"]["description"], back["record"]["tags"]) == ("Second.", ["fresh"])
    assert shell.json("models", "show", "tiny-chat")["card"]["text"] == "Second."


def test_publish_creates_and_then_adds_versions(shell: Shell) -> None:
    folder = shell.folder / "package"
    (folder / "build").mkdir(parents=True)
    (folder / "build" / "config.json").write_text("{}")
    (folder / "build" / "weights.bin").write_bytes(b"w" * 3_000_000)
    (folder / "model.json").write_text(json.dumps({**MODEL, "name": "Packed"}))
    first = shell.json("publish", folder)
    (digest,) = first["record"]["builds"]
    second = shell.json("publish", folder, "--set", "version=0.2.0")
    assert second["model_id"] == first["model_id"]
    assert second["record"]["builds"] == [digest]
    fetched = shell.json("fetch", "packed", "--to", shell.folder / "out")
    assert fetched["digest"] == digest
    assert (shell.folder / "out" / "weights.bin").read_bytes() == b"w" * 3_000_000
    held = shell.json("storage")
    assert digest in [one["digest"] for one in held["builds"]]


def test_an_upload_sends_only_what_is_missing(shell: Shell) -> None:
    folder = shell.folder / "weights"
    folder.mkdir()
    (folder / "a.bin").write_bytes(bytes(range(256)) * 50_000)
    (folder / "empty").write_bytes(b"")
    first = shell.json("build", folder)
    assert first["uploaded_bytes"] == first["bytes"] == 12_800_000
    assert shell.json("build", folder)["uploaded_bytes"] == 0


def test_every_bad_field_is_listed_before_anything_is_signed(shell: Shell) -> None:
    bad = shell.file("m.json", parameters=-1, bogus=1, license="Nonsense")
    error = shell.json("models", "create", "--file", bad, status=3)
    assert error["code"] == "invalid-record"
    assert {one["field"] for one in error["problems"]} == {"parameters", "bogus", "license"}
    _out, err = shell("models", "validate", "--file", bad, status=3)
    assert err.count("\n") == 4


def test_refusals_have_the_nodes_code_and_a_stable_status(shell: Shell) -> None:
    made = shell.json("models", "create", "--file", shell.file("m.json", name="Taken"))
    taken = shell.json("models", "create", "--file", shell.file("m.json", name="Taken"), status=6)
    assert taken["code"] == "exists"
    shell("models", "update", "taken", "--set", "version=0.2.0")
    stale = shell.json(
        "models", "update", "taken", "--set", "version=0.3.0", "--if-match", made["version_id"],
        status=6,
    )  # fmt: skip
    assert stale["code"] == "stale-write"
    assert shell.json("models", "show", "nothing", status=4)["code"] == "not-found"
    shell("account", "create", "eve", "--network", "test")
    theft = shell.json(
        "models", "update", "anna/taken", "--set", "name=Mine", "--account", "eve", status=5
    )
    assert theft["code"] == "wrong-owner"


def test_an_account_of_another_network_signs_nothing_here(shell: Shell) -> None:
    shell("account", "create", "far", "--network", "elsewhere")
    error = shell.json(
        "models", "create", "--file", shell.file("m.json"), "--account", "far", status=15
    )
    assert error["code"] == "wrong-network"
    assert "'elsewhere'" in error["message"]


def test_search_finds_by_words_and_filters(shell: Shell) -> None:
    for name, tags in (("Findme One", ["alpha"]), ("Findme Two", ["beta"])):
        shell("models", "create", "--file", shell.file("m.json", name=name, tags=tags))
    found = shell.json("models", "search", "findme", "--tag", "beta")
    assert [one["slug"] for one in found["items"]] == ["findme-two"]
    one_a_page = shell.json("models", "list", "--limit", "1")
    assert len(one_a_page["items"]) == 1
    assert one_a_page["total"] >= 2
    out, _err = shell("models", "search", "findme", "--sort", "name")
    assert "findme-one" in out
    assert "$0.10 / $0.25" in out
    assert shell.json("models", "search", "--where", "bogus=1", status=3)["code"] == "bad-query"


def test_agents_take_the_same_commands(shell: Shell) -> None:
    path = shell.folder / "agent.json"
    path.write_text(json.dumps({"name": "Helper", "tools": ["search"]}))
    made = shell.json("publish", path)
    out, _err = shell("agents", "show", made["agent_id"])
    assert "Helper 0.1.0" in out
    out, _err = shell("agents", "list")
    assert "LangChain" in out


def test_keys_are_shown_once_and_revoked(shell: Shell) -> None:
    made = shell.json("keys", "create", "my-agent")
    assert made["key"].startswith("hsk_")
    listed = shell.json("keys", "list")["items"]
    assert made["id"] in [one["id"] for one in listed]
    assert made["key"] not in json.dumps(listed)
    shell("keys", "revoke", made["id"])
    assert made["id"] not in [one["id"] for one in shell.json("keys", "list")["items"]]


def test_the_operators_commands_need_the_operators_token(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANSA_NODE__DATA_DIR", str(shell.folder / "nowhere"))
    error = shell.json("keys", "list", status=5)
    assert error["code"] == "no-operator-token"
    assert "--data-dir" in error["message"]


def test_a_token_of_another_node_is_named(shell: Shell, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "operator.token").write_text("not the one\n")
    _, err = shell("keys", "list", "--data-dir", other, status=5)
    assert f"the token in {other / 'operator.token'} is not that of the node at" in err
    assert "--data-dir DIR" in err


def test_an_unknown_record_is_told_by_the_names_that_were_typed(shell: Shell) -> None:
    _, err = shell("models", "show", "anna/nothing", status=4)
    assert err == "hansa: there is no model anna/nothing here; search with `hansa models search`\n"


def test_what_is_typed_before_the_command_goes_over_the_environment(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANSA_NODE", "http://127.0.0.1:1")
    shell("status")


def test_waiting_ends_at_once_when_the_node_is_ready_and_its_address_can_be_dialled(
    shell: Shell,
) -> None:
    out, err = shell("status", "--wait", "--address")
    assert (out, err) == ("/ip4/127.0.0.1/tcp/1\n", "")


def test_fetching_to_here_from_a_node_elsewhere_is_refused_before_anything_moves(
    shell: Shell, tmp_path: Path
) -> None:
    token = (shell.node.data_dir / "operator.token").read_text()
    (tmp_path / "operator.token").write_text(token)
    to = tmp_path / "out"
    _, err = shell("fetch", "ab" * 32, "--to", to, "--data-dir", tmp_path, status=14)
    assert "is not on this machine" in err
    assert not to.exists()


def test_what_the_node_is_and_has(shell: Shell) -> None:
    assert shell.json("status")["network"] == "test"
    out, _err = shell("status")
    assert "/docs" in out
    for words in (["peers"], ["offers"], ["serving"], ["sync", "status"], ["storage"]):
        shell(*words)
        assert isinstance(shell.json(*words), dict)


def test_doctor_says_what_peers_see_and_what_to_change(shell: Shell) -> None:
    client = Client(shell.node.url, operator_token=TOKEN)
    found = {check.name: check for check in checks_by_peers(client)}
    assert {name: check.ok for name, check in found.items()} == {
        "reachable": None, "clock": False, "versions": None
    }  # fmt: skip
    assert "8.8.8.1" in found["reachable"].mend
    assert all(check.mend for check in found.values())
    client.close()
    anybody = Client(shell.node.url)
    (refused,) = checks_by_peers(anybody)
    anybody.close()
    assert refused.ok is None
    assert "--data-dir" in refused.mend


def test_doctor_writes_to_the_data_folder_to_see_that_it_can(tmp_path: Path) -> None:
    (tmp_path / "registry.sqlite3").write_bytes(bytes(4096))
    good = check_folder(tmp_path)
    assert good.ok is not False
    assert "KiB of logs" in good.found
    assert [one.name for one in tmp_path.iterdir()] == ["registry.sqlite3"], "nothing is left"
    bad = check_folder(Path("/proc"))
    assert bad.ok is False
    assert bad.mend
    assert check_builds(tmp_path / "builds", 1).ok is True
    full = check_builds(tmp_path / "builds", 2**62)
    assert full.ok is None
    assert "builds.folder" in full.mend


def test_peers_show_how_they_were_found_and_the_book_is_the_operators(
    shell: Shell, tmp_path: Path
) -> None:
    (one,) = shell.json("peers")["items"]
    assert (one["direction"], one["group"], one["found"]) == ("out", "8.8.0.0/16", "exchange")
    assert one["anchor"] is True
    out, _ = shell("peers")
    assert "anchor" in out
    assert shell.json("peers", "--known", "--data-dir", tmp_path, status=5)["exit_status"] == 5
    token = (shell.node.data_dir / "operator.token").read_text()
    (tmp_path / "operator.token").write_text(token)
    book = shell.json("peers", "--known", "--data-dir", tmp_path)
    assert (book["outbound"], book["outbound_max"]) == (1, 8)
    (known,) = book["items"]
    assert (known["informants"], known["failures"]) == (["9.9.0.0/16"], 2)
    assert known["address"] == f"/ip6/2600::1/tcp/4001/p2p/{known['peer']}"
    out, _ = shell("peers", "--known", "--data-dir", tmp_path)
    assert "[2600::1]:4001" in out
    assert "connected" in out


def test_nothing_secret_is_ever_shown(shell: Shell) -> None:
    out, err = shell("models", "create", "--file", shell.file("m.json", name="Quiet"))
    for path in (shell.folder / "accounts").glob("*.key"):
        assert path.read_bytes().hex() not in out + err
    assert "0123456789abcdef" not in out + err


def test_a_wrong_key_file_opens_nothing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    other = shell.folder / "other"
    other.write_bytes(b"f" * 16)
    other.chmod(0o600)
    monkeypatch.setenv("HANSA_KEY_FILE", str(other))
    error = shell.json("models", "create", "--file", shell.file("m.json"), status=12)
    assert error["code"] == "wrong-passphrase"


def test_a_records_log_is_audited_and_its_conflicts_shown(shell: Shell, tmp_path: Path) -> None:
    made = shell.json("models", "create", "--file", shell.file("m.json", name="Checked"))
    shell("models", "update", "checked", "--set", "version=0.2.0")
    picture = tmp_path / "checked.svg"
    out, err = shell("audit", "anna/checked", "--svg", picture)
    assert "Version 0.2.0 shows: " in out
    assert "The node shows what follows from its log." in out
    assert str(picture) in err
    assert made["version_id"] in picture.read_text()
    shell("models", "delete", "checked", "--yes")
    found = shell.json("audit", made["model_id"])
    assert (found["sound"], len(found["operations"])) == (True, 3)
    assert shell.json("models", "conflicts", "checked")["winner"]["record"] == "deleted"
    assert shell.json("audit", "nothing-like-it", status=4)["code"] == "not-found"


def test_an_agent_is_audited_too(shell: Shell) -> None:
    path = shell.folder / "agent.json"
    path.write_text(json.dumps({"name": "Checked Agent", "tools": ["search"]}))
    shell("publish", path)
    for words in (("audit", "checked-agent"), ("audit", "checked-agent", "--agent")):
        assert shell.json(*words)["sound"] is True
    assert shell.json("agents", "conflicts", "checked-agent")["conflict_count"] == 0


@pytest.mark.parametrize(
    "words", [["--live", "--add-tag", "x"], ["--port", "4000"], ["--origin", "https://a.example"]]
)
def test_live_options_that_do_not_go_together_are_bad_usage(shell: Shell, words: list[str]) -> None:
    shell("models", "create", "--file", shell.file("m.json"))
    assert shell.json("models", "edit", "tiny-chat", *words, status=2)["code"] == "bad-usage"


def test_a_live_session_on_a_port_that_is_taken_says_so(shell: Shell) -> None:
    shell("models", "create", "--file", shell.file("m.json"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        problem = shell.json("models", "edit", "tiny-chat", "--live", "--port", port, status=8)
    assert problem["code"] == "port-in-use"


def test_a_live_session_of_an_agent_begins_and_ends(shell: Shell) -> None:
    file = shell.folder / "a.json"
    file.write_text(json.dumps({"name": "Helper", "description": "Helps."}))
    shell("agents", "create", "--file", file)
    words = ["--node", shell.node.url, "agents", "edit", "helper", "--live", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "node", *words], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        rest = [json.loads(line) for line in process.stdout]
        assert process.wait(20) == 0
    assert started["event"] == "started"
    assert started["room"].startswith("helper-")
    assert (rest[-1]["event"], rest[-1]["published"], rest[-1]["text_length"]) == ("ended", 0, 6)
