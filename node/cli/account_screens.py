"""How an account looks: as JSON, and as a sheet for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from node.cli.account_work import frozen_warning
from node.cli.format import short_id
from node.cli.screen import sheet, stack, styled, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from crdt import Account, PublicKey
    from node.client import AccountCard, AccountLog

KEY_DIGITS = 16
"""Of a key in a table: enough to name it to `hansa account revoke`; `--json` has it whole."""
ROLES = {
    "root": "root: it may do everything but recover",
    "delegate": "delegate: it writes what it was granted",
    "pending": "none yet: the owner has granted this key nothing",
    "ended": "none any more: this key was ended",
}


def public(card: AccountCard, log: AccountLog | None = None) -> dict[str, Any]:
    """Return what is public of an account, as JSON; of a stranger's too."""
    from crdt import EntryType
    from node.api.account_views import capability_names
    from node.client import role_of

    log = log or card.log
    found: dict[str, Any] = {
        "name": card.name,
        "account": card.account.hex(),
        "network": card.network_name,
        "key": card.key.hex(),
        "role": role_of(card.key, log),
    }
    if not card.name:
        found = {"account": found["account"], "network": found["network"]}
    if log is None:
        return found
    account = log.account
    grants = {one.key: one.id for one in account.entries if one.type is EntryType.ADD_KEY}
    return {
        **found,
        "root_key": account.root_key.hex(),
        "recovery_key": account.recovery_key.hex(),
        "epoch": account.now.epoch,
        "frozen": account.frozen,
        "fork": account.fork.hex() if account.fork else None,
        "delegates": [
            {
                "key": key.hex(),
                "capabilities": capability_names(grant.capabilities),
                "scope": [one.hex() for one in sorted(grant.scope)],
                "entry": grants[key].hex(),
            }
            for key, grant in account.now.delegates.items()
        ],
        "ended": [{"key": key.hex(), "kept": len(keep)} for key, keep in account.now.ended.items()],
        "entries": [
            {
                "id": one.id.hex(),
                "type": one.type.name.lower(),
                "key": one.key.hex(),
                "signer": one.signer.hex(),
                "predecessor": one.predecessor.hex() if one.predecessor else None,
                "live": one.id in account.live,
                "on_trunk": one in account.trunk,
            }
            for one in account.entries
        ],
    }


def account_sheet(card: AccountCard, title: str, log: AccountLog | None = None) -> RenderableType:
    """Return an account for a person: what is wrong first, then keys, delegates, ended keys."""
    from node.client import role_of

    log = log or card.log
    if log is None:
        pairs: dict[str, object] = {
            "account": card.account.hex(),
            "network": card.network_name,
            "this machine's key": card.key.hex(),
            "its role": ROLES["pending"],
        }
        return sheet(pairs, title=title)
    account = log.account
    pairs = {
        "account": card.account.hex(),
        "network": card.network_name,
        "root key": account.root_key.hex(),
        "recovery key": account.recovery_key.hex(),
        "epoch": f"{account.now.epoch}" if account.now.epoch else None,
    }
    if card.name:
        role = role_of(card.key, log)
        if role != "root":
            pairs["this machine's key"] = card.key.hex()
        pairs["its role"] = styled(ROLES[role], "bold red" if role == "ended" else "")
    parts: list[RenderableType] = [sheet(pairs, title=title)]
    if account.frozen:
        parts.insert(0, frozen_warning(account, card.name or "NAME"))
    if account.now.delegates:
        parts += ["", delegates_table(account, card.key)]
    if account.now.ended:
        parts += ["", _ended(account)]
    return stack(*parts)


def delegates_table(account: Account, own: PublicKey) -> RenderableType:
    """Return who may write for an account, what and where."""
    from node.api.account_views import capability_names

    rows = [
        (
            key.hex()[:KEY_DIGITS],
            ", ".join(capability_names(grant.capabilities)),
            ", ".join(short_id(one.hex()) for one in sorted(grant.scope)) or "every record",
            "this machine" if key == own else "",
        )
        for key, grant in account.now.delegates.items()
    ]
    return table(("delegate", "may", "where", ""), rows, fold=("may", "where"))


def _ended(account: Account) -> RenderableType:
    rows = [
        (
            key.hex()[:KEY_DIGITS],
            len(keep) or "nothing",
            "root" if key in account.root_keys else "delegate",
        )
        for key, keep in account.now.ended.items()
    ]
    return table(("ended key", "kept of it", "was"), rows)
