"""Hansa as one of those that `bench/sync_peers.py` compares: the same commands as the rivals.

`python -m bench.contestant FOLDER RECORDS writer|reader [NAME]` starts a node, prints `ready`, and
answers each line of JSON with one. `RECORDS` has the records to write and to look for, one a line.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop

from bench.__main__ import quiet_logs
from bench.ingest import RECOVERY, TIMESTAMP_S
from bench.peers import NETWORK, BenchNode, running
from crdt import (
    AccountId,
    OperationType,
    RecordChange,
    RecordId,
    RecordKind,
    SigningKey,
    Status,
    make_genesis,
    make_operation,
    record_id,
    sha3,
)
from node.collector import settle_collector
from registry import Query, encode_record, validate

KEY = SigningKey(sha3(b"bench sync-peers"))
GENESIS = make_genesis(NETWORK, KEY, RECOVERY)
ACCOUNT = AccountId(GENESIS.id)
SEARCH_LIMIT = 200
LOOK_S = 0.01
"""Between looks at whether the search views have caught up with the log."""


class Contestant:
    """Carries out commands on a running node.

    Args:
        peer: The writer's peer id; empty at the writer itself.
    """

    def __init__(self, node: BenchNode, records: Sequence[dict[str, Any]], peer: str) -> None:
        self._node = node
        self._records = records
        self._peer = peer

    async def put(self, start: int, count: int, batch: int) -> dict[str, float]:
        """Validate, sign and publish records; each batch is durable before the next one."""
        some = self._records[start : start + count]
        started_s = time.perf_counter()
        for first in range(0, count, batch):
            signed = [sign(one) for one in some[first : first + batch]]
            outcomes = await self._node.catalogue.publish(signed)
            assert all(one.status is Status.NEW for one in outcomes), outcomes
        return {"started_s": started_s, "seconds": time.perf_counter() - started_s}

    async def read(self, port: int, start: int, count: int) -> dict[str, float]:
        """Connect, and read back these records, which are the newest ones.

        Held: on disk, every signature checked. Readable: in the search views too, and read.
        """
        wanted = {record_of(one["slug"]) for one in self._records[start : start + count]}
        missing = {one for one in wanted if self._node.catalogue.register(one) is None}
        complete = asyncio.Event()

        def changed(changes: Sequence[RecordChange]) -> None:
            missing.difference_update(change.record for change in changes)
            if not missing:
                complete.set()

        unsubscribe = self._node.catalogue.subscribe(changed)
        started_s = time.perf_counter()
        await self._node.client.dial(f"/ip4/127.0.0.1/tcp/{port}/p2p/{self._peer}")
        if missing:
            await complete.wait()
        held_s = time.perf_counter()
        unsubscribe()
        # The views announce nothing.
        while self._node.catalogue.search(Query(limit=1)).total < start + count:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        if start == 0:
            wanted -= self._listed()
        else:
            wanted -= {one for one in wanted if self._node.catalogue.record(one) is not None}
        if wanted:
            raise RuntimeError(f"{len(wanted)} records are missing")
        return {"held_s": held_s - started_s, "readable_s": time.perf_counter() - started_s}

    def watch(self) -> None:
        """Say from now on when a record that another node wrote is on disk here."""
        slugs = {record_of(one["slug"]): one["slug"] for one in self._records}

        def changed(changes: Sequence[RecordChange]) -> None:
            at_s = time.perf_counter()
            for change in changes:
                say({"seen": slugs[change.record], "at_s": at_s})

        self._node.catalogue.subscribe(changed)

    def _listed(self) -> set[RecordId]:
        """Return every record that a search over all of them gives, page by page."""
        found: set[RecordId] = set()
        query = Query(limit=SEARCH_LIMIT, sort="name")
        while True:
            page = self._node.catalogue.search(query)
            found.update(hit.record for hit in page.hits)
            if page.cursor is None:
                return found
            query = query.model_copy(update={"cursor": page.cursor})


def sign(record: dict[str, Any]) -> bytes:
    """Return a record's first version as its creator signs it."""
    return make_operation(
        network=NETWORK,
        kind=RecordKind.MODEL,
        slug=record["slug"],
        type=OperationType.PUT,
        account=ACCOUNT,
        key=KEY,
        account_heads=(ACCOUNT,),
        predecessors=(),
        depth=1,
        body=encode_record(validate(RecordKind.MODEL, record["fields"])),
        timestamp_s=TIMESTAMP_S,
    ).raw


def record_of(slug: str) -> RecordId:
    """Return the id of the writer's record of that name."""
    return record_id(NETWORK, RecordKind.MODEL, ACCOUNT, slug)


def say(what: dict[str, Any]) -> None:
    """Write one line to whoever drives this."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def serve(folder: Path, records: list[dict[str, Any]], role: str, name: str) -> None:
    """Run a node and answer commands until the input ends."""
    identity = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    async with running(identity, folder) as node:
        if role == "writer":
            await node.catalogue.publish([GENESIS.raw])
        contestant = Contestant(node, records, name)
        actions: dict[str, Callable[..., Any]] = {
            "put": contestant.put, "read": contestant.read, "watch": contestant.watch,
        }  # fmt: skip
        port, peer = node.client.addresses[0].split("/tcp/")[1].split("/p2p/")
        say({"ready": {"port": int(port), "name": peer}})
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            done = actions[command.pop("action")](**command)
            say({"done": (await done if asyncio.iscoroutine(done) else done) or {}})


def main(folder: str, path: str, role: str, name: str = "") -> None:
    """Serve, set up as a real node is."""
    quiet_logs()
    settle_collector()
    records = [json.loads(line) for line in Path(path).read_text().splitlines()]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Path(folder), records, role, name))


if __name__ == "__main__":
    main(*sys.argv[1:])
