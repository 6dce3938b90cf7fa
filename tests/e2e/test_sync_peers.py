"""The comparison with OrbitDB and Hyperbee, in small: real processes and transports.

The rivals are 559 MB of packages. `make bench-sync` installs them, and from then on they are
tested; `HANSA_RIVALS=1` installs them here.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from bench import npm
from bench.proxy import proxy
from bench.sync_peers import LOWER_IS_BETTER, run, slug_of, write_records
from bench.systems import RIVALS, System, hansa, side, systems

pytestmark = pytest.mark.e2e

NAMES = ("hansa", "orbitdb", "hyperbee")


@pytest.fixture(scope="module")
def installed() -> dict[str, System]:
    if not (npm.is_installed(RIVALS) or os.environ.get("HANSA_RIVALS")):
        pytest.skip("the rivals are not installed: run `make bench-sync`, or set HANSA_RIVALS=1")
    try:
        return {one.name: one for one in systems()}
    except npm.NpmFault as fault:
        pytest.fail(str(fault))


@pytest.fixture
def system(request: pytest.FixtureRequest, name: str) -> System:
    return hansa() if name == "hansa" else request.getfixturevalue("installed")[name]


def test_a_run_measures_every_figure_of_every_system(installed: dict[str, System]) -> None:
    found = run(records=30, missed=10, puts=5, batched=10, live=2, repeats=1)
    json.dumps(found)
    for row, figures in LOWER_IS_BETTER.items():
        assert set(found["rows"][row]) == set(installed), row
        for name, values in found["rows"][row].items():
            assert set(values) == set(figures)
            # CPU time comes in ticks of 10 ms: such a small run may take none.
            assert all(value > 0 for key, value in values.items() if "cpu" not in key), (row, name)
    for name in NAMES:
        assert found["rows"]["join"][name]["wire_bytes"] > 30 * 500, "records are of about 1 KB"
        assert all(found["systems"][name]["version"].values())


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "records"
    write_records(path, 20)
    return path


@pytest.mark.parametrize("name", NAMES)
async def test_what_a_process_wrote_is_read_by_another_and_both_have_it_after_a_restart(
    system: System, records: Path, tmp_path: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    async with side(system, old, records, "writer") as writer:
        await writer.do("put", start=0, count=10, batch=4)
    async with (
        side(system, old, records, "writer") as writer,
        proxy(writer.port) as between,
        side(system, new, records, "reader", writer.name) as reader,
    ):
        await reader.do("read", port=between.port, start=0, count=10)
        assert between.connection_count == 1
        fetched = between.byte_count
    async with (
        side(system, old, records, "writer") as writer,
        proxy(writer.port) as between,
        side(system, new, records, "reader", writer.name) as reader,
    ):
        await writer.do("put", start=10, count=2, batch=1)
        await reader.do("read", port=between.port, start=10, count=2)
        assert between.byte_count < fetched, "what it had was not sent again"
        await reader.do("watch")
        written = await writer.do("put", start=12, count=1, batch=1)
        assert await reader.seen(slug_of(12)) > written["started_s"]
        assert writer.cpu_s() > 0


async def test_a_reader_that_lacks_a_record_says_so(
    installed: dict[str, System], records: Path, tmp_path: Path
) -> None:
    system = installed["orbitdb"]
    async with (
        side(system, tmp_path / "old", records, "writer") as writer,
        side(system, tmp_path / "new", records, "reader", writer.name) as reader,
    ):
        await writer.do("put", start=0, count=3, batch=1)
        with pytest.raises(RuntimeError, match="1 records are missing, model-3 among them"):
            await reader.do("read", port=writer.port, start=0, count=4)


@pytest.mark.parametrize("name", NAMES)
async def test_a_process_that_ends_is_an_error_and_not_a_wait(
    system: System, records: Path, tmp_path: Path
) -> None:
    async with side(system, tmp_path / "one", records, "writer") as writer:
        waiting = asyncio.create_task(writer.seen("model-0"))
        writer.kill()
        with pytest.raises(RuntimeError, match=f"{system.name}, seeing model-0: its process ended"):
            await waiting
