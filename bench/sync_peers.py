"""Hansa, OrbitDB 4 and Hyperbee side by side: the same records, the same commands, one run.

Each system writes to disk as it does by default and is a process a side; Hansa's network child is
one more. Whatever passes between two sides goes through `bench/proxy.py` in this process, which
counts it and adds its hop for all alike. Systems take turns within every repeat, each time in
another order; figures are medians, with the CPU time of both sides beside the wall time. What each
system promises for its figures (synced or not, who may write, what is checked) is recorded too.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.ingest import model_fields
from bench.proxy import Proxy, proxy
from bench.systems import Side, System, side, systems

LOAD_BATCH = 1000
PAUSE_S = 0.1
"""Between live publishes: ten a second, half of what Hansa lets through for a topic."""
WARM_COUNT = 10
"""First live publishes of a pair, not counted: gossip meshes form with a heartbeat."""
LOWER_IS_BETTER = {
    "put": {"per_s": False, "cpu_ms": True},
    "batched": {"per_s": False, "cpu_ms": True},
    "join": {"seconds": True, "held_s": True, "cpu_s": True, "wire_bytes": True},
    "reconnect": {"seconds": True, "held_s": True, "cpu_s": True, "wire_bytes": True},
    "live": {"p50_ms": True, "p95_ms": True, "cpu_ms": True, "wire_bytes": True},
    "start": {"seconds": True},
}
"""Every row's figures, and whether less is better."""

Sample = dict[str, float]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done; see `run`."""

    records: int
    missed: int
    puts: int
    batched: int
    live: int
    repeats: int

    @property
    def live_first(self) -> int:
        """The number of the first record that is written while another side watches."""
        return self.records + self.missed

    @property
    def total(self) -> int:
        """Records that there must be."""
        live = self.repeats * (self.live + WARM_COUNT)
        return max(self.live_first + live, self.puts + self.batched)


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds of both sides of a pair, bytes between them, and of those from the reader."""

    cpu_s: float
    wire_bytes: int
    reader_bytes: int

    def since(self, before: Spent, *, each: int = 1, cpu: str = "cpu_s") -> Sample:
        """Return what was spent since then, of so many writes for each, CPU in the unit named."""
        scale = {"cpu_s": 1, "cpu_ms": 1000}[cpu]
        return {
            cpu: (self.cpu_s - before.cpu_s) * scale / each,
            "wire_bytes": (self.wire_bytes - before.wire_bytes) / each,
            "reader_bytes": (self.reader_bytes - before.reader_bytes) / each,
        }


@dataclass(frozen=True, slots=True)
class Pair:
    """A writer, and a reader that knows only the proxy before it."""

    writer: Side
    reader: Side
    proxy: Proxy

    def spent(self) -> Spent:
        """Return what was spent so far."""
        cpu_s = self.writer.cpu_s() + self.reader.cpu_s()
        return Spent(cpu_s, self.proxy.byte_count, self.proxy.byte_count_in)


@dataclass(slots=True)
class Comparison:
    """One run: where its files are, and what was measured: row, system, samples."""

    folder: Path
    sizes: Sizes
    systems: list[System]
    samples: dict[str, dict[str, list[Sample]]] = field(
        default_factory=dict[str, dict[str, list[Sample]]]
    )
    latencies_ms: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    @property
    def records(self) -> Path:
        """The file that every side reads its records from."""
        return self.folder / "records.jsonl"

    def add(self, row: str, system: System, sample: Sample) -> None:
        """Keep what one repeat gave."""
        self.samples.setdefault(row, {}).setdefault(system.name, []).append(sample)

    def turns(self) -> Iterator[tuple[int, System]]:
        """Yield every repeat's number with each system, in an order that turns with it."""
        for number in range(self.sizes.repeats):
            first = number % len(self.systems)
            for system in self.systems[first:] + self.systems[:first]:
                yield number, system

    def writing(self, system: System) -> AbstractAsyncContextManager[Side]:
        """Run the writer that holds the records which readers fetch."""
        return side(system, self.folder / f"{system.name}-writer", self.records, "writer")

    @asynccontextmanager
    async def pair(self, system: System, number: int) -> AsyncGenerator[Pair, None]:
        """Run that writer and a repeat's reader, not connected yet, in the block."""
        folder = self.folder / f"{system.name}-reader-{number}"
        async with (
            self.writing(system) as writer,
            proxy(writer.port) as between,
            side(system, folder, self.records, "reader", writer.name) as reader,
        ):
            yield Pair(writer, reader, between)


