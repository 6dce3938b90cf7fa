"""Adversarial worlds, delivered to replicas in every order: `python -m tests.sim.schedules`.

For each seed a world is drawn (`attacks.py`) and delivered to three or four replicas in their own
orders, in batches, with copies and losses, with crashes and full disks between; in the end each
gets everything, and no more faults. Whenever two have equal sets, and in the end,
`independent.py` checks them. A failure prints its seed; `--seed S --count 1` plays it again,
to the byte.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from crdt import Item, MalformedBytes, Operation, Replica, WorldFault
from crdt.cards import Seed
from node.storage.memory import MemoryDisk, MemoryStorage
from tests.crdt.replicas import accept
from tests.sim.attacks import draw_world
from tests.sim.independent import (
    Shown,
    Violation,
    Whole,
    check_admitted,
    check_agreement,
    check_authentic,
    check_authority,
    check_endorsed,
    check_reference,
    whole_of,
)
from tests.sim.press import NETWORK, Print
from tests.sim.worlds import World
from tests.writers import LaneReceipts

CHUNK = 50


class PlainBodies:
    """Body rules of the smallest kind: a put's body is its description, in ASCII."""

    def check_put(self, operation: Operation, body: bytes) -> None:
        if not body or not body.isascii():
            raise MalformedBytes("not a body")

    def seed_of(self, operation: Operation, body: bytes) -> Seed:
        return Seed(body.decode(), (), ())


def new_replica(disk: MemoryDisk) -> Replica:
    return Replica(NETWORK, MemoryStorage(disk), PlainBodies(), LaneReceipts())


@dataclass
class Node:
    """A replica on its disk.

    Attributes:
        prunes: It drops what is below a record's era, now and then; so its set is its own.
    """

    name: str
    disk: MemoryDisk
    replica: Replica
    prunes: bool = False

    @property
    def admitted(self) -> frozenset[bytes]:
        return frozenset(self.disk.numbers)

    @property
    def items(self) -> dict[bytes, Item]:
        return {id_: self.disk.items[n] for id_, n in self.disk.numbers.items()}

    @property
    def shown(self) -> dict[bytes, Shown]:
        return shown_on(self.disk)


def shown_on(disk: MemoryDisk) -> dict[bytes, Shown]:
    """What a production replica shows, in the checkers' words: the one place that knows both."""
    shown = {}
    for record, change in disk.records.items():
        register = change.register
        if register.winner is None:
            continue
        shown[bytes(record)] = Shown(
            winner=register.winner,
            conflicts=tuple(register.conflicts),
            deleted=register.deleted,
            heads=tuple(sorted(register.heads)),
            era=register.era,
        )
    return shown


@dataclass
class Schedule:
    """One world and its deliveries."""

    seed: int
    world: World
    rng: random.Random
    nodes: list[Node]
    counts: Counter[str] = field(default_factory=Counter)
    wholes: dict[frozenset[bytes], Whole] = field(default_factory=dict)
    calm: bool = False

    def run(self) -> None:
        """Deliver, check, deliver everything, check everything.

        Raises:
            Violation: a checker found something.
        """
        items = [made.item for made in self.world.made if made.withheld != "never"]
        late = {made.id for made in self.world.made if made.withheld == "late"}
        self._play([[one for one in self._order(items) if one.id not in late and self._arrives()]
                    for _ in self.nodes])  # fmt: skip
        self._play([self._order(items) for _ in self.nodes])
        self.calm = (
            True  # what waited in a replica that crashed comes again, as anti-entropy has it
        )
        self._play([self._order(items) for _ in self.nodes])
        # What a node wants back that it had dropped, anti-entropy brings as well.
        self._play([self._order(items) if node.prunes else [] for node in self.nodes])
        self._check(everything=True)

    def fresh(self, disk: MemoryDisk) -> Replica:
        """A replica on what is on a disk."""
        return new_replica(disk)

    def _arrives(self) -> bool:
        return self.rng.random() > self.loss

    def _order(self, items: list[Item]) -> list[Item]:
        """Some order of some copies: shuffled, backwards, or nearly as it was signed."""
        copies = [one for one in items if self.rng.random() < 0.15]
        order = [*items, *copies]
        choice = self.rng.random()
        if choice < 0.6:
            self.rng.shuffle(order)
        elif choice < 0.75:
            order.reverse()
        else:
            for _ in range(3):
                a, b = self.rng.randrange(len(order)), self.rng.randrange(len(order))
                order[a], order[b] = order[b], order[a]
        return order

    def _play(self, orders: list[list[Item]]) -> None:
        pairs = zip(self.nodes, orders, strict=True)
        queues = {node.name: (node, order) for node, order in pairs if order}
        while queues:
            node, order = queues[self.rng.choice(sorted(queues))]
            batch = order[: self.rng.choice((1, 1, 2, 3, 6, 40))]
            if self._deliver(node, batch):
                del order[: len(batch)]
            if not order:
                del queues[node.name]
            if not self.calm and self.rng.random() < 0.05:
                node.replica = self.fresh(node.disk)
                self.counts["restarts"] += 1
            if node.prunes and self.rng.random() < 0.3:
                self._prune(node)
            if self.rng.random() < 0.15:
                self._check(everything=False)

    def _deliver(self, node: Node, batch: list[Item]) -> bool:
        self.counts["deliveries"] += len(batch)
        if not self.calm and self.rng.random() < 0.03:
            node.disk.failing_commits = 1
        try:
            accept(node.replica, *batch)
        except WorldFault:
            self.counts["full disks"] += 1
            return False
        node.disk.failing_commits = 0
        return True

    def _prune(self, node: Node) -> None:
        for record in sorted(node.disk.records):
            self.counts["dropped"] += node.replica.prune(record)

    def _check(self, *, everything: bool) -> None:
        self.counts["checks"] += 1
        whole_nodes = [node for node in self.nodes if not node.prunes]
        sets = {node.name: node.admitted for node in whole_nodes}
        states = {node.name: node.shown for node in whole_nodes}
        check_agreement(sets, states)
        if not everything:
            node = self.rng.choice(whole_nodes)
            self._check_node(node, self._whole(node.admitted))
            return
        whole = self._whole(
            frozenset(made.id for made in self.world.made if made.withheld != "never")
        )
        for node in self.nodes:
            check_authentic(self.world, node.items)
            self._check_node(node, whole)

    def _check_node(self, node: Node, whole: Whole) -> None:
        shown = node.shown
        if not node.prunes:
            check_admitted(whole, node.admitted)
        check_authority(whole, shown)
        check_endorsed(self.world, whole, shown)
        check_reference(whole, shown)

    def _whole(self, delivered: frozenset[bytes]) -> Whole:
        if delivered not in self.wholes:
            self.wholes[delivered] = whole_of(self.world, delivered)
        return self.wholes[delivered]

    @property
    def loss(self) -> float:
        return (0.0, 0.1, 0.4)[self.seed % 3]


