"""Live sessions as commands of their own, on real nodes: the owner's, and those of delegates."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.e2e.crash_nodes import Member

PATIENCE_S = 60


class Session:
    """One `edit --live --json`; has what stock editors need to know of a server."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._changed = asyncio.Condition()
        self.events: list[dict[str, Any]] = []
        self.errors = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        return str(self.of("started")[0]["url"])

    @property
    def room(self) -> str:
        return str(self.of("started")[0]["room"])

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def of(self, name: str) -> list[dict[str, Any]]:
        return [one for one in self.events if one["event"] == name]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something is so; looked at after each event."""
        async with self._changed:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._changed.wait_for(holds)
            except TimeoutError:
                raise AssertionError(f"{self.events[-20:]} {self.errors}") from None

    async def until_node(self, *, reachable: bool) -> None:
        """Wait until the last that was said of the node is this."""

        def holds() -> bool:
            said = self.of("node")
            return bool(said) and said[-1]["reachable"] is reachable

        await self.until(holds)

    async def end(self) -> int:
        """Press Ctrl-C and return the exit status."""
        self._process.send_signal(signal.SIGINT)
        return await self.ended()

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            return await self._process.wait()

    async def read(self) -> None:
        out, err = self._process.stdout, self._process.stderr
        assert out is not None
        assert err is not None

        async def lines() -> None:
            async for line in out:
                async with self._changed:
                    self.events.append(json.loads(line))
                    self._changed.notify_all()

        async def errors() -> None:
            async for line in err:
                self.errors += line.decode()

        await asyncio.gather(lines(), errors())


class Person:
    """Somebody at a machine of their own: an account folder, a key file, and a node to talk to."""

    def __init__(self, folder: Path, node: Member) -> None:
        folder.mkdir()
        secret = folder / "unlock"
        secret.write_bytes(b"0123456789abcdef")
        secret.chmod(0o600)
        self.folder = folder
        self.node = node
        self._env = {
            **os.environ, "HANSA_ACCOUNTS_DIR": str(folder / "accounts"),
            "HANSA_KEY_FILE": str(secret), "HANSA_NODE": node.url,
        }  # fmt: skip

    async def run(self, *words: str) -> Any:
        """Run a command and return its result."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "node", *words, "--json",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=self._env,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return json.loads(out)

    @asynccontextmanager
    async def edit(self, record: str) -> AsyncIterator[Session]:
        """Edit a record live in the block."""
        words = ["models", "edit", record, "--live", "--json"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "node", *words, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env=self._env,
        )  # fmt: skip
        session = Session(process)
        reading = asyncio.create_task(session.read())
        try:
            yield session
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await reading


def shown(node: Member, record: str) -> dict[str, Any]:
    """Return a record as a node shows it; empty when it does not."""
    status, found = node.node.ask("GET", f"/v1/models/{record}")
    return found if status == 200 else {}


def entry_count(node: Member, account: str) -> int:
    """Return how many entries of an account a node has."""
    status, found = node.node.ask("GET", f"/v1/accounts/{account}")
    return len(found["entries"]) if status == 200 else 0


async def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until nodes, which are other processes, show that something is so."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + PATIENCE_S
    while not await asyncio.to_thread(holds):
        assert loop.time() < end_s, f"not in {PATIENCE_S} s: {what}"
        await asyncio.sleep(0.05)  # another process: there is no event to wait for