def run(
    records: int = 10_000,
    missed: int = 1_000,
    puts: int = 1_000,
    batched: int = 3_000,
    live: int = 50,
    repeats: int = 3,
) -> dict[str, Any]:
    """Return every row's figures for every system, and Hansa's ratio to each rival.

    Args:
        records: What a fresh reader fetches.
        missed: What is written while a reader is away.
        puts: Written one by one, each awaited.
        batched: Written 1000 at a time.
        live: Writes of a repeat that are watched from another process.
        repeats: Of everything; medians are of so many, percentiles of all live writes together.
    """
    sizes = Sizes(records, missed, puts, batched, live, repeats)
    load_before = os.getloadavg()
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        comparison = Comparison(Path(scratch), sizes, systems())
        write_records(comparison.records, sizes.total)
        asyncio.run(_compare(comparison))
    rows = summary(comparison)
    return {
        "systems": {one.name: {"version": one.version, **one.told} for one in comparison.systems},
        "rows": rows,
        "times_better": ratios(rows),
        "samples": comparison.samples,
        "run_s": round(time.perf_counter() - started_s),
        "load_before": [round(one, 2) for one in load_before],
        "load_after": [round(one, 2) for one in os.getloadavg()],
    }


def write_records(path: Path, count: int) -> None:
    """Write models of about 1 KB, one a line, by which name they go and their fields."""
    with path.open("w") as file:
        for number in range(count):
            one = {"slug": slug_of(number), "fields": model_fields(number)}
            file.write(json.dumps(one) + "\n")


def slug_of(number: int) -> str:
    """Return the name of a record by its number."""
    return f"model-{number}"


def summary(comparison: Comparison) -> dict[str, dict[str, Sample]]:
    """Return the median of each figure of each row, by system."""
    rows: dict[str, dict[str, Sample]] = {}
    for row, figures in LOWER_IS_BETTER.items():
        for system, samples in comparison.samples[row].items():
            found = {
                figure: statistics.median(one[figure] for one in samples)
                for figure in figures
                if figure in samples[0]
            }
            if row == "live":
                times = sorted(comparison.latencies_ms[system])
                found["p50_ms"] = statistics.median(times)
                found["p95_ms"] = times[int(len(times) * 0.95)]
            rows.setdefault(row, {})[system] = {
                figure: rounded(found[figure]) for figure in figures
            }
    return rows


def ratios(rows: dict[str, dict[str, Sample]]) -> dict[str, dict[str, Sample]]:
    """Return how many times better Hansa is than each rival in each figure; below 1 it is worse."""
    found: dict[str, dict[str, Sample]] = {}
    for row, figures in LOWER_IS_BETTER.items():
        ours = rows[row]["hansa"]
        for rival, theirs in rows[row].items():
            if rival != "hansa":
                found.setdefault(row, {})[rival] = {
                    figure: rounded(_times_better(ours[figure], theirs[figure], less))
                    for figure, less in figures.items()
                    if ours[figure] and theirs[figure]  # CPU time is counted in ticks of 10 ms
                }
    return found


def rounded(value: float) -> float:
    """Return a figure to three significant digits, whole from 100 on."""
    return round(value) if value >= 100 else float(f"{value:.3g}")