def schedule_of(seed: int) -> Schedule:
    """Draw the world and the deliveries of a seed."""
    world = draw_world(seed, Print())
    rng = random.Random(f"schedule {seed}")
    nodes = []
    for number in range(rng.choice((3, 3, 4))):
        disk = MemoryDisk(b"epoch %09d" % number + b"\0")
        nodes.append(Node(f"n{number}", disk, new_replica(disk)))
    nodes[-1].prunes = rng.random() < 0.3
    return Schedule(seed, world, rng, nodes)


@dataclass(frozen=True)
class Failure:
    """What broke, and how to see it again."""

    seed: int
    name: str
    message: str
    moves: tuple[str, ...]


def play(seed: int) -> tuple[Counter[str], Failure | None]:
    """Run one seed; what any part of it raises is a failure of that seed."""
    schedule = schedule_of(seed)
    failure = None
    try:
        schedule.run()
    except Violation as violation:
        failure = Failure(seed, violation.name, str(violation), tuple(schedule.world.moves))
    except Exception:  # a crash of the core is what we look for, too
        trace = traceback.format_exc(limit=-4)
        failure = Failure(seed, "crash", trace, tuple(schedule.world.moves))
    counts = schedule.counts
    counts["schedules"] += 1
    counts["items"] += len(schedule.world.made)
    for whole in list(schedule.wholes.values())[-1:]:
        counts["valid operations"] += len(whole.operations)
        counts["records shown"] += len(whole.shown)
    for move in schedule.world.moves:
        counts["move " + move.split()[0]] += 1
    return counts, failure


def play_many(seeds: range) -> tuple[Counter[str], list[Failure]]:
    counts: Counter[str] = Counter()
    failures = []
    for seed in seeds:
        more, failure = play(seed)
        counts += more
        if failure is not None:
            failures.append(failure)
    return counts, failures


def play_all(first: int, count: int, processes: int) -> tuple[Counter[str], list[Failure]]:
    """Run `count` seeds from `first` on, and print failures as they come."""
    counts: Counter[str] = Counter()
    failures: list[Failure] = []
    for more, found in _results(first, count, processes):
        counts += more
        failures += found
        for failure in found:
            sys.stdout.write(
                f"seed {failure.seed}: {failure.message}\n  moves: {', '.join(failure.moves)}\n"
                f"  again: python -m tests.sim.schedules --seed {failure.seed} --count 1\n"
            )
            sys.stdout.flush()
    return counts, failures


def _results(
    first: int, count: int, processes: int
) -> Iterator[tuple[Counter[str], list[Failure]]]:
    chunks = [
        range(start, min(start + CHUNK, first + count))
        for start in range(first, first + count, CHUNK)
    ]
    if processes == 1:
        yield from map(play_many, chunks)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(play_many, chunks)


def summary(
    counts: Mapping[str, int], failures: list[Failure], seconds: float
) -> dict[str, object]:
    names = Counter(failure.name for failure in failures)
    return {
        **{name: counts[name] for name in sorted(counts) if not name.startswith("move ")},
        "moves": {name[5:]: counts[name] for name in sorted(counts) if name.startswith("move ")},
        "divergences": names["divergence"],
        "failures": dict(sorted(names.items())),
        "failed_seeds": [failure.seed for failure in failures][:100],
        "seconds": round(seconds, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.schedules", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", help="write the figures to this file")
    arguments = parser.parse_args()
    started = time.perf_counter()
    counts, failures = play_all(arguments.seed, arguments.count, arguments.processes)
    figures = summary(counts, failures, time.perf_counter() - started)
    text = json.dumps(figures, indent=1)
    sys.stdout.write(text + "\n")
    if arguments.json:
        with open(arguments.json, "w") as file:
            file.write(text + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
