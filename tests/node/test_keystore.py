"""Sealed keys: what opens them, what does not, and what is on the disk."""

import os
import stat

import pytest

from crdt import encode
from node.keystore import (
    KeyFile,
    KeystoreFault,
    Passphrase,
    SecretExists,
    WrongPassphrase,
    make_key_file,
    open_secret,
    passphrase_from_file,
    read_secret,
    seal_secret,
    write_secret,
)

QUICK = 10
"""log2 of scrypt's N: the least a file may have, so that the tests are fast."""
SECRET = bytes(range(32))


def test_a_secret_comes_back_with_its_passphrase_and_is_private(tmp_path):
    path = tmp_path / "deep" / "a.key"
    write_secret(path, SECRET, Passphrase("open"), log2_n=QUICK)
    assert read_secret(path, Passphrase("open")) == SECRET
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SECRET not in path.read_bytes()
    assert os.listdir(path.parent) == ["a.key"]


def test_a_key_file_unlocks_too_and_another_does_not(tmp_path):
    first, second = make_key_file(tmp_path / "1"), make_key_file(tmp_path / "2")
    raw = seal_secret(SECRET, first, log2_n=QUICK)
    assert open_secret(raw, first, what="it") == SECRET
    with pytest.raises(WrongPassphrase, match="does not open with this key file"):
        open_secret(raw, second, what="it")


def test_a_wrong_passphrase_is_a_clear_error_that_does_not_repeat_it():
    raw = seal_secret(SECRET, Passphrase("right"), log2_n=QUICK)
    with pytest.raises(WrongPassphrase) as caught:
        open_secret(raw, Passphrase("wr0ng-guess"), what="a.key")
    assert "a.key does not open with this passphrase" in str(caught.value)
    assert "wr0ng-guess" not in str(caught.value)
    assert "wr0ng-guess" not in repr(Passphrase("wr0ng-guess"))


def test_an_empty_passphrase_is_refused():
    with pytest.raises(WrongPassphrase, match="empty"):
        seal_secret(SECRET, Passphrase(""), log2_n=QUICK)


def test_every_flipped_bit_is_noticed():
    raw = seal_secret(b"x", Passphrase("p"), log2_n=QUICK)
    for at in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[at // 8] ^= 1 << at % 8
        # A changed cost is refused or takes as long as it says: only cheap ones are tried here.
        if at // 8 == raw.index(QUICK):
            continue
        with pytest.raises((WrongPassphrase, KeystoreFault)):
            open_secret(bytes(changed), Passphrase("p"), what="it")


@pytest.mark.parametrize(
    "raw",
    [b"", b"garbage", encode([]), encode(["hansa/keystore", 0, 60, 8, 1, b"", b"", b"", b""]),
     encode(["hansa/keystore", 1, 15, 8, 1, bytes(16), bytes(12), b"", bytes(16)]),
     encode(["hansa/keystore", 0, 15, 9, 1, bytes(16), bytes(12), b"", bytes(16)]), b"\0" * 9000],
)  # fmt: skip
def test_what_is_no_sealed_key_is_said_to_be_none(raw):
    with pytest.raises(KeystoreFault, match="it is not a sealed key"):
        open_secret(raw, Passphrase("p"), what="it")


def test_nothing_is_overwritten(tmp_path):
    write_secret(tmp_path / "a", SECRET, Passphrase("p"), log2_n=QUICK)
    with pytest.raises(SecretExists, match="move it away"):
        write_secret(tmp_path / "a", b"other", Passphrase("p"), log2_n=QUICK)
    assert read_secret(tmp_path / "a", Passphrase("p")) == SECRET
    assert os.listdir(tmp_path) == ["a"]


def test_a_sealed_key_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "a"
    write_secret(path, SECRET, Passphrase("p"), log2_n=QUICK)
    path.chmod(0o644)
    with pytest.raises(KeystoreFault, match="chmod 600"):
        read_secret(path, Passphrase("p"))


def test_a_missing_or_short_key_file_is_named(tmp_path):
    with pytest.raises(KeystoreFault, match="nowhere"):
        KeyFile(tmp_path / "nowhere").material()
    (tmp_path / "short").write_bytes(b"1234")
    with pytest.raises(KeystoreFault, match="at least 16"):
        KeyFile(tmp_path / "short").material()


def test_a_passphrase_is_the_first_line_of_its_file(tmp_path):
    (tmp_path / "p").write_text("open sesame\r\nnot this\n")
    assert passphrase_from_file(tmp_path / "p") == Passphrase("open sesame")
