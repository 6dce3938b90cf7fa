"""One adversarial life of a swarm, drawn from its seed (`python -m tests.sim --seed 7`)."""

from __future__ import annotations

from dataclasses import dataclass

from crdt import Item, PeerId
from tests.sim.checkers import check_agreement, check_safety
from tests.sim.liars import LIARS
from tests.sim.swarm import STORM, Swarm
from tests.writers import Writer, make_receipt


@dataclass(frozen=True)
class Life:
    """What happened, in figures."""

    seed: int
    nodes: int
    acknowledged: int
    records: int
    crashes: int
    dropped: int
    simulated_s: int
    history: str


def live(seed: int, node_count: int, step_count: int = 60) -> Life:
    """Run one life; raises AssertionError when a checker finds a disagreement or a loss.

    Node n0 is honest and stays reachable in the end; up to a third of the others lie.
    """
    swarm = Swarm(seed, node_count, weather=STORM)
    rng = swarm.rng
    names = sorted(swarm.nodes)
    for name in names[1 : 1 + (node_count - 1) // 3]:
        swarm.nodes[name].liar = rng.choice(LIARS)
    author = _Author(swarm)
    crashes = 0
    for _ in range(step_count):
        up = [name for name in names if swarm.nodes[name].machine is not None]
        name = rng.choice(up)
        chance = rng.random()
        if chance < 0.5:
            author.write(name)
        elif chance < 0.6 and len(up) > 1:
            swarm.crash(name)
            crashes += 1
        elif chance < 0.7:
            for down in sorted(set(names) - set(up)):
                swarm.start(down)
        elif chance < 0.8:
            swarm.cut(name, rng.choice(names))
        elif chance < 0.85:
            swarm.nodes[name].disk.failing_commits = rng.randint(1, 3)
        else:
            swarm.run(rng.randint(100, 20_000))
        swarm.run(rng.randint(1, 500))
        check_safety(swarm)
    swarm.heal()
    late = swarm.add_node()
    swarm.run(400_000)
    check_safety(swarm)
    check_agreement(swarm)
    return Life(
        seed=seed,
        nodes=node_count,
        acknowledged=len(swarm.acknowledged),
        records=len(swarm.nodes[late].disk.records),
        crashes=crashes,
        dropped=len(swarm.dropped),
        simulated_s=swarm.now_ms // 1000,
        history=swarm.history,
    )


class _Author:
    """Creators who write at whatever node they reach, and sometimes at two at once."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self._writers = [Writer(name) for name in ("ann", "bob", "cem")]
        self._sequence = 0

    def write(self, name: PeerId) -> None:
        rng = self._swarm.rng
        writer = rng.choice(self._writers)
        self._sequence += 1
        if rng.random() < 0.2:
            receipt = make_receipt(
                writer.account, b"lane%d" % rng.randrange(3), self._sequence, key=writer.key
            )
            self._swarm.publish(name, [writer.genesis, receipt])
            return
        slug = f"s{rng.randrange(4)}"
        disk = self._swarm.nodes[name].disk
        change = disk.records.get(writer.record(slug))
        heads: list[Item] = []
        if change is not None:
            heads = [disk.items[disk.numbers[id_]] for id_ in change.register.heads]  # type: ignore[index]
        cites = tuple(heads[:16])
        if cites and rng.random() < 0.2:
            item = writer.delete(slug=slug, cites=cites, timestamp_s=self._sequence)
        else:
            body = b"v%d" % self._sequence * rng.choice((1, 1, 1, 100, 20_000))
            item = writer.put(body[:60_000], slug=slug, cites=cites, timestamp_s=self._sequence)
        self._swarm.publish(name, [writer.genesis, item])
