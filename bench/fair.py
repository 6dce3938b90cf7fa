"""Fairness: what a quiet account's propagation is beside another account's flood.

Two nodes, two processes (and their network children), as in `live`. At the first node one account
publishes as fast as the node takes it. Measured, before and during that: how long an item of a
quiet account takes from the first node, which it shares with the flood, to the second; and how long
one takes from the second node to the first. Each until it is on the other one's disk.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from bench.ingest import make_items
from bench.peers import NETWORK, BenchNode, running
from bench.remote import line_of, told_by_lines
from crdt import Item, parse_operation

PAUSE_S = 0.2
"""Between the quiet accounts' publishes: five a second each, which is much for one account."""
WARM_COUNT = 10
"""First publishes, not counted: the gossip mesh forms with a heartbeat."""
SETTLE_COUNT = 10
"""First publishes beside the flood, not counted: queues fill."""
FLOOD_TASKS = 16
"""Publishes that the flood has under way at once."""
ARRIVAL_S_MAX = 120.0


def run(operations: int = 60, flood: int = 40_000) -> dict[str, Any]:
    """Return p50 and p95 in milliseconds, quiet and beside a flood, and the ratio of the p95.

    `flood` items are made beforehand; if they run out, what was measured by then counts.
    """
    return asyncio.run(_fair(operations, flood))


async def _fair(operations: int, flood: int) -> dict[str, Any]:
    count = 2 * operations + WARM_COUNT + SETTLE_COUNT
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        async with (
            _flooded(folder, count, flood) as one,
            running("two", folder, one.address) as two,
        ):
            measure = _Measure(one, two, count)
            await measure.times(WARM_COUNT)
            quiet = await measure.times(operations)
            await one.tell("flood")
            await measure.times(SETTLE_COUNT)
            before = two.catalogue.counts()["items"]
            started_s = time.perf_counter()
            loaded = await measure.times(operations)
            taken_s = time.perf_counter() - started_s
            arrived = two.catalogue.counts()["items"] - before
            rate = float((await one.ask("stop", "stopped"))[0])
    return {
        "operations": operations,
        "flood_ops_per_s": round(rate),
        "flood_arrivals_per_s": round(arrived / taken_s),
        "same_node": _figures(quiet[0], loaded[0]),
        "other_node": _figures(quiet[1], loaded[1]),
        "ratio": max(_ratio(quiet[0], loaded[0]), _ratio(quiet[1], loaded[1])),
    }


def _figures(quiet: list[float], loaded: list[float]) -> dict[str, float]:
    return {
        "quiet_p50_ms": round(statistics.median(quiet), 1),
        "quiet_p95_ms": round(_p95(quiet), 1),
        "flood_p50_ms": round(statistics.median(loaded), 1),
        "flood_p95_ms": round(_p95(loaded), 1),
        "ratio": _ratio(quiet, loaded),
    }


def _ratio(quiet: list[float], loaded: list[float]) -> float:
    return round(_p95(loaded) / _p95(quiet), 2)


def _p95(times_ms: list[float]) -> float:
    return sorted(times_ms)[int(len(times_ms) * 0.95)]


class _Arrivals:
    """When each item of an account reached a node's disk."""

    def __init__(self, node: BenchNode, items: list[Item]) -> None:
        operations = [parse_operation(item, NETWORK) for item in items[1:]]
        loop = asyncio.get_running_loop()
        self._at = {one.record: loop.create_future() for one in operations}
        self._order = [one.record for one in operations]
        node.catalogue.subscribe(self._changed)

    async def of(self, number: int) -> float:
        """Return when an item arrived, by `time.perf_counter`."""
        async with asyncio.timeout(ARRIVAL_S_MAX):
            at: float = await self._at[self._order[number]]
            return at

    def _changed(self, changes: Any) -> None:
        now_s = time.perf_counter()
        for change in changes:
            future = self._at.get(change.record)
            if future is not None and not future.done():
                future.set_result(now_s)


