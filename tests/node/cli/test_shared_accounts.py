"""Accounts of several machines, and accounts that get into trouble, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crdt import (
    Capability,
    EntryType,
    OperationType,
    PublicKey,
    RecordKind,
    SigningKey,
    make_entry,
    make_operation,
    record_id,
)
from node.cli.account_work import complete_accounts
from node.cli.delegates import numbers_in
from node.cli.errors import BadUsage
from node.client import (
    AccountFolder,
    ApiProblem,
    Client,
    NodeUnreachable,
    finish_change,
    hand_in,
    pending_change,
)
from node.client.handing import texts
from node.keystore import KeyFile, read_secret
from tests.node.cli.shell import Shell
from tests.writers import key_of

pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")


class Machine:
    """Another machine of the owner, of a colleague, or of a thief: other accounts, same node."""

    def __init__(self, shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = AccountFolder(folder)
        self._shell = shell
        self._monkeypatch = monkeypatch

    def __call__(self, *words: object, status: int = 0) -> tuple[str, str]:
        with self._monkeypatch.context() as patch:
            patch.setenv("HANSA_ACCOUNTS_DIR", str(self.folder.path))
            return self._shell(*words, status=status)

    def json(self, *words: object, status: int = 0) -> Any:
        with self._monkeypatch.context() as patch:
            patch.setenv("HANSA_ACCOUNTS_DIR", str(self.folder.path))
            return self._shell.json(*words, status=status)

    def key(self, name: str) -> SigningKey:
        unlock = KeyFile(self._shell.folder / "unlock")
        account = self.folder.unlock(name, lambda path: read_secret(path, unlock))
        return account.key

    def copy(self, other: Path, *, recovery: bool = False) -> Machine:
        """Return a machine with the same files, with or without the recovery key."""
        other.mkdir()
        for path in self.folder.path.iterdir():
            if recovery or ".recovery." not in path.name:
                (other / path.name).write_bytes(path.read_bytes())
                (other / path.name).chmod(0o600)
        return Machine(self._shell, other, self._monkeypatch)


@pytest.fixture
def anna(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The owner, with one published record."""
    found = Machine(shell, tmp_path / "accounts", monkeypatch)
    found("models", "create", "--file", shell.file("m.json"))
    return found


