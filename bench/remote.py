"""The other node of a benchmark, in a process of its own, told by lines what to publish.

`python -m bench.remote FOLDER ITEMS ACCOUNTS` starts a node, prints `ready ADDRESS ITEMS`, and then
answers each line: `all` publishes everything that is left, `next` one item, a number so many; the
answer is `published COUNT STARTED`, with the moment it began on the clock that processes share.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.ingest import make_items
from bench.peers import NETWORK, running

BATCH = 250
STOP_S_MAX = 20.0


@dataclass(frozen=True, slots=True)
class RemoteNode:
    """A node in another process.

    Attributes:
        item_count: Items it has to publish.
    """

    process: asyncio.subprocess.Process
    address: str
    item_count: int

    async def publish(self, how: str) -> tuple[int, float]:
        """Tell it to publish (`all`, `next`, a number); return the count so far and its beginning.

        The moment is `time.perf_counter`, which on Linux is one clock for every process.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(f"{how}\n".encode())
        count, started = (await self._line("published"))[:2]
        return int(count), float(started)

    async def _line(self, word: str) -> list[str]:
        return await _line(self.process, word)


@asynccontextmanager
async def remote(folder: Path, items: int, accounts: int) -> AsyncGenerator[RemoteNode, None]:
    """Run a node with so many items to publish in a process of its own until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.remote", str(folder), str(items), str(accounts)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        address, count = await _line(process, "ready")
        yield RemoteNode(process, address, int(count))
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S_MAX):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _line(process: asyncio.subprocess.Process, word: str) -> list[str]:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        first, *rest = line.decode().split()
        if first == word:  # anything else is the node's own log
            return rest
    raise RuntimeError(f"the other node ended before it was {word}")


async def _serve(folder: Path, items: int, accounts: int) -> None:
    raws = [item.raw for item in make_items(NETWORK, items, accounts)]
    done = 0
    async with running("one", folder) as node:
        _say(f"ready {node.client.addresses[0]} {len(raws)}")
        while command := (await asyncio.to_thread(sys.stdin.readline)).strip():
            started_s = time.perf_counter()
            count = {"all": len(raws) - done, "next": 1}.get(command) or int(command)
            until = min(len(raws), done + count)
            while done < until:
                batch = raws[done : min(done + BATCH, until)]
                await node.catalogue.publish(batch)
                done += len(batch)
            _say(f"published {done} {started_s}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