async def _compare(comparison: Comparison) -> None:
    console = Console(stderr=True)
    for stage in (_puts, _load, _joins, _miss, _reconnects, _lives):
        started_s = time.perf_counter()
        await stage(comparison)
        console.print(f"  {stage.__name__.strip('_')}: {time.perf_counter() - started_s:.0f} s")


async def _puts(comparison: Comparison) -> None:
    """Write to a new database that nobody is connected to, one by one and then batched."""
    sizes = comparison.sizes
    for number, system in comparison.turns():
        folder = comparison.folder / f"{system.name}-puts-{number}"
        async with side(system, folder, comparison.records, "writer") as writer:
            comparison.add("put", system, await _put(writer, 0, sizes.puts, 1))
            batched = await _put(writer, sizes.puts, sizes.batched, LOAD_BATCH)
            comparison.add("batched", system, batched)


async def _put(writer: Side, start: int, count: int, batch: int) -> Sample:
    before_s = writer.cpu_s()
    seconds = (await writer.do("put", start=start, count=count, batch=batch))["seconds"]
    cpu_s = writer.cpu_s() - before_s
    return {"per_s": count / seconds, "cpu_ms": cpu_s * 1000 / count}


async def _load(comparison: Comparison) -> None:
    """Write what readers will fetch; not measured."""
    await _write(comparison, 0, comparison.sizes.records)


async def _miss(comparison: Comparison) -> None:
    """Write what readers that are away miss; not measured."""
    await _write(comparison, comparison.sizes.records, comparison.sizes.missed)


async def _write(comparison: Comparison, start: int, count: int) -> None:
    for system in comparison.systems:
        async with comparison.writing(system) as writer:
            await writer.do("put", start=start, count=count, batch=LOAD_BATCH)


async def _joins(comparison: Comparison) -> None:
    """Let a new reader fetch everything; both processes have started before the clock does."""
    for number, system in comparison.turns():
        async with comparison.pair(system, number) as pair:
            comparison.add("start", system, {"seconds": pair.reader.start_s})
            sample = await _read(pair, 0, comparison.sizes.records)
            comparison.add("join", system, sample)


async def _reconnects(comparison: Comparison) -> None:
    """Let the readers of the joins come back from their disks and fetch what they missed."""
    sizes = comparison.sizes
    for number, system in comparison.turns():
        async with comparison.pair(system, number) as pair:
            sample = await _read(pair, sizes.records, sizes.missed)
            comparison.add("reconnect", system, sample)


async def _read(pair: Pair, start: int, count: int) -> Sample:
    before = pair.spent()
    times = await pair.reader.do("read", port=pair.proxy.port, start=start, count=count)
    spent = pair.spent().since(before)
    return {"seconds": times["readable_s"], "held_s": times["held_s"], **spent}


async def _lives(comparison: Comparison) -> None:
    """Write one by one while a reader that has everything watches from another process."""
    sizes = comparison.sizes
    each = sizes.live + WARM_COUNT
    for number, system in comparison.turns():
        first = sizes.live_first + number * each
        async with comparison.pair(system, number) as pair:
            await _read(pair, sizes.records, first - sizes.records)
            await pair.reader.do("watch")
            for one in range(first, first + WARM_COUNT):
                await _one(pair, one)
            before = pair.spent()
            times = [await _one(pair, one) for one in range(first + WARM_COUNT, first + each)]
            spent = pair.spent().since(before, each=len(times), cpu="cpu_ms")
        comparison.latencies_ms.setdefault(system.name, []).extend(times)
        comparison.add("live", system, {"p50_ms": statistics.median(times), **spent})


async def _one(pair: Pair, number: int) -> float:
    """Write a record; return the milliseconds from its writer's beginning until it was seen."""
    await asyncio.sleep(PAUSE_S)
    written = await pair.writer.do("put", start=number, count=1, batch=1)
    seen_s = await pair.reader.seen(slug_of(number))
    return (seen_s - float(written["started_s"])) * 1000


def _times_better(ours: float, theirs: float, less: bool) -> float:
    return theirs / ours if less else ours / theirs
