"""Secret keys on disk: scrypt and AES-256-GCM, unlocked by a passphrase or a key file.

One secret a file, written whole or not at all, readable by its owner only. The node keeps its own
keys with it, and the command line a creator's. A sealed file is one canonical array:
[domain, version, log2 of scrypt's N, r, p, salt, nonce, ciphertext, tag].
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from Crypto.Cipher import AES
from Crypto.Protocol.KDF import scrypt

from crdt import (
    HansaError,
    UserFault,
    WorldFault,
    array,
    decode,
    encode,
    fixed_bytes,
    has_head,
    natural,
)
from crdt import field as checked

DOMAIN = "hansa/keystore"
VERSION = 0
SECRET_BYTES_MAX = 4096
FILE_BYTES_MAX = 8192
SCRYPT_LOG2_N = 15
"""32 MiB and about 0.1 s a guess (RFC 7914's interactive parameters, doubled)."""
SCRYPT_LOG2_N_RANGE = (10, 20)
"""A file may ask for no more than 1 GiB, and for no less than would be pointless."""
SCRYPT_R = 8
SCRYPT_P = 1
SALT_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
KEY_BYTES = 32
KEY_FILE_BYTES_MAX = 4096
KEY_FILE_BYTES_MIN = 16


class WrongPassphrase(UserFault):
    """A sealed file does not open with what was given, or was changed."""

    code = "wrong-passphrase"


class KeystoreFault(WorldFault):
    """A key file is missing, unreadable, damaged, or open to other users."""

    code = "keystore-fault"


class SecretExists(UserFault):
    """A secret would be overwritten."""

    code = "secret-exists"


@dataclass(frozen=True, slots=True)
class Passphrase:
    """Unlocks with something a person knows."""

    text: str = field(repr=False)

    def material(self) -> bytes:
        """Return the bytes that the key is derived from."""
        if not self.text:
            raise WrongPassphrase("the passphrase is empty; give at least one character")
        return b"passphrase:" + self.text.encode()


@dataclass(frozen=True, slots=True)
class KeyFile:
    """Unlocks with a file of random bytes, kept apart from what it unlocks."""

    path: Path

    def material(self) -> bytes:
        """Return the bytes that the key is derived from.

        Its mode is not judged: container and service managers mount secrets as 0444.

        Raises:
            KeystoreFault: the file is missing, too short or too long.
        """
        raw = _read(self.path, KEY_FILE_BYTES_MAX)
        if len(raw) < KEY_FILE_BYTES_MIN:
            raise KeystoreFault(
                f"key file {self.path} has {len(raw)} bytes; "
                f"it needs at least {KEY_FILE_BYTES_MIN} random ones"
            )
        return b"key-file:" + raw


Unlock: TypeAlias = Passphrase | KeyFile


def passphrase_from_file(path: Path) -> Passphrase:
    """Return the passphrase in the first line of a file.

    Raises:
        KeystoreFault: it cannot be read, or is not text.
    """
    try:
        text = _read(path, KEY_FILE_BYTES_MAX).decode()
    except UnicodeDecodeError as error:
        raise KeystoreFault(f"passphrase file {path} is not UTF-8 text") from error
    return Passphrase(text.split("\n", 1)[0].rstrip("\r"))


def make_key_file(path: Path) -> KeyFile:
    """Write 32 fresh random bytes to a new file and return the key file.

    Raises:
        SecretExists, KeystoreFault: the file is there, or cannot be written.
    """
    write_private(path, secrets.token_bytes(KEY_BYTES))
    return KeyFile(path)


def write_secret(path: Path, secret: bytes, unlock: Unlock, *, log2_n: int = SCRYPT_LOG2_N) -> None:
    """Seal `secret` into a new file of mode 0600; the file is there whole or not at all.

    Raises:
        SecretExists: there is a file; nothing was changed.
        KeystoreFault, WrongPassphrase: the disk, or an empty passphrase.
    """
    assert 0 < len(secret) <= SECRET_BYTES_MAX
    write_private(path, seal_secret(secret, unlock, log2_n=log2_n))


def read_secret(path: Path, unlock: Unlock) -> bytes:
    """Return the secret in a sealed file.

    Raises:
        WrongPassphrase: it does not open with this.
        KeystoreFault: it is missing, unreadable, open to other users, or not a sealed file.
    """
    return open_secret(_read(path, FILE_BYTES_MAX, private=True), unlock, what=str(path))


def seal_secret(secret: bytes, unlock: Unlock, *, log2_n: int = SCRYPT_LOG2_N) -> bytes:
    """Return the sealed form of a secret, under a fresh salt and nonce."""
    salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
    head = _head(log2_n, SCRYPT_R, SCRYPT_P, salt, nonce)
    cipher = AES.new(_derive(unlock, salt, log2_n), AES.MODE_GCM, nonce=nonce, mac_len=TAG_BYTES)
    cipher.update(encode(head))
    ciphertext, tag = cipher.encrypt_and_digest(secret)
    return encode([*head, ciphertext, tag])


def open_secret(raw: bytes, unlock: Unlock, *, what: str) -> bytes:
    """Return the secret in a sealed form.

    Raises:
        WrongPassphrase: it does not open with this.
        KeystoreFault: it is not a sealed form.
    """
    try:
        log2_n, salt, nonce, ciphertext, tag = _parse(raw)
    except HansaError as error:
        raise KeystoreFault(
            f"{what} is not a sealed key ({error}); restore it from a backup"
        ) from error
    head = _head(log2_n, SCRYPT_R, SCRYPT_P, salt, nonce)
    cipher = AES.new(_derive(unlock, salt, log2_n), AES.MODE_GCM, nonce=nonce, mac_len=TAG_BYTES)
    cipher.update(encode(head))
    try:
        return cipher.decrypt_and_verify(ciphertext, tag)
    except ValueError as error:
        kind = "passphrase" if isinstance(unlock, Passphrase) else f"key file {unlock.path}"
        raise WrongPassphrase(
            f"{what} does not open with this {kind}; give the right one"
        ) from error


def write_private(path: Path, raw: bytes, *, replace: bool = False) -> None:
    """Write a file that only its owner can read: synced, then put in place whole.

    Raises:
        SecretExists: there is one and `replace` is false.
        KeystoreFault: the disk.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                temporary.replace(path)
            else:
                # Not rename: a link fails when the name is taken, also by a racing process.
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError as error:
        raise SecretExists(f"{path} is there already; move it away first") from error
    except OSError as error:
        raise KeystoreFault(f"{path} cannot be written: {error.strerror}") from error


def _head(log2_n: int, r: int, p: int, salt: bytes, nonce: bytes) -> list[str | int | bytes]:
    return [DOMAIN, VERSION, log2_n, r, p, salt, nonce]


def _parse(raw: bytes) -> tuple[int, bytes, bytes, bytes, bytes]:
    parts = array(decode(raw, bytes_max=FILE_BYTES_MAX), "sealed key")
    if not has_head(parts, 9, DOMAIN, VERSION):
        raise KeystoreFault(f"it is not an array of 9 that starts with {DOMAIN!r}, {VERSION}")
    low, high = SCRYPT_LOG2_N_RANGE
    log2_n = natural(parts[2], "scrypt log2 N", maximum=high)
    if log2_n < low or parts[3:5] != (SCRYPT_R, SCRYPT_P):
        raise KeystoreFault("its scrypt parameters are out of range")
    return (
        log2_n,
        fixed_bytes(parts[5], SALT_BYTES, "salt"),
        fixed_bytes(parts[6], NONCE_BYTES, "nonce"),
        checked(parts[7], bytes, "ciphertext"),
        fixed_bytes(parts[8], TAG_BYTES, "tag"),
    )


def _derive(unlock: Unlock, salt: bytes, log2_n: int) -> bytes:
    key = scrypt(unlock.material(), salt, KEY_BYTES, 1 << log2_n, SCRYPT_R, SCRYPT_P)
    assert isinstance(key, bytes)
    return key


def _read(path: Path, bytes_max: int, *, private: bool = False) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(bytes_max + 1)
    except OSError as error:
        raise KeystoreFault(f"{path} cannot be read: {error.strerror}") from error
    if private and mode & 0o077:
        raise KeystoreFault(f"{path} can be read by other users; run `chmod 600 {path}`")
    if len(raw) > bytes_max:
        raise KeystoreFault(f"{path} is over {bytes_max} bytes; it is not what it should be")
    return raw
