"""Opening databases: whole migrations, and one clear error for each thing that goes wrong."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from node.storage import (
    SCHEMA_FOLDER,
    SqliteReader,
    StorageBusy,
    StorageCorrupt,
    StorageFault,
    StorageFull,
    StoreNewer,
    open_database,
    open_reader,
    open_storage,
    storage_faults,
    transaction,
)
from tests.writers import NETWORK, Writer


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    folder = tmp_path / "schema"
    folder.mkdir()
    (folder / "0001_first.sql").write_text(
        "-- a comment; with a semicolon\nCREATE TABLE one (a TEXT DEFAULT ';');\n"
        "CREATE TRIGGER t AFTER INSERT ON one BEGIN SELECT 1; SELECT 2; END;\n"
    )
    return folder


def version_of(path: Path) -> int:
    with sqlite3.connect(path) as database:
        version: int = database.execute("PRAGMA user_version").fetchone()[0]
    database.close()
    return version


def test_migrations_run_once_and_in_order(tmp_path: Path, schema: Path) -> None:
    path = tmp_path / "a.sqlite3"
    open_database(path, schema).close()
    (schema / "0002_second.sql").write_text("ALTER TABLE one ADD COLUMN b TEXT;\n")
    database = open_database(path, schema)
    database.execute("INSERT INTO one (a, b) VALUES ('x', 'y')")
    database.close()
    open_database(path, schema).close()
    assert version_of(path) == 2


def test_a_failing_migration_happens_not_at_all(tmp_path: Path, schema: Path) -> None:
    path = tmp_path / "a.sqlite3"
    (schema / "0002_bad.sql").write_text("CREATE TABLE two (a);\nINSERT INTO nowhere VALUES (1);\n")
    with pytest.raises(StorageFault, match="nowhere"):
        open_database(path, schema)
    assert version_of(path) == 1
    (schema / "0002_bad.sql").write_text("CREATE TABLE two (a);\n")
    open_database(path, schema).close()
    assert version_of(path) == 2


def test_a_newer_store_is_refused_with_both_versions(tmp_path: Path, schema: Path) -> None:
    path = tmp_path / "a.sqlite3"
    database = open_database(path, schema)
    database.execute("PRAGMA user_version = 9")
    database.close()
    with pytest.raises(StoreNewer, match=r"version 9 .* up to 1; install a newer hansa"):
        open_database(path, schema)
    assert version_of(path) == 9


def test_durability_settings(tmp_path: Path, schema: Path) -> None:
    database = open_database(tmp_path / "a.sqlite3", schema)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)
    database.close()


def test_a_file_that_is_no_database(tmp_path: Path, schema: Path) -> None:
    path = tmp_path / "a.sqlite3"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageCorrupt, match=r"a\.sqlite3 is damaged"):
        open_database(path, schema)


def test_a_folder_that_does_not_exist(tmp_path: Path, schema: Path) -> None:
    with pytest.raises(StorageFault, match="check that the folder exists"):
        open_database(tmp_path / "none" / "a.sqlite3", schema)


def test_a_transaction_is_undone_by_whatever_is_raised_in_it(tmp_path: Path, schema: Path) -> None:
    path = tmp_path / "a.sqlite3"
    database = open_database(path, schema)
    with suppress(RuntimeError), transaction(database, path):
        database.execute("INSERT INTO one (a) VALUES ('x')")
        raise RuntimeError
    assert database.execute("SELECT count(*) FROM one").fetchone() == (0,)
    database.close()


def test_a_full_disk_has_its_own_error() -> None:
    expected = pytest.raises(StorageFull, match=r"no space is left for here; .* node\.data_dir")
    with expected, storage_faults("here"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_real_full_file_is_storage_full(tmp_path: Path, schema: Path) -> None:
    """SQLite itself reports a database that may not grow as SQLITE_FULL."""
    path = tmp_path / "a.sqlite3"
    database = open_database(path, schema)
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFull), transaction(database, path):
        database.execute("INSERT INTO one (a) VALUES (zeroblob(100000))")
    assert database.execute("SELECT count(*) FROM one").fetchone() == (0,)
    database.execute("INSERT INTO one (a) VALUES ('fits')")
    database.close()


def test_a_lock_of_another_process_is_storage_busy(tmp_path: Path, schema: Path) -> None:
    path = tmp_path / "a.sqlite3"
    database = open_database(path, schema)
    other = open_database(path, schema)
    other.execute("PRAGMA busy_timeout = 1")
    database.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageBusy, match="locked by another process"), transaction(other, path):
        pass
    database.execute("ROLLBACK")
    database.close()
    other.close()


def test_a_reader_cannot_write(tmp_path: Path, schema: Path) -> None:
    path = tmp_path / "a.sqlite3"
    open_database(path, schema).close()
    reader = open_reader(path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("INSERT INTO one (a) VALUES ('x')")
    reader.close()


def test_every_shipped_schema_opens(tmp_path: Path) -> None:
    folders = sorted(folder for folder in SCHEMA_FOLDER.iterdir() if folder.is_dir())
    assert folders
    for folder in folders:
        open_database(tmp_path / f"{folder.name}.sqlite3", folder).close()


CRASHING_WRITER = """
import os, sys
from pathlib import Path
from node.storage import open_database, transaction
path, schema = Path(sys.argv[1]), Path(sys.argv[2])
database = open_database(path, schema)
with transaction(database, path):
    database.execute("INSERT INTO one (a) VALUES ('kept')")
