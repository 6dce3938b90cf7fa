"""js-libp2p peers for tests: one process each, told what to do line by line (js_peer/peer.mjs)."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import npm

SOURCE = Path(__file__).parent / "js_peer"
PATIENCE_S = 30.0


def install() -> Path:
    """Install js-libp2p and the Node that runs it, once per lock; return the folder."""
    return npm.install(SOURCE)


class JsPeer:
    """One peer in JavaScript.

    Attributes:
        peer: Its peer id.
        address: Where it listens, with its peer id.
        events: Everything that it said had happened.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.peer = ""
        self.address = ""
        self.events: list[dict[str, Any]] = []
        self._process = process
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._changed = asyncio.Condition()

    async def do(self, action: str, **arguments: Any) -> dict[str, Any]:
        """Have it do something; return what it says of that, or fail with its error."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        command = {"number": number, "action": action, **arguments}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        async with asyncio.timeout(PATIENCE_S):
            found = await answer
        assert "error" not in found, f"{action}: {found['error']}"
        done: dict[str, Any] = found["done"]
        return done

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return what it said of one kind of event."""
        return [one for one in self.events if one["event"] == event]

    async def until(self, holds: Callable[[], Any]) -> Any:
        """Wait until something is so; looked at after each event. Return what was found."""
        async with self._changed:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    return await self._changed.wait_for(holds)
            except TimeoutError:
                pytest.fail(f"not in {PATIENCE_S:g} s; the peer said {self.events[-20:]}")

    async def read(self) -> None:
        """Take in what it says until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            if "number" in said:
                self._answers.pop(said["number"]).set_result(said)
                continue
            async with self._changed:
                self.events.append(said)
                self._changed.notify_all()
        for answer in self._answers.values():
            answer.set_result({"error": "the peer's process has ended"})


@asynccontextmanager
async def js_peer(folder: Path, network: str) -> AsyncIterator[JsPeer]:
    """Run a peer of a network in the block; it listens on loopback and knows nobody."""
    process = await asyncio.create_subprocess_exec(
        npm.node(folder), npm.program(folder, SOURCE, "peer.mjs", beside=["wire.mjs"]), network,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24,
    )  # fmt: skip
    peer = JsPeer(process)
    reading = asyncio.create_task(peer.read())
    try:
        (ready,) = await peer.until(lambda: peer.of("ready"))
        peer.peer, peer.address = ready["peer"], ready["addresses"][0]
        yield peer
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading
