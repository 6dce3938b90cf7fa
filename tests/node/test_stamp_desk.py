"""What an answer brings is worked out beside the store's thread, as far as it is worth it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import crdt.stamps
import node.stamp_desk
from crdt import (
    Item,
    ItemId,
    Network,
    NetworkId,
    PeerId,
    StampJudge,
    Status,
    WorkRule,
    is_good_stamp,
    make_genesis,
    stamp_bytes,
    stamp_challenge,
)
from crdt.frames import encode_caught_up, encode_fetched
from node.driver import Driver
from node.stamp_desk import StampDesk
from tests.node.links import connect, eventually, running
from tests.writers import NETWORK, Writer, key_of

RULED = Network("test", WorkRule(3))


def genesis(name: str, *, good: bool = True, network: NetworkId = RULED.id) -> Item:
    root, recovery = key_of(name), key_of(f"{name} recovery").public
    challenge = stamp_challenge(network, root.public, recovery)
    stamps = map(stamp_bytes, range(1 << 16))
    stamp = next(one for one in stamps if is_good_stamp(challenge, one, 3) is good)
    return make_genesis(network, root, recovery, stamp)


class Judge(StampJudge):
    """The real one, and what it was told."""

    def __init__(self, network: Network) -> None:
        super().__init__(network.id, network.rule)
        self.told: list[ItemId] = []

    def learn(self, geneses: Collection[ItemId]) -> None:  # type: ignore[override]
        self.told += geneses


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crdt.stamps, "SCRYPT_N", 2)


@pytest.fixture
async def store() -> AsyncIterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as thread:
        yield thread


async def told_of(raw: bytes, store: ThreadPoolExecutor, *known: ItemId) -> list[ItemId]:
    judge = Judge(RULED)
    desk = StampDesk(RULED.id, judge, lambda ids: {one for one in ids if one in known})
    await desk.prepare(raw, store)
    desk.stop()
    return judge.told


def page(*items: Item) -> bytes:
    return encode_caught_up(
        network=RULED.id, epoch=b"e" * 16, next_n=9, last_n=9, done=True,
        raws=[item.raw for item in items],
    )  # fmt: skip


async def test_the_good_geneses_of_a_page_and_of_a_fetch_are_told(
    store: ThreadPoolExecutor,
) -> None:
    ann, bob = genesis("ann"), genesis("bob")
    put = Writer("ann", RULED.id).put()
    assert set(await told_of(page(ann, put, bob), store)) == {ann.id, bob.id}
    assert await told_of(encode_fetched([bob.raw], [ann.id], RULED.id), store) == [bob.id]


async def test_what_is_in_the_log_already_is_not_worked_out(store: ThreadPoolExecutor) -> None:
    ann, bob = genesis("ann"), genesis("bob")
    assert await told_of(page(ann, bob), store, ann.id) == [bob.id]


async def test_nothing_behind_a_false_stamp_is_worth_work(
    store: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)  # one thread works, so there is one order
    ann, liar, bob = genesis("ann"), genesis("liar", good=False), genesis("bob")
    assert await told_of(page(ann, liar, bob), store) == [ann.id]


@pytest.mark.parametrize("raw", [b"", b"rubbish", b"\x93\x01\x02\x03"])
async def test_an_answer_that_is_none_is_left_to_the_machine(
    raw: bytes, store: ThreadPoolExecutor
) -> None:
    assert await told_of(raw, store) == []


async def test_an_open_network_has_nothing_to_prepare(store: ThreadPoolExecutor) -> None:
    judge = Judge(Network("test"))

    def never(_ids: Collection[ItemId]) -> set[ItemId]:
        raise AssertionError("nothing is looked up")

    desk = StampDesk(RULED.id, judge, never)
    await desk.prepare(page(genesis("ann")), store)
    desk.stop()
    assert judge.told == []


async def test_local_writes_do_not_wait_for_the_accounts_that_a_peer_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = [genesis(f"newcomer {number}", network=NETWORK) for number in range(12)]
    mine = genesis("ann", network=NETWORK)
    at_work, go_on = threading.Event(), threading.Event()
    judged: Counter[ItemId] = Counter()
    real = crdt.stamps.check_stamp

    def held(item: Item, *rest: Any) -> None:
        at_work.set()
        assert go_on.wait(10)
        real(item, *rest)

    def counted(item: Item, *rest: Any) -> None:
        judged[item.id] += 1
        real(item, *rest)

    monkeypatch.setattr(node.stamp_desk, "check_stamp", held)
    monkeypatch.setattr(crdt.stamps, "check_stamp", counted)
    drivers: dict[PeerId, Driver] = {}
    async with (
        running("a", tmp_path, drivers, gossips=False, rule=RULED.rule) as a,
        running("b", tmp_path, drivers, gossips=False, rule=RULED.rule) as b,
    ):
        try:
            await a.catalogue.publish([one.raw for one in theirs])
            connect(a, b)
            assert await asyncio.to_thread(at_work.wait, 10)
            (outcome,) = await b.catalogue.publish([mine.raw])
            assert outcome.status is Status.NEW
            assert b.catalogue.counts()["accounts"] == 1
        finally:
            go_on.set()
        await eventually(b.catalogue, 13)
        await eventually(a.catalogue, 13)
    # By the threads that own the logs, each where it was published; where it was read, by the desk.
    assert judged == Counter([mine.id, *(one.id for one in theirs)])
