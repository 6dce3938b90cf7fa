"""A creator's accounts on disk: made once, unlocked with the right key, never overwritten."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from crdt import (
    BadNetwork,
    WorkRule,
    network_id,
    open_genesis,
    parse_network,
    stamp_challenge,
    stamp_of,
)
from node.client import AccountFault, AccountFolder


def seeds() -> Callable[[int], bytes]:
    counter = iter(range(1, 100))
    return lambda length: bytes([next(counter)]) * length


def write_new(path: Path, secret: bytes) -> None:
    """An honest stand-in for the keystore: no encryption, but it never overwrites."""
    with path.open("xb") as file:
        file.write(secret)


@pytest.fixture
def folder(tmp_path: Path) -> AccountFolder:
    return AccountFolder(tmp_path / "accounts")


def no_work(challenge: bytes, rule: WorkRule) -> bytes:
    raise AssertionError("an open network asks for none")


def make(folder: AccountFolder, name: str = "anna") -> None:
    folder.create(name, "main", random_bytes=seeds(), lock=write_new, find_stamp=no_work)


def test_an_account_is_founded_by_its_genesis_and_opens_with_its_key(folder: AccountFolder) -> None:
    make(folder)
    card = folder.card("anna")
    founded = open_genesis(card.genesis, network_id("main"))
    assert (founded.id, founded.root_key) == (card.account, card.root_key)
    assert card.root_key != card.recovery_key
    account = folder.unlock("anna", Path.read_bytes)
    assert account.key.public == card.root_key
    assert folder.names() == ["anna"]


def test_an_account_on_a_network_with_a_rule_has_the_work_done_for_it_and_says_so(
    folder: AccountFolder,
) -> None:
    asked: list[tuple[bytes, WorkRule]] = []

    def work(challenge: bytes, rule: WorkRule) -> bytes:
        asked.append((challenge, rule))
        assert not list(folder.path.iterdir()), "nothing is written before the work is done"
        return b"12345678"

    folder.create(
        "anna", "main:work=9", random_bytes=seeds(), lock=write_new, find_stamp=work
    )  # fmt: skip
    card, network = folder.card("anna"), parse_network("main:work=9")
    assert (card.network_name, card.network) == ("main:work=9", network.id)
    founded = open_genesis(card.genesis, network.id)
    challenge = stamp_challenge(network.id, founded.root_key, founded.recovery_key)
    assert asked == [(challenge, WorkRule(9))]
    assert stamp_of(card.genesis) == b"12345678"


def test_work_that_is_interrupted_leaves_nothing_behind(folder: AccountFolder) -> None:
    def interrupted(challenge: bytes, rule: WorkRule) -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.create(
            "anna", "main:work=9", random_bytes=seeds(), lock=write_new, find_stamp=interrupted
        )  # fmt: skip
    assert not list(folder.path.iterdir())


def test_a_network_that_cannot_be_is_refused_before_a_key_is_made(folder: AccountFolder) -> None:
    with pytest.raises(BadNetwork, match="at most 32 can be asked"):
        folder.create(
            "anna", "main:work=40", random_bytes=seeds(), lock=write_new, find_stamp=no_work
        )  # fmt: skip
    assert not folder.path.exists()


def test_the_card_holds_nothing_secret(folder: AccountFolder) -> None:
    make(folder)
    card = (folder.path / "anna.json").read_bytes()
    for path in (folder.key_path("anna"), folder.recovery_path("anna")):
        assert path.read_bytes() not in card
        assert path.read_bytes().hex().encode() not in card


@pytest.mark.parametrize("name", ["", "../x", "Anna", "a b", "-a", "a" * 33, "a.b", "ä"])
def test_a_name_that_could_leave_the_folder_is_refused(folder: AccountFolder, name: str) -> None:
    with pytest.raises(AccountFault, match="cannot name an account"):
        make(folder, name)
    assert not folder.path.exists()


def test_an_account_is_never_overwritten(folder: AccountFolder) -> None:
    make(folder)
    before = {path: path.read_bytes() for path in folder.path.iterdir()}
    with pytest.raises(AccountFault, match="choose another name"):
        make(folder)
    (folder.path / "anna.json").unlink()
    with pytest.raises(AccountFault, match="move it away first"):
        make(folder)
    for path, content in before.items():
        assert path.name == "anna.json" or path.read_bytes() == content


def test_a_missing_account_says_how_to_make_it(folder: AccountFolder) -> None:
    with pytest.raises(AccountFault, match="hansa account create anna"):
        folder.card("anna")


@pytest.mark.parametrize(
    "change",
    [
        lambda card: {**card, "account": "ab" * 32},
        lambda card: {**card, "network": "other"},
        lambda card: {**card, "network": "main:work=4"},
        lambda card: {**card, "network": "main:work=99"},
        lambda card: {**card, "entries": [card["entries"][0][:-8] + "AAAAAAAA"]},
        lambda card: {**card, "entries": ["!"]},
        lambda card: {**card, "key": "ab"},
        lambda card: {"account": card["account"]},
        lambda card: [card],
    ],
)
def test_a_damaged_card_is_refused(
    folder: AccountFolder, change: Callable[[dict[str, str]], object]
) -> None:
    make(folder)
    path = folder.path / "anna.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(AccountFault, match="does not hold an account"):
        folder.card("anna")


def test_another_accounts_key_is_refused(folder: AccountFolder) -> None:
    make(folder)
    key = folder.key_path("anna")
    key.write_bytes(folder.recovery_path("anna").read_bytes())
    with pytest.raises(AccountFault, match="another account's key"):
        folder.unlock("anna", Path.read_bytes)
    key.unlink()
    with pytest.raises(AccountFault, match="restore it"):
        folder.unlock("anna", Path.read_bytes)
