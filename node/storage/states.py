"""What readers of the replicated log are given."""

from __future__ import annotations

from dataclasses import dataclass

from crdt import AccountId, Operation, OperationId, RecordId, RecordKind


@dataclass(frozen=True, slots=True)
class RecordState:
    """A record as it stands.

    Attributes:
        operation: The winner: who signed what shows, when, citing what.
        body: The winner's canonical bytes; empty when it is a tombstone.
        heads: What the next write cites, sorted, the winner among them.
        conflicts: The heads that lost.
        deleted: The winner is a delete: `operation` is the tombstone.
        n: When the winner arrived here, in the store's own counting.
    """

    id: RecordId
    kind: RecordKind
    account: AccountId
    slug: str
    operation: Operation
    body: bytes
    heads: tuple[OperationId, ...]
    conflicts: tuple[OperationId, ...]
    deleted: bool
    n: int


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """One put ever made to a record; it never changes and never goes.

    Attributes:
        n: When it arrived here.
    """

    operation: Operation
    body: bytes
    n: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is in the store."""

    items: int
    accounts: int
    records: int
    models: int
    agents: int
    receipts: int
    bytes: int
