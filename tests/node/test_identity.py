"""Who a node is: the same at every start, sealed, never half made, one process a folder."""

from __future__ import annotations

import os

import pytest

from crdt import SigningKey, network_id, open_genesis
from node.config import load_settings
from node.identity import AlreadyRunning, load_identity, lock_folder
from node.keystore import (
    KeyFile,
    KeystoreFault,
    WrongPassphrase,
    make_key_file,
    read_secret,
    write_secret,
)

TEST = network_id("test")


def settings_of(folder, *flags):
    return load_settings(None, [f"node.data_dir={folder}", *flags]).settings


def test_an_identity_is_made_once_and_is_the_same_ever_after(tmp_path):
    settings = settings_of(tmp_path)
    first, second = load_identity(settings, TEST), load_identity(settings, TEST)
    assert (first.seed, first.genesis.raw) == (second.seed, second.genesis.raw)
    assert first.operator_key.public == second.operator_key.public
    account = open_genesis(first.genesis, TEST)
    assert account.id == first.operator
    assert account.root_key == first.operator_key.public
    assert first.seed not in first.genesis.raw
    assert first.seed.hex() not in repr(first)


def test_the_keys_on_disk_are_sealed_and_private(tmp_path):
    made = load_identity(settings_of(tmp_path), TEST)
    files = sorted(tmp_path.rglob("*.key"))
    assert {file.name for file in files} == {
        "node.key", "operator.key", "operator.recovery.key", "unlock.key"
    }  # fmt: skip
    for file in files:
        assert file.stat().st_mode & 0o077 == 0, file
        assert made.seed not in file.read_bytes()
    recovery = read_secret(
        tmp_path / "keys/operator.recovery.key", KeyFile(tmp_path / "unlock.key")
    )
    assert SigningKey(recovery).public == open_genesis(made.genesis, TEST).recovery_key


def test_the_recovery_key_may_be_moved_away(tmp_path):
    first = load_identity(settings_of(tmp_path), TEST)
    (tmp_path / "keys/operator.recovery.key").unlink()
    assert load_identity(settings_of(tmp_path), TEST).genesis.raw == first.genesis.raw


def test_a_first_start_that_was_cut_short_goes_on(tmp_path):
    """The recovery key was written and the operator's was not: both are made anew together."""
    unlock = make_key_file(tmp_path / "unlock.key")
    write_secret(tmp_path / "keys/operator.recovery.key", b"old" * 8, unlock, log2_n=10)
    made = load_identity(settings_of(tmp_path), TEST)
    recovery = read_secret(tmp_path / "keys/operator.recovery.key", unlock)
    assert SigningKey(recovery).public == open_genesis(made.genesis, TEST).recovery_key


def test_a_passphrase_unlocks_and_another_does_not(tmp_path):
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("open sesame\n")
    wrong.write_text("open barley\n")
    folder = tmp_path / "data"
    first = load_identity(settings_of(folder, f"node.passphrase_file={right}"), TEST)
    again = load_identity(settings_of(folder, f"node.passphrase_file={right}"), TEST)
    assert first.seed == again.seed
    assert not (folder / "unlock.key").exists()
    with pytest.raises(WrongPassphrase):
        load_identity(settings_of(folder, f"node.passphrase_file={wrong}"), TEST)
    with pytest.raises(
        KeystoreFault, match=r"unlock.key, which unlocks the node's keys, is missing"
    ):
        load_identity(settings_of(folder), TEST)


def test_a_secret_of_another_length_is_not_taken_for_a_key(tmp_path):
    unlock = make_key_file(tmp_path / "unlock.key")
    write_secret(tmp_path / "keys/node.key", b"short", unlock, log2_n=10)
    with pytest.raises(KeystoreFault, match=r"node.key holds 5 bytes, not 32"):
        load_identity(settings_of(tmp_path), TEST)


def test_a_folder_is_one_nodes_until_it_lets_go(tmp_path):
    held = lock_folder(tmp_path / "data")
    with pytest.raises(AlreadyRunning, match="another node uses"):
        lock_folder(tmp_path / "data")
    os.close(held)
    os.close(lock_folder(tmp_path / "data"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KeystoreFault, match=r"file/data cannot be used: .*set node.data_dir"):
        lock_folder(tmp_path / "file/data")
