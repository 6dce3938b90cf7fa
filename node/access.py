"""Who may use this node: the operator's token, and API keys for programs that call models.

An API key and the token are 32 random bytes, so a plain SHA3-256 of a key is as good as a slow
hash, and is looked up in an index. A key is shown once, when it is made.
"""

from __future__ import annotations

import hmac
import secrets
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from crdt import UserFault, WorldFault, sha3
from node.keystore import KeystoreFault, SecretExists, write_private
from node.signing import to_header
from node.storage import SCHEMA_FOLDER, StorageFault, open_database, storage_faults, transaction

KEY_PREFIX = "hsk_"
KEY_COUNT_MAX = 1000
NAME_CHARACTERS_MAX = 80
USED_GRAIN_S = 60
"""`used_at` is written once a minute at most: a disk write a call would cost more than the call."""
TOKEN_BYTES_MAX = 256


class UnknownKey(UserFault):
    """An API key's id names none."""

    code = "not-found"


class TooManyKeys(UserFault):
    """There are as many keys as a node keeps."""

    code = "too-many"


class BadToken(WorldFault):
    """The operator's token file does not hold a token."""

    code = "keystore-fault"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key; the key itself is not among it."""

    id: str
    name: str
    created_s: int
    used_s: int | None


class Access:
    """The keys of this node, in `access.sqlite3`. Called from one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection = open_database(path, SCHEMA_FOLDER / "access")
        self._keys: dict[bytes, ApiKey] = {}
        with storage_faults(path):
            rows = self._database.execute(
                "SELECT hash, id, name, created_s, used_s FROM api_keys_v1"
                " WHERE revoked_s IS NULL ORDER BY created_s, id"
            ).fetchall()
        for hashed, id_, name, created_s, used_s in rows:
            self._keys[hashed] = ApiKey(id_, name, created_s, used_s)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def create(self, name: str, *, now_s: int) -> tuple[str, ApiKey]:
        """Make a key and return it, this once, with what is kept of it.

        Raises:
            TooManyKeys: there are enough.
            StorageFault: it was not kept.
        """
        if len(self._keys) >= KEY_COUNT_MAX:
            raise TooManyKeys(f"there are {KEY_COUNT_MAX} API keys; revoke one first")
        key = KEY_PREFIX + to_header(secrets.token_bytes(32))
        made = ApiKey(secrets.token_hex(6), name[:NAME_CHARACTERS_MAX], now_s, None)
        with transaction(self._database, self._path):
            self._database.execute(
                "INSERT INTO api_keys_v1 (id, name, hash, created_s) VALUES (?, ?, ?, ?)",
                (made.id, made.name, sha3(key.encode()), made.created_s),
            )
        self._keys[sha3(key.encode())] = made
        return key, made

    def listing(self) -> list[ApiKey]:
        """Return the keys that work, oldest first."""
        return list(self._keys.values())

    def revoke(self, id_: str, *, now_s: int) -> None:
        """Let a key work no longer, from this moment.

        Raises:
            UnknownKey: there is none with this id.
        """
        hashed = next((h for h, key in self._keys.items() if key.id == id_), None)
        if hashed is None:
            raise UnknownKey(f"there is no API key {id_[:40]!r}; `hansa keys list` shows them")
        with transaction(self._database, self._path):
            self._database.execute(
                "UPDATE api_keys_v1 SET revoked_s = ? WHERE id = ?", (now_s, id_)
            )
        del self._keys[hashed]

    def check(self, key: str, *, now_s: int) -> ApiKey | None:
        """Return what is known of a presented key, or None if it does not work."""
        if not key.startswith(KEY_PREFIX) or len(key) > TOKEN_BYTES_MAX:
            return None
        hashed = sha3(key.encode())
        found = self._keys.get(hashed)
        if found is not None and now_s - (found.used_s or 0) >= USED_GRAIN_S:
            found = ApiKey(found.id, found.name, found.created_s, now_s)
            self._keys[hashed] = found
            # When it was last used is not worth refusing a call for, for example on a full disk.
            with suppress(StorageFault), transaction(self._database, self._path):
                self._database.execute(
                    "UPDATE api_keys_v1 SET used_s = ? WHERE id = ?", (now_s, found.id)
                )
        return found


def operator_token(path: Path) -> str:
    """Return the operator's bearer token, made at the first start in a file of mode 0600.

    Raises:
        BadToken, KeystoreFault: the file cannot be written or does not hold a token.
    """
    with suppress(SecretExists):
        write_private(path, (secrets.token_urlsafe(32) + "\n").encode())
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeystoreFault(f"operator's token {path} cannot be read: {error}") from error
    if not 32 <= len(text) <= TOKEN_BYTES_MAX:
        raise BadToken(f"{path} holds no token; delete it and start again to make a new one")
    return text


def same_token(given: str, token: str) -> bool:
    """Whether two tokens are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(given.encode(), token.encode())
