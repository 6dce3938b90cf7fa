"""What readers of the replicated log are given."""

from __future__ import annotations

from dataclasses import dataclass

from crdt import (
    AccountId,
    Operation,
    OperationId,
    OperationType,
    RecordId,
    RecordKind,
    Register,
    open_checkpoint,
)


@dataclass(frozen=True, slots=True)
class RecordState:
    """A record as it stands.

    Attributes:
        operation: The winner: who signed what shows, when, citing what.
        body: The canonical bytes of its facts; empty when it is a tombstone.
        n: When the winner arrived here, in the store's own counting.
    """

    id: RecordId
    kind: RecordKind
    account: AccountId
    slug: str
    operation: Operation
    body: bytes
    register: Register
    n: int

    @property
    def heads(self) -> tuple[OperationId, ...]:
        """What the next write cites, sorted."""
        return self.register.heads

    @property
    def conflicts(self) -> tuple[OperationId, ...]:
        """The fact heads that lost, sorted."""
        return self.register.conflicts

    @property
    def deleted(self) -> bool:
        """The winner is a tombstone."""
        return self.register.deleted


def is_version(operation: Operation) -> bool:
    """Whether an operation states a record whole: a put, or a checkpoint of a live record."""
    types = {OperationType.PUT, OperationType.CHECKPOINT}
    return operation.type in types and not operation.is_tombstone


def facts_in(operation: Operation, body: bytes) -> bytes:
    """Return the record that an operation's body holds: a put's, or a checkpoint's facts."""
    if operation.type is OperationType.CHECKPOINT:
        return open_checkpoint(body).facts
    return body


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
class RecordLog:
    """A stretch of one record's operations as they were signed, in order of arrival.

    Attributes:
        items: When each arrived here, and its bytes.
        next_n: The cursor after them.
        done: Nothing of the record comes after it.
    """

    items: tuple[tuple[int, bytes], ...]
    next_n: int
    done: bool


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
