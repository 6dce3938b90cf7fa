"""The accounts a person has on this machine: a public card and an encrypted key for each.

`NAME.json` is public: account id, network, which key this machine signs with, and the account's
entries as far as they are known here. `NAME.key` holds that key (the root key, or a delegate's)
and `NAME.recovery.key` the recovery key, both encrypted by `node.keystore`. No key ever leaves this
folder: a node is sent signatures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    WorkRule,
    id_from_hex,
    make_genesis,
    parse_network,
    stamp_challenge,
)
from node.client.logs import AccountLog, item_of, open_log
from node.signing import to_header

SEED_BYTES = 32
CARD_BYTES_MAX = 8 << 20
"""1024 entries of the greatest size in base64, and room for a fork."""
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


class AccountFault(UserFault):
    """An account on this machine is missing, there already, or damaged."""

    code = "account-fault"


class NoRole(UserFault):
    """The key on this machine may not act for its account: not yet, or not any more."""

    code = "no-role"


@dataclass(frozen=True, slots=True)
class AccountCard:
    """What is public of an account, as its `.json` file holds it.

    Attributes:
        network_name: The network's text: its name, and its admission rule if it has one.
        key: The public key that this machine signs with.
        log: The account's entries known here; None on a delegate's machine that saw none yet.
    """

    name: str
    account: AccountId
    network_name: str
    network: NetworkId
    key: PublicKey
    log: AccountLog | None

    @property
    def genesis(self) -> Item:
        """The entry that founds the account.

        Raises:
            AccountFault: it is not known here yet.
        """
        return self.known.items[0]

    @property
    def known(self) -> AccountLog:
        """The entries known here.

        Raises:
            AccountFault: there are none yet.
        """
        if self.log is None:
            raise AccountFault(
                f"nothing is known here of account {self.account.hex()[:16]} ({self.name!r}) yet; "
                f"run `hansa account show {self.name}` with a node that has it"
            )
        return self.log

    @property
    def root_key(self) -> PublicKey | None:
        """The account's root key as far as is known here."""
        return self.log.account.root_key if self.log else None

    @property
    def recovery_key(self) -> PublicKey | None:
        """The account's recovery key as far as is known here."""
        return self.log.account.recovery_key if self.log else None

    @property
    def role(self) -> str:
        """What the key of this machine is there: `root`, `delegate`, `ended` or `pending`."""
        return role_of(self.key, self.log)


def role_of(key: PublicKey, log: AccountLog | None) -> str:
    """Return what a key is to an account: `root`, `delegate`, `ended`, or `pending` for neither."""
    if log is None:
        return "pending"
    if key in log.account.now.ended:
        return "ended"
    if key == log.account.root_key:
        return "root"
    return "delegate" if log.account.has_role(key) else "pending"


@dataclass(frozen=True, slots=True)
class CreatorAccount:
    """An unlocked account: its card and the key that signs for it on this machine."""

    card: AccountCard
    key: SigningKey


