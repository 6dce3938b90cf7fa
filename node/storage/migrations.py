"""Opening a database: numbered, forward-only migrations, and one table of what can go wrong.

A schema folder holds `0001_name.sql`, `0002_...`. The file's number is SQLite's `user_version`,
which is set in the same transaction as its statements: a migration happens whole or not at all.
"""

from __future__ import annotations

import errno
import re
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from node.storage.errors import (
    StorageBusy,
    StorageCorrupt,
    StorageFault,
    StorageFull,
    StoreNewer,
)

BUSY_TIMEOUT_S = 5.0
"""How long a writer waits for another process (a backup, a shell) to let go of the write lock."""
SCHEMA_FOLDER = Path(__file__).parent / "schema"
_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_FULL = {sqlite3.SQLITE_FULL}
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def open_database(path: Path | str, schema_folder: Path) -> sqlite3.Connection:
    """Return a connection to the database at `path`, created or migrated to the newest schema.

    WAL, `synchronous=FULL`: a commit that returned has been synced, so an acknowledged write
    survives a power cut. Autocommit mode: callers write `BEGIN IMMEDIATE` and `COMMIT` themselves
    (or use `transaction`). The connection may be used by any one thread at a time.

    Raises:
        StoreNewer: the file was made by a newer program.
        StorageFull, StorageCorrupt, StorageBusy, StorageFault: the disk's or the file's fault.
    """
    with storage_faults(path):
        database = sqlite3.connect(
            str(path), isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S
        )
        try:
            _configure(database)
            _migrate(database, path, _numbered(schema_folder))
        except BaseException:
            database.close()
            raise
    return database


def open_reader(path: Path | str) -> sqlite3.Connection:
    """Return a read-only connection to an existing database; it never waits for the writer.

    Raises:
        StorageFault: the file cannot be opened.
    """
    with storage_faults(path):
        database = sqlite3.connect(
            f"{Path(path).absolute().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_TIMEOUT_S,
        )
        database.execute("PRAGMA query_only = ON")
        database.execute("PRAGMA mmap_size = 268435456")
    return database


@contextmanager
def transaction(database: sqlite3.Connection, path: Path | str) -> Generator[None, None, None]:
    """Run the block as one write transaction; anything raised in it undoes it whole."""
    with storage_faults(path):
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
            database.execute("COMMIT")
        except BaseException:
            # After a full disk SQLite has often rolled back by itself already.
            with suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise


class storage_faults:  # noqa: N801 - reads as what it does; a class, since every lookup enters it
    """Turn what SQLite and the file system raise in the block into our errors.

    A violated constraint is a programmer's error and passes through as it is.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path | str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, sqlite3.IntegrityError):
            return
        if isinstance(error, sqlite3.Error):
            raise _fault_of(error, self._path) from error
        if isinstance(error, OSError):
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise StorageFull(self._path) from error
            raise StorageFault(
                f"{self._path}: {error.strerror or error}; check the disk"
            ) from error


def _fault_of(error: sqlite3.Error, path: Path | str) -> StorageFault:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _FULL:
        return StorageFull(path)
    if code in _CORRUPT:
        return StorageCorrupt(path, str(error))
    if code in _BUSY:
        return StorageBusy(path)
    return StorageFault(f"{path}: {error}; check that the folder exists and may be written")


def _configure(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA foreign_keys = ON")
    database.execute("PRAGMA temp_store = MEMORY")
    database.execute("PRAGMA cache_size = -32768")


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    """Return the folder's migrations in order; a gap or a stray file is a packaging error."""
    found = sorted(folder.glob("*.sql"))
    numbered: list[tuple[int, Path]] = []
    for path in found:
        match = _FILE_NAME.fullmatch(path.name)
        assert match, f"{path} is not called NNNN_name.sql"
        numbered.append((int(match[1]), path))
    assert [n for n, _ in numbered] == list(range(1, len(numbered) + 1)), f"gap in {folder}"
    assert numbered, f"{folder} holds no migration"
    return numbered


def _migrate(
    database: sqlite3.Connection, path: Path | str, migrations: list[tuple[int, Path]]
) -> None:
    known = migrations[-1][0]
    for number, file in migrations:
        if _version(database) >= number:
            continue
        with transaction(database, path):
            # Another process may have migrated between our look and our lock.
            if _version(database) >= number:
                continue
            for statement in _statements(file.read_text(encoding="utf-8")):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {number}")
    found = _version(database)
    if found > known:
        raise StoreNewer(path, found=found, known=known)


def _version(database: sqlite3.Connection) -> int:
    row: tuple[int] = database.execute("PRAGMA user_version").fetchone()
    return row[0]


def _statements(script: str) -> Iterator[str]:
    """Split a script at its statements' ends (`executescript` would commit before it runs)."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    assert not pending.strip(), f"unfinished statement: {pending.strip()[:80]}"
