"""The facts register: which of a record's operations shows, and what contradicts it.

On wire version 0 every valid operation is a put or a delete and all are effective, so a record's
heads are the operations that no other one has cited. The winner is the greatest head by
(epoch, is_root, is_delete, depth, id), computed from the heads every time. Not folded one arrival
at a time, because a fold of winners depends on the order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from crdt.ids import OperationId
from crdt.operations import Operation, OperationType


@dataclass(frozen=True, slots=True)
class Register:
    """A record's state by ids.

    Attributes:
        winner: The head that shows.
        conflicts: The other heads, sorted: concurrent writes that nobody has resolved yet.
        deleted: The winner is a delete; a put that cites it revives the record.
    """

    winner: OperationId
    conflicts: tuple[OperationId, ...]
    deleted: bool

    @property
    def heads(self) -> tuple[OperationId, ...]:
        """Every head, sorted: what the next honest write cites."""
        return tuple(sorted((self.winner, *self.conflicts)))


def register_of(heads: Iterable[Operation], *, is_root: Callable[[Operation], bool]) -> Register:
    """Return the state that a record with exactly these heads has.

    Args:
        heads: At least one; see `heads_after`.
        is_root: Whether an operation was signed by its account's root key.
    """
    ranked = sorted(heads, key=lambda head: _rank(head, is_root=is_root(head)))
    assert ranked
    winner = ranked[-1]
    return Register(
        winner=winner.id,
        conflicts=tuple(sorted(head.id for head in ranked[:-1])),
        deleted=winner.type is OperationType.DELETE,
    )


def heads_after(heads: frozenset[OperationId], operation: Operation) -> frozenset[OperationId]:
    """Return a record's heads once `operation` is in the set.

    Every predecessor of it must be in the set already, which is what makes this a function of the
    set alone: an operation that arrives later is in nobody's past, and a head in its past is one
    that it cites (had somebody between them cited it, it would be no head).
    """
    return (heads - frozenset(operation.predecessors)) | {operation.id}


def _rank(head: Operation, *, is_root: bool) -> tuple[int, bool, bool, int, bytes]:
    # The account's epoch counts rotations of its root; version 0 has none.
    epoch = 0
    return epoch, is_root, head.type is OperationType.DELETE, head.depth, head.id
