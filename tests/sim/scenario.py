"""One adversarial life of a swarm, drawn from its seed (`python -m tests.sim --seed 7`).

Creators write at nodes; thieves and liars of `attacks.py` get what they sign published or gossiped
to some peers only; editors edit one card on several nodes at once; and the world is unkind.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from crdt import (
    Item,
    ItemId,
    MalformedBytes,
    OperationType,
    PeerId,
    RecordKind,
    SyncLimits,
    encode,
    make_operation,
    sha3,
    unpack_item,
)
from crdt.frames import CatchUp, CatchUpMode, Fetch, encode_have, encode_request
from node.storage.memory import MemoryDisk
from tests.crdt.reference import RefEntry, RefOperation
from tests.sim import worlds
from tests.sim.attacks import MOVES, Move
from tests.sim.checkers import (
    Watch,
    check_agreement,
    check_cursors,
    check_digests,
    check_safety,
    check_world,
)
from tests.sim.creators import Creators
from tests.sim.disks import Torn, copy_of
from tests.sim.edits import Editors
from tests.sim.focus import MORE_MOVES, make
from tests.sim.liars import LIARS
from tests.sim.mutations import mutated_frame, mutated_item
from tests.sim.press import Print
from tests.sim.swarm import STORM, Clock, Swarm, Weather
from tests.sim.worlds import Made, World
from tests.writers import NETWORK, Writer

WORLD_ITEM_COUNT_MAX = 70
"""The slow rules take 0.05 s for as many."""
LIMITS = SyncLimits(gossip_items_per_s=200, requests_per_s=50)
"""Tight, so that a flood reaches them."""


@dataclass(frozen=True)
class Options:
    """What was drawn for one life, before it began."""

    weather: Weather
    liars: Mapping[PeerId, str]
    clocks: Mapping[PeerId, tuple[float, int]]
    pruning: tuple[PeerId, ...]
    censoring: tuple[PeerId, ...]


@dataclass(frozen=True)
class Life:
    """What happened, in figures."""

    seed: int
    nodes: int
    options: Options
    steps: Mapping[str, int]
    moves: Mapping[str, int]
    acknowledged: int
    records: int
    edits: int
    kills: int
    dropped: int
    simulated_s: int
    history: str


def live(
    seed: int,
    node_count: int,
    step_count: int = 60,
    *,
    emphasis: Mapping[Move, int] | None = None,
    more_steps: Mapping[Step, int] | None = None,
) -> Life:
    """Run one life; raises Violation when a checker finds something.

    Emphasis and more steps are added to the weights by which moves and steps are drawn. Node n0 is
    honest, keeps everything, and stays reachable in the end; up to a third of the others lie.
    """
    living = Living.born(seed, node_count, emphasis or {})
    steps = Counter[str]()
    weights = Counter(STEPS) + Counter(more_steps or {})
    for _ in range(step_count):
        step = living.rng.choices(list(weights), list(weights.values()))[0]
        step(living)
        steps[step.__name__] += 1
        living.swarm.run(living.rng.randint(1, 500))
        check_safety(living.swarm, living.watch)
        check_cursors(living.swarm)
        if living.rng.random() < 0.08:
            living.check_somebody()
    living.end()
    return living.figures(seed, steps)


@dataclass
class Living:
    """A life while it lasts."""

    swarm: Swarm
    world: World
    editors: Editors
    creators: Creators
    options: Options
    weights: Mapping[Move, int]
    watch: Watch = field(default_factory=Watch)
    told: int = 0
    backups: dict[PeerId, MemoryDisk] = field(default_factory=dict)
    late: list[Made] = field(default_factory=list)

    @classmethod
    def born(cls, seed: int, node_count: int, emphasis: Mapping[Move, int]) -> Living:
        swarm = Swarm(seed, node_count, weather=STORM, limits=LIMITS)
        options = _drawn(swarm)
        world = World(seed, Print())
        weights = {**MOVES, **MORE_MOVES}
        for move, more in emphasis.items():
            weights[move] = weights.get(move, 0) + more
        living = cls(swarm, world, Editors(world), Creators(swarm), options, weights)
        living.watch.people = {world.account, world.mallory}
        for _ in range(3):
            living.move(worlds.put if len(world.made) > 2 else worlds.add_delegate)
        return living

    @property
    def rng(self) -> random.Random:
        return self.swarm.rng

    @property
    def up(self) -> list[PeerId]:
        nodes = self.swarm.nodes
        return [name for name in sorted(nodes) if nodes[name].machine is not None]

    @property
    def liars(self) -> list[PeerId]:
        return [name for name in self.up if not self.swarm.nodes[name].is_honest]

    def some_node(self) -> PeerId:
        """Return one that is up; when all have died, the first one is started again."""
        if not self.up:
            self.swarm.start(PeerId("n0"))
        return self.rng.choice(self.up)

    # What people sign

    def move(self, move: Move) -> None:
        """Somebody in the world does something; it gets to whom they can reach."""
        make(self.world, move)
        made, self.told = self.world.made[self.told :], len(self.world.made)
        for one in made:
            assert one.item is not None
            if one.what is not None:
                self.watch.note(one.item, one.what.account)
            if one.withheld == "late":
                self.late.append(one)
            elif not one.withheld:
                self.tell(one)

    def tell(self, made: Made) -> None:
        """Publish at a node, or gossip it from a lying one to some of the others."""
        assert made.item is not None
        if not made.honest and self.liars and self.rng.random() < 0.5:
            targets = self.rng.sample(self.up, self.rng.randint(1, len(self.up)))
            self.swarm.inject(self.rng.choice(self.liars), _ops(made.item.raw), targets)
            return
        try:
            item = unpack_item(made.item.raw)
        except MalformedBytes:
            return  # as a node's API finds
        causes = self.causes(made.what) if made.what is not None else []
        self.publish(self.some_node(), [*causes, item])

    def publish(self, name: PeerId, items: list[Item]) -> None:
        if self.swarm.nodes[name].machine is not None:
            self.swarm.publish(name, items)

    def causes(self, what: RefEntry | RefOperation) -> list[Item]:
        """What a thing cites, as far as its writer shows it, causes first."""
        by_id = {one.id: one for one in self.world.made if one.what is not None}
        wanted: set[bytes] = set()
        stack = list(_cited(what))
        while stack:
            id_ = stack.pop()
            found = by_id.get(id_)
            if found is not None and found.what is not None and id_ not in wanted:
                wanted.add(id_)
                stack += _cited(found.what)
        return [
            one.item
            for one in self.world.made
            if one.id in wanted and not one.withheld and one.item is not None
        ]

    # Looking at it

    def check_somebody(self) -> None:
        whole = [one for one in self.swarm.nodes.values() if one.is_honest and not one.dropped]
        check_world(self.rng.choice(whole), self.world, self.editors)

    def end(self) -> None:
        """All faults end, what was held back is told, time passes, and everybody agrees."""
        swarm = self.swarm
        swarm.heal()
        for made in self.late:
            assert made.item is not None
            self.publish(PeerId("n0"), [made.item])
        # A late joiner is a second chance for whoever skipped something: look without it, too.
        swarm.run(200_000)
        check_agreement(swarm)
        swarm.add_node()
        swarm.run(200_000)
        check_safety(swarm, self.watch)
        check_cursors(swarm)
        check_agreement(swarm)
        check_digests(swarm)
        check_world(swarm.nodes[PeerId("n0")], self.world, self.editors)

    def figures(self, seed: int, steps: Mapping[str, int]) -> Life:
        swarm = self.swarm
        moves = Counter(move.split()[0] for move in self.world.moves)
        return Life(
            seed=seed,
            nodes=len(swarm.nodes) - 1,
            options=self.options,
            steps=dict(sorted(steps.items())),
            moves=dict(sorted(moves.items())),
            acknowledged=len(swarm.acknowledged),
            records=len(swarm.nodes[PeerId("n0")].disk.records),
            edits=len(self.editors.edits),
            kills=swarm.kills,
            dropped=len(swarm.dropped),
            simulated_s=swarm.now_ms // 1000,
            history=swarm.history,
        )


def _drawn(swarm: Swarm) -> Options:
    """Draw who lies, whose clock is wrong, and who prunes."""
    rng = swarm.rng
    swarm.weather = Weather(rng.choice((0.0, 0.1, 0.3)), rng.choice((0.0, 0.2)),
                            (1, rng.choice((40, 3_000))))  # fmt: skip
    others = sorted(swarm.nodes)[1:]
    liars = {name: rng.choice(LIARS) for name in others[: len(others) // 3]}
    for name, liar in liars.items():
        swarm.nodes[name].liar = liar
    for name in others:
        if rng.random() < 0.5:
            clock = Clock(rng.uniform(0.9, 1.1), rng.choice((0, 5_000, 86_400_000)))
            swarm.nodes[name].clock = clock
    censoring = tuple(name for name in sorted(swarm.nodes) if rng.random() < 0.5)
    for name in censoring:
        swarm.nodes[name].censors = True  # from its next start on
    pruning = tuple(name for name in others if name not in liars and rng.random() < 0.4)
    return Options(
        swarm.weather,
        {name: liar.__name__ for name, liar in liars.items()},
        {name: (swarm.nodes[name].clock.rate, swarm.nodes[name].clock.ahead_ms) for name in others},
        pruning[: len(others) // 2],
        censoring,
    )


def _cited(what: RefEntry | RefOperation) -> tuple[bytes, ...]:
    if isinstance(what, RefEntry):
        return (what.predecessor,) if what.predecessor else ()
    account = (what.account,)
    return (*account, what.account_head, *sorted(what.predecessors))


def _ops(*raws: bytes) -> bytes:
    return encode(["ops", 0, NETWORK, list(raws)])


# One step of a life each

Step = Callable[[Living], None]


def creators_write(life: Living) -> None:
    name = life.some_node()
    genesis, item, account = life.creators.write(name)
    life.watch.note(genesis, account)
    life.watch.note(item, account)
    life.publish(name, [genesis, item])


def world_moves(life: Living) -> None:
    if len(life.world.made) < WORLD_ITEM_COUNT_MAX:
        life.move(life.rng.choices(list(life.weights), list(life.weights.values()))[0])


def editors_edit(life: Living) -> None:
    """Two or three people edit one card where they happen to be, before they hear of each other."""
    slug = life.world.pick_slug()
    for name in life.rng.sample(life.up, min(len(life.up), life.rng.randint(1, 3))):
        if not life.swarm.nodes[name].is_honest:
            continue
        made = life.editors.edit(life.swarm.nodes[name].disk, slug)
        if made is None:
            continue
        item = life.world.made[-1].item
        assert item is not None
        life.watch.note(item, made.account)
        life.told = len(life.world.made)
        life.publish(name, [item])


def crash(life: Living) -> None:
    if len(life.up) > 1:
        life.swarm.crash(life.rng.choice(life.up))


def restart(life: Living) -> None:
    for name in sorted(set(life.swarm.nodes) - set(life.up)):
        life.swarm.start(name)


def store_copied(life: Living) -> None:
    """A node comes back with a copy of its store, which everybody is then compared with."""
    life.swarm.copy_store(life.some_node())


def back_up(life: Living) -> None:
    name = life.some_node()
    if life.swarm.nodes[name].is_honest:
        life.backups[name] = copy_of(life.swarm.nodes[name].disk)


def put_back(life: Living) -> None:
    """An operator puts a backup in place: the database alone, or the whole folder."""
    names = [name for name in sorted(life.backups) if name in life.up]
    if not names:
        return
    name = life.rng.choice(names)
    life.swarm.stop(name)
    life.swarm.put_back(name, life.backups[name], folder=life.rng.random() < 0.5)
    life.watch.seen.pop(name, None)
    life.swarm.start(name)


def cut(life: Living) -> None:
    one, other = life.some_node(), life.some_node()
    if one != other:
        life.swarm.cut(one, other)


def cut_one_way(life: Living) -> None:
    life.swarm.cut_one_way(life.some_node(), life.some_node())


def disk_full(life: Living) -> None:
    life.swarm.nodes[life.some_node()].disk.failing_commits = life.rng.randint(1, 3)


def die_while_writing(life: Living) -> None:
    if len(life.up) > 2:
        life.swarm.nodes[life.some_node()].fate.next_commit = life.rng.choice(list(Torn))


def clock_jumps(life: Living) -> None:
    life.swarm.jump(life.some_node(), life.rng.choice((1_000, 60_000, 3_600_000)))


def prune(life: Living) -> None:
    for name in life.options.pruning:
        if life.swarm.nodes[name].machine is not None:
            life.swarm.prune(name)


def lie_in_a_field(life: Living) -> None:
    """A hostile peer gossips real items with one field changed, beside a real one."""
    signed = sorted(life.watch.signed.values())
    raws = [raw for raw in life.rng.sample(signed, min(8, len(signed))) if raw[2] != 3]
    if not life.liars or not raws:
        return
    frame = _ops(*(mutated_item(raw, life.rng) for raw in raws))
    single = [_ops(mutated_item(raw, life.rng)) for raw in raws]
    for one in (frame, *single, mutated_frame(_ops(*raws), life.rng)):
        life.swarm.inject(life.rng.choice(life.liars), one, life.up)


def flood(life: Living) -> None:
    """More than anybody's budget: orphans, announcements of nothing, and requests."""
    if not life.liars:
        return
    name = life.rng.choice(life.liars)
    target = life.some_node()
    eve = Writer("eve")
    life.swarm.inject(name, _ops(eve.genesis.raw), [target])
    for raws in _orphans(life.rng, eve):
        life.swarm.inject(name, _ops(*raws), [target])
    ids = [ItemId(sha3(life.rng.randbytes(8))) for _ in range(60)]
    life.swarm.inject(name, encode_have(ids, NETWORK), life.up)
    for number in range(60):
        request = CatchUp(b"", number, CatchUpMode.ITEMS) if number % 2 else Fetch(tuple(ids[:5]))
        life.swarm.pester(name, target, encode_request(request, NETWORK))


