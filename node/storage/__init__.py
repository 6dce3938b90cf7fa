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
from node.storage.reader import SqliteReader
from node.storage.sqlite import SqliteStorage, open_storage
from node.storage.states import Counts, RecordLog, RecordState, VersionEntry, facts_in

__all__ = [
    "SCHEMA_FOLDER", "Counts", "RecordLog", "RecordState", "SqliteReader", "SqliteStorage",
    "StorageBusy", "StorageCorrupt", "StorageFault", "StorageFull", "StoreNewer", "VersionEntry",
    "facts_in", "open_database", "open_reader", "open_storage", "storage_faults", "transaction",
]  # fmt: skip
