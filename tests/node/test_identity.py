"""Who a node is: the same at every start, sealed, never half made, one process a folder."""

from __future__ import annotations

import os

import pytest

from crdt import Network, SigningKey, WorkRule, is_good_stamp, open_genesis, stamp_bytes
from node.config import load_settings
from node.identity import (
    AlreadyRunning,
    keep_stamp,
    load_identity,
    lock_folder,
    operator_challenge,
    stamped,
)
from node.keystore import (
    KeyFile,
    KeystoreFault,
    WrongPassphrase,
    make_key_file,
    read_secret,
    write_secret,
)

TEST = Network("test")


def settings_of(folder, *flags):
    return load_settings(None, [f"node.data_dir={folder}", *flags]).settings


def test_an_identity_is_made_once_and_is_the_same_ever_after(tmp_path):
    settings = settings_of(tmp_path)
    first, second = load_identity(settings, TEST), load_identity(settings, TEST)
    assert (first.seed, first.genesis.raw) == (second.seed, second.genesis.raw)
    assert first.operator_key.public == second.operator_key.public
    account = open_genesis(first.genesis, TEST.id)
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
    assert SigningKey(recovery).public == open_genesis(made.genesis, TEST.id).recovery_key


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
    assert SigningKey(recovery).public == open_genesis(made.genesis, TEST.id).recovery_key


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


def stamp_of_operator(identity, network):
    challenge = operator_challenge(identity, network)
    stamps = (stamp_bytes(number) for number in range(1 << 16))
    return next(one for one in stamps if is_good_stamp(challenge, one, network.rule.bits))


def test_an_operator_is_admitted_once_its_stamp_is_kept(tmp_path):
    settings, ruled = settings_of(tmp_path), Network("test", WorkRule(1))
    first = load_identity(settings, ruled)
    assert not first.is_admitted
    stamp = stamp_of_operator(first, ruled)
    keep_stamp(settings, ruled, stamp)
    again = load_identity(settings, ruled)
    assert again.is_admitted
    assert again.genesis.raw == stamped(first, ruled, stamp).genesis.raw
    assert (again.seed, again.operator_key.public) == (first.seed, first.operator_key.public)
    # Another network's stamp is another file's, and coming back costs nothing.
    other = Network("other", WorkRule(1))
    assert not load_identity(settings, other).is_admitted
    assert load_identity(settings, TEST).is_admitted
    assert load_identity(settings, ruled).genesis.raw == again.genesis.raw


@pytest.mark.parametrize("damage", [b"", b"short", b"too long!", bytes(8)])
def test_a_stamp_that_does_not_hold_is_not_believed(tmp_path, damage):
    settings, ruled = settings_of(tmp_path), Network("test", WorkRule(30))
    load_identity(settings, ruled)
    keep_stamp(settings, ruled, damage)
    assert not load_identity(settings, ruled).is_admitted
