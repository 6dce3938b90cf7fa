"""A real node and a live session that strangers attack while honest callers ask: how all fare."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.crash_nodes import Member, member
from tests.e2e.live_nodes import Person, Session
from tests.e2e.socket_attacks import MULTISTREAM, tls_context

ROOT = Path(__file__).resolve().parent.parent.parent
FILES_MAX = 1024
"""Of each process: the usual limit, which a thousand connections would reach."""
ASK_EVERY_S = {"api": 0.05, "peer": 0.25, "p2p": 0.25, "live": 0.25}
ANSWER_S_MAX = 5.0
MEMORY_EVERY_S = 0.2

Ask = Callable[[], Coroutine[Any, Any, bytes]]


@dataclass
class Asked:
    """What honest callers of one port met."""

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def ms(self, share: float) -> float:
        """Return the latency that this share of the answers had at most."""
        found = sorted(self.seconds)
        return round(found[min(len(found) - 1, int(len(found) * share))] * 1000, 1)

    @property
    def p50_ms(self) -> float:
        """The median latency."""
        return round(statistics.median(self.seconds) * 1000, 1)


@dataclass
class Siege:
    """One attack: how honest callers fared, and the most that each process held."""

    asked: dict[str, Asked]
    before: dict[str, int]
    peak: dict[str, int]
    did: dict[str, int]

    @property
    def grown(self) -> dict[str, int]:
        """Bytes that each process held more than before."""
        return {name: size - self.before[name] for name, size in self.peak.items()}


class Place:
    """A node, a live session of one of its records, and their ports."""

    def __init__(self, node: Member, session: Session) -> None:
        self.node = node
        self.session = session
        self.room = session.room
        self.ports = {
            "api": node.api_port, "peer": node.peer_port, "p2p": node.p2p_port,
            "live": session.port,
        }  # fmt: skip
        self._processes = {
            "main": psutil.Process(node.node.process.pid), "live": psutil.Process(session.pid),
        }  # fmt: skip
        for one in self._processes["main"].children():
            if "node.network.child" in one.cmdline():
                self._processes["child"] = one
        for one in self._processes.values():
            resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (FILES_MAX, FILES_MAX))

    def memory(self) -> dict[str, int]:
        """Return the resident bytes of each process; they must all be there still."""
        return {name: one.memory_info().rss for name, one in self._processes.items()}

    async def besieged(self, kind: str, attack: str, seconds: float) -> Siege:
        """Attack a port for some time; `attack` may be "quiet", which is none."""
        before = self.memory()
        did: dict[str, int] = {}
        asked = {name: Asked() for name in self.ports}
        siege = Siege(asked, before, dict(before), did)
        async with self._attacked(kind, attack, did):
            end_s = time.monotonic() + seconds
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch(siege, end_s))
                for name, found in asked.items():
                    group.create_task(self._ask(name, found, end_s))
        return siege

    @asynccontextmanager
    async def _attacked(self, kind: str, attack: str, did: dict[str, int]) -> AsyncIterator[None]:
        if attack == "quiet":
            yield
            return
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.e2e.socket_attacks", kind, str(self.ports[kind]), attack,
            *(("--room", self.room) if kind == "live" else ()), cwd=ROOT,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            yield
            async with asyncio.timeout(20):
                said = (await process.communicate(b""))[0]
            assert process.returncode == 0, "the attackers did not live to the end"
            did.update(json.loads(said))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _watch(self, siege: Siege, end_s: float) -> None:
        while time.monotonic() < end_s:
            for name, size in self.memory().items():
                siege.peak[name] = max(siege.peak[name], size)
            await asyncio.sleep(MEMORY_EVERY_S)

    async def _ask(self, name: str, found: Asked, end_s: float) -> None:
        """Ask on a connection of its own each time, as whoever comes new must."""
        while time.monotonic() < end_s:
            started_s = time.perf_counter()
            try:
                async with asyncio.timeout(ANSWER_S_MAX):
                    said = await getattr(self, f"_ask_{name}")()
            except (OSError, EOFError, TimeoutError) as error:
                found.failed.append(f"{type(error).__name__}: {error}")
            else:
                found.seconds.append(time.perf_counter() - started_s)
                expected = {"api": b" 200 ", "peer": b" 401 ", "p2p": MULTISTREAM, "live": b" 426 "}
                assert expected[name] in said, (name, said)
            await asyncio.sleep(ASK_EVERY_S[name])

    async def _ask_api(self) -> bytes:
        return await self._exchange("api", self._get("/v1/node", "api"))

    async def _ask_live(self) -> bytes:
        return await self._exchange("live", self._get(f"/{self.room}", "live"))

    async def _ask_peer(self) -> bytes:
        return await self._exchange("peer", self._get("/peer/v1/x", "peer"), tls=True)

    async def _ask_p2p(self) -> bytes:
        return await self._exchange("p2p", MULTISTREAM, count=len(MULTISTREAM))

    def _get(self, path: str, name: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.ports[name]}\r\n\r\n".encode()

    async def _exchange(self, name: str, raw: bytes, *, count: int = 0, tls: bool = False) -> bytes:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.ports[name], ssl=tls_context() if tls else None
        )
        try:
            writer.write(raw)
            return await (reader.readexactly(count) if count else reader.readuntil(b"\r\n"))
        finally:
            writer.transport.abort()


@asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    """Run a node with one record, and edit that record live, in the block."""
    node = member("besieged", folder / "node", random.Random())
    try:
        await asyncio.to_thread(lambda: node.await_ready(node.spawn()))
        person = Person(folder / "person", node)
        await person.run("account", "create", "ada", "--network", "test")
        await person.run("models", "create", "--set", "name=Tiny", "--set", "description=text")
        async with person.edit("tiny") as session:
            await session.until(lambda: bool(session.of("started")))
            yield Place(node, session)
            assert await session.end() == 0, session.errors
        await asyncio.to_thread(node.stop)
    finally:
        if node.process is not None:
            with contextlib.suppress(ProcessLookupError):
                node.process.kill()
