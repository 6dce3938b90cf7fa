"""Fair queues: nothing is lost unsaid, nothing is reordered, and a flood keeps nobody waiting."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import GossipReceived, Inbox, MalformedBytes, PeerId
from crdt.fairness import PROMPT_BURST, FairLanes, FairQueue
from crdt.frames import Ops, decode_gossip, encode_have, encode_ops
from crdt.inbox import INBOX_BYTES_MAX, PAIR_COUNT_MAX, ROUND_BYTES
from crdt.items import Item
from crdt.wire import encode
from tests.writers import NETWORK, OTHER_NETWORK, Writer

ANN, BOB, CEM = Writer("ann"), Writer("bob"), Writer("cem")
NEAR, AUTHOR = PeerId("near"), PeerId("author")
FLOWS = st.sampled_from([b"a", b"b", b"c"])
STEPS = st.lists(st.one_of(st.none(), st.tuples(FLOWS, st.integers(1, 120))), max_size=120)


@given(STEPS, st.integers(1, 400), st.integers(1, 50))
def test_what_was_put_is_taken_once_or_said_to_have_left(
    steps: list[tuple[bytes, int] | None], cost_max: int, quantum: int
) -> None:
    queue: FairQueue[tuple[bytes, int]] = FairQueue(cost_max=cost_max, quantum=quantum)
    out: list[tuple[bytes, int]] = []
    left: list[tuple[bytes, int]] = []
    for number, step in enumerate(steps):
        if step is not None:
            left += queue.put(step[0], (step[0], number), step[1])
        elif (taken := queue.take()) is not None:
            out.append(taken)
        assert queue.cost <= cost_max
    while (taken := queue.take()) is not None:
        out.append(taken)
    assert (len(queue), queue.cost, queue.flow_count) == (0, 0, 0)
    put = [(step[0], number) for number, step in enumerate(steps) if step is not None]
    assert sorted([*out, *left], key=lambda one: one[1]) == put
    for flow in (b"a", b"b", b"c"):
        mine = [number for name, number in out if name == flow]
        assert mine == sorted(mine)


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=60),
    st.lists(st.integers(1, 100), min_size=1, max_size=60),
    st.integers(1, 100),
)
def test_two_flows_that_wait_are_served_alike_however_they_cut_their_things(
    ours: list[int], theirs: list[int], quantum: int
) -> None:
    queue: FairQueue[tuple[bytes, int]] = FairQueue(cost_max=10**6, quantum=quantum)
    for flow, costs in ((b"a", ours), (b"b", theirs)):
        for cost in costs:
            queue.put(flow, (flow, cost), cost)
    served: dict[bytes, int] = defaultdict(int)
    while b"a" in queue and b"b" in queue:
        taken = queue.take()
        assert taken is not None
        served[taken[0]] += taken[1]
        # Deficit round robin: never further apart than a turn, what is in it, and what was saved.
        assert abs(served[b"a"] - served[b"b"]) <= 2 * (quantum + 100)


@given(st.integers(1, 500))
def test_a_flow_that_overflows_loses_its_own(count: int) -> None:
    queue: FairQueue[int] = FairQueue(cost_max=100)
    queue.put(b"quiet", -1, 10)
    left = [one for number in range(count) for one in queue.put(b"flood", number, 10)]
    assert -1 not in left
    assert left == list(range(max(0, count - 9)))


@given(st.integers(PROMPT_BURST + 1, 2_000), st.integers(0, 100_000))
def test_who_keeps_to_a_small_rate_goes_before_any_flood(count: int, start_ms: int) -> None:
    lanes: FairLanes[str] = FairLanes(cost_max=10**9)
    for _ in range(count):
        lanes.put(b"flood", "flood", 100, start_ms)
    for _ in range(PROMPT_BURST):
        lanes.take()
    for second in range(1, 20):
        lanes.put(b"flood", "flood", 100, start_ms + 1000 * second)
        lanes.put(b"quiet", "quiet", 100, start_ms + 1000 * second)
        assert lanes.take() == "quiet"


def test_a_flow_with_bulk_waiting_is_not_overtaken_by_itself() -> None:
    lanes: FairLanes[int] = FairLanes(cost_max=10**6)
    for number in range(PROMPT_BURST + 5):
        lanes.put(b"a", number, 1, now_ms=0)
    lanes.put(b"a", PROMPT_BURST + 5, 1, now_ms=60_000)  # its rate has room again
    taken = [lanes.take() for _ in range(PROMPT_BURST + 6)]
    assert taken == list(range(PROMPT_BURST + 6))


def frame(*items: Item) -> GossipReceived:
    return GossipReceived(AUTHOR, NEAR, encode_ops(items, NETWORK))


def known(inbox: Inbox, *writers: Writer) -> Inbox:
    for writer in writers:
        inbox.learn(writer.account, writer.key.public)
    return inbox


def items_in(events: list[GossipReceived]) -> list[Item]:
    frames = [decode_gossip(event.raw, NETWORK) for event in events]
    return [item for one in frames if isinstance(one, Ops) for item in one.items]


@given(st.lists(st.tuples(st.sampled_from([ANN, BOB, CEM]), st.integers(0, 3)), min_size=1,
                max_size=12))  # fmt: skip
def test_a_frame_is_taken_apart_by_account_and_nothing_is_lost(
    written: list[tuple[Writer, int]],
) -> None:
    inbox = known(Inbox(NETWORK), ANN, BOB)
    items = [who.put(b"%d" % n, slug=f"s{place}") for place, (who, n) in enumerate(written)]
    parts = inbox.parts_of(frame(*items))
    assert len({part.flow for part in parts}) == len(parts)
    got = items_in([GossipReceived(AUTHOR, NEAR, part.raw) for part in parts])
    assert sorted(item.id for item in got) == sorted(item.id for item in items)
    flows = {ANN.name: ANN.account, BOB.name: BOB.account, CEM.name: NEAR.encode()}
    assert {part.flow for part in parts} == {flows[who.name] for who, _ in written}


def test_nobody_fills_the_flow_of_an_account_with_what_its_keys_did_not_sign() -> None:
    inbox = known(Inbox(NETWORK), ANN)
    thief = Writer("thief")
    forged = ANN.put(key=thief.key)
    assert [part.flow for part in inbox.parts_of(frame(forged))] == [NEAR.encode()]
    assert [part.flow for part in inbox.parts_of(frame(ANN.put()))] == [ANN.account]


def test_what_cannot_be_read_waits_as_it_is_in_its_neighbours_flow() -> None:
    inbox = Inbox(NETWORK)
    ids = encode_have([ANN.genesis.id], NETWORK)
    foreign = encode_ops([ANN.genesis], OTHER_NETWORK)
    for raw in (b"", b"junk", encode(["ops", 0, NETWORK]), foreign, ids):
        (part,) = inbox.parts_of(GossipReceived(AUTHOR, NEAR, raw))
        assert (part.flow, part.raw) == (NEAR.encode(), raw)


def test_a_quiet_accounts_item_is_judged_in_the_next_round_however_much_waits() -> None:
    inbox = known(Inbox(NETWORK), ANN, BOB)
    flood = [ANN.put(b"x" * 10_000, slug=f"s{number}") for number in range(200)]
    for item in flood:
        inbox.put(frame(item), 0)
    while inbox:
        quiet = BOB.put(slug=f"q{len(inbox)}")
        inbox.put(frame(ANN.put(slug=f"with{len(inbox)}"), quiet), 10_000 * (201 - len(inbox)))
        taken = inbox.take()
        assert quiet in items_in(taken)
        assert sum(len(event.raw) for event in taken[1:]) <= ROUND_BYTES
        for _ in range(3):
            inbox.take()


def test_the_inbox_is_bounded_and_a_flood_drops_its_own_oldest() -> None:
    inbox = known(Inbox(NETWORK), ANN, BOB)
    big = frame(ANN.put(b"x" * 59_000))
    quiet = BOB.put()
    count = INBOX_BYTES_MAX // len(big.raw) + 100
    for _ in range(PROMPT_BURST):
        inbox.put(frame(quiet), 0)
    for _ in range(count):
        inbox.put(big, 0)
    assert inbox.dropped_count >= 100 - PROMPT_BURST
    got = []
    while inbox:
        got += items_in(inbox.take())
    assert got.count(quiet) == PROMPT_BURST
    assert len(got) * len(big.raw) <= INBOX_BYTES_MAX + 2 * PROMPT_BURST * len(big.raw)


def test_who_writes_is_remembered_within_a_bound() -> None:
    inbox = known(Inbox(NETWORK), ANN)
    for number in range(PAIR_COUNT_MAX):
        inbox.learn(BOB.account, number.to_bytes(32, "big"))  # type: ignore[arg-type]
    assert [part.flow for part in inbox.parts_of(frame(ANN.put()))] == [NEAR.encode()]


def test_an_unreadable_frame_is_still_judged_by_whoever_judges_frames() -> None:
    inbox = Inbox(NETWORK)
    inbox.put(GossipReceived(AUTHOR, NEAR, b"junk"), 0)
    (event,) = inbox.take()
    with pytest.raises(MalformedBytes):
        decode_gossip(event.raw, NETWORK)
