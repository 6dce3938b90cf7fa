"""Accounts that flood, in a swarm: whether others notice, and what a quota leaves of the flood.

Beside `swarm.py` a node here takes time: gossip waits in its `Inbox`, and a round of it is judged
every `ROUND_MS`. Both plays follow from their seed, and raise `Violation` for what must not be.
"""

from __future__ import annotations

from collections import Counter

from crdt import (
    Changed,
    Effect,
    GossipReceived,
    Inbox,
    Item,
    PeerId,
    QuotaLimits,
    Verdict,
    check_gossip,
    sha3,
)
from crdt.frames import Fetch, decode_request, encode_ops
from crdt.quotas import ROOT_PERCENT
from crdt.reconcile.frames import Pick
from tests.sim.independent import Violation
from tests.sim.swarm import SimNode, Swarm
from tests.writers import NETWORK, Writer

ROUND_MS = 20
QUIET_MS = 250
"""Between two writes of the quiet account."""
QUIET_COUNT = 12
FLOOD_BYTES = 7_000
FLOOD_ITEMS_PER_MS = 0.8
FRAMES_PER_ROUND = 3
"""Hostile frames of 56 KB, three times what a node judges in a round."""
HOUR_MS = 3_600_000


class BusySwarm(Swarm):
    """A swarm whose nodes judge gossip by rounds, as `node.driver` does."""

    def __init__(self, seed: int, node_count: int) -> None:
        self.inboxes: dict[PeerId, Inbox] = {}
        self.arrived_ms: dict[tuple[PeerId, bytes], int] = {}
        super().__init__(seed, node_count)
        for name in self.nodes:
            self._serve(name)

    def start(self, name: PeerId) -> None:
        self.inboxes[name] = Inbox(NETWORK)
        super().start(name)

    def _serve(self, name: PeerId) -> None:
        """Judge what the inbox gives for one round, and again a round later."""
        for event in self.inboxes[name].take():
            self._handle(self.nodes[name], event)
        self._at(ROUND_MS, lambda: self._serve(name))

    def _gossip(self, node: SimNode, author: PeerId, forwarder: SimNode, raw: bytes) -> None:
        if node.machine is None or sha3(raw) in node.seen:
            return
        node.seen.add(sha3(raw))
        if check_gossip(raw, NETWORK) is not Verdict.ACCEPT:
            return
        self._forward(node, author=author, via=forwarder.name, raw=raw)
        inbox = self.inboxes[node.name]
        inbox.put(GossipReceived(author, forwarder.name, raw), node.clock.at(self.now_ms))

    def _carry_out(self, node: SimNode, effect: Effect) -> None:
        if isinstance(effect, Changed):
            for change in effect.changes:
                self.inboxes[node.name].learn(change.operation.account, change.operation.key)
                self.arrived_ms.setdefault((node.name, change.record), self.now_ms)
        super()._carry_out(node, effect)


def play_fairness(seed: int) -> tuple[float, float]:
    """Return the p95 of a quiet account's propagation in simulated ms, without and with a flood.

    The flood is one account's: written at the node where the quiet account writes, and sent by a
    hostile node as fast as it likes, in frames that also hold nothing else.

    Raises:
        Violation: beside the flood it takes more than twice as long.
    """
    swarm = BusySwarm(seed, 4)
    names = sorted(swarm.nodes)
    quiet, flood = Writer("quiet"), Writer("flood")
    for name in names:
        swarm.publish(name, [quiet.genesis, flood.genesis, quiet.put(slug="first"),
                             flood.put(slug="first")])  # fmt: skip
    swarm.run(5_000)
    calm = _p95(swarm, quiet, "calm", lambda _at_ms: None)
    stock = _Stock(flood)

    def rush(round_ms: int) -> None:
        swarm.publish(names[0], stock.some(int(round_ms * FLOOD_ITEMS_PER_MS)))
        for _ in range(FRAMES_PER_ROUND):
            frame = encode_ops(stock.some(8), NETWORK)
            swarm.inject(names[3], frame, names[:3])

    loud = _p95(swarm, quiet, "loud", rush)
    if not any(len(inbox) for inbox in swarm.inboxes.values()):
        raise Violation("no flood", "nothing waited at the end")
    if loud > 2 * calm:
        raise Violation("unfair", f"quiet takes {loud:.0f} ms beside a flood, else {calm:.0f}")
    return calm, loud


