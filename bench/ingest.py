"""Verified ingest: signed operations through the replica to a synced SQLite file, on one core.

Counted: decoding, ids, signatures, every check, the registry's validation of the body, heads and
the write. Making the operations is not; the search views, which follow lazily, are measured beside.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from crdt import (
    Account,
    AccountId,
    Item,
    MalformedBytes,
    NetworkId,
    OperationType,
    PeerId,
    RecordKind,
    Replica,
    SigningKey,
    Slot,
    make_genesis,
    make_operation,
    network_id,
    sha3,
    unpack_item,
)
from node.collector import settle_collector
from node.storage import SqliteStorage, open_storage
from registry import RegistryRules, encode_record, validate

BATCH = 250
"""Items of about 1 KB in one 256 KiB catch-up answer."""
TIMESTAMP_S = 1_800_000_000
RECOVERY = SigningKey(b"\x09" * 32).public


class NoReceipts:
    """No receipt is valid: none is in this benchmark."""

    def judge(self, item: Item, account_of: Callable[[AccountId], Account | None]) -> Slot:
        """Refuse."""
        raise MalformedBytes(f"no receipts here, and no {account_of}: {item.id.hex()}")


def run(operations: int = 10_000, accounts: int = 100, repeats: int = 5) -> dict[str, Any]:
    """Return operations per second of CPU and of wall time, to disk and then searchable.

    Medians of `repeats` stores that are filled one after the other, with the least and the most.
    """
    settle_collector()
    network = network_id("bench")
    raws = [item.raw for item in make_items(network, operations, accounts)]
    passes = [fill(network, raws) for _ in range(repeats)]
    cpu_s, wall_s, views_s = zip(*passes, strict=True)
    return {
        "ops_per_s": round(len(raws) / median(cpu_s)),
        "ops_per_s_wall": round(len(raws) / median(wall_s)),
        "ops_per_s_least": round(len(raws) / max(cpu_s)),
        "ops_per_s_most": round(len(raws) / min(cpu_s)),
        "views_per_s": round(operations / median(views_s)),
        "bytes_per_item": sum(map(len, raws)) // len(raws),
    }


def fill(network: NetworkId, raws: list[bytes]) -> tuple[float, float, float]:
    """Fill a new store; return seconds of CPU and of wall time, and of CPU for the views."""
    with tempfile.TemporaryDirectory() as folder:
        storage = open_storage(Path(folder) / "registry.sqlite3", network)
        cpu_s, wall_s = ingest(storage, raws)
        views_s = time.process_time()
        while storage.project(1000):
            pass
        views_s = time.process_time() - views_s
        storage.close()
    return cpu_s, wall_s, views_s


def ingest(storage: SqliteStorage, raws: list[bytes]) -> tuple[float, float]:
    """Take items in as catch-up answers bring them; return seconds of CPU and of wall time."""
    replica = Replica(storage.network, storage, RegistryRules(), NoReceipts())
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    for start in range(0, len(raws), BATCH):
        some = raws[start : start + BATCH]
        items = [unpack_item(raw) for raw in some]
        accepted = replica.accept(items, source=PeerId("peer"), now_ms=0)
        assert len(accepted.admitted) == len(some), accepted.outcomes
    return time.process_time() - cpu_s, time.perf_counter() - wall_s


def make_items(network: NetworkId, operations: int, accounts: int) -> list[Item]:
    """Return accounts and then signed puts of models of about 1 KB, round the accounts."""
    keys = [SigningKey(sha3(f"creator {number}".encode())) for number in range(accounts)]
    genesis = [make_genesis(network, key, RECOVERY) for key in keys]
    items = list(genesis)
    for number in range(operations):
        key, account = keys[number % accounts], AccountId(genesis[number % accounts].id)
        items.append(
            make_operation(
                network=network,
                kind=RecordKind.MODEL,
                slug=f"model-{number}",
                type=OperationType.PUT,
                account=account,
                key=key,
                account_heads=(account,),
                predecessors=(),
                depth=1,
                body=model_body(number),
                timestamp_s=TIMESTAMP_S,
            )
        )
    return items


def model_body(number: int) -> bytes:
    """Return a model of about 1 KB whose words differ from the next one's."""
    return encode_record(validate(RecordKind.MODEL, model_fields(number)))


def model_fields(number: int) -> dict[str, Any]:
    """Return the fields of that model."""
    digest = sha3(b"%d" % number).hex()
    words = " ".join(digest[start : start + 6] for start in range(0, 60, 6))
    return {
        "name": f"Model {number}",
        "description": f"{words} " * 10,
        "tags": [f"tag-{number % 50}", "chat", "small"],
        "capabilities": ["chat", "tools"],
        "parameters": 1_000_000 + number,
        "context_length": 8192,
        "quantization": "BF16",
        "created_at": TIMESTAMP_S,
        "updated_at": TIMESTAMP_S + number,
    }
