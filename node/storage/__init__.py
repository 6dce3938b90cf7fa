"""What the node keeps: opening databases, and the replicated log's store."""

from node.storage.errors import (
    StorageBusy,
    StorageCorrupt,
    StorageFault,
    StorageFull,
    StoreNewer,
)
from node.storage.migrations import (
    SCHEMA_FOLDER,
    open_database,
    open_reader,
    storage_faults,
    transaction,
)

__all__ = [
    "SCHEMA_FOLDER", "StorageBusy", "StorageCorrupt", "StorageFault", "StorageFull", "StoreNewer",
    "open_database", "open_reader", "storage_faults", "transaction",
]  # fmt: skip