@pytest.fixture
def bob(anna: Machine, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A colleague who has joined, and was granted nothing yet."""
    found = Machine(shell, tmp_path / "bob", monkeypatch)
    found("account", "join", "acme", anna.json("account", "show")["account"])
    return found


def key_in(machine: Machine) -> str:
    return str(machine.json("account", "show")["key"])


def grant(anna: Machine, bob: Machine, role: str = "maintainer", *more: object) -> str:
    key = key_in(bob)
    anna("account", "delegate", "anna", "--key", key, "--as", role, *more)
    return key


def update(machine: Machine, version: str, status: int = 0) -> Any:
    return machine.json(
        "models", "update", "tiny-chat", "--set", f"version={version}", status=status
    )


def version(machine: Machine) -> str:
    return str(machine.json("models", "show", "tiny-chat")["version"])


def fork(machine: Machine, shell: Shell, key: PublicKey, *, on: int = -1) -> str:
    """Sign on an old entry with the root key, as a machine that knows no better, or a thief."""
    card = machine.folder.card("anna")
    item = make_entry(
        network=card.network, type=EntryType.ADD_KEY, account=card.account,
        predecessor=card.known.account.trunk[on].id, signer=machine.key("anna"), key=key,
        capabilities=Capability.MAINTAINER,
    )  # fmt: skip
    machine.folder.save(card, card.known.joined([item], card.network))
    with Client(shell.node.url) as client:
        assert hand_in(client, texts([item])) == []
    return item.id.hex()


def test_a_colleague_writes_after_the_owner_said_so(anna: Machine, bob: Machine) -> None:
    refused = update(bob, "0.2.0", status=5)
    assert refused["code"] == "no-role"
    assert f"hansa account delegate NAME --key {key_in(bob)}" in refused["message"]
    grant(anna, bob)
    made = update(bob, "0.2.0")
    assert made["signed_by"]["key"] == key_in(bob)
    assert made["owner_id"] == anna.json("account", "show")["account"]
    assert bob.json("account", "show")["role"] == "delegate"


def test_a_scope_and_a_role_bound_what_a_delegate_publishes(
    anna: Machine, bob: Machine, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant(anna, bob, "maintainer", "--scope", "tiny-chat")
    update(bob, "0.2.0")
    other = shell.file("o.json", name="Other")
    assert bob.json("models", "create", "--file", other, status=5)["code"] == "no-role"
    editor = Machine(shell, tmp_path / "editor", monkeypatch)
    editor("account", "join", "acme", anna.json("account", "show")["account"])
    grant(anna, editor, "editor")
    assert "no maintainer" in update(editor, "0.3.0", status=5)["message"]


def test_an_account_shows_who_may_write_for_it(anna: Machine, bob: Machine) -> None:
    key = grant(anna, bob, "editor", "--as", "evaluator")
    shown = anna.json("account", "show")
    (delegate,) = shown["delegates"]
    assert (delegate["key"], delegate["capabilities"]) == (key, ["editor", "evaluator"])
    stranger = bob.json("account", "show", shown["account"])
    assert stranger["delegates"] == shown["delegates"]
    assert "name" not in stranger
    out, _ = anna("account", "show")
    assert "editor, evaluator" in out


def test_one_key_has_one_role_for_ever(anna: Machine, bob: Machine) -> None:
    key = grant(anna, bob)
    again = anna.json("account", "delegate", "anna", "--key", key, "--as", "editor", status=2)
    assert "one role for ever" in again["message"]
    bad = anna.json("account", "delegate", "anna", "--key", "xyz", "--as", "editor", status=2)
    assert "64 hex digits" in bad["message"]
    assert "no role" in anna.json(
        "account", "delegate", "anna", "--key", "ab" * 32, "--as", "boss", status=2
    )["message"]  # fmt: skip


def test_who_may_not_edit_a_card_is_told_why(anna: Machine, bob: Machine) -> None:
    edit = ("models", "edit", "tiny-chat", "--add-tag", "new")
    assert "hansa account delegate" in bob.json(*edit, status=5)["message"]
    key = grant(anna, bob, "evaluator")
    said = bob.json(*edit, status=5)["message"]
    assert "an evaluator writes only evaluations of its own" in said
    assert "only the root key" in bob.json("models", "checkpoint", "tiny-chat", status=5)["message"]
    anna("account", "revoke", "anna", "--key", key, "--keep-none")
    assert "was revoked" in bob.json(*edit, status=5)["message"]


def test_only_the_owner_delegates(anna: Machine, bob: Machine) -> None:
    grant(anna, bob)
    error = bob.json("account", "delegate", "acme", "--key", "ab" * 32, "--as", "editor", status=5)
    assert "owner's machine" in error["message"]


def test_revoking_asks_what_to_keep_and_keeps_it(anna: Machine, bob: Machine, shell: Shell) -> None:
    key = grant(anna, bob)
    kept = update(bob, "0.2.0")
    second = shell.file("s.json", name="Second")
    lost = bob.json("models", "create", "--file", second)
    unsaid = anna.json("account", "revoke", "anna", "--key", key, status=2)
    assert "2 operations that would be void" in unsaid["message"]
    found = anna.json("account", "revoke", "anna", "--key", key, "--keep", "tiny-chat")
    assert found["kept"] == [kept["version_id"]]
    assert found["left_out"] == [lost["version_id"]]
    assert version(anna) == "0.2.0"
    assert anna.json("models", "show", "second", status=4)["code"] == "not-found"
    assert update(bob, "0.3.0", status=5)["code"] == "no-role"
    (ended,) = anna.json("account", "show")["ended"]
    assert ended == {"key": key, "kept": 1}


def test_what_the_owner_built_upon_stays_without_being_named(anna: Machine, bob: Machine) -> None:
    key = grant(anna, bob)
    update(bob, "0.2.0")
    update(anna, "0.3.0")
    found = anna.json("account", "revoke", "anna", "--key", key, "--yes")
    assert (found["kept"], found["left_out"]) == ([], [])
    assert version(anna) == "0.3.0"
    again = anna.json("account", "revoke", "anna", "--key", key, "--yes", status=2)
    assert "ended already" in again["message"]


def test_nothing_is_kept_when_nothing_is_to_be(anna: Machine, bob: Machine) -> None:
    key = grant(anna, bob)
    update(bob, "0.2.0")
    anna("account", "revoke", "anna", "--key", key[:12], "--keep-none")
    assert version(anna) == "0.1.0"


def publish_many(machine: Machine, name: str, shell: Shell, count: int) -> None:
    """Publish many records at once, with the key of a machine."""
    from registry import encode_record, validate

    card = machine.folder.card(name)
    body = encode_record(validate(RecordKind.MODEL, {"name": "Many", "license": "MIT"}))
    key = machine.key(name)
    with Client(shell.node.url) as client:
        shown = client.get(f"/v1/accounts/{card.account.hex()}")
        head = bytes.fromhex(shown["entries"][-1]["id"])
        items = [
            make_operation(
                network=card.network, kind=RecordKind.MODEL, slug=f"many-{n}",
                type=OperationType.PUT, account=card.account, key=key, account_heads=(head,),
                predecessors=(), depth=1, body=body, timestamp_s=1_800_000_000,
            )
            for n in range(count)
        ]  # fmt: skip
        assert hand_in(client, texts(items)) == []


def test_more_than_an_entry_can_name_is_kept_by_new_versions(
    anna: Machine, bob: Machine, shell: Shell
) -> None:
    key = grant(anna, bob)
    publish_many(bob, "acme", shell, 100)
    found = anna.json("account", "revoke", "anna", "--key", key, "--keep-all")
    assert len(found["kept"]) == 100
    assert (len(found["endorsed"]), found["refused"]) == (4, [])
    assert anna.json("models", "search", "many", "--limit", "1")["total"] >= 100


def test_a_rotation_changes_the_key_and_nothing_that_shows(
    anna: Machine, bob: Machine, shell: Shell
) -> None:
    key = grant(anna, bob)
    update(bob, "0.2.0")
    gone = shell.file("g.json", name="Gone")
    deleted = anna.json("models", "create", "--file", gone)["model_id"]
    anna("models", "delete", "gone", "--yes")
    old = anna.json("account", "show")
    assert "say --yes" in anna.json("account", "rotate", "anna", status=2)["message"]
    found = anna.json("account", "rotate", "anna", "--yes")
    assert len(found["endorsed"]) == 2
    new = anna.json("account", "show")
    assert (new["epoch"], new["account"]) == (1, old["account"])
    assert new["root_key"] == new["key"] == found["root_key"] != old["root_key"]
    assert [one["key"] for one in new["delegates"]] == [key]
    assert version(anna) == "0.2.0"
    assert anna.json("models", "show", deleted, status=4)["code"] == "gone"
    assert (anna.folder.path / "anna.key.epoch-0").exists()
    update(anna, "0.4.0")
    update(bob, "0.5.0")
    assert version(anna) == "0.5.0"


def test_the_old_root_key_opens_nothing_after_a_rotation(anna: Machine, tmp_path: Path) -> None:
    thief = anna.copy(tmp_path / "thief")
    anna("account", "rotate", "anna", "--yes")
    assert update(thief, "6.6.6", status=5)["code"] == "no-role"
    assert thief.json("account", "show")["role"] == "ended"


def test_a_rotation_that_was_interrupted_is_finished_by_the_same_command(
    anna: Machine, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_many(anna, "anna", shell, 300)
    honest = Client.post
    calls: list[int] = []

    def cut(client: Client, path: str, value: Any, query: Any = None) -> Any:
        calls.append(len(value["items"]))
        if len(calls) == 3:
            raise NodeUnreachable("the wire was cut")
        return honest(client, path, value, query)

    with monkeypatch.context() as patch:
        patch.setattr(Client, "post", cut)
        assert anna.json("account", "rotate", "anna", "--yes", status=7)["code"] == (
            "node-unreachable"
        )
    assert calls == [2, 256, 45]
    waits = update(anna, "0.2.0", status=6)
    assert waits["code"] == "change-pending"
    assert "hansa account rotate anna" in waits["message"]
    out, _ = anna("account", "rotate", "anna", "--yes")
    assert "everything is sent" in out
    assert pending_change(anna.folder, "anna") is None
    assert anna.json("account", "show")["epoch"] == 1
    update(anna, "0.2.0")
    found = anna.json("models", "search", "many", "--limit", "1")
    assert found["items"][0]["signed_by"]["key"] == key_of_root(anna)


def key_of_root(machine: Machine) -> str:
    return str(machine.json("account", "show")["root_key"])


def test_a_change_that_the_node_refuses_is_dropped_with_its_key(
    anna: Machine, shell: Shell
) -> None:
    from node.client import Move, fresh_next, write_change

    card = anna.folder.card("anna")
    waiting = fresh_next(anna.folder.key_path("anna"))
    waiting.write_bytes(b"sealed")
    theft = make_entry(
        network=card.network, type=EntryType.ROTATE_ROOT, account=card.account,
        predecessor=card.genesis.id, signer=key_of("nobody"), key=key_of("new").public,
    )  # fmt: skip
    log = card.known
    bad = type(log)((*log.items, theft), log.account)
    moves = (Move(waiting.name, "anna.key"),)
    write_change(anna.folder, card, bad, [], what="rotate", moves=moves)
    with Client(shell.node.url) as client, pytest.raises(ApiProblem, match="recovery key"):
        finish_change(client, anna.folder, "anna")
    assert pending_change(anna.folder, "anna") is None
    assert not waiting.exists()
    update(anna, "0.2.0")


def test_two_machines_at_once_freeze_the_log_until_one_is_adopted(
    anna: Machine, shell: Shell, tmp_path: Path
) -> None:
    second = anna.copy(tmp_path / "second")
    theirs = fork(second, shell, key_of("two").public)
    mine = fork(anna, shell, key_of("one").public)
    out, _ = anna("account", "show")
    assert "FROZEN" in out
    assert "hansa account recover anna" in out
    stopped = anna.json(
        "account", "delegate", "anna", "--key", "cd" * 32, "--as", "editor", status=6
    )
    assert stopped["code"] == "account-frozen"
    update(anna, "0.2.0")
    _, err = anna("account", "recover", "anna", "--adopt", "--yes")
    assert mine in err
    assert theirs in err
    shown = anna.json("account", "show")
    assert not shown["frozen"]
    assert [one["key"] for one in shown["delegates"]] == [key_of("one").public.hex()]
    assert version(anna) == "0.2.0"


def test_a_machine_that_made_neither_branch_must_name_one(
    anna: Machine, shell: Shell, tmp_path: Path
) -> None:
    one = anna.copy(tmp_path / "one")
    two = anna.copy(tmp_path / "two")
    mine = fork(one, shell, key_of("one").public)
    fork(two, shell, key_of("two").public)
    unsaid = anna.json("account", "recover", "anna", "--adopt", "--yes", status=2)
    assert "--branch" in unsaid["message"]
    anna("account", "recover", "anna", "--adopt", "--yes", "--branch", mine[:12])
    delegates = anna.json("account", "show")["delegates"]
    assert [found["key"] for found in delegates] == [key_of("one").public.hex()]


def test_a_stolen_root_is_undone_by_the_recovery_key(
    anna: Machine, shell: Shell, tmp_path: Path
) -> None:
    update(anna, "0.2.0")
    thief = anna.copy(tmp_path / "thief")
    theft = update(thief, "6.6.6")
    thief("account", "delegate", "anna", "--key", "66" * 32, "--as", "maintainer")
    assert version(anna) == "6.6.6"
    _, err = anna("account", "rotate", "anna", status=2)
    assert "not made on this machine" in err
    _, err = anna("account", "recover", "anna", status=2)
    assert "version 6.6.6" in err
    found = anna.json("account", "recover", "anna", "--exclude", theft["version_id"][:12], "--yes")
    assert found["void"] == [theft["version_id"]]
    assert version(anna) == "0.2.0"
    shown = anna.json("account", "show")
    assert (shown["delegates"], shown["epoch"]) == ([], 1)
    assert update(thief, "7.7.7", status=5)["code"] == "no-role"


def test_what_honest_people_wrote_after_a_theft_is_kept_when_the_theft_is_undone(
    anna: Machine, bob: Machine, tmp_path: Path
) -> None:
    grant(anna, bob)
    thief = anna.copy(tmp_path / "thief")
    thief("account", "delegate", "anna", "--key", "66" * 32, "--as", "maintainer")
    mine = update(anna, "0.2.0")
    theirs = update(bob, "0.3.0")
    theft = update(thief, "6.6.6")
    found = anna.json("account", "recover", "anna", "--yes", "--exclude", theft["version_id"])
    assert found["void"] == [theft["version_id"]]
    assert version(anna) == "0.3.0"
    assert {mine["version_id"], theirs["version_id"]}.isdisjoint(found["void"])


def test_an_operation_on_an_undone_entry_is_kept_when_it_is_named(
    anna: Machine, tmp_path: Path
) -> None:
    second = anna.copy(tmp_path / "second")
    second("account", "delegate", "anna", "--key", "66" * 32, "--as", "editor")
    mine = update(second, "0.2.0")
    _, err = anna("account", "recover", "anna", status=2)
    assert "Void from then on" in err
    named = mine["version_id"][:16]
    anna("account", "recover", "anna", "--yes", "--include", named)
    assert version(anna) == "0.2.0"


def test_the_shell_completes_the_names_of_accounts(
    anna: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna("account", "create", "bert", "--network", "test")
    monkeypatch.setenv("HANSA_ACCOUNTS_DIR", str(anna.folder.path))
    assert complete_accounts("a") == ["anna"]
    assert complete_accounts("") == ["anna", "bert"]


def test_everything_after_an_arrival_is_left_out(anna: Machine, tmp_path: Path) -> None:
    update(anna, "0.2.0")
    thief = anna.copy(tmp_path / "thief")
    first = update(thief, "6.6.6")
    update(thief, "6.6.7")
    record = bytes.fromhex(first["model_id"])
    with Client(anna._shell.node.url) as client:
        log = client.get(f"/v1/models/{record.hex()}/log")["items"]
    anna("account", "recover", "anna", "--since", log[-2]["n"], "--yes")
    assert version(anna) == "0.2.0"


def test_a_machine_that_never_had_the_account_recovers_it(
    anna: Machine, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update(anna, "0.2.0")
    fresh = Machine(shell, tmp_path / "fresh", monkeypatch)
    fresh("account", "join", "mine", anna.json("account", "show")["account"])
    missing = fresh.json("account", "recover", "mine", "--yes", status=12)
    assert "--recovery-key FILE" in missing["message"]
    saved = anna.folder.recovery_path("anna")
    fresh("account", "recover", "mine", "--recovery-key", saved, "--yes")
    assert fresh.json("account", "show")["role"] == "root"
    update(fresh, "0.3.0")
    assert update(anna, "0.4.0", status=5)["code"] == "no-role"


def test_the_recovery_key_signs_one_branch_only(
    anna: Machine, shell: Shell, tmp_path: Path
) -> None:
    second = anna.copy(tmp_path / "second", recovery=True)
    anna("account", "rotate", "anna", "--yes")
    genesis = anna.folder.card("anna").genesis.id.hex()
    error = second.json("account", "recover", "anna", "--yes", "--branch", genesis, status=6)
    assert error["code"] == "account-frozen"
    assert "supersedes" in error["message"]
    assert not anna.json("account", "show")["frozen"]


def test_a_new_recovery_key_takes_the_place_of_the_old_one(anna: Machine) -> None:
    old = anna.json("account", "show")["recovery_key"]
    found = anna.json("account", "set-recovery", "anna", "--yes")
    assert anna.json("account", "show")["recovery_key"] == found["recovery_key"] != old
    assert (anna.folder.path / f"anna.recovery.key.retired-{old[:10]}").exists()
    anna("account", "rotate", "anna", "--yes")
    assert anna.json("account", "show")["epoch"] == 1


def test_a_wrong_recovery_key_signs_nothing(anna: Machine) -> None:
    error = anna.json(
        "account", "rotate", "anna", "--yes", "--recovery-key", anna.folder.key_path("anna"),
        status=12,
    )  # fmt: skip
    assert "holds another account's key" in error["message"]
    assert anna.json("account", "show")["epoch"] == 0


def test_without_a_node_an_account_is_shown_as_this_machine_knows_it(
    anna: Machine, shell: Shell
) -> None:
    out, err = anna("account", "show", "--node", "http://127.0.0.1:1")
    assert "root key" in out
    assert "what is known here" in err


def test_records_of_a_forged_log_are_not_believed(anna: Machine, shell: Shell) -> None:
    from node.client import BadAnswer
    from node.client.handing import OwnedRecord, fetch_record
    from node.client.logs import log_in

    card = anna.folder.card("anna")
    with Client(shell.node.url) as client:
        answer = client.get(f"/v1/accounts/{card.account.hex()}")
        owned = OwnedRecord(
            record_id(card.network, RecordKind.MODEL, card.account, "another"), "models", "another"
        )
        with pytest.raises(ApiProblem):
            fetch_record(client, owned, card.known.account, card.network)
    forged = json.loads(json.dumps(answer))
    forged["entries"][0]["raw"] = forged["entries"][0]["raw"][:-4] + "AAAA"
    with pytest.raises(BadAnswer, match="does not hold"):
        log_in(forged, card.account, card.network, url="http://liar")


@pytest.mark.parametrize(
    ("said", "found"),
    [("all", [1, 2, 3, 4]), ("none", []), ("1,3-4", [1, 3, 4]), (" 2 ", [2]), ("3 1", [1, 3])],
)
def test_numbers_are_chosen_by_lists_and_ranges(said: str, found: list[int]) -> None:
    assert numbers_in(said, 4) == found


@pytest.mark.parametrize("said", ["", "5", "0", "3-1", "1-", "x", "1,,y"])
def test_a_choice_that_names_nothing_there_changes_nothing(said: str) -> None:
    with pytest.raises(BadUsage):
        numbers_in(said, 4)
