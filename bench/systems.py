"""The systems that `bench/sync_peers.py` compares, each as processes that answer the same commands.

A line of JSON each: `put`, `read`, `watch`; what they do is told in `bench/contestant.py` (Hansa)
and done for the rivals by `bench/rivals/*.mjs`. A process ends when its input does.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench import npm

RIVALS = Path(__file__).parent / "rivals"
ANSWER_S_MAX = 400.0
"""For one command: OrbitDB reads 10 000 records in some 40 s on two cores."""
STOP_S_MAX = 20.0
LINE_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class System:
    """One of the systems.

    Attributes:
        version: Of what is measured, and of what it runs on.
        command: Program and arguments that start a process of it, without its folder and so on.
        told: What a reader must know to understand its figures, by name.
    """

    name: str
    version: dict[str, str]
    command: tuple[str, ...]
    told: dict[str, str]


HANSA_TOLD = {
    "writers": "any, each with its key",
    "checked": "signature, author's rights and schema of every operation",
    "storage": "SQLite, WAL",
    "durability": "synced to disk before a put returns",
    "transport": "libp2p: TCP, Noise, Yamux, gossipsub",
    "batches": "1000 operations in a transaction",
}
ORBITDB_TOLD = {
    "writers": "those whose identity the access controller names",
    "checked": "signature and author's right of every operation",
    "storage": "Level, for Helia's blocks and for heads and index",
    "durability": "written, not synced: its default, and put has no option for it",
    "transport": "libp2p: TCP, Noise, Yamux, gossipsub, bitswap",
    "batches": "none: so many puts under way at once",
}
HYPERBEE_TOLD = {
    "writers": "one for each database",
    "checked": "a signature over the root of the whole log; operations name no author",
    "storage": "Corestore: RocksDB",
    "durability": "written, not synced: its default, and put has no option for it",
    "transport": "TCP, Noise (the usual Hyperswarm, a DHT over UDP, is left out)",
    "batches": "one flush each",
}


def hansa() -> System:
    """Return what needs no npm."""
    versions = {one: importlib.metadata.version(one) for one in ("hansa", "libp2p")}
    return System("hansa", versions, (sys.executable, "-m", "bench.contestant"), HANSA_TOLD)


def systems() -> list[System]:
    """Return all of them, what npm has to install being installed.

    Raises:
        NpmFault: node or npm is missing, or npm failed.
    """
    folder = npm.install(RIVALS)
    node = str(npm.node(folder))

    def rival(file: str) -> tuple[str, ...]:
        return node, str(npm.program(folder, RIVALS, file, beside=["lines.mjs"]))

    def versions(*packages: str) -> dict[str, str]:
        return {one: npm.version(folder, one) for one in packages}

    return [
        hansa(),
        System(
            "orbitdb",
            versions("@orbitdb/core", "helia", "libp2p", "blockstore-level"),
            rival("orbitdb.mjs"),
            ORBITDB_TOLD,
        ),
        System(
            "hyperbee",
            versions("hyperbee", "hypercore", "corestore", "rocksdb-native"),
            rival("hyperbee.mjs"),
            HYPERBEE_TOLD,
        ),
    ]


class Side:
    """A process of a system, ready for commands.

    Attributes:
        port: Where it listens.
        name: What a reader must know of a writer besides its port.
        start_s: From its start until it was ready.
    """

    def __init__(self, system: System, process: asyncio.subprocess.Process) -> None:
        self.port = 0
        self.name = ""
        self.start_s = 0.0
        self._system = system
        self._process = process
        self._seen: dict[str, float] = {}
        self._said = asyncio.Condition()
        self._answer: dict[str, Any] | None = None
        self._ended = False

    async def do(self, action: str, **arguments: Any) -> dict[str, Any]:
        """Have it do something; return what it says of that.

        Raises:
            RuntimeError: it failed, or ended, or took too long; says with what.
        """
        assert self._process.stdin is not None
        command = {"action": action, **arguments}
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        answer = await self._wait(lambda: self._answer, action)
        self._answer = None
        if "error" in answer:
            raise RuntimeError(f"{self._system.name}, {action}: {answer['error']}")
        done: dict[str, Any] = answer.get("done", answer)
        return done

    async def seen(self, slug: str) -> float:
        """Return, once it has seen a record of another's, the moment when it did."""
        at_s: float = await self._wait(lambda: self._seen.pop(slug, None), f"seeing {slug}")
        return at_s

    def cpu_s(self) -> float:
        """Return seconds of CPU time that the process and its children have had."""
        root = psutil.Process(self._process.pid)
        times = [one.cpu_times() for one in [root, *root.children(recursive=True)]]
        return sum(one.user + one.system for one in times)

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()

    async def begin(self, started_s: float) -> None:
        """Wait until it is ready."""
        answer = await self._wait(lambda: self._answer, "starting")
        self._answer = None
        self.port, self.name = answer["ready"]["port"], answer["ready"]["name"]
        self.start_s = time.perf_counter() - started_s

    async def listen(self) -> None:
        """Take in what it says until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            async with self._said:
                if "seen" in said:
                    self._seen[said["seen"]] = said["at_s"]
                else:
                    self._answer = said
                self._said.notify_all()
        async with self._said:
            self._ended = True
            self._said.notify_all()

    async def _wait(self, found: Callable[[], Any], what: str) -> Any:
        got: Any = None

        def is_there() -> bool:
            nonlocal got
            got = found()
            return got is not None or self._ended

        try:
            async with self._said, asyncio.timeout(ANSWER_S_MAX):
                await self._said.wait_for(is_there)
        except TimeoutError:
            raise RuntimeError(
                f"{self._system.name}, {what}: no answer in {ANSWER_S_MAX:g} s"
            ) from None
        if got is None:
            raise RuntimeError(f"{self._system.name}, {what}: its process ended; see above")
        return got


@asynccontextmanager
async def side(
    system: System, folder: Path, records: Path, role: str, name: str = ""
) -> AsyncGenerator[Side, None]:
    """Run a writer, or a reader of the writer of that name, in the block; its files stay."""
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    started_s = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(*system.command, str(folder), str(records), role, name),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
    )
    one = Side(system, process)
    listening = asyncio.create_task(one.listen())
    try:
        await one.begin(started_s)
        yield one
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S_MAX):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        await listening
