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

from crdt import Capability, EntryType, Item, SigningKey, make_entry
from node.client import AccountFolder, Client, CreatorAccount, publish_items
from node.keystore import KeyFile, read_secret
from tests.e2e.crash_nodes import Member
from tests.writers import NETWORK

PATIENCE_S = 60


class Session:
    """One `edit --live --json`; has what stock editors need to know of a server."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._changed = asyncio.Condition()
        self.events: list[dict[str, Any]] = []
        self.errors = ""

    @property
    def url(self) -> str:
        return self.of("started")[0]["url"]

    @property
    def room(self) -> str:
        return self.of("started")[0]["room"]

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
        async def lines() -> None:
            async for line in self._process.stdout:
                async with self._changed:
                    self.events.append(json.loads(line))
                    self._changed.notify_all()

        async def errors() -> None:
            async for line in self._process.stderr:
                self.errors += line.decode()

        await asyncio.gather(lines(), errors())


@asynccontextmanager
async def _session(*words: str, env: dict[str, str] | None = None) -> AsyncIterator[Session]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *words, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env={**os.environ, **(env or {})},
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


class Owner:
    """A person with an account on this machine, as the command line keeps it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._secret = folder / "unlock"
        self._secret.write_bytes(b"0123456789abcdef")
        self._secret.chmod(0o600)
        self.env = {
            "HANSA_ACCOUNTS_DIR": str(folder / "accounts"),
            "HANSA_KEY_FILE": str(self._secret),
        }

    async def run(self, *words: str) -> Any:
        """Run a command and return its result."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "node", *words, "--json",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self.env},
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return json.loads(out)

    def account(self) -> CreatorAccount:
        unlock = KeyFile(self._secret)
        folder = AccountFolder(self.folder / "accounts")
        return folder.unlock("ann", lambda path: read_secret(path, unlock))

    def edit(self, node: Member, record: str, *more: str):
        """Edit a record live; an asynchronous context manager of a `Session`."""
        words = ["models", "edit", record, "--live", "--json", "--node", node.url, *more]
        return _session("node", *words, env=self.env)


def delegate_edits(node: Member, record: str, key_name: str):
    """Edit a record live with a delegate's key, on a machine that has no account."""
    return _session("tests.e2e.live_delegate", node.url, record, key_name)


class Grants:
    """The owner's account log, grown by delegates and handed to a node."""

    def __init__(self, account: CreatorAccount, node: Member) -> None:
        self._account = account
        self._node = node
        self._tip: Item = account.card.genesis

    async def add(self, key: SigningKey, capability: Capability) -> None:
        await self._append(EntryType.ADD_KEY, key=key.public, capabilities=capability)

    async def revoke(self, key: SigningKey) -> None:
        await self._append(EntryType.REVOKE, key=key.public)

    async def _append(self, type_: EntryType, **fields: Any) -> None:
        self._tip = make_entry(
            network=NETWORK, type=type_, account=self._account.card.account,
            predecessor=self._tip.id, signer=self._account.key, **fields,
        )  # fmt: skip
        await asyncio.to_thread(self._publish, self._tip)

    def _publish(self, item: Item) -> None:
        with Client(self._node.url) as client:
            publish_items(client, [item])


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