class AccountFolder:
    """The folder that holds a person's accounts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def card_path(self, name: str) -> Path:
        """Return where the public side of an account is kept."""
        return self.path / f"{name}.json"

    def key_path(self, name: str) -> Path:
        """Return where the encrypted key is kept that this machine signs with."""
        return self.path / f"{name}.key"

    def recovery_path(self, name: str) -> Path:
        """Return where the encrypted recovery key was written, for its owner to move away."""
        return self.path / f"{name}.recovery.key"

    def change_path(self, name: str) -> Path:
        """Return where a change is kept that is signed and not all sent yet."""
        return self.path / f"{name}.change.jsonl"

    def names(self) -> list[str]:
        """Return the names of the accounts here, sorted."""
        return sorted(path.stem for path in self.path.glob("*.json") if NAME.fullmatch(path.stem))

    def card(self, name: str) -> AccountCard:
        """Return the public side of an account.

        Raises:
            AccountFault: there is no such account, or its file does not hold what it should.
        """
        path = self.card_path(name)
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
        find_stamp: Callable[[bytes, WorkRule], bytes],
    ) -> AccountCard:
        """Make an account: two new keys and a genesis; nothing is sent anywhere.

        Args:
            network_name: The network's text, as settings have it.
            lock: Writes a secret, encrypted, to a new file.
            find_stamp: Does the work that the network asks for, if it asks for any; nothing is
                written before it is done.

        Raises:
            AccountFault: the name cannot be used or is taken.
            BadNetwork: there can be no such network.
        """
        network = parse_network(network_name)
        self._check_new(name, (self.key_path(name), self.recovery_path(name)))
        root_seed, recovery_seed = random_bytes(SEED_BYTES), random_bytes(SEED_BYTES)
        root, recovery = SigningKey(root_seed), SigningKey(recovery_seed)
        stamp = b""
        if network.rule is not None:
            challenge = stamp_challenge(network.id, root.public, recovery.public)
            stamp = find_stamp(challenge, network.rule)
        genesis = make_genesis(network.id, root, recovery.public, stamp)
        account = AccountId(genesis.id)
        lock(self.key_path(name), root_seed)
        lock(self.recovery_path(name), recovery_seed)
        # The card last: whoever sees an account can also unlock it.
        log = open_log([genesis], account, network.id)
        card = AccountCard(name, account, network.text, network.id, root.public, log)
        self._write(card, new=True)
        return self.card(name)

    def join(
        self,
        name: str,
        account: AccountId,
        network_name: str,
        *,
        random_bytes: Callable[[int], bytes],
        lock: Callable[[Path, bytes], None],
    ) -> AccountCard:
        """Make a key here to write for somebody's account, once its owner has granted it a role.

        Raises:
            AccountFault: the name cannot be used or is taken.
            BadNetwork: there can be no such network.
        """
        network = parse_network(network_name)
        self._check_new(name, (self.key_path(name),))
        seed = random_bytes(SEED_BYTES)
        key = SigningKey(seed).public
        lock(self.key_path(name), seed)
        self._write(AccountCard(name, account, network.text, network.id, key, None), new=True)
        return self.card(name)

    def save(
        self, card: AccountCard, log: AccountLog, *, key: PublicKey | None = None
    ) -> AccountCard:
        """Write what is now known of an account, and which key this machine signs with."""
        found = replace(card, log=log, key=key or card.key)
        self._write(found, new=False)
        return found

    def unlock(self, name: str, unseal: Callable[[Path], bytes]) -> CreatorAccount:
        """Return an account with the key of this machine.

        Args:
            unseal: Returns the secret in an encrypted file.

        Raises:
            AccountFault: the key file does not hold this account's key.
        """
        card = self.card(name)
        return CreatorAccount(card, unlocked(self.key_path(name), card.key, unseal, name=name))

    def _check_new(self, name: str, paths: Sequence[Path]) -> None:
        if not NAME.fullmatch(name):
            raise AccountFault(f"{name!r} cannot name an account; use 1..32 of a-z 0-9 _ -")
        if self.card_path(name).exists():
            raise AccountFault(f"there is an account {name!r} in {self.path}; choose another name")
        for path in paths:
            if path.exists():
                raise AccountFault(f"{path} is there without its account; move it away first")
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _write(self, card: AccountCard, *, new: bool) -> None:
        from node.keystore import write_private

        raw = json.dumps(_card_json(card), indent=1).encode() + b"\n"
        write_private(self.card_path(card.name), raw, replace=not new)


def unlocked(
    path: Path, wanted: PublicKey, unseal: Callable[[Path], bytes], *, name: str
) -> SigningKey:
    """Return the key in an encrypted file, which is the one that is wanted.

    Raises:
        AccountFault: there is no such file, or it holds another key.
    """
    if not path.exists():
        raise AccountFault(f"the key of account {name!r} is not at {path}; restore it")
    seed = unseal(path)
    if len(seed) != SEED_BYTES or SigningKey(seed).public != wanted:
        raise AccountFault(
            f"{path} holds another account's key, not {wanted.hex()[:16]}; restore the right file"
        )
    return SigningKey(seed)


def _card_json(card: AccountCard) -> dict[str, Any]:
    return {
        "account": card.account.hex(),
        "network": card.network_name,
        "key": card.key.hex(),
        "role": card.role,  # for people: it follows from the entries
        "entries": [to_header(item.raw) for item in card.log.items] if card.log else [],
    }


def _card(name: str, found: Any) -> AccountCard:
    network_name = str(found["network"])
    network = parse_network(network_name).id
    account = AccountId(id_from_hex(found["account"], "account"))
    key = PublicKey(id_from_hex(found["key"], "key"))
    items = [item_of(one) for one in found["entries"]]
    log = open_log(items, account, network) if items else None
    return AccountCard(name, account, network_name, network, key, log)
