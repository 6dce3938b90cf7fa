"""What a thousand simulated nodes may share, because it is the same whoever works it out.

Decoding a frame and checking a signature are functions of bytes. In a simulation all nodes run in
one process, so each distinct frame and item is judged once, by the production code, and the others
take the answer from a memory keyed by the whole bytes. Faults are never remembered. What hangs on
a node's own state (check B, order, budgets, cursors) is shared by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import crdt.framing
import crdt.replica
import crdt.sync
from crdt import Commit, LogPage, Operation, RecordId, Scope, check_gossip
from crdt.items import ItemKind
from node.network import addresses, exchange
from node.storage.memory import MemoryDisk
from tests.sim.disks import Fate, SimStorage
from tests.sim.planted import swapped


class LightStorage(SimStorage):
    """The same store, which finds arrivals by counting up instead of sorting all of them."""

    def __init__(self, disk: MemoryDisk, fate: Fate) -> None:
        super().__init__(disk, fate)
        self._by_record: dict[RecordId, list[Operation]] = {}
        for operation in disk.operations.values():
            self._by_record.setdefault(operation.record, []).append(operation)

    def items_after(self, n: int, *, bytes_max: int, scope: Scope | None = None) -> LogPage:
        """Return whole items that arrived after `n`: at least one if there is one."""
        assert scope is None or scope.is_all, "here everybody wants everything"
        items, ids, raws, size, next_n = self.disk.items, [], [], 0, n
        for number in range(n + 1, self.disk.last_n + 1):
            item = items.get(number)
            if item is not None:
                size += len(item.raw)
                if raws and size > bytes_max:
                    break
                ids.append(item.id)
                raws.append(item.raw)
            next_n = number
        return LogPage(tuple(ids), tuple(raws), next_n, next_n >= self.disk.last_n)

    def ids_after(self, n: int, *, count_max: int, scope: Scope | None = None) -> LogPage:
        """Return only the ids of what arrived after `n`."""
        assert scope is None or scope.is_all, "here everybody wants everything"
        items, ids, next_n = self.disk.items, [], n
        for number in range(n + 1, self.disk.last_n + 1):
            if len(ids) == count_max:
                break
            if number in items:
                ids.append(items[number].id)
            next_n = number
        return LogPage(tuple(ids), (), next_n, next_n >= self.disk.last_n)

    def record_operations(self, record: RecordId) -> list[Operation]:
        """Return every operation of a record that is in the store."""
        return [one for one in self._by_record.get(record, ()) if one.id in self.disk.operations]

    def commit(self, commit: Commit) -> None:
        super().commit(commit)
        for admission in commit.admissions:
            if admission.item.kind is ItemKind.OPERATION:
                operation = self.disk.operations[admission.subject.id]  # type: ignore[union-attr,index]
                self._by_record.setdefault(operation.record, []).append(operation)


def remembered(honest: Callable[..., Any], key_of: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a function that works out each thing once; what raises is worked out each time."""
    known: dict[Any, Any] = {}

    def found(one: Any, *rest: Any) -> Any:
        key = key_of(one)
        if key not in known:
            known[key] = honest(one, *rest)
        return known[key]

    return found


@contextmanager
def shared_work() -> Iterator[None]:
    """Let all nodes of this process share what does not depend on the node, for a while."""
    with swapped(
        (crdt.sync, "decode_gossip", remembered(crdt.sync.decode_gossip, bytes)),
        (crdt.framing, "unpack_item", remembered(crdt.framing.unpack_item, bytes)),
        (crdt.replica, "open_operation", _of_items(crdt.replica.open_operation)),
        (crdt.replica, "open_entry", _of_items(crdt.replica.open_entry)),
        (exchange, "parse_address", remembered(exchange.parse_address, str)),
        (addresses, "scope_of", remembered(addresses.scope_of, str)),
    ):
        yield


def shared_verdicts() -> Callable[..., Any]:
    """Return the network child's judge of gossip, which looks at each frame once."""
    return remembered(check_gossip, bytes)


def _of_items(honest: Callable[..., Any]) -> Callable[..., Any]:
    return remembered(honest, lambda item: item.raw)
