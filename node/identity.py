"""Who this node is: the node key, the operator's account, and the lock on the data folder.

Made at first start and kept sealed in `keys/`. The node key is what peers know the node by. The
operator's account is a normal account, whose root key lives here because the node signs orders
and receipts with it; its recovery key is written once, to be moved away, and never read again. On a
network that asks for work, its stamp is found once, while the node runs (`admitting.py`), and kept.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from crdt import (
    STAMP_BYTES,
    AccountId,
    Item,
    Network,
    PublicKey,
    SigningKey,
    WorldFault,
    is_good_stamp,
    make_genesis,
    stamp_challenge,
)
from node.config import Settings
from node.keystore import (
    KeyFile,
    KeystoreFault,
    Unlock,
    make_key_file,
    passphrase_from_file,
    read_secret,
    write_private,
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
        recovery: The account's first recovery key.
        genesis: First entry of that account, the same bytes at every start.
        is_admitted: Whether the network takes that genesis. While its stamp is not found, it is
            one without, which no node of the network takes and nothing may be signed for.
    """

    seed: bytes
    operator_key: SigningKey
    recovery: PublicKey
    genesis: Item
    is_admitted: bool = True

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


def load_identity(settings: Settings, network: Network) -> Identity:
    """Return the node's identity, made if this is its first start.

    Raises:
        KeystoreFault, WrongPassphrase: the keys cannot be written, read or unlocked.
    """
    folder = _folder(settings)
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
    unstamped = Identity(
        seed,
        key,
        recovery,
        make_genesis(network.id, key, recovery),
        is_admitted=network.rule is None,
    )
    if network.rule is None:
        return unstamped
    stamp = _kept_stamp(_stamp_path(settings, network))
    if stamp is None or not is_good_stamp(
        operator_challenge(unstamped, network), stamp, network.rule.bits
    ):
        return unstamped
    return stamped(unstamped, network, stamp)


def operator_challenge(identity: Identity, network: Network) -> bytes:
    """Return what the stamp of the operator's account is worked out over."""
    return stamp_challenge(network.id, identity.operator_key.public, identity.recovery)


def stamped(identity: Identity, network: Network, stamp: bytes) -> Identity:
    """Return the identity whose operator's account has a stamp that was found good."""
    genesis = make_genesis(network.id, identity.operator_key, identity.recovery, stamp)
    return replace(identity, genesis=genesis, is_admitted=True)


def keep_stamp(settings: Settings, network: Network, stamp: bytes) -> None:
    """Write the stamp of the operator's account on a network, for the starts to come.

    Raises:
        KeystoreFault: the disk.
    """
    write_private(_stamp_path(settings, network), stamp, replace=True)


def _folder(settings: Settings) -> Path:
    return settings.node.data_dir / "keys"


def _stamp_path(settings: Settings, network: Network) -> Path:
    """Return where a network's stamp is: one for each, so that coming back costs no work."""
    return _folder(settings) / f"operator.{network.id.hex()[:16]}.stamp"


def _kept_stamp(path: Path) -> bytes | None:
    """Return the stamp in a file; None for one that is not there, or damaged: it is found again."""
    try:
        with path.open("rb") as file:
            raw = file.read(STAMP_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeystoreFault(f"{path} cannot be read: {error.strerror}") from error
    return raw if len(raw) == STAMP_BYTES else None


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