database.execute("BEGIN IMMEDIATE")
database.execute("INSERT INTO one (a) VALUES ('torn')")
os.kill(os.getpid(), 9)
"""


def test_a_killed_writer_leaves_what_it_committed_and_no_more(tmp_path: Path, schema: Path) -> None:
    path = tmp_path / "a.sqlite3"
    command = [sys.executable, "-c", CRASHING_WRITER, str(path), str(schema)]
    assert subprocess.run(command, check=False).returncode == -9
    database = open_database(path, schema)
    assert database.execute("SELECT a FROM one").fetchall() == [("kept",)]
    database.close()


OVER_QUOTA_WRITER = """
import resource, signal, sys
from pathlib import Path
from crdt import WorldFault
from node.storage import open_database, transaction
path, schema = Path(sys.argv[1]), Path(sys.argv[2])
database = open_database(path, schema)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    with transaction(database, path):
        database.execute("INSERT INTO one (a) VALUES (zeroblob(1000000))")
except WorldFault as fault:
    print(fault.code)
with transaction(database, path):
    database.execute("INSERT INTO one (a) VALUES ('small')")
print(database.execute("SELECT a FROM one").fetchall())
"""


def test_a_file_size_limit_is_a_world_fault_and_the_store_goes_on(
    tmp_path: Path, schema: Path
) -> None:
    command = [sys.executable, "-c", OVER_QUOTA_WRITER, str(tmp_path / "a"), str(schema)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    code, rows = done.stdout.splitlines()
    assert code in {"storage-full", "storage-fault"}
    assert rows == "[('small',)]"


def test_records_of_before_accounts_had_numbers_are_found_by_their_account(tmp_path: Path) -> None:
    ann = Writer("ann")
    path, older = tmp_path / "registry.sqlite3", tmp_path / "older"
    older.mkdir()
    for file in sorted((SCHEMA_FOLDER / "registry").glob("*.sql"))[:5]:
        shutil.copy(file, older)
    database = open_database(path, older)
    database.execute(
        "INSERT INTO account_v1 (id, root_key, recovery_key) VALUES (?, ?, ?)",
        (ann.account, ann.key.public, ann.key.public),
    )
    for slug in ("one", "two"):
        database.execute(
            "INSERT INTO record_v1 (id, kind, account, slug, heads, deleted) "
            "VALUES (?, 1, ?, ?, ?, 0)",
            (ann.record(slug), ann.account, slug, bytes(32)),
        )
    database.close()
    storage = open_storage(path, NETWORK)
    assert storage.records_of(ann.account) == [ann.record("one"), ann.record("two")]
    storage.close()
    reader = SqliteReader(path, NETWORK)
    assert reader.records_of_slug("two", ann.account, ann.account) == [ann.record("two")]
    reader.close()