class _Stock:
    """Things that one account floods with; no two are the same."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._count = 0

    def some(self, count: int) -> list[Item]:
        first, self._count = self._count, self._count + count
        body = b"x" * FLOOD_BYTES
        return [self._writer.put(body, slug=f"f{n}") for n in range(first, self._count)]


def _p95(swarm: BusySwarm, quiet: Writer, word: str, rush: object) -> float:
    assert callable(rush)
    names = sorted(swarm.nodes)[:3]
    began: dict[bytes, int] = {}
    for number in range(QUIET_COUNT):
        put = quiet.put(slug=f"{word}{number}")
        began[quiet.record(f"{word}{number}")] = swarm.now_ms
        swarm.publish(names[0], [put])
        for _ in range(QUIET_MS // ROUND_MS):
            rush(ROUND_MS)
            swarm.run(ROUND_MS)
    swarm.run(200)
    took = sorted(
        swarm.arrived_ms.get((name, record), swarm.now_ms) - at_ms
        for record, at_ms in began.items()
        for name in names[1:]
    )
    return took[int(len(took) * 0.95)]


class CountingSwarm(Swarm):
    """A swarm that counts the ids that each node asks others for, by fetch or pick."""

    def __init__(self, seed: int, node_count: int) -> None:
        self.asked: Counter[PeerId] = Counter()
        super().__init__(seed, node_count)

    def _answer(self, node: SimNode, peer: PeerId, raw: bytes) -> bytes | None:
        request = decode_request(raw, NETWORK)
        if isinstance(request, Fetch):
            self.asked[peer] += len(request.ids)
        elif isinstance(request, Pick):
            self.asked[peer] += len(request.shorts)
        return super()._answer(node, peer, raw)


def play_quota(seed: int) -> None:
    """Let an account write more than one node stores of it; then let that node have more.

    Raises:
        Violation: the node took more, or kept asking for it, or somebody else's writes suffered,
            or it does not hold everything once it may.
    """
    swarm = CountingSwarm(seed, 3)
    small, count_max, count = PeerId("n2"), 20, 120
    swarm.crash(small)
    swarm.nodes[small].quotas = QuotaLimits(operation_count_max=count_max)
    swarm.start(small)
    flood, quiet = Writer("flood"), Writer("quiet")
    swarm.publish(PeerId("n0"), [flood.genesis, quiet.genesis])
    chain: tuple[Item, ...] = ()
    for number in range(count):
        if swarm.rng.random() < 0.5:
            item = flood.put(b"v%d" % number, slug="chain", cites=chain)
            chain = (item,)
        else:
            item = flood.put(b"v%d" % number, slug=f"s{number}")
        swarm.publish(PeerId("n0"), [item])
        if not number % 10:
            swarm.publish(PeerId(f"n{swarm.rng.randrange(2)}"), [quiet.put(slug=f"q{number}")])
        swarm.run(swarm.rng.randint(1, 2_000))
    _check_quota(swarm, small, count_max, flood, quiet)
    swarm.run(HOUR_MS)
    before = swarm.asked[small]
    swarm.run(24 * HOUR_MS)
    # Every 10 minutes with two peers would be 288 comparisons, each for all that is over.
    if swarm.asked[small] - before > 12 * count:
        raise Violation("loop", f"over the quota, asked for {swarm.asked[small] - before} times")
    _check_quota(swarm, small, count_max, flood, quiet)
    swarm.crash(small)
    swarm.nodes[small].quotas = QuotaLimits()
    swarm.start(small)
    swarm.run(HOUR_MS // 12)  # before comparing would find it in any case
    numbers = [node.disk.numbers.keys() for node in swarm.nodes.values()]
    if any(some != numbers[0] for some in numbers):
        raise Violation("not taken up", "given room, a node lacks what it had passed over")


def _check_quota(swarm: Swarm, small: PeerId, count_max: int, flood: Writer, quiet: Writer) -> None:
    disk = swarm.nodes[small].disk
    mine = sum(one.account == flood.account for one in disk.operations.values())
    if mine * 100 > count_max * ROOT_PERCENT:
        raise Violation("over quota", f"{mine} operations stored where {count_max} may be")
    theirs = {id_ for id_, one in swarm.nodes[PeerId("n0")].disk.operations.items()
              if one.account == quiet.account}  # fmt: skip
    swarm.run(60_000)
    if not theirs <= disk.operations.keys():
        raise Violation("lost", "another account's operations are missing where one is full")
    if swarm.dropped:
        raise Violation("blamed", f"for what is over a quota: {swarm.dropped}")
