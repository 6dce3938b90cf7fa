"""Local puts: signed, judged by the replica and synced to a SQLite file, one by one and in batches.

Counted: making and signing the operation over a ready body, citing what it replaces, every check
and the commit. A third of the puts make a record; the others write its next versions. A put of its
own is one transaction with one sync of the log, so beside it stands what such a sync takes on the
same folder: `sync_ms` is what the disk asks for, and what no program can be faster than.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.ingest import RECOVERY, TIMESTAMP_S, NoReceipts, model_body
from crdt import (
    LOCAL,
    AccountId,
    Item,
    OperationId,
    OperationType,
    RecordKind,
    Replica,
    SigningKey,
    Status,
    make_genesis,
    make_operation,
    network_id,
    sha3,
)
from node.storage import open_storage
from registry import RegistryRules

NETWORK = network_id("bench")
VERSIONS = 3
"""Puts to one record."""
SYNC_COUNT = 200
SYNC_BYTES = 32 * 1024
"""What a put of its own adds to SQLite's log: some eight pages."""
LOG_BYTES = 4 * 1024 * 1024
"""Where SQLite's log starts over, so that a sync seldom has a longer file to write down too."""


@dataclass
class Rate:
    """Puts of one run, and the seconds of wall and of CPU time that they took."""

    puts: int
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Draft:
    """A put that is not signed yet."""

    slug: str
    depth: int
    body: bytes


def run(
    puts: int = 2000, batched: int = 10_000, batch: int = 1000, repeats: int = 5, folder: str = ""
) -> dict[str, Any]:
    """Return puts per second, medians of `repeats` runs, each on a new file.

    Args:
        folder: Where the files are; a temporary folder if empty. What a disk's sync takes differs
            more than all else here, so measure on the disk that the data will be on.
    """
    with tempfile.TemporaryDirectory(dir=folder or None) as place:
        singles: list[Rate] = []
        batches: list[Rate] = []
        syncs: list[float] = []
        for number in range(repeats):
            syncs += sync_times_s(Path(place) / f"sync-{number}")
            singles.append(write(Path(place) / f"single-{number}", puts, 1))
            batches.append(write(Path(place) / f"batch-{number}", batched, batch))
        return {
            **rates("single", singles),
            **rates("batched", batches),
            "sync_ms": round(statistics.median(syncs) * 1000, 3),
            "sync_min_ms": round(min(syncs) * 1000, 3),
            "sync_p95_ms": round(statistics.quantiles(syncs, n=20)[18] * 1000, 3),
            "file_system": file_system(Path(place)),
        }


def rates(name: str, runs: list[Rate]) -> dict[str, int]:
    """Return the median rates by wall and by CPU time, and the worst one by wall time."""
    wall = [one.puts / one.wall_s for one in runs]
    return {
        f"{name}_per_s": round(statistics.median(wall)),
        f"{name}_per_s_worst": round(min(wall)),
        f"{name}_per_cpu_s": round(statistics.median(one.puts / one.cpu_s for one in runs)),
    }


def write(folder: Path, puts: int, batch: int) -> Rate:
    """Sign and accept `puts` puts on a new store, so many in a call; return what they took."""
    folder.mkdir()
    key = SigningKey(sha3(b"bench put"))
    genesis = make_genesis(NETWORK, key, RECOVERY)
    drafts = list(drafts_of(puts))
    storage = open_storage(folder / "registry.sqlite3", NETWORK)
    replica = Replica(NETWORK, storage, RegistryRules(), NoReceipts())
    replica.accept([genesis], source=LOCAL, now_ms=0)
    heads: dict[str, OperationId] = {}
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    for start in range(0, puts, batch):
        items = [sign(draft, key, genesis, heads) for draft in drafts[start : start + batch]]
        accepted = replica.accept(items, source=LOCAL, now_ms=0)
        assert all(one.status is Status.NEW for one in accepted.outcomes), accepted.outcomes
    rate = Rate(puts, time.perf_counter() - wall_s, time.process_time() - cpu_s)
    storage.close()
    return rate


def sign(draft: Draft, key: SigningKey, genesis: Item, heads: dict[str, OperationId]) -> Item:
    """Return a draft signed, citing the record's head, which it then is."""
    account = AccountId(genesis.id)
    item = make_operation(
        network=NETWORK,
        kind=RecordKind.MODEL,
        slug=draft.slug,
        type=OperationType.PUT,
        account=account,
        key=key,
        account_heads=(account,),
        predecessors=(heads[draft.slug],) if draft.slug in heads else (),
        depth=draft.depth,
        body=draft.body,
        timestamp_s=TIMESTAMP_S,
    )
    heads[draft.slug] = OperationId(item.id)
    return item


def drafts_of(puts: int) -> Iterator[Draft]:
    """Yield puts, all records' first versions before the second ones."""
    records = -(-puts // VERSIONS)
    for number in range(puts):
        slug = f"model-{number % records}"
        yield Draft(slug, 1 + number // records, model_body(number))


def sync_times_s(path: Path) -> list[float]:
    """Return what it takes to write as much as a put does over an old log and sync it, often."""
    times: list[float] = []
    with path.open("wb", buffering=0) as file:
        file.write(os.urandom(LOG_BYTES))
        os.fsync(file.fileno())
        for number in range(SYNC_COUNT):
            os.pwrite(file.fileno(), os.urandom(SYNC_BYTES), number * SYNC_BYTES % LOG_BYTES)
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return times


def file_system(path: Path) -> str:
    """Return the kind of file system that `path` is on, as the kernel names it."""
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return "unknown"
    mounts = [line.split()[1:3] for line in lines]
    fits = [(mount, kind) for mount, kind in mounts if path.resolve().is_relative_to(mount)]
    return max(fits, key=lambda fit: len(fit[0]), default=("", "unknown"))[1]
