"""The sync machine, one event at a time: what it answers, asks, ignores and refuses."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TypeVar

import pytest

from crdt import (
    Admission,
    AnswerReceived,
    Changed,
    Cursor,
    DropPeer,
    Effect,
    Gossip,
    GossipReceived,
    Heartbeat,
    Item,
    ItemId,
    LocalItems,
    PeerConnected,
    PeerId,
    PeerLost,
    Reply,
    RequestFailed,
    RequestReceived,
    SendRequest,
    Settled,
    SyncLimits,
    SyncMachine,
    SyncProtocol,
    WakeAt,
    WorldFault,
    encode,
    parse_operation,
    sha3,
)
from crdt.budgets import TokenBucket
from crdt.fairness import PROMPT_BURST
from crdt.frames import (
    CatchUp,
    CatchUpMode,
    Fetch,
    Have,
    Ops,
    decode_caught_up,
    decode_fetched,
    decode_gossip,
    decode_request,
    encode_caught_up,
    encode_fetched,
    encode_have,
    encode_ops,
    encode_request,
)
from crdt.outbox import FRAME_BURST, ITEM_BYTES_MAX, Outbox
from crdt.progress import COMPARE_MS_MAX, new_progress
from crdt.reconcile.frames import (
    AskRanges,
    Compare,
    Take,
    decode_ranged,
    decode_sketched,
    encode_ranged,
    encode_sketched,
)
from node.storage.memory import MemoryDisk, MemoryStorage
from tests.crdt.replicas import PEER, new_replica
from tests.writers import NETWORK, Writer

ANN = Writer("ann")
OTHER = PeerId("other")
EPOCH = b"p" * 16
T = TypeVar("T")


class Bench:
    """A machine, and the last time it was told of."""

    def __init__(self, limits: SyncLimits | None = None) -> None:
        self.disk = MemoryDisk(b"e" * 16)
        self.machine = SyncMachine(new_replica(self.disk), random.Random(1), limits)
        self.now_ms = 1_000

    def __call__(self, event: object) -> list[Effect]:
        return self.machine.handle(event, now_ms=self.now_ms)  # type: ignore[arg-type]

    def connect(self, peer: PeerId = PEER) -> SendRequest:
        return only(self(PeerConnected(peer)), SendRequest)

    def answer(self, request: SendRequest, raw: bytes) -> list[Effect]:
        return self(AnswerReceived(request.peer, request.request, raw))


class Side:
    """A peer, which answers as a machine does."""

    def __init__(self, items: list[Item]) -> None:
        self.disk = MemoryDisk(EPOCH)
        self.machine = SyncMachine(new_replica(self.disk), random.Random(2))
        self.machine.handle(LocalItems(1, tuple(items)), now_ms=0)
        self.machine.handle(PeerConnected(OTHER), now_ms=0)

    def answer(self, request: SendRequest) -> bytes:
        effects = self.machine.handle(RequestReceived(OTHER, 1, request.raw), now_ms=1_000)
        raw = only(effects, Reply).raw
        assert raw is not None
        return raw


def only(effects: list[Effect], kind: type[T]) -> T:
    found = [effect for effect in effects if isinstance(effect, kind)]
    assert len(found) == 1, effects
    return found[0]


def page(*items: Item, ids: tuple[ItemId, ...] = (), n: int = 0, done: bool = True) -> bytes:
    count = len(items) + len(ids)
    return encode_caught_up(
        network=NETWORK,
        epoch=EPOCH,
        next_n=n + count,
        last_n=n + count,
        done=done,
        raws=[item.raw for item in items],
        ids=ids,
    )


def asked(effect: SendRequest) -> CatchUp | Fetch:
    return decode_request(effect.raw, NETWORK)


def test_a_new_peer_is_asked_for_everything_and_then_from_where_it_ended() -> None:
    bench = Bench()
    first = bench.connect()
    assert asked(first) == CatchUp(b"", 0, CatchUpMode.ITEMS)
    effects = bench.answer(first, page(ANN.genesis, done=False))
    assert asked(only(effects, SendRequest)) == CatchUp(EPOCH, 1, CatchUpMode.ITEMS)
    effects = bench.answer(only(effects, SendRequest), page(ANN.put(), n=1))
    assert not [effect for effect in effects if isinstance(effect, SendRequest)]
    assert bench.disk.cursors[PEER].n == 2
    bench.now_ms += 40_000
    again = asked(only(bench(Heartbeat()), SendRequest))
    assert again == CatchUp(EPOCH, 2, CatchUpMode.IDS)


def test_only_one_peer_sends_whole_items_and_the_next_is_asked_when_it_fails() -> None:
    bench = Bench()
    first = bench.connect()
    assert not [e for e in bench(PeerConnected(OTHER)) if isinstance(e, SendRequest)]
    effects = bench(RequestFailed(PEER, first.request, "timeout"))
    bench.now_ms = only(effects[-1:], WakeAt).at_ms
    assert only(bench(Heartbeat()), SendRequest).peer == OTHER


def test_a_page_of_ids_is_passed_only_when_its_items_are_here() -> None:
    bench = Bench()
    bench.answer(bench.connect(), page())
    put = ANN.put()
    bench.now_ms += 40_000
    ask = only(bench(Heartbeat()), SendRequest)
    fetch = only(bench.answer(ask, page(ids=(ANN.genesis.id, put.id))), SendRequest)
    assert asked(fetch) == Fetch((ANN.genesis.id, put.id))
    assert bench.disk.cursors.get(PEER) is None or bench.disk.cursors[PEER].n == 0
    # A prefix that fits: the rest is asked for again.
    rest = only(bench.answer(fetch, encode_fetched([ANN.genesis.raw], (), NETWORK)), SendRequest)
    assert asked(rest) == Fetch((put.id,))
    bench.answer(rest, encode_fetched([put.raw], (), NETWORK))
    assert bench.disk.cursors[PEER].n == 2
    assert put.id in bench.disk.numbers


@pytest.mark.parametrize("fetch_fails", [False, True])
def test_a_page_of_ids_waits_for_a_fetch_that_was_under_way(fetch_fails: bool) -> None:
    """Found by a life (seed 47): the cursor passed it, and then the fetch failed."""
    bench = Bench()
    bench.answer(bench.connect(), page())
    put = ANN.put()
    bench.now_ms += 40_000
    ask = only(bench(Heartbeat()), SendRequest)
    announced = GossipReceived(OTHER, PEER, encode_have([ANN.genesis.id], NETWORK))
    fetch = only(bench(announced), SendRequest)
    assert not bench.answer(ask, page(ids=(put.id,)))
    assert PEER not in bench.disk.cursors or bench.disk.cursors[PEER].n == 0
    if fetch_fails:
        bench(RequestFailed(PEER, fetch.request, "timeout"))
        bench.now_ms += 40_000
        assert asked(only(bench(Heartbeat()), SendRequest)).after_n == 0  # type: ignore[union-attr]
        return
    rest = only(bench.answer(fetch, encode_fetched([ANN.genesis.raw], (), NETWORK)), SendRequest)
    assert asked(rest) == Fetch((put.id,))
    bench.answer(rest, encode_fetched([put.raw], (), NETWORK))
    assert bench.disk.cursors[PEER].n == 1


def test_what_another_peer_is_sending_is_waited_for_once() -> None:
    bench = Bench()
    bench.answer(bench.connect(), page())
    bench.now_ms += 40_000
    ids = (ANN.genesis.id,)
    only(bench.answer(only(bench(Heartbeat()), SendRequest), page(ids=ids)), SendRequest)
    ask = only(bench(PeerConnected(OTHER)), SendRequest)
    assert not [e for e in bench.answer(ask, page(ids=ids)) if isinstance(e, SendRequest)]
    bench.now_ms += 2_000
    ask = only(bench(Heartbeat()), SendRequest)
    fetch = only(bench.answer(ask, page(ids=ids)), SendRequest)
    assert (fetch.peer, asked(fetch)) == (OTHER, Fetch(ids))


def test_gossip_that_cites_the_unknown_fetches_it_from_who_passed_it_on() -> None:
    bench = Bench()
    bench.connect()
    put = ANN.put()
    effects = bench(GossipReceived(OTHER, PEER, encode_ops([put], NETWORK)))
    fetch = only(effects, SendRequest)
    assert (fetch.peer, asked(fetch)) == (PEER, Fetch((ANN.genesis.id,)))
    # Not twice while it is under way.
    more = ANN.put(slug="more")
    again = bench(GossipReceived(OTHER, PEER, encode_ops([more], NETWORK)))
    assert not [e for e in again if isinstance(e, SendRequest)]
    effects = bench.answer(fetch, encode_fetched([ANN.genesis.raw], (), NETWORK))
    assert only(effects, Changed).admitted_count == 3


def test_an_announcement_is_fetched_unless_known() -> None:
    bench = Bench()
    bench.connect()
    bench(LocalItems(1, (ANN.genesis,)))
    put = ANN.put()
    have = encode_have([ANN.genesis.id, put.id], NETWORK)
    fetch = only(bench(GossipReceived(OTHER, PEER, have)), SendRequest)
    assert asked(fetch) == Fetch((put.id,))


def test_gossip_of_somebody_we_are_not_connected_to_is_left() -> None:
    bench = Bench()
    assert bench(GossipReceived(OTHER, OTHER, encode_ops([ANN.genesis], NETWORK))) == []
    assert not bench.disk.items


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(page(ids=(ANN.genesis.id,)), id="the other mode"),
        pytest.param(page(done=False), id="an empty page that is not the end"),
        pytest.param(encode_fetched([], (), NETWORK), id="another answer"),
        pytest.param(
            encode_caught_up(
                network=NETWORK, epoch=EPOCH, next_n=0, last_n=0, done=True, raws=[ANN.genesis.raw]
            ),
            id="a cursor that does not grow",
        ),
    ],
)
def test_a_peer_that_answers_nonsense_twice_is_dropped(raw: bytes) -> None:
    bench = Bench()
    assert not [e for e in bench.answer(bench.connect(), raw) if isinstance(e, DropPeer)]
    bench.now_ms += 5_000
    request = only(bench(Heartbeat()), SendRequest)
    drop = only(bench.answer(request, raw), DropPeer)
    assert (drop.peer, drop.ban_s) == (PEER, 300)
    assert bench.machine.status().peers == ()


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(encode_fetched([ANN.put().raw], (), NETWORK), id="not asked for"),
        pytest.param(encode_fetched([], (ItemId(sha3(b"?")),), NETWORK), id="absent, not asked"),
        pytest.param(encode_fetched([], (), NETWORK), id="nothing at all"),
        pytest.param(encode_fetched([ANN.genesis.raw] * 2, (), NETWORK), id="the same twice"),
        pytest.param(page(), id="a page"),
    ],
)
def test_a_wrong_answer_to_a_fetch_counts_six(raw: bytes) -> None:
    bench = Bench(SyncLimits(fault_score_max=5))
    bench.connect()
    have = encode_have([ANN.genesis.id], NETWORK)
    fetch = only(bench(GossipReceived(OTHER, PEER, have)), SendRequest)
    assert only(bench.answer(fetch, raw), DropPeer).peer == PEER


def test_late_answers_and_failures_are_owed_nothing() -> None:
    bench = Bench()
    request = bench.connect()
    assert bench(AnswerReceived(PEER, request.request + 1, b"junk")) == []
    assert bench(RequestFailed(PEER, request.request + 1, "x")) == []
    bench(PeerLost(PEER))
    assert bench.answer(request, b"junk") == []
    assert bench(PeerLost(PEER)) == []


def test_requests_are_answered_from_the_store() -> None:
    bench = Bench()
    put = ANN.put()
    bench(LocalItems(1, (ANN.genesis, put)))
    bench.connect()
    after = encode_request(CatchUp(b"e" * 16, 1, CatchUpMode.ITEMS), NETWORK)
    reply = only(bench(RequestReceived(PEER, 7, after)), Reply)
    answer = decode_caught_up(reply.raw, NETWORK)
    assert (reply.token, answer.items, answer.next_n, answer.done) == (7, (put,), 2, True)
    other_epoch = encode_request(CatchUp(b"x" * 16, 1, CatchUpMode.IDS), NETWORK)
    answer = decode_caught_up(
        only(bench(RequestReceived(PEER, 8, other_epoch)), Reply).raw, NETWORK
    )
    assert answer.ids == (ANN.genesis.id, put.id)
    wanted = Fetch((put.id, ItemId(sha3(b"none"))))
    reply = only(bench(RequestReceived(PEER, 9, encode_request(wanted, NETWORK))), Reply)
    fetched = decode_fetched(reply.raw, NETWORK)
    assert (fetched.items, fetched.absent) == ((put,), wanted.ids[1:])


def test_strangers_and_those_over_their_budget_get_no_answer() -> None:
    bench = Bench(SyncLimits(requests_per_s=1))
    raw = encode_request(CatchUp(b"", 0, CatchUpMode.IDS), NETWORK)
    assert only(bench(RequestReceived(PEER, 1, raw)), Reply).raw is None
    bench.connect()
    replies = [only(bench(RequestReceived(PEER, n, raw)), Reply).raw for n in range(4)]
    assert [reply is not None for reply in replies] == [True, True, False, False]
    bench.now_ms += 1_000
    assert only(bench(RequestReceived(PEER, 9, raw)), Reply).raw is not None


def test_a_full_disk_while_catching_up_asks_again_and_skips_nothing() -> None:
    bench = Bench()
    request = bench.connect()
    bench.disk.failing_commits = 1
    with pytest.raises(WorldFault):
        bench.answer(request, page(ANN.genesis))
    bench.now_ms += 5_000
    again = only(bench(Heartbeat()), SendRequest)
    assert asked(again) == CatchUp(b"", 0, CatchUpMode.ITEMS)
    bench.answer(again, page(ANN.genesis))
    assert bench.disk.cursors[PEER].n == 1


def test_what_a_neighbour_passes_on_is_bounded_in_bytes_and_another_one_has_its_own_share() -> None:
    big = [ANN.put(b"x" * 50_000, slug=f"s{number}") for number in range(4)]
    bench = Bench(SyncLimits(gossip_bytes_per_s=50_000))
    bench.connect()
    bench(PeerConnected(OTHER))
    bench(GossipReceived(PEER, PEER, encode_ops([ANN.genesis], NETWORK)))
    frames = [encode_ops([item], NETWORK) for item in big]
    for frame in frames[:3]:
        bench(GossipReceived(PEER, PEER, frame))
    assert bench.disk.last_n == 2, "the burst is two seconds of it"
    bench(GossipReceived(PEER, OTHER, frames[2]))
    assert bench.disk.last_n == 3
    bench.now_ms += 2_000
    bench(GossipReceived(PEER, PEER, frames[3]))
    assert bench.disk.last_n == 4


def test_a_comparison_that_brings_only_what_is_not_taken_puts_the_next_one_off() -> None:
    peer = new_progress(PEER, None, SyncLimits(), 0)
    waits = []
    for _ in range(12):
        peer.compare_due_ms = 600_000
        peer.compared(is_fruitless=True, now_ms=0)
        waits.append(peer.compare_due_ms)
    assert waits[:3] == [1_200_000, 2_400_000, 4_800_000]
    assert max(waits) == COMPARE_MS_MAX
    peer.compare_due_ms = 600_000
    peer.compared(is_fruitless=False, now_ms=0)
    assert peer.compare_due_ms == 600_000


def test_a_local_write_is_settled_before_it_is_gossiped() -> None:
    bench = Bench()
    effects = bench(LocalItems(3, (ANN.genesis, ANN.put())))
    kinds = [type(effect) for effect in effects]
    assert kinds[:3] == [Settled, Changed, Gossip]
    assert effects[0].token == 3  # type: ignore[union-attr]


def test_the_outbox_paces_batches_and_falls_back_to_ids() -> None:
    outbox = Outbox(NETWORK)
    items = [ANN.put(b"x" * 30_000, slug=f"s{number}") for number in range(200)]
    outbox.put([Admission(item, parse_operation(item, NETWORK)) for item in items], 0)
    first = outbox.flush(0)
    assert 1 <= len(first) <= FRAME_BURST
    assert outbox.flush(0) == []
    frames = [*first]
    now_ms = 0
    while outbox:
        now_ms = outbox.due_ms(now_ms)
        frames += outbox.flush(now_ms)
    opened = [decode_gossip(frame.raw, NETWORK) for frame in frames if isinstance(frame, Gossip)]
    whole = [item.id for frame in opened if isinstance(frame, Ops) for item in frame.items]
    announced = [id_ for frame in opened if isinstance(frame, Have) for id_ in frame.ids]
    assert (len(whole) - PROMPT_BURST) * 30_000 <= ITEM_BYTES_MAX
    assert sorted([*whole, *announced]) == sorted(item.id for item in items)
    assert len(frames) / 20 <= now_ms / 1000 + FRAME_BURST / 20 + 1


def test_a_flooding_account_leaves_frames_for_a_quiet_one() -> None:
    bob, outbox = Writer("bob"), Outbox(NETWORK)
    flood = [ANN.put(b"x" * 2_000, slug=f"s{number}") for number in range(1_000)]
    outbox.put([Admission(item, parse_operation(item, NETWORK)) for item in flood], 0)
    outbox.flush(0)
    for now_ms in range(50, 5_000, 200):
        outbox.flush(now_ms - 1)
        quiet = bob.put(slug=f"q{now_ms}")
        outbox.put([Admission(quiet, parse_operation(quiet, NETWORK))], now_ms)
        frames = [one.raw for one in outbox.flush(now_ms) if isinstance(one, Gossip)]
        opened = [decode_gossip(raw, NETWORK) for raw in frames]
        assert any(isinstance(one, Ops) and one.items == (quiet,) for one in opened)
    assert outbox, "the flood is still waiting"


def test_a_bucket_refills_with_time_and_not_past_its_brim() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=5, now_ms=0)
    assert [bucket.take(1, 0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.wait_ms(1, 0) == 100
    assert bucket.take(1, 100)
    assert not bucket.take(6, 1_000_000)
    bucket.owe(50, 1_000_000)
    assert not bucket.take(1, 1_000_100)
    assert bucket.take(1, 1_005_000)


def test_the_status_shows_progress() -> None:
    bench = Bench()
    request = bench.connect()
    assert bench.machine.status().peers[0].synced is False
    bench.answer(request, page(ANN.genesis))
    status = bench.machine.status()
    assert (status.peers[0].n, status.peers[0].synced, status.item_n) == (1, True, 1)
    assert MemoryStorage(bench.disk).last_n == 1


def read_ahead(bench: Bench) -> tuple[SendRequest, list[Item]]:
    """A page that is not taken in yet, behind one that is, and the request for the one after."""
    items = [ANN.genesis, *(ANN.put(b"%d" % number) for number in range(5))]
    second = only(bench.answer(bench.connect(), page(*items[:2], done=False)), SendRequest)
    effects = bench.answer(second, page(*items[2:4], n=2, done=False))
    third = only(effects, SendRequest)
    assert asked(third) == CatchUp(EPOCH, 4, CatchUpMode.ITEMS)
    assert only(effects, WakeAt).at_ms <= bench.now_ms
    assert bench.disk.cursors[PEER].n == 2
    return third, items


def test_the_next_page_is_asked_for_before_one_is_taken_in() -> None:
    bench = Bench()
    third, items = read_ahead(bench)
    assert not [effect for effect in bench(Heartbeat()) if isinstance(effect, SendRequest)]
    assert bench.disk.cursors[PEER].n == 4
    bench.answer(third, page(*items[4:], n=4))
    assert bench.disk.cursors[PEER].n == 6


def test_a_page_that_comes_early_waits_for_the_one_before_it() -> None:
    bench = Bench()
    third, items = read_ahead(bench)
    bench.answer(third, page(*items[4:], n=4))
    assert [bench.disk.items[n].id for n in range(1, 7)] == [item.id for item in items]


@pytest.mark.parametrize("by", ["heartbeat", "next page"])
def test_a_page_that_the_disk_refuses_is_read_again_and_so_is_the_next(by: str) -> None:
    bench = Bench()
    third, items = read_ahead(bench)
    bench.disk.failing_commits = 1
    with pytest.raises(WorldFault):
        bench(Heartbeat()) if by == "heartbeat" else bench.answer(third, page(*items[4:], n=4))
    assert bench.disk.cursors[PEER].n == 2
    assert bench.answer(third, page(*items[4:], n=4)) == []
    bench.now_ms += 40_000
    again = only(bench(Heartbeat()), SendRequest)
    assert asked(again) == CatchUp(EPOCH, 2, CatchUpMode.ITEMS)


def test_a_lost_peer_leaves_no_page_behind() -> None:
    bench = Bench()
    read_ahead(bench)
    bench(PeerLost(PEER))
    bench(Heartbeat())
    assert bench.disk.cursors[PEER].n == 2
    assert asked(bench.connect()) == CatchUp(EPOCH, 2, CatchUpMode.ITEMS)


def test_nothing_is_read_ahead_of_pages_that_hold_nothing_new() -> None:
    bench = Bench()
    known = page(ANN.genesis, done=False)
    second = only(bench.answer(bench.connect(), known), SendRequest)
    effects = bench.answer(second, page(ANN.genesis, n=1, done=False))
    third = only(effects, SendRequest)  # read ahead of this page, which is not looked into yet
    bench(Heartbeat())
    effects = bench.answer(third, page(ANN.genesis, n=2, done=False))
    assert not [effect for effect in effects if isinstance(effect, SendRequest)]


def test_who_hangs_in_a_comparison_keeps_nobody_from_being_read() -> None:
    bench = Bench()
    bench(LocalItems(1, (ANN.genesis,)))
    hung = bench.connect(OTHER)
    assert isinstance(decode_request(hung.raw, NETWORK), Compare)
    effects = bench(PeerConnected(PEER))
    asked_ms = bench.now_ms
    while not [effect for effect in effects if isinstance(effect, SendRequest)]:
        bench.now_ms = max(bench.now_ms + 1, min(e.at_ms for e in effects if isinstance(e, WakeAt)))
        effects = bench(Heartbeat())
    assert bench.now_ms - asked_ms <= 2_100
    assert asked(only(effects, SendRequest)) == CatchUp(b"", 0, CatchUpMode.ITEMS)


def test_a_proof_that_is_due_waits_for_nothing_and_stops_nothing() -> None:
    bench = Bench(SyncLimits(compare_ms=30_000))
    bench.answer(bench.connect(), page(ANN.genesis))
    bench.now_ms += 40_000
    first = only(bench(Heartbeat()), SendRequest)
    assert isinstance(decode_request(first.raw, NETWORK), Compare)
    # It does not answer: then the log is read on.
    bench(RequestFailed(PEER, first.request, "timeout"))
    bench.now_ms += 5_000
    again = only(bench(Heartbeat()), SendRequest)
    assert asked(again) == CatchUp(EPOCH, 1, CatchUpMode.IDS)


def narrowing(bench: Bench) -> tuple[SendRequest, Side]:
    """Have a machine compare with a peer whose sketch is empty; return its wish for ranges."""
    items = [ANN.genesis, *(ANN.put(b"%d" % n, slug=f"s{n}") for n in range(60))]
    bench(LocalItems(1, tuple(items)))
    side = Side(items[:1] + [ANN.put(b"theirs %d" % n, slug=f"t{n}") for n in range(60)])
    ask = bench.connect()
    ask = only(bench.answer(ask, side.answer(ask)), SendRequest)
    sketched = decode_sketched(side.answer(ask), NETWORK)
    empty = encode_sketched(sketched.held, bytes(len(sketched.cells)), NETWORK)
    return only(bench.answer(ask, empty), SendRequest), side


def test_when_a_sketch_keeps_something_back_ranges_are_asked_for_to_the_end() -> None:
    bench = Bench()
    ask, side = narrowing(bench)
    tags = []
    while True:
        tags.append(type(decode_request(ask.raw, NETWORK)))
        sent = [one for one in bench.answer(ask, side.answer(ask)) if isinstance(one, SendRequest)]
        if not sent:
            break
        (ask,) = sent
    assert tags == [AskRanges, AskRanges, Take]
    assert side.disk.operations.keys() <= bench.disk.operations.keys()
    assert bench.disk.cursors[PEER] == Cursor(side.disk.epoch, 61)


def test_who_has_done_enough_for_now_is_asked_the_same_ranges_a_second_later() -> None:
    bench = Bench()
    first, side = narrowing(bench)
    second = only(bench.answer(first, side.answer(first)), SendRequest)
    for _ in range(10):
        bench(RequestFailed(PEER, second.request, "refused"))
        assert not [one for one in bench(Heartbeat()) if isinstance(one, SendRequest)]
        bench.now_ms += 1_300
        again = only(bench(Heartbeat()), SendRequest)
        assert again.raw == second.raw
        assert again.request != second.request
        second = again
    bench(RequestFailed(PEER, second.request, "refused"))
    bench.now_ms += 40_000
    assert asked(only(bench(Heartbeat()), SendRequest)) == CatchUp(b"", 0, CatchUpMode.ITEMS)


def test_who_does_not_know_of_ranges_is_not_asked_for_them_again() -> None:
    bench = Bench()
    first, _ = narrowing(bench)
    bench(RequestFailed(PEER, first.request, "refused"))
    bench.now_ms += 3_000
    assert asked(only(bench(Heartbeat()), SendRequest)) == CatchUp(b"", 0, CatchUpMode.ITEMS)


def test_a_comparison_that_takes_too_long_is_given_up() -> None:
    bench = Bench()
    first, side = narrowing(bench)
    bench.now_ms += 120_000
    effects = bench.answer(first, side.answer(first))
    assert asked(only(effects, SendRequest)) == CatchUp(b"", 0, CatchUpMode.ITEMS)


def test_ranges_of_two_sets_are_not_put_together() -> None:
    bench = Bench()
    first, side = narrowing(bench)
    second = only(bench.answer(first, side.answer(first)), SendRequest)
    told = decode_ranged(side.answer(second), NETWORK)
    other = replace(told.held, last_n=told.held.last_n + 1)
    effects = bench.answer(second, encode_ranged(other, told.parts, NETWORK))
    assert asked(only(effects, SendRequest)) == CatchUp(b"", 0, CatchUpMode.ITEMS)


def test_who_speaks_no_comparison_is_read_at_once_and_never_asked_for_one_again() -> None:
    bench = Bench(SyncLimits(compare_ms=30_000))
    bench(LocalItems(1, (ANN.genesis,)))
    first = bench.connect()
    assert first.protocol is SyncProtocol.COMPARE
    effects = bench(RequestFailed(PEER, first.request, "unspoken", unspoken=True))
    second = only(effects, SendRequest)
    assert (second.protocol, asked(second)) == (
        SyncProtocol.SYNC,
        CatchUp(b"", 0, CatchUpMode.ITEMS),
    )
    bench.answer(second, page(ANN.put()))
    for _ in range(4):
        bench.now_ms += 40_000
        again = only(bench(Heartbeat()), SendRequest)
        assert isinstance(asked(again), CatchUp)
        bench.answer(again, page(n=1))
    bench(PeerLost(PEER))
    bench.disk.cursors.clear()  # whoever comes back may have been brought up to date
    assert bench.connect().protocol is SyncProtocol.COMPARE


def test_a_request_of_a_later_version_gets_no_answer_and_no_blame() -> None:
    bench = Bench()
    bench.connect()
    raw = encode(["after", 1, NETWORK, b"", 0, 0, "more"])
    for token in range(20):
        (effect,) = bench(RequestReceived(PEER, token, raw))
        assert effect == Reply(token, None)
    malformed = encode(["after", 0, NETWORK, b"", 0, 0, "more"])
    effects = [e for token in range(20) for e in bench(RequestReceived(PEER, token, malformed))]
    assert any(isinstance(effect, DropPeer) for effect in effects)


def test_who_gives_what_we_have_is_asked_for_ids_until_one_is_new() -> None:
    """Whoever has just read all of us would send all of it back, item by item."""
    bench = Bench()
    bench(LocalItems(1, (ANN.genesis, ANN.put())))
    first = bench.connect()
    second = only(bench(RequestFailed(PEER, first.request, "unspoken", unspoken=True)), SendRequest)
    assert asked(second) == CatchUp(b"", 0, CatchUpMode.ITEMS)
    bench.answer(second, page(ANN.genesis, done=False))
    bench.now_ms += 60_000
    third = only(bench(Heartbeat()), SendRequest)
    assert asked(third) == CatchUp(EPOCH, 1, CatchUpMode.IDS)
