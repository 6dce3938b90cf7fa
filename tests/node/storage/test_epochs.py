"""A store that was copied or put back goes on under another epoch; others keep their own."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from node.storage import open_storage
from node.storage.epochs import mark_path, settled
from tests.writers import NETWORK


def opened(path: Path) -> bytes:
    """Start, stop, and return the epoch."""
    with closing(open_storage(path, NETWORK)) as storage:
        return storage.epoch


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node" / "registry.sqlite3"


@pytest.fixture
def epoch(path: Path) -> bytes:
    path.parent.mkdir()
    return opened(path)


def test_a_store_keeps_its_epoch_over_stops_and_kills(path: Path, epoch: bytes) -> None:
    assert opened(path) == epoch
    killed = open_storage(path, NETWORK)
    killed._database.close()  # as a kill leaves it: nothing is written at the end
    assert opened(path) == opened(path) == epoch


def test_a_copied_database_or_folder_gets_another(path: Path, epoch: bytes, tmp_path: Path) -> None:
    alone = tmp_path / "alone.sqlite3"
    shutil.copy2(path, alone)
    shutil.copytree(path.parent, tmp_path / "folder")
    copies = opened(alone), opened(tmp_path / "folder" / path.name)
    assert len({epoch, *copies}) == 3
    assert opened(path) == epoch, "the one that was copied from is the one it was"


def test_a_database_put_back_in_place_gets_another(
    path: Path, epoch: bytes, tmp_path: Path
) -> None:
    running = open_storage(path, NETWORK)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(tmp_path / "b")) as to:
        source.backup(to)
    running.close()
    path.write_bytes((tmp_path / "b").read_bytes())  # the same inode
    after = opened(path)
    assert after != epoch
    assert opened(path) == after


def test_a_folder_put_back_gets_another(path: Path, epoch: bytes, tmp_path: Path) -> None:
    shutil.copytree(path.parent, tmp_path / "backup")
    opened(path)
    shutil.rmtree(path.parent)
    shutil.copytree(tmp_path / "backup", path.parent)
    assert opened(path) != epoch


def test_a_mark_that_is_lost_costs_an_epoch_and_nothing_else(path: Path, epoch: bytes) -> None:
    mark_path(path).unlink()
    after = opened(path)
    assert after != epoch
    assert opened(path) == after


def test_a_store_of_a_program_without_marks_keeps_its_epoch(path: Path, epoch: bytes) -> None:
    mark_path(path).unlink()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM meta_v1 WHERE key = 'mark'")
    assert opened(path) == epoch


def test_only_the_noted_mark_is_good() -> None:
    assert settled(b"e", noted=b"m", found=b"m", fresh=b"f") == b"e"
    for noted, found in ((b"m", b""), (b"", b"m"), (b"m", b"n")):
        assert settled(b"e", noted=noted, found=found, fresh=b"f") == b"f"
    assert settled(b"", noted=b"", found=b"", fresh=b"f") == b"f"