class _Flooded:
    """The first node, told by lines what to do; `ask` returns what it answers."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process = process
        self.address = address

    async def tell(self, command: str) -> None:
        """Send a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())
        await self.process.stdin.drain()

    async def ask(self, command: str, word: str) -> list[str]:
        """Send a command and return the answer, which starts with `word`."""
        await self.tell(command)
        return await line_of(self.process, word)


class _Measure:
    """Publishes quiet items at both nodes, one after the other, and says how long they took."""

    def __init__(self, one: _Flooded, two: BenchNode, count: int) -> None:
        self._one, self._two = one, two
        self._theirs = _Arrivals(two, _accounts(count)[0])
        self._ours = _accounts(count)[1]
        self._next = 0

    async def times(self, count: int) -> tuple[list[float], list[float]]:
        """Return milliseconds from the first node to the second, and from the second to it."""
        there: list[float] = []
        back: list[float] = []
        if not self._next:
            await self._two.catalogue.publish([self._ours[0].raw])
        for number in range(self._next, self._next + count):
            await asyncio.sleep(PAUSE_S / 2)
            (started,) = await self._one.ask("quiet", "published")
            there.append((await self._theirs.of(number) - float(started)) * 1000)
            await asyncio.sleep(PAUSE_S / 2)
            started_s = time.perf_counter()
            await self._two.catalogue.publish([self._ours[number + 1].raw])
            (arrived,) = await self._one.ask(f"arrived {number}", "arrived")
            back.append((float(arrived) - started_s) * 1000)
        self._next += count
        return there, back


def _accounts(count: int) -> tuple[list[Item], list[Item]]:
    """Return what two quiet accounts write: a genesis and so many items each."""
    items = make_items(NETWORK, 3 * count, 3)
    genesis, rest = items[:3], items[3:]
    by_account = [[genesis[place]] for place in range(3)]
    for item in rest:
        account = parse_operation(item, NETWORK).account
        by_account[[one.id for one in genesis].index(account)].append(item)  # type: ignore[arg-type]
    return by_account[1][: count + 1], by_account[2][: count + 1]


@asynccontextmanager
async def _flooded(folder: Path, count: int, flood: int) -> AsyncGenerator[_Flooded, None]:
    words = ("bench.fair", str(folder), str(count), str(flood))
    async with told_by_lines(*words) as process:
        (address,) = await line_of(process, "ready")
        yield _Flooded(process, address)


class _Flood:
    """One account that publishes all it has as fast as a node takes it."""

    def __init__(self, node: BenchNode, raws: list[bytes]) -> None:
        self._node, self._raws = node, iter(raws)
        self._tasks: list[asyncio.Task[None]] = []
        self._count = 0
        self._started_s = 0.0
        self._ended_s = 0.0

    def start(self) -> None:
        self._started_s = time.perf_counter()
        self._tasks = [asyncio.create_task(self._publish()) for _ in range(FLOOD_TASKS)]

    async def stop(self) -> float:
        """Return how many items a second were published."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        return self._count / max(0.001, self._ended_s - self._started_s)

    async def _publish(self) -> None:
        for raw in self._raws:
            await self._node.catalogue.publish([raw])
            self._count += 1
            self._ended_s = time.perf_counter()


async def _serve(folder: Path, count: int, flood: int) -> None:
    mine, theirs = _accounts(count)
    everything = make_items(NETWORK, flood, 1)
    async with running("one", folder) as node:
        arrivals = _Arrivals(node, theirs)
        flooding = _Flood(node, [item.raw for item in everything[1:]])
        await node.catalogue.publish([everything[0].raw, mine[0].raw])
        waiting = iter(mine[1:])
        _say(f"ready {node.client.addresses[0]}")
        while command := (await asyncio.to_thread(sys.stdin.readline)).split():
            if command[0] == "flood":
                flooding.start()
            elif command[0] == "quiet":
                started_s = time.perf_counter()
                await node.catalogue.publish([next(waiting).raw])
                _say(f"published {started_s}")
            elif command[0] == "arrived":
                _say(f"arrived {await arrivals.of(int(command[1]))}")
            elif command[0] == "stop":
                _say(f"stopped {await flooding.stop()}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
