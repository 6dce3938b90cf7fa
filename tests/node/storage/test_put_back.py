"""What peers read of a store that was put back from a backup and written to again: all of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from crdt import ItemId, PeerId
from node.driver import Driver
from tests.node.links import Running, connect, eventually, running
from tests.writers import Writer

ANN = Writer("ann")
NAME = "a.sqlite3"


async def write(node: Running, *slugs: str) -> None:
    await node.catalogue.publish([ANN.put(slug=slug).raw for slug in slugs])


async def test_nobody_misses_what_was_written_after_a_backup_was_put_back(tmp_path: Path) -> None:
    drivers: dict[PeerId, Driver] = {}
    async with running("a", tmp_path, {}) as a:
        await a.catalogue.publish([ANN.genesis.raw, ANN.put(slug="one").raw])
    shutil.copyfile(tmp_path / NAME, tmp_path / "backup")
    async with running("b", tmp_path, drivers, gossips=False) as b:
        async with running("a", tmp_path, drivers, gossips=False) as a:
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
