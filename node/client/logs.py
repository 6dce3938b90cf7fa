"""An account's log as a client keeps it: raw entries, every one checked here and not by a node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from crdt import (
    Account,
    AccountId,
    CausalFault,
    Entry,
    Item,
    ItemId,
    NetworkId,
    RemoteFault,
    open_entry,
    open_genesis,
    unpack_item,
)
from node.client.errors import BadAnswer
from node.signing import from_header

ITEM_CHARACTERS_MAX = 96 * 1024
"""An item of the greatest size in base64url."""


@dataclass(frozen=True)
class AccountLog:
    """The entries of one account that are known, each after what it stands on.

    Attributes:
        items: As they were signed, in the same order as `account.entries`.
    """

    items: tuple[Item, ...]
    account: Account

    @property
    def ids(self) -> frozenset[ItemId]:
        """The ids of the entries."""
        return frozenset(item.id for item in self.items)

    def joined(self, items: Iterable[Item], network: NetworkId) -> AccountLog:
        """Return the log with more entries; those that are known already change nothing.

        Raises:
            RemoteFault: one is not a valid entry of this account, or stands on an unknown one.
        """
        account, held = self.account, list(self.items)
        for item in items:
            if item.id in account.states:
                continue
            account = _joined(account, open_entry(item, network))
            held.append(item)
        return AccountLog(tuple(held), account)

    def entry(self, id_: ItemId) -> Entry:
        """Return one of its entries."""
        return next(entry for entry in self.account.entries if entry.id == id_)


def open_log(items: Sequence[Item], account: AccountId, network: NetworkId) -> AccountLog:
    """Return the log that entries make, the genesis first, with everything about them checked.

    Raises:
        RemoteFault: the genesis is of another account, or an entry is not valid.
    """
    if not items:
        raise CausalFault("it has no entries, not even a genesis")
    founded = open_genesis(items[0], network)
    if founded.id != account:
        raise CausalFault(f"its genesis founds account {founded.id.hex()}, not {account.hex()}")
    return AccountLog((items[0],), founded).joined(items[1:], network)


def log_in(answer: Any, account: AccountId, network: NetworkId, *, url: str) -> AccountLog:
    """Return the log in a node's answer about an account; the node is not trusted for it.

    Raises:
        BadAnswer: what the node gave is not that account's log.
    """
    try:
        items = [item_of(one["raw"]) for one in answer["entries"]]
        return open_log(items, account, network)
    except (RemoteFault, KeyError, TypeError) as error:
        raise BadAnswer(
            f"the node at {url} gave a log of account {account.hex()[:16]} that does not hold "
            f"({error}); ask another node"
        ) from error


def item_of(text: str) -> Item:
    """Return the item in base64url text.

    Raises:
        MalformedBytes: there is none.
    """
    return unpack_item(from_header(text, characters_max=ITEM_CHARACTERS_MAX))


def _joined(account: Account, entry: Entry) -> Account:
    if entry.account != account.id or entry.predecessor is None:
        raise CausalFault(f"entry {entry.id.hex()[:16]} is of another account")
    if entry.predecessor not in account.states:
        raise CausalFault(f"entry {entry.id.hex()[:16]} stands on one that is not known")
    account.check(entry)
    return account.joined(entry)
