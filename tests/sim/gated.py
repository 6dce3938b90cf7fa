"""Worlds on a network that asks for work: `python -m tests.sim.gated --seed 7 --count 1`.

The same worlds, attacks and deliveries as in `schedules.py`, and newcomers between: some with the
work done, most with a stamp that is missing, wrong, another's, or of another place. What work
a stamp does is found here once more, without the core's code.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import crdt
import crdt.stamps
from crdt import Item, Replica, StampJudge, WorkRule
from node.storage.memory import MemoryDisk, MemoryStorage
from tests.crdt import reference as ref
from tests.crdt.reference import RefEntry
from tests.sim.attacks import MADE_MAX, MOVES, Move, make
from tests.sim.press import NETWORK, OTHER_NETWORK, Print, key_of, public
from tests.sim.schedules import Node, PlainBodies, Schedule
from tests.sim.worlds import World
from tests.writers import LaneReceipts

BITS = 4
"""A wrong stamp is right by luck once in 16, and is then taken by everybody."""
_CHEAP_N = 2


@contextmanager
def cheap_work() -> Iterator[None]:
    """Let a try cost microseconds: what is looked for here does not lie in the cost."""
    before = crdt.stamps.SCRYPT_N
    crdt.stamps.SCRYPT_N = _CHEAP_N
    try:
        yield
    finally:
        crdt.stamps.SCRYPT_N = before


def work_of(network: bytes, root: bytes, recovery: bytes, stamp: bytes) -> int:
    """The leading zero bits of a stamp's work for two keys; -1 for one that is none by its form."""
    if len(stamp) != 8:
        return -1
    fields = b"".join(b"\xc4\x20" + one for one in (network, root, recovery))
    challenge = hashlib.sha3_256(b"\x95\xabhansa/stamp\x00" + fields).digest()
    found = hashlib.scrypt(challenge, salt=stamp, n=_CHEAP_N, r=8, p=1, dklen=32)
    return 256 - int.from_bytes(found, "big").bit_length()


def stamp_for(network: bytes, root: bytes, recovery: bytes, *, good: bool = True) -> bytes:
    """The first number that does the work, or the first that does not."""
    numbers = (number.to_bytes(8, "big") for number in range(1 << 20))
    return next(one for one in numbers if (work_of(network, root, recovery, one) >= BITS) is good)


@dataclass
class GatedWorld(World):
    """A world whose accounts are founded with stamps.

    Attributes:
        false: Geneses that do not do the work.
        stamps: Those that were seen, in order.
    """

    false: set[bytes] = field(default_factory=set)
    stamps: list[bytes] = field(default_factory=list)

    def found(self, root: str, recovery: str) -> bytes:
        return self.found_with(root, recovery, stamp_for(NETWORK, public(root), public(recovery)))

    def found_with(self, root: str, recovery: str, stamp: bytes) -> bytes:
        """Found an account with any stamp."""
        for name in (root, recovery):
            self.names[public(name)] = name
        item = crdt.make_genesis(NETWORK, key_of(root), public(recovery), stamp)
        work = work_of(NETWORK, public(root), public(recovery), stamp)
        entry = RefEntry(
            item.id, ref.GENESIS, item.id, None, public(root), public(root), public(recovery),
            asked=BITS, work=work,
        )  # fmt: skip
        self._add(item.id, item, entry, honest=work >= BITS)
        self.stamps.append(stamp)
        if work < BITS:
            self.false.add(item.id)
        return item.id


def newcomer(world: World) -> bool:
    """Somebody founds an account, honestly or not, and writes a record with it."""
    assert isinstance(world, GatedWorld)
    rng = world.rng
    root, recovery, other = (world.new_key("newcomer", honest=False) for _ in range(3))
    keys = public(root), public(recovery)
    good = stamp_for(NETWORK, *keys)
    stamp = rng.choice((
        good,
        b"",
        stamp_for(NETWORK, *keys, good=False),
        rng.choice(world.stamps),  # another's, which was good for them or not
        stamp_for(OTHER_NETWORK, *keys),
        stamp_for(NETWORK, keys[0], public(other)),
        stamp_for(NETWORK, keys[1], keys[0]),
        good + b"\0",
        b"\0" + good,
        good[1:],
    ))  # fmt: skip
    account = world.found_with(root, recovery, stamp)
    world.operate(ref.PUT, root, account, (), account=account)
    return True


GATED_MOVES: dict[Move, int] = {**MOVES, newcomer: 60}


def draw_gated(seed: int) -> GatedWorld:
    """One world: what is usual, and newcomers."""
    world = GatedWorld(seed, Print())
    moves, weights = list(GATED_MOVES), list(GATED_MOVES.values())
    for _ in range(world.rng.randint(5, 18)):
        if len(world.made) >= MADE_MAX:
            break
        make(world, world.rng.choices(moves, weights)[0])
    return world


class GatedSchedule(Schedule):
    """Deliveries to replicas that ask for work."""

    def fresh(self, disk: MemoryDisk) -> Replica:
        # The id is the open network's, which the worlds sign for: the judge is told the rule.
        judge = StampJudge(NETWORK, WorkRule(BITS))
        return Replica(NETWORK, MemoryStorage(disk), PlainBodies(), LaneReceipts(), judge)

    def _deliver(self, node: Node, batch: list[Item]) -> bool:
        """Deliver as honest peers and a liar would: he alone sends false stamps, one at a time."""
        assert isinstance(self.world, GatedWorld)
        false = self.world.false
        parts = [[one] for one in batch if one.id in false]
        parts.append([one for one in batch if one.id not in false])
        return all(super(GatedSchedule, self)._deliver(node, part) for part in parts if part)


def gated_schedule(seed: int) -> GatedSchedule:
    """Draw the world and the deliveries of a seed; within `cheap_work`."""
    world = draw_gated(seed)
    schedule = GatedSchedule(seed, world, random.Random(f"gated {seed}"), [])
    for number in range(3):
        disk = MemoryDisk(b"epoch %09d" % number + b"\0")
        schedule.nodes.append(Node(f"n{number}", disk, schedule.fresh(disk)))
    return schedule


def play_gated(seed: int) -> GatedWorld:
    """Play one seed; return its world.

    Raises:
        Violation: a checker found something.
    """
    with cheap_work():
        schedule = gated_schedule(seed)
        schedule.run()
    assert isinstance(schedule.world, GatedWorld)
    return schedule.world


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.gated", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    arguments = parser.parse_args()
    works: list[int] = []
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        sys.stderr.write(f"\rseed {seed}")  # the last one seen is the one to play again
        made = play_gated(seed).made
        geneses = [one.what for one in made if isinstance(one.what, RefEntry)]
        works += [one.work for one in geneses if one.type == ref.GENESIS]
    good, formless = sum(one >= BITS for one in works), works.count(-1)
    sys.stdout.write(
        f"\n{arguments.count} schedules: {good} good stamps, {len(works) - good - formless} false, "
        f"{formless} that are none; every node took the good ones and no other\n"
    )


if __name__ == "__main__":
    main()
