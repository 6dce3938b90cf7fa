"""How convergence, messages and bytes grow with the number of nodes: the page is `docs/curves.md`.

    python -m tests.sim.curves --json docs/curves.json --png docs/curves.png

For each size a town (`town.py`) is founded, finds itself together by the production membership, and
then gets one operation at a time, bursts, a newcomer and a partition. Times are simulated; bytes
are those of frames that the production code really encoded. In the end the checkers look.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from crdt import Item, PeerId
from tests.sim.checkers import check_agreement, check_cursors, read_item
from tests.sim.independent import Violation
from tests.sim.shared import shared_work
from tests.sim.town import Roads, Town
from tests.writers import Writer

SIZES = (10, 50, 200, 1_000)
FOUNDING_MS = 60_000
QUIET_MS = 60_000
ROUND_MS = 40_000
"""After so long everybody has read everybody once more by cursor."""
BODY_BYTES = 700
"""Makes items of 1.1 KB, as those of the benchmark of ingest."""
WAIT_MS_MAX = 600_000
DROPPED = 0.3
"""The share of gossip messages that is dropped in the burst that is to show repair."""


@dataclass(frozen=True)
class Plan:
    """How much is done in each town.

    Attributes:
        live_count: Operations published one at a time, 2 s apart, each at a node of its own.
        burst_count: Operations published at once, at `burst_nodes` nodes.
        parted_count: Operations written on each side while the town is parted.
    """

    live_count: int = 20
    burst_count: int = 300
    burst_nodes: int = 10
    parted_count: int = 50
    parted_ms: int = 60_000


@dataclass(frozen=True)
class Traffic:
    """What was sent by all nodes together, per operation and node, beyond what goes on anyway."""

    gossip_messages: float
    gossip_bytes: float
    sync_messages: float
    sync_bytes: float


@dataclass(frozen=True)
class Row:
    """One town's figures; times in simulated seconds.

    Attributes:
        peers, mesh: In the mean, connections of a node and those that it gossips over.
        half_s, all_s: After one operation: until half of the nodes, and all, hold it (medians).
        worst_s: The slowest operation until all held it.
        burst_s: Until all sets are equal after a burst.
        dropped_s: The same while `DROPPED` of all gossip messages are lost.
        join_s: Until a newcomer with an empty store holds everything, from its start.
        join_bytes: What it was answered.
        healed_s: From the end of a partition until all sets are equal.
        idle_bytes_per_peer_s: What a node sends a peer when nothing happens.
    """

    nodes: int
    seed: int
    peers: float
    mesh: float
    item_bytes: int
    half_s: float
    all_s: float
    worst_s: float
    live: Traffic
    burst_s: float
    burst: Traffic
    dropped_s: float
    dropped: Traffic
    join_s: float
    join_bytes: int
    healed_s: float
    idle_bytes_per_peer_s: float
    operations: int
    simulated_s: float
    cpu_s: float
    history: str


class Survey:
    """One town while it is measured."""

    def __init__(self, node_count: int, seed: int, plan: Plan) -> None:
        self.plan = plan
        self.size = self.node_count = node_count
        self.town = Town(seed, node_count, bootstrap_count=max(3, node_count // 10))
        self.names = sorted(self.town.nodes)
        self.items: list[Item] = []
        self.idle = Counter[str](), Counter[str]()
        self.seed = seed

    def take(self) -> Row:
        """Live through everything and return the figures.

        Raises:
            Violation: the nodes do not agree, or hold what they should not.
        """
        started_s, town = time.process_time(), self.town
        town.run(FOUNDING_MS)
        peers = statistics.mean(map(len, town.beside.values()))
        mesh = statistics.mean(map(len, town.mesh.values()))
        if not all(town.mesh.values()):
            raise Violation("alone", "a node has found nobody")
        sent = self._sent_since(None)
        town.run(QUIET_MS)
        self.idle = self._sent_since(sent)
        idle_bytes = self.idle[1].total() / self.node_count / peers
        reach, live = self._live()
        burst_s, burst = self._burst("burst")
        town.roads = Roads(loss=DROPPED)
        dropped_s, dropped = self._burst("dropped")
        town.roads = Roads()
        join_s, join_bytes = self._join()
        healed_s = self._part()
        self.check()
        return Row(
            nodes=self.size,
            seed=self.seed,
            peers=round(peers, 2),
            mesh=round(mesh, 2),
            item_bytes=round(statistics.mean(len(one.raw) for one in self.items)),
            half_s=statistics.median(half for half, _ in reach),
            all_s=statistics.median(every for _, every in reach),
            worst_s=max(every for _, every in reach),
            live=live,
            burst_s=burst_s,
            burst=burst,
            dropped_s=dropped_s,
            dropped=dropped,
            join_s=join_s,
            join_bytes=join_bytes,
            healed_s=healed_s,
            idle_bytes_per_peer_s=round(idle_bytes / (QUIET_MS / 1000), 1),
            operations=len(self.items),
            simulated_s=town.now_ms / 1000,
            cpu_s=round(time.process_time() - started_s, 1),
            history=town.history,
        )

    # -- what happens

    def _live(self) -> tuple[list[tuple[float, float]], Traffic]:
        """One operation after the other, while nothing else happens."""
        town, reach = self.town, list[tuple[float, float]]()
        self._introduce([f"live {n}" for n in range(self.plan.live_count)])
        sent, first_ms = self._sent_since(None), town.now_ms
        for number in range(self.plan.live_count):
            item = self._write(f"live {number}")
            began_ms = town.now_ms
            town.watch([item.id])
            town.publish(town.rng.choice(self.names), [item])
            self._until_held([item], began_ms)
            times = [at_ms - began_ms for at_ms in town.arrivals[item.id]]
            reach.append((statistics.median_high(times) / 1000, max(times) / 1000))
            town.run(max(0, began_ms + 2_000 - town.now_ms))
        return reach, self._traffic(sent, first_ms, self.plan.live_count)

    def _burst(self, name: str) -> tuple[float, Traffic]:
        """Many at once, at several nodes."""
        town, plan = self.town, self.plan
        writers = [f"{name} {n}" for n in range(min(plan.burst_nodes, self.node_count))]
        self._introduce(writers)
        sent = self._sent_since(None)
        names = town.rng.sample(self.names, len(writers))
        shares = dict(zip(names, writers, strict=True))
        began_ms = town.now_ms
        seconds = self._publish(shares, plan.burst_count // len(writers))
        return seconds, self._traffic(sent, began_ms, plan.burst_count)

    def _join(self) -> tuple[float, int]:
        """A newcomer comes with nothing."""
        town = self.town
        began_ms = town.now_ms
        name = town.add_node()
        while len(town.nodes[name].disk.items) < len(self.items) + self._geneses:
            self._wait(began_ms, "the newcomer")
        seconds = (town.now_ms - began_ms) / 1000
        self.names.append(name)
        self.node_count += 1
        return seconds, town.answered_bytes[name]

    def _part(self) -> float:
        """Two halves that hear nothing of each other for a while, and both write."""
        town, plan = self.town, self.plan
        names = town.rng.sample(self.names, len(self.names))
        halves = names[::2], names[1::2]
        self._introduce(["left", "right"])
        town.part(halves)
        began_ms = town.now_ms
        items = [[self._write(one) for _ in range(plan.parted_count)] for one in ("left", "right")]
        town.watch([one.id for some in items for one in some])
        for some, half in zip(items, halves, strict=True):
            town.publish(half[0], some)
        town.run(plan.parted_ms - (town.now_ms - began_ms))
        for some, half in zip(items, halves, strict=True):
            if any(len(town.arrivals[one.id]) > len(half) for one in some):
                raise Violation("leak", "something came through a partition")
        began_ms = town.now_ms
        town.heal()
        self._until_held([one for some in items for one in some], began_ms)
        return (town.now_ms - began_ms) / 1000

    # -- small steps

    def check(self) -> None:
        """Everybody holds and shows the same, and it is what was signed: by the other reading."""
        town = self.town
        town.run(100_000)
        check_agreement(town)
        check_cursors(town)
        signed = {one.id: one.raw for one in self.items}
        first = town.nodes[self.names[0]].disk
        for item in first.items.values():
            read_item(item)
        if {id_ for id_ in signed if id_ not in first.numbers}:
            raise Violation("lost", "an operation is nowhere")
        for node in town.nodes.values():
            for item in node.disk.items.values():
                if signed.get(item.id, item.raw) != item.raw:
                    raise Violation("unauthentic", f"{node.name} has other bytes")
        if town.dropped:
            raise Violation("honest peer dropped", str(town.dropped[0]))

    def _introduce(self, writers: Sequence[str]) -> None:
        """Let everybody know the accounts, so that what is measured is operations."""
        town, geneses = self.town, [Writer(name).genesis for name in writers]
        town.watch([one.id for one in geneses])
        town.publish(self.names[0], geneses)
        self._until_held(geneses, town.now_ms)
        town.run(3_000)

    def _write(self, writer: str) -> Item:
        body = f"{writer} {len(self.items)} ".encode().ljust(BODY_BYTES, b"x")
        item = Writer(writer).put(body, slug=f"s{len(self.items)}")
        self.items.append(item)
        return item

    def _publish(self, writers: dict[PeerId, str], count: int) -> float:
        """Have each node publish so many; return how long until all sets are equal."""
        items = {name: [self._write(one) for _ in range(count)] for name, one in writers.items()}
        every = [one for some in items.values() for one in some]
        self.town.watch([one.id for one in every])
        began_ms = self.town.now_ms
        for name, some in items.items():
            self.town.publish(name, some)
        self._until_held(every, began_ms)
        last_ms = max(max(times) for times in self.town.arrivals.values())
        return (last_ms - began_ms) / 1000

    def _until_held(self, items: Sequence[Item], began_ms: int) -> None:
        wanted = self.node_count
        while any(len(self.town.arrivals[one.id]) < wanted for one in items):
            self._wait(began_ms, f"{len(items)} operations")

    def _wait(self, began_ms: int, what: str) -> None:
        if self.town.now_ms - began_ms > WAIT_MS_MAX:
            raise Violation("not reached", f"{what} took over {WAIT_MS_MAX / 1000} s")
        self.town.run(20)

    @property
    def _geneses(self) -> int:
        return len(self.town.nodes[self.names[0]].disk.entries)

    def _sent_since(
        self, before: tuple[Counter[str], Counter[str]] | None
    ) -> tuple[Counter[str], Counter[str]]:
        now = Counter(self.town.message_counts), Counter(self.town.message_bytes)
        return now if before is None else (now[0] - before[0], now[1] - before[1])

    def _traffic(
        self, before: tuple[Counter[str], Counter[str]], began_ms: int, operations: int
    ) -> Traffic:
        """What operations cost, until everybody has read everybody again, less the idle share."""
        self.town.run(ROUND_MS)
        counts, sizes = self._sent_since(before)
        quiet = (self.town.now_ms - began_ms) / QUIET_MS
        share = operations * self.node_count

        def sync(sent: Counter[str], idle: Counter[str]) -> float:
            return sum(sent[kind] - quiet * idle[kind] for kind in ("request", "answer")) / share

        return Traffic(
            round(counts["gossip"] / share, 3),
            round(sizes["gossip"] / share, 1),
            round(sync(counts, self.idle[0]), 3),
            round(sync(sizes, self.idle[1]), 1),
        )


def survey(node_count: int, seed: int, plan: Plan | None = None) -> Row:
    """Return the figures of one town."""
    with shared_work():
        return Survey(node_count, seed, plan or Plan()).take()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.curves", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3, help="so many towns of each size to 200")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--png", type=Path, help="write the picture to this file")
    parser.add_argument("--draw", type=Path, help="measure nothing: draw what this file says")
    arguments = parser.parse_args()
    if arguments.draw:
        rows = json.loads(arguments.draw.read_text())["rows"]
    else:
        rows = []
        for node_count in arguments.nodes:
            for seed in range(arguments.seed, arguments.seed + _seeds(node_count, arguments.seeds)):
                rows.append(asdict(survey(node_count, seed)))
                sys.stderr.write(json.dumps(rows[-1]) + "\n")
    said = {
        "plan": asdict(Plan()),
        "roads": asdict(Roads()),
        "dropped": DROPPED,
        "rows": rows,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(said, indent=1) + "\n")
    if arguments.png:
        from tests.sim.charts import draw

        arguments.png.write_bytes(draw(rows))
    if not arguments.json and not arguments.png:
        sys.stdout.write(json.dumps(said, indent=1) + "\n")
    return 0


def _seeds(node_count: int, asked: int) -> int:
    return asked if node_count <= 200 else 1


if __name__ == "__main__":
    sys.exit(main())
