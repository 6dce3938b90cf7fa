"""The accounts a creator has on this machine: a public card and an encrypted key for each.

`NAME.json` is public (account id, network, the signed genesis that founds it); `NAME.key` holds
the root key and `NAME.recovery.key` the recovery key, both encrypted by `node.keystore`. No key
ever leaves this folder: a node is sent signatures.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crdt import (
    AccountId,
    HansaError,
    Item,
    NetworkId,
    PublicKey,
    SigningKey,
    UserFault,
    make_genesis,
    network_id,
    open_genesis,
    unpack_item,
)

SEED_BYTES = 32
CARD_BYTES_MAX = 16 * 1024
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


class AccountFault(UserFault):
    """An account on this machine is missing, there already, or damaged."""

    code = "account-fault"


@dataclass(frozen=True, slots=True)
class AccountCard:
    """What is public of an account, as its `.json` file holds it."""

    name: str
    account: AccountId
    network_name: str
    network: NetworkId
    root_key: PublicKey
    recovery_key: PublicKey
    genesis: Item


@dataclass(frozen=True, slots=True)
class CreatorAccount:
    """An unlocked account: its card and the key that signs for it."""

    card: AccountCard
    key: SigningKey


class AccountFolder:
    """The folder that holds a person's accounts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def key_path(self, name: str) -> Path:
        """Return where the encrypted root key of an account is kept."""
        return self.path / f"{name}.key"

    def recovery_path(self, name: str) -> Path:
        """Return where the encrypted recovery key was written, for its owner to move away."""
        return self.path / f"{name}.recovery.key"

    def names(self) -> list[str]:
        """Return the names of the accounts here, sorted."""
        return sorted(path.stem for path in self.path.glob("*.json") if NAME.fullmatch(path.stem))

    def card(self, name: str) -> AccountCard:
        """Return the public side of an account.

        Raises:
            AccountFault: there is no such account, or its file does not hold what it should.
        """
        path = self.path / f"{name}.json"
        try:
            with path.open("rb") as file:
                raw = file.read(CARD_BYTES_MAX)
        except FileNotFoundError as error:
            raise AccountFault(
                f"there is no account {name!r} in {self.path}; make it with "
                f"`hansa account create {name}`"
            ) from error
        try:
            return _card(name, json.loads(raw))
        except (ValueError, KeyError, TypeError, HansaError) as error:
            raise AccountFault(
                f"{path} does not hold an account ({error}); restore it from a backup"
            ) from error

    def create(
        self,
        name: str,
        network_name: str,
        *,
        random_bytes: Callable[[int], bytes],
        lock: Callable[[Path, bytes], None],
    ) -> AccountCard:
        """Make an account: two new keys and a genesis; nothing is sent anywhere.

        Args:
            lock: Writes a secret, encrypted, to a new file.

        Raises:
            AccountFault: the name cannot be used or is taken.
        """
        if not NAME.fullmatch(name):
            raise AccountFault(f"{name!r} cannot name an account; use 1..32 of a-z 0-9 _ -")
        card_path = self.path / f"{name}.json"
        if card_path.exists():
            raise AccountFault(f"there is an account {name!r} in {self.path}; choose another name")
        for path in (self.key_path(name), self.recovery_path(name)):
            if path.exists():
                raise AccountFault(f"{path} is there without its account; move it away first")
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        root_seed, recovery_seed = random_bytes(SEED_BYTES), random_bytes(SEED_BYTES)
        root, recovery = SigningKey(root_seed), SigningKey(recovery_seed)
        genesis = make_genesis(network_id(network_name), root, recovery.public)
        lock(self.key_path(name), root_seed)
        lock(self.recovery_path(name), recovery_seed)
        # The card last: whoever sees an account can also unlock it.
        with card_path.open("x", encoding="utf-8") as file:
            json.dump(_card_json(network_name, genesis, root.public, recovery.public), file)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        return self.card(name)

    def unlock(self, name: str, unseal: Callable[[Path], bytes]) -> CreatorAccount:
        """Return an account with its key.

        Args:
            unseal: Returns the secret in an encrypted file.

        Raises:
            AccountFault: the key file does not hold this account's key.
        """
        card = self.card(name)
        path = self.key_path(name)
        if not path.exists():
            raise AccountFault(f"the key of account {name!r} is not at {path}; restore it")
        seed = unseal(path)
        if len(seed) != SEED_BYTES or SigningKey(seed).public != card.root_key:
            raise AccountFault(f"{path} holds another account's key; restore the right file")
        return CreatorAccount(card, SigningKey(seed))


def _card_json(
    network_name: str, genesis: Item, root: PublicKey, recovery: PublicKey
) -> dict[str, str]:
    return {
        "account": genesis.id.hex(),
        "network": network_name,
        "root_key": root.hex(),
        "recovery_key": recovery.hex(),
        "genesis": base64.urlsafe_b64encode(genesis.raw).decode(),
    }


def _card(name: str, found: Any) -> AccountCard:
    network_name = str(found["network"])
    network = network_id(network_name)
    genesis = unpack_item(base64.urlsafe_b64decode(found["genesis"]))
    account = open_genesis(genesis, network)
    if account.id.hex() != found["account"]:
        raise AccountFault(f"its genesis founds {account.id.hex()}, not {found['account']}")
    return AccountCard(
        name, account.id, network_name, network, account.root_key, account.recovery_key, genesis
    )