def _orphans(rng: random.Random, eve: Writer) -> list[list[bytes]]:
    """Writes that wait for what nobody has, in frames of sixty."""
    return [
        [
            make_operation(
                network=NETWORK,
                kind=RecordKind.MODEL,
                slug="orphan",
                type=OperationType.PUT,
                account=eve.account,
                key=eve.key,
                account_heads=(eve.account,),
                predecessors=(sha3(rng.randbytes(8)),),  # type: ignore[arg-type]
                depth=2,
                body=b"orphan",
                timestamp_s=0,
            ).raw
            for _ in range(60)
        ]
        for _ in range(5)
    ]


def blame_an_honest_peer(life: Living) -> None:
    """Invalid writes that wait for a good one; whoever brings that must not pay for them."""
    if not life.liars:
        return
    eve = Writer(f"eve {life.rng.random()}")
    cause = eve.put(b"cause %d" % life.rng.randrange(2**30))
    bad = [
        eve.put(b"wrong %d" % number, cites=(cause,), depth=9, timestamp_s=number).raw
        for number in range(24)
    ]
    name = life.rng.choice(life.liars)
    life.swarm.inject(name, _ops(eve.genesis.raw), life.up)
    life.swarm.inject(name, _ops(*bad), life.up)
    life.swarm.run(life.rng.randint(100, 3_000))
    life.publish(PeerId("n0"), [eve.genesis, cause])


def time_passes(life: Living) -> None:
    life.swarm.run(life.rng.randint(100, 20_000))


STEPS: Mapping[Step, int] = {
    creators_write: 15, world_moves: 28, editors_edit: 14, crash: 5, restart: 7, cut: 4,
    cut_one_way: 3, disk_full: 3, die_while_writing: 4, store_copied: 2, clock_jumps: 2, prune: 4,
    lie_in_a_field: 3, flood: 1, blame_an_honest_peer: 1, time_passes: 8,
}  # fmt: skip
RESTORES: Mapping[Step, int] = {back_up: 12, put_back: 10}
"""Beside the others where it is asked for: with these, every seed would be another life."""
