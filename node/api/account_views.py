"""The JSON of accounts, and of items that are handed in."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from crdt import Account, Capability, Entry, Item, Outcome, RecordId
from node.api.views import View
from node.signing import to_header

ITEM_COUNT_MAX = 256
"""Items in one call; about 20 ms of signatures to verify."""
ITEM_CHARACTERS_MAX = 96 * 1024
"""An item of the greatest size in base64url."""
ENTRY_COUNT_MAX = 4096
"""Entries shown of one account: four times the longest path, so that forks have room."""


class AccountRequest(View):
    """A creator's account to introduce to the network."""

    genesis: str = Field(max_length=8192)
    """base64url of the genesis item."""


class DelegateView(View):
    """A key that writes for an account within what it was granted."""

    key: str
    capabilities: list[str]
    """Of `maintainer`, `editor`, `evaluator`."""
    scope: list[str]
    """Ids of the records it is limited to; empty for every record."""
    entry: str
    """The account entry that grants it."""


class EndedKeyView(View):
    """A key that was revoked, or a root key that was rotated away."""

    key: str
    kept: int
    """Operations that stay effective because the entry that ended it names them."""


class EntryView(View):
    """One entry of an account's log."""

    id: str
    type: str
    """`genesis`, `add_key`, `revoke`, `rotate_root`, `set_recovery` or `adopt`."""
    signer: str
    key: str
    """Whom it is about."""
    predecessor: str | None
    live: bool
    """Not on a branch that lost: what cites it may be effective."""
    on_trunk: bool
    raw: str
    """base64url of the item, to be verified by whoever reads it."""


class AccountView(View):
    """What is public of an account: what its log says now, and the log itself."""

    account: str
    root_key: str
    recovery_key: str
    epoch: int
    """Rotations of the root key so far."""
    frozen: bool
    """The log forks and nothing has settled the fork."""
    fork: str | None
    """The entry after which it forks, while it is frozen."""
    heads: list[str]
    delegates: list[DelegateView]
    ended: list[EndedKeyView]
    entries: list[EntryView]
    """Each after the one it stands on, at most 4096."""
    records: list[str]


class AccountRecordsParameters(BaseModel):
    """Query parameters of the list of an account's records."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")
    after: int = Field(default=0, ge=0, le=2**63 - 1)
    """`next` of the last page; 0 for the first."""


class AccountRecordView(View):
    """A record that an account has ever written."""

    id: str
    plural: str
    """`models` or `agents`: which path it is under."""
    slug: str


class AccountRecordsView(View):
    """Some of an account's records, in the order in which they came here."""

    items: list[AccountRecordView]
    next: int
    done: bool
    """There are no more."""


class ItemsRequest(View):
    """Signed items to take in: account entries, operations, receipts."""

    items: list[str] = Field(min_length=1, max_length=ITEM_COUNT_MAX)
    """base64url of each item, causes first."""


class OutcomeView(View):
    """What became of an item."""

    id: str
    status: str
    """`new`, `known`, `pending`, `rejected` or `declined`."""
    code: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """Why it was rejected or declined, as errors have it."""
    detail: str | None = Field(default=None, exclude_if=lambda value: value is None)
    missing: list[str] | None = Field(default=None, exclude_if=lambda value: value is None)
    """Ids of what a pending item cites and this node does not know. It is not kept waiting."""


class OutcomesView(View):
    """What became of each item, in order."""

    outcomes: list[OutcomeView]


def account_view(
    account: Account, items: Iterable[tuple[Entry, Item]], records: Iterable[RecordId]
) -> AccountView:
    """Return what is public of an account.

    Args:
        items: Its entries with the items that carry them.
    """
    trunk = {entry.id for entry in account.trunk}
    return AccountView(
        account=account.id.hex(),
        root_key=account.root_key.hex(),
        recovery_key=account.recovery_key.hex(),
        epoch=account.now.epoch,
        frozen=account.frozen,
        fork=account.fork.hex() if account.fork else None,
        heads=[head.hex() for head in account.heads],
        delegates=_delegates(account),
        ended=[
            EndedKeyView(key=key.hex(), kept=len(keep)) for key, keep in account.now.ended.items()
        ],
        entries=[
            EntryView(
                id=entry.id.hex(),
                type=entry.type.name.lower(),
                signer=entry.signer.hex(),
                key=entry.key.hex(),
                predecessor=entry.predecessor.hex() if entry.predecessor else None,
                live=entry.id in account.live,
                on_trunk=entry.id in trunk,
                raw=to_header(item.raw),
            )
            for entry, item in items
        ],
        records=[one.hex() for one in records],
    )


def outcome_view(outcome: Outcome) -> OutcomeView:
    """Return what became of an item."""
    fault = outcome.fault
    return OutcomeView(
        id=outcome.id.hex(),
        status=outcome.status.value,
        code=fault.code if fault else None,
        detail=str(fault) if fault else None,
        missing=[one.hex() for one in outcome.missing] or None,
    )


def capability_names(capabilities: Capability) -> list[str]:
    """Return the names of what is granted, the widest first."""
    return [one.name.lower() for one in Capability if one in capabilities and one.name]


def _delegates(account: Account) -> list[DelegateView]:
    granted = {entry.key: entry.id for entry in account.trunk}
    return [
        DelegateView(
            key=key.hex(),
            capabilities=capability_names(grant.capabilities),
            scope=[one.hex() for one in sorted(grant.scope)],
            entry=granted[key].hex(),
        )
        for key, grant in account.now.delegates.items()
    ]
