"""Another node of a benchmark, in a process of its own, told by lines what to do.

`python -m bench.remote FOLDER ITEMS ACCOUNTS [--name NAME] [--share K/N] [--dial ADDRESS]`
starts a node that dials the addresses, prints `ready ADDRESS ITEMS`, and then answers each line:

- `all` publishes everything that is left, `next` one item, a number so many, `singly` everything
  that is left in writes of one item each; the answer is `published COUNT STARTED`, with the moment
  it began on the clock that processes share;
- `held COUNT` is answered, once its log holds so many items, with `held MOMENT`: when that was.

With a share, the items are those of every Nth account, from the Kth on: N nodes together have all.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.ingest import make_items
from bench.peers import NETWORK, BenchNode, running

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
        count, started = (await self._ask(how, "published"))[:2]
        return int(count), float(started)

    async def held_s(self, count: int) -> float:
        """Wait until its log holds so many items and return the moment when it first did."""
        return float((await self._ask(f"held {count}", "held"))[0])

    async def _ask(self, line: str, word: str) -> list[str]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        return await line_of(self.process, word)


@asynccontextmanager
async def remote(
    folder: Path,
    items: int,
    accounts: int,
    *bootstrap: str,
    name: str = "one",
    share: tuple[int, int] = (0, 1),
) -> AsyncGenerator[RemoteNode, None]:
    """Run a node with so many items to publish in a process of its own until the block ends."""
    words = ("bench.remote", str(folder), str(items), str(accounts), "--name", name)
    dials = (f"--dial={address}" for address in bootstrap)
    async with told_by_lines(*words, "--share", f"{share[0]}/{share[1]}", *dials) as process:
        address, count = await line_of(process, "ready")
        yield RemoteNode(process, address, int(count))


@asynccontextmanager
async def told_by_lines(*words: str) -> AsyncGenerator[asyncio.subprocess.Process, None]:
    """Run a module in a process of its own that ends when its input does, until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S_MAX):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def line_of(process: asyncio.subprocess.Process, word: str) -> list[str]:
    """Return what else is in the next line that begins with a word.

    Raises:
        RuntimeError: the process ended before.
    """
    assert process.stdout is not None
    while line := await process.stdout.readline():
        first, *rest = line.decode().split() or [""]
        if first == word:  # anything else is the node's own log
            return rest
    raise RuntimeError(f"the other node ended before it was {word}")


class Arrivals:
    """When a node's log first held how many items."""

    def __init__(self, node: BenchNode) -> None:
        self._node = node
        self._moments: list[tuple[int, float]] = [(node.catalogue.counts()["items"], 0.0)]
        self._changed = asyncio.Event()
        node.catalogue.subscribe(lambda _changes: self._note())

    def _note(self) -> None:
        self._moments.append((self._node.catalogue.counts()["items"], time.perf_counter()))
        self._changed.set()

    async def held(self, count: int) -> float:
        """Wait until there are so many, and return when they were there."""
        while self._moments[-1][0] < count:
            self._changed.clear()
            await self._changed.wait()
        return next(moment for held, moment in self._moments if held >= count)


async def _publish(node: BenchNode, raws: Sequence[bytes], batch: int) -> None:
    for start in range(0, len(raws), batch):
        await node.catalogue.publish(raws[start : start + batch])


async def _serve(given: argparse.Namespace) -> None:
    first, step = (int(part) for part in given.share.split("/"))
    made = [item.raw for item in make_items(NETWORK, given.items, given.accounts)]
    # Accounts come first, and operations go round the accounts: both are in step with the shares.
    assert given.accounts % step == 0, "every share has as many accounts"
    raws = made[first::step]
    done = 0
    async with running(given.name, given.folder, *given.dial) as node:
        arrivals = Arrivals(node)
        _say(f"ready {node.client.addresses[0]} {len(raws)}")
        while command := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if command.startswith("held "):
                _say(f"held {await arrivals.held(int(command.split()[1]))}")
                continue
            started_s = time.perf_counter()
            left = len(raws) - done
            count = {"all": left, "singly": left, "next": 1}.get(command) or int(command)
            until = min(len(raws), done + count)
            await _publish(node, raws[done:until], 1 if command == "singly" else BATCH)
            done = until
            _say(f"published {done} {started_s}")


def _say(line: str) -> None:
    with suppress(BrokenPipeError):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.remote")
    parser.add_argument("folder", type=Path)
    parser.add_argument("items", type=int)
    parser.add_argument("accounts", type=int)
    parser.add_argument("--dial", action="append", default=[])
    parser.add_argument("--name", default="one")
    parser.add_argument("--share", default="0/1")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    _main()
