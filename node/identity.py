"""Who this node is: the node key, the operator's account, and the lock on the data folder.

Made at first start and kept sealed in `keys/`. The node key is what peers know the node by. The
operator's account is a normal account, whose root key lives here because the node signs orders
and receipts with it; its recovery key is written once, to be moved away, and never read again.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from crdt import (
    AccountId,
    Item,
    NetworkId,
    PublicKey,
    SigningKey,
    WorldFault,
    make_genesis,
)
from node.config import Settings
from node.keystore import (
    KeyFile,
    KeystoreFault,
    Unlock,
    make_key_file,
    passphrase_from_file,
    read_secret,
    write_secret,
)

SEED_BYTES = 32


class AlreadyRunning(WorldFault):
    """Another process uses the data folder."""

    code = "already-running"


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """The node's two keys.

    Attributes:
        seed: The node key's Ed25519 seed: libp2p identity and TLS certificate are made of it.
        operator_key: Root key of the operator's account.
        genesis: First entry of that account, the same bytes at every start.
    """

    seed: bytes
    operator_key: SigningKey
    genesis: Item

    @property
    def operator(self) -> AccountId:
        """The operator's account."""
        return AccountId(self.genesis.id)


def lock_folder(folder: Path) -> int:
    """Make the data folder and hold its lock until the returned descriptor is closed.

    Raises:
        AlreadyRunning: another process holds it.
        KeystoreFault: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KeystoreFault(
            f"data folder {folder} cannot be used: {error.strerror}; set node.data_dir"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise AlreadyRunning(
            f"another node uses {folder}; stop it, or set node.data_dir to another folder"
        ) from error
    return descriptor


def load_identity(settings: Settings, network: NetworkId) -> Identity:
    """Return the node's identity, made if this is its first start.

    Raises:
        KeystoreFault, WrongPassphrase: the keys cannot be written, read or unlocked.
    """
    folder = settings.node.data_dir / "keys"
    unlock = _unlock(settings)

    def new_seed() -> bytes:
        return secrets.token_bytes(SEED_BYTES)

    def new_operator() -> bytes:
        recovery = secrets.token_bytes(SEED_BYTES)
        path = folder / "operator.recovery.key"
        path.unlink(missing_ok=True)  # of a first start that was cut short
        write_secret(path, recovery, unlock)
        return secrets.token_bytes(SEED_BYTES) + SigningKey(recovery).public

    # Each derivation takes as long as scrypt is worth; side by side they take as long as one.
    with ThreadPoolExecutor(2) as threads:
        node_key = threads.submit(_kept, folder / "node.key", SEED_BYTES, unlock, new_seed)
        operator = threads.submit(
            _kept, folder / "operator.key", 2 * SEED_BYTES, unlock, new_operator
        )
        seed, kept = node_key.result(), operator.result()
    key, recovery = SigningKey(kept[:SEED_BYTES]), PublicKey(kept[SEED_BYTES:])
    return Identity(seed, key, make_genesis(network, key, recovery))


def _kept(path: Path, length: int, unlock: Unlock, make: Callable[[], bytes]) -> bytes:
    if not path.exists():
        made = make()
        write_secret(path, made, unlock)
        return made
    secret = read_secret(path, unlock)
    if len(secret) != length:
        raise KeystoreFault(f"{path} holds {len(secret)} bytes, not {length}; restore a backup")
    return secret


def _unlock(settings: Settings) -> Unlock:
    if settings.node.passphrase_file is not None:
        return passphrase_from_file(settings.node.passphrase_file)
    path = settings.key_file
    if not path.exists():
        if (settings.node.data_dir / "keys" / "node.key").exists():
            raise KeystoreFault(
                f"{path}, which unlocks the node's keys, is missing; restore it, or set "
                "node.key_file or node.passphrase_file"
            )
        return make_key_file(path)
    return KeyFile(path)
