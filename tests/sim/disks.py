"""Disks that fail as disks do: full, or torn by a kill in the middle of a commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from crdt import Commit, OperationId, RecordId
from node.storage.memory import MemoryDisk, MemoryStorage


class Torn(Enum):
    """What a disk has of the transaction in whose middle its process died."""

    WHOLE = "whole"
    NOTHING = "nothing"


class Killed(BaseException):
    """The process died here; nobody in it may catch this."""


@dataclass
class Fate:
    """What becomes of the next commit; None for nothing out of the ordinary."""

    next_commit: Torn | None = None


class SimStorage(MemoryStorage):
    """The store in memory, with a process around it that may die while it writes."""

    def __init__(self, disk: MemoryDisk, fate: Fate) -> None:
        super().__init__(disk)
        self._fate = fate

    def commit(self, commit: Commit) -> None:
        if self._begin() is not Torn.NOTHING:
            super().commit(commit)
        self._end()

    def prune(self, record: RecordId, ids: Sequence[OperationId]) -> None:
        if self._begin() is not Torn.NOTHING:
            super().prune(record, ids)
        self._end()

    def _begin(self) -> Torn | None:
        self._torn = self._fate.next_commit
        self._fate.next_commit = None
        return self._torn

    def _end(self) -> None:
        if self._torn is not None:
            raise Killed


def copy_of(disk: MemoryDisk) -> MemoryDisk:
    """Return the disk as it is now, for a restart from an older one."""
    changed = {
        name: dict(getattr(disk, name))
        for name in (
            "items",
            "numbers",
            "operations",
            "records",
            "slots",
            "pruned",
            "usage",
            "cursors",
        )
    }
    entries = {account: list(some) for account, some in disk.entries.items()}
    return replace(disk, entries=entries, **changed)
