"""What an answer brings is worked out beside the store's thread, as far as it is worth it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor

import pytest

import crdt.stamps
from crdt import (
    Item,
    ItemId,
    Network,
    StampJudge,
    WorkRule,
    is_good_stamp,
    make_genesis,
    stamp_bytes,
    stamp_challenge,
)
from crdt.frames import encode_caught_up, encode_fetched
from node.stamp_desk import StampDesk
from tests.writers import Writer, key_of

RULED = Network("test", WorkRule(3))


def genesis(name: str, *, good: bool = True) -> Item:
    root, recovery = key_of(name), key_of(f"{name} recovery").public
    challenge = stamp_challenge(RULED.id, root.public, recovery)
    stamps = map(stamp_bytes, range(1 << 16))
    stamp = next(one for one in stamps if is_good_stamp(challenge, one, 3) is good)
    return make_genesis(RULED.id, root, recovery, stamp)


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
