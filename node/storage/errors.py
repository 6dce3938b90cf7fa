"""What the disk does to us, with the next step in every message."""

from __future__ import annotations

from pathlib import Path

from crdt import WorldFault


class StorageFault(WorldFault):
    """A database could not do what was asked; the subclasses say why."""

    code = "storage-fault"


class StorageFull(StorageFault):
    """No room is left on the disk (or in the quota) that a database lives on."""

    code = "storage-full"

    def __init__(self, path: Path | str) -> None:
        super().__init__(
            f"no space is left for {path}; free some, or move the folder and set node.data_dir"
        )


CATALOGUE = "registry.sqlite3"
"""The one database that peers can fill again."""


class StorageCorrupt(StorageFault):
    """A database file is damaged, or is not a database of ours."""

    code = "storage-corrupt"

    def __init__(self, path: Path | str, detail: str) -> None:
        cure = (
            "move it away and start again: the node fetches the catalogue from its peers, and the "
            "keys are in another file"
            if Path(path).name == CATALOGUE
            else "restore it from a backup; what it held is in no other place"
        )
        super().__init__(f"{path} is damaged ({detail}); {cure}")


class StorageBusy(StorageFault):
    """Another process holds the database's write lock for longer than we wait."""

    code = "storage-busy"

    def __init__(self, path: Path | str) -> None:
        super().__init__(f"{path} is locked by another process; stop the other node that uses it")


class StoreNewer(StorageFault):
    """A database was written by a newer program than this one."""

    code = "store-newer"

    def __init__(self, path: Path | str, *, found: int, known: int) -> None:
        self.found = found
        self.known = known
        super().__init__(
            f"{path} has schema version {found} and this program knows versions up to {known}; "
            "install a newer hansa, or set node.data_dir to another folder"
        )
