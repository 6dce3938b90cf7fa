"""A replica on a memory store, with the test judges."""

from __future__ import annotations

from collections.abc import Sequence

from crdt import Accepted, Item, PeerId, Replica
from node.storage.memory import MemoryDisk, MemoryStorage
from tests.writers import NETWORK, AnyBody, LaneReceipts

PEER = PeerId("peer")


def new_replica(disk: MemoryDisk | None = None) -> Replica:
    storage = MemoryStorage(disk or MemoryDisk(b"e" * 16))
    return Replica(NETWORK, storage, AnyBody(), LaneReceipts())


def accept(replica: Replica, *items: Item, source: PeerId = PEER, now_ms: int = 0) -> Accepted:
    return replica.accept(items, source=source, now_ms=now_ms)


def statuses(accepted: Accepted) -> list[str]:
    return [outcome.status.value for outcome in accepted.outcomes]


def registers(replica: Replica) -> dict[bytes, object]:
    """Every record's state by ids: what two replicas with equal sets must agree on."""
    assert isinstance(replica.storage, MemoryStorage)
    return {id_: change.register for id_, change in replica.storage.disk.records.items()}


def standing(replica: Replica) -> dict[bytes, object]:
    assert isinstance(replica.storage, MemoryStorage)
    return {slot: found[0] for slot, found in replica.storage.disk.slots.items()}


def ids(items: Sequence[Item]) -> list[bytes]:
    return [item.id for item in items]
