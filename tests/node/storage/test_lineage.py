"""A store that is copied, or put back from a backup, has a new epoch; one that goes on does not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from crdt import ItemId, PeerId
from node.driver import Driver
from node.storage import StorageFault, open_storage
from tests.node.links import Running, connect, eventually, running
from tests.writers import NETWORK, Writer

ANN = Writer("ann")
NAME = "a.sqlite3"


async def write(node: Running, *slugs: str) -> None:
    await node.catalogue.publish([ANN.put(slug=slug).raw for slug in slugs])


async def filled(folder: Path, *slugs: str) -> bytes:
    """Make a store with some records, and return its epoch."""
    async with running("a", folder, {}) as node:
        await node.catalogue.publish([ANN.genesis.raw])
        await write(node, *slugs)
        return node.storage.epoch


def epoch_of(folder: Path) -> bytes:
    storage = open_storage(folder / NAME, NETWORK)
    storage.close()
    return storage.epoch


async def test_a_store_that_goes_on_keeps_its_epoch(tmp_path: Path) -> None:
    epoch = await filled(tmp_path, "one")
    assert epoch_of(tmp_path) == epoch
    note = tmp_path / f"{NAME}.lineage"
    with note.open("r+") as file:  # as after a power cut: what was not synced is older
        line = file.read()
        assert line.endswith(f" {2:020}\n")
        file.seek(len(line) - 2)
        file.write("1")
    assert epoch_of(tmp_path) == epoch
    killed = open_storage(tmp_path / NAME, NETWORK)  # and never closed
    assert epoch_of(tmp_path) == epoch
    killed.close()


async def put_back(folder: Path) -> None:
    shutil.copyfile(folder / NAME, folder / "backup")
    async with running("a", folder, {}) as node:
        await write(node, "two")
    shutil.copyfile(folder / "backup", folder / NAME)  # into the same inode


async def moved_to_another_machine(folder: Path) -> None:
    shutil.copytree(folder, folder / "copy")
    for one in (NAME, f"{NAME}.lineage"):
        (folder / "copy" / one).replace(folder / one)


async def without_its_note(folder: Path) -> None:
    (folder / f"{NAME}.lineage").unlink()


async def with_a_note_of_garbage(folder: Path) -> None:
    (folder / f"{NAME}.lineage").write_bytes(b"\xff" * 200)


@pytest.mark.parametrize(
    "happens", [put_back, moved_to_another_machine, without_its_note, with_a_note_of_garbage]
)
async def test_a_store_to_which_something_happened_has_a_new_epoch_and_keeps_that(
    tmp_path: Path, happens: Callable[[Path], object]
) -> None:
    epoch = await filled(tmp_path, "one")
    await happens(tmp_path)  # type: ignore[misc]
    found = epoch_of(tmp_path)
    assert found != epoch
    assert epoch_of(tmp_path) == found


async def test_nobody_misses_what_was_written_after_a_backup_was_put_back(tmp_path: Path) -> None:
    drivers: dict[PeerId, Driver] = {}
    await filled(tmp_path, "one")
    async with running("b", tmp_path, drivers, gossips=False) as b:
        async with running("a", tmp_path, drivers, gossips=False) as a:
            shutil.copyfile(tmp_path / NAME, tmp_path / "backup")
            await write(a, "two", "three")
            connect(a, b)
            await eventually(b.catalogue, 4)
        b.driver.peer_lost(a.name)
        shutil.copyfile(tmp_path / "backup", tmp_path / NAME)
        async with running("a", tmp_path, drivers, gossips=False) as a:
            await write(a, "four", "five", "six")
            connect(a, b)
            await eventually(b.catalogue, 7)
            await eventually(a.catalogue, 7)
            ids = {ItemId(ANN.put(slug=slug).id) for slug in ("two", "three", "four", "five")}
            assert a.storage.known(ids) == ids


def test_a_note_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.lineage").mkdir()
    with pytest.raises(StorageFault, match=r"a\.sqlite3\.lineage cannot be opened"):
        open_storage(tmp_path / NAME, NETWORK)
