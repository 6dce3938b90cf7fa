"""A swarm of real nodes that are killed, parted and written to, and that must agree in the end.

    python -m tests.e2e.swarming --nodes 10 --seconds 600 --json FILE

Every few seconds a third of the nodes is killed with SIGKILL and started again, half of the time
while half of the swarm is cut off from the other half, and creators write to all that run. Then
the links are mended, everybody runs, writing stops, and from that moment on it is measured how
long it takes until all hold the same items. Nothing that was acknowledged may be missing then,
nothing that is invalid may be there, and what the nodes show is computed anew from a store.

Nodes reach each other through `links`, and dial nobody else (`p2p.outbound_count` is 0), so that a
part is one. They compare their stores every `SYNC_INTERVAL_S`, which is less than as delivered: a
part that ends just after a comparison would else wait for the next one.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import secrets
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.crash_load import LoadWriter, Notes
from tests.e2e.crash_nodes import Corpse, Member, member
from tests.e2e.links import Links
from tests.e2e.store_audit import audit, disagreement, ids_in, shown_state, snapshot_registry
from tests.writers import NETWORK, Writer

SYNC_INTERVAL_S = 5
DIAL_COUNT = 3
START_COUNT = 4
"""Nodes that are started at a time, at first."""
PAUSE_S_MAX = 0.5
"""Between two writes of one creator: the nodes are what is tested, not the machine."""
PART_EVERY = 4
"""Rounds from one part to the next; it is healed at the end of the second."""
AWAY_S = (0.2, 1.5)
CALM_S = (1.0, 3.0)
AGREE_S_MAX = 120.0
READY_S_MAX = 120.0
"""Several start at once, beside a swarm at work, on as few cores as there are."""
PLURALS = {1: "models", 2: "agents"}
SHOWN_COUNT_MAX = 200


class SwarmFault(AssertionError):
    """The swarm lost or made up something, or does not agree; the message says what."""


@dataclass
class Figures:
    """What a campaign counted.

    Attributes:
        agree_s: From the end of the last write, with all links whole and all nodes up, until all
            hold the same.
        behind_at_quiet: Items that nodes lacked when quiet began, all nodes together.
    """

    nodes: int
    rounds: int = 0
    kills: int = 0
    parts: int = 0
    links_cut: int = 0
    acknowledged_writes: int = 0
    acknowledged_lost: int = 0
    refused_writes: int = 0
    invalid_sent: int = 0
    invalid_found: int = 0
    items: int = 0
    records_compared: int = 0
    behind_at_quiet: int = 0
    carried_bytes: int = 0
    agree_s: float = 0.0
    restart_s: list[float] = field(default_factory=list)

    def summary(self, *, seed: int, seconds: float) -> dict[str, Any]:
        """Return the figures as they are kept."""
        plain = {name: value for name, value in vars(self).items() if name != "restart_s"}
        return {
            "name": "swarms", **plain, "agree_s": round(self.agree_s, 2),
            "restart_s_median": round(statistics.median(self.restart_s or [0]), 2),
            "restart_s_max": round(max(self.restart_s, default=0), 2),
            "seed": seed, "seconds": round(seconds, 1), "python": platform.python_version(),
        }  # fmt: skip


class Swarm:
    """Nodes, their links, and everything that was written to them."""

    def __init__(
        self, folder: Path, links: Links, rng: random.Random, figures: Figures,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._folder = folder
        self._links = links
        self._rng = rng
        self._figures = figures
        self._say = say
        self._notes = Notes()
        ports = random.Random(secrets.randbits(64))  # what is free is no matter of the seed
        names = [f"n{number:02}" for number in range(figures.nodes)]
        self.members = [member(name, folder / name, ports) for name in names]
        self._creators = [Writer(f"creator at {name}") for name in names]
        self._writers: dict[str, LoadWriter] = {}

    def start(self) -> None:
        """Start everybody, some at a time; each dials a few of those that run already."""
        for first in range(0, len(self.members), START_COUNT):
            running = self.members[:first]
            batch = self.members[first : first + START_COUNT]
            for one in batch:
                one.ready_s_max = READY_S_MAX
                one.flags = ["p2p.outbound_count=0", f"storage.sync_interval_s={SYNC_INTERVAL_S}"]
            # The first of all, and whoever starts with it, is found by the others of its batch.
            for one in batch[:1] if not running else []:
                one.await_ready(one.spawn())
                running, batch = [one], batch[1:]
            for one in batch:
                dialled = self._rng.sample(running, min(DIAL_COUNT, len(running)))
                one.bootstrap = ",".join(self._link(one, other) for other in dialled)
            for one, spawned_s in [(one, one.spawn()) for one in batch]:
                one.await_ready(spawned_s)

    def _link(self, source: Member, target: Member) -> str:
        assert target.identity is not None
        port = self._links.add(source.name, target.name, target.p2p_port)
        return f"/ip4/127.0.0.1/tcp/{port}/p2p/{target.identity[0]}"

    def disturb(self, seconds: float) -> None:
        """Write everywhere, and kill, part and restart for so long."""
        until_s = time.monotonic() + seconds
        for one in self.members:
            self._write_to(one)
        while time.monotonic() < until_s:
            self._round()
        self._links.heal()

    def _round(self) -> None:
        figures, rng = self._figures, self._rng
        figures.rounds += 1
        if figures.rounds % PART_EVERY == 1:
            side = rng.sample(self.members, len(self.members) // 2)
            figures.links_cut += self._links.part(one.name for one in side)
            figures.parts += 1
        victims = rng.sample(self.members, max(1, len(self.members) // 3))
        corpses = [self._kill(one) for one in victims]
        time.sleep(rng.uniform(*AWAY_S))  # how long they are away, from the seed
        for corpse in corpses:
            corpse.buried()
        for one, spawned_s in [(one, one.spawn()) for one in victims]:
            one.await_ready(spawned_s)
            figures.restart_s.append(one.start_s[-1])
            self._write_to(one)
        time.sleep(rng.uniform(*CALM_S))  # how long nobody is killed, from the seed
        if figures.rounds % PART_EVERY == 2:
            self._links.heal()
        self._check_writers()
        self._say(
            f"round {figures.rounds}: {figures.kills} kills, {figures.parts} parts,"
            f" {len(self._notes.acknowledged)} writes acknowledged"
        )

    def _kill(self, victim: Member) -> Corpse:
        corpse = victim.kill(self._rng, everything=self._rng.random() < 0.5)
        self._figures.kills += 1
        writer = self._writers.pop(victim.name)
        writer.stop.set()
        writer.join()
        return corpse

    def _write_to(self, one: Member) -> None:
        writer = self._writers[one.name] = LoadWriter(
            one.url, self._creators[self.members.index(one)], self._rng.getrandbits(64),
            self._notes, pause_s_max=PAUSE_S_MAX,
        )  # fmt: skip
        writer.start()

    def _check_writers(self) -> None:
        lost = [writer.lost for writer in self._writers.values() if writer.lost is not None]
        if lost:
            raise SwarmFault(f"a node that was not killed broke off: {lost[0]!r}")
        # A busy machine may refuse a write for now; that is an answer, and no loss.
        wrong = [one for one in self._notes.complaints if not one.startswith("HTTP 503")]
        if wrong:
            raise SwarmFault("; ".join(wrong[:5]))

    def quiet(self) -> None:
        """Stop writing, and measure how long it takes until all agree."""
        for writer in self._writers.values():
            writer.stop.set()
        for writer in self._writers.values():
            writer.join()
        self._check_writers()
        began_s = time.monotonic()
        held = self._held()
        everything = frozenset().union(*held)
        self._figures.behind_at_quiet = sum(len(everything - one) for one in held)
        while len(set(held)) > 1:
            if time.monotonic() > began_s + AGREE_S_MAX:
                sizes = {one.name: len(ids) for one, ids in zip(self.members, held, strict=True)}
                raise SwarmFault(f"the nodes do not agree after {AGREE_S_MAX} s: {sizes}")
            time.sleep(0.05)  # other processes: there is no event to wait for
            held = self._held()
        self._figures.agree_s = time.monotonic() - began_s
        self._figures.carried_bytes = self._links.carried_bytes

    def _held(self) -> list[frozenset[bytes]]:
        return [ids_in(one.folder) for one in self.members]

    def check(self) -> None:
        """What all agree on is what was acknowledged, nothing of it invalid, and it is shown."""
        figures, notes = self._figures, self._notes
        held = ids_in(self.members[0].folder)
        lost = notes.acknowledged.keys() - held
        wrong = (notes.spoiled.keys() | notes.refused.keys()) & held
        copy = snapshot_registry(self.members[0].folder, self._folder / "rest")
        store = audit(copy, NETWORK)
        figures.items = len(store.raws)
        figures.acknowledged_writes, figures.acknowledged_lost = len(notes.acknowledged), len(lost)
        figures.refused_writes, figures.invalid_sent = len(notes.refused), len(notes.spoiled)
        figures.invalid_found = len(wrong) + len(store.faults)
        if lost or wrong or store.faults:
            stories = [notes.story(one) for one in sorted(lost | wrong)[:5]]
            raise SwarmFault(
                f"{len(lost)} lost, {len(wrong)} invalid: {stories} {store.faults[:5]}"
            )
        states = sorted(store.states().items())
        for one in self.members:
            for record, expected in self._rng.sample(states, min(len(states), SHOWN_COUNT_MAX)):
                path = f"/v1/{PLURALS[expected.kind]}/{record.hex()}"
                shown = shown_state(*one.node.ask("GET", path), expected.kind)
                figures.records_compared += 1
                if differs := disagreement(expected, shown):
                    raise SwarmFault(f"node {one.name}, record {record.hex()}: {differs}")

    def stop(self) -> None:
        """Stop everybody in order."""
        for one in self.members:
            one.stop()


def campaign(
    folder: Path, figures: Figures, *, seconds: float, seed: int,
    say: Callable[[str], None] = lambda _line: None,
) -> None:  # fmt: skip
    """Disturb a swarm for so long and check what is left; count into `figures`.

    Raises:
        SwarmFault: it lost something, holds what it must not, or does not agree.
    """
    with ExitStack() as stack:
        links = stack.enter_context(Links())
        swarm = Swarm(folder, links, random.Random(seed), figures, say)
        stack.callback(_end, swarm.members)
        swarm.start()
        say(f"{figures.nodes} nodes run")
        swarm.disturb(seconds)
        swarm.quiet()
        say(f"all agree {figures.agree_s:.2f} s after the last write")
        swarm.check()
        swarm.stop()


def _end(members: Sequence[Member]) -> None:
    for one in members:
        if one.process is not None and one.process.process.poll() is None:
            one.process.kill()


def main() -> int:
    """Run a campaign from the command line; 0 if all agreed in time and nothing was lost."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.e2e.swarming", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=600, help="of kills, parts and writes")
    parser.add_argument("--agree-s", type=float, default=10, help="fail when agreeing takes longer")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    parser.add_argument("--folder", type=Path, default=None, help="where nodes keep their data")
    given = parser.parse_args()
    seed = secrets.randbits(32) if given.seed is None else given.seed
    folder = given.folder or Path(tempfile.mkdtemp(prefix="hansa-swarm-"))
    print(f"seed {seed}, data in {folder}", flush=True)
    figures, started_s, status = Figures(given.nodes), time.monotonic(), 0
    try:
        campaign(folder, figures, seconds=given.seconds, seed=seed, say=partial(print, flush=True))
        if figures.agree_s > given.agree_s:
            raise SwarmFault(f"agreeing took {figures.agree_s:.1f} s of {given.agree_s}")
    except Exception:
        traceback.print_exc()
        print(f"seed {seed} failed; what it left is in {folder}", file=sys.stderr)
        status = 1
    found = figures.summary(seed=seed, seconds=time.monotonic() - started_s)
    print(json.dumps(found, indent=2))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
