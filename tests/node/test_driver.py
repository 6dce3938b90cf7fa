"""The driver: durable publishes, group commits, sync over a transport, faults that stay small."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from pathlib import Path

import pytest

from crdt import MalformedBytes, PeerId, RecordChange, Status
from node.driver import (
    BATCH_ITEM_COUNT_SHARED,
    LOCAL_ACCOUNT_COUNT_MAX,
    LOCAL_COUNT_MAX,
    Driver,
    Overloaded,
    Refused,
    Stopping,
)
from node.storage import StorageFull
from tests.node.links import connect, eventually, running
from tests.writers import Writer

ANN = Writer("ann")
ROOT = Path(__file__).resolve().parents[2]
Drivers = dict[PeerId, Driver]


def puts(count: int) -> list[bytes]:
    return [ANN.put(b"x" * 2000, slug=f"s{number}").raw for number in range(count)]


async def test_what_was_published_is_on_the_disk_when_the_call_returns(tmp_path: Path) -> None:
    async with running("a", tmp_path, {}) as node:
        outcomes = await node.catalogue.publish([ANN.genesis.raw, ANN.put().raw])
        assert [outcome.status for outcome in outcomes] == [Status.NEW, Status.NEW]
        state = node.catalogue.record(ANN.record())
        assert state is not None
    async with running("a", tmp_path, {}) as again:
        assert again.catalogue.record(ANN.record()) == state


KILLED_PUBLISHER = """
import asyncio, os, sys
from pathlib import Path
from tests.node.links import running
from tests.writers import Writer

async def main():
    ann = Writer("ann")
    async with running("a", Path(sys.argv[1]), {}) as node:
        await node.catalogue.publish([ann.genesis.raw])
        for number in range(10):
            await node.catalogue.publish([ann.put(slug=f"s{number}").raw])
            print(number, flush=True)
        asyncio.ensure_future(node.catalogue.publish([ann.put(slug="torn").raw]))
        await asyncio.sleep(0)
        os.kill(os.getpid(), 9)

asyncio.run(main())
"""


async def test_nothing_acknowledged_is_missing_after_kill_9(tmp_path: Path) -> None:

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED_PUBLISHER, str(tmp_path), cwd=ROOT, stdout=PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == -9
    acknowledged = [int(line) for line in output.split()]
    assert acknowledged == list(range(10))
    async with running("a", tmp_path, {}) as node:
        for number in acknowledged:
            assert node.catalogue.record(ANN.record(f"s{number}")) is not None


async def test_concurrent_publishes_each_get_their_own_outcomes(tmp_path: Path) -> None:
    async with running("a", tmp_path, {}) as node:
        await node.catalogue.publish([ANN.genesis.raw])
        raws = [*puts(50), ANN.put(b"bad", slug="bad").raw]
        results = await asyncio.gather(*(node.catalogue.publish([raw]) for raw in raws))
        assert [result[0].status for result in results[:-1]] == [Status.NEW] * 50
        assert results[-1][0].status is Status.REJECTED
        assert node.catalogue.counts()["records"] == 50


async def test_bytes_that_are_no_item_are_refused_before_anything_is_queued(
    tmp_path: Path,
) -> None:
    async with running("a", tmp_path, {}) as node:
        with pytest.raises(MalformedBytes):
            await node.catalogue.publish([ANN.genesis.raw, b"junk"])
        assert node.catalogue.counts()["items"] == 0


async def test_two_nodes_agree_by_gossip_and_a_late_one_by_catch_up(tmp_path: Path) -> None:
    drivers: Drivers = {}
    async with running("a", tmp_path, drivers) as a, running("b", tmp_path, drivers) as b:
        connect(a, b)
        await a.catalogue.publish([ANN.genesis.raw, *puts(20)])
        await eventually(b.catalogue, 21)
        async with running("c", tmp_path, drivers, gossips=False) as c:
            connect(a, c)
            await eventually(c.catalogue, 21)
            assert c.catalogue.record(ANN.record("s7")) is not None


async def test_catch_up_goes_on_where_it_stopped_after_a_restart(tmp_path: Path) -> None:
    drivers: Drivers = {}
    async with running("a", tmp_path, drivers, gossips=False) as a:
        await a.catalogue.publish([ANN.genesis.raw, *puts(20)])
        async with running("b", tmp_path, drivers) as b:
            connect(a, b)
            await eventually(b.catalogue, 21)
            a.driver.peer_lost(b.name)
        await a.catalogue.publish([ANN.put(slug="late").raw])
        async with running("b", tmp_path, drivers) as b:
            cursor = b.storage.cursor(a.name)
            assert cursor is not None
            assert cursor.n == 21
            connect(a, b)
            await eventually(b.catalogue, 22)


async def test_a_full_disk_fails_the_publish_and_not_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running("a", tmp_path, {}) as node:

        def full(_commit: object) -> None:
            raise StorageFull("disk")

        with monkeypatch.context() as patch:
            patch.setattr(node.storage, "commit", full)
            with pytest.raises(StorageFull):
                await node.catalogue.publish([ANN.genesis.raw])
        outcomes = await node.catalogue.publish([ANN.genesis.raw])
        assert outcomes[0].status is Status.NEW


async def test_a_peer_that_answers_garbage_is_dropped(tmp_path: Path) -> None:
    class Liar(Driver):
        async def answer(self, peer: PeerId, payload: bytes) -> bytes:
            return b"garbage"

        def peer_lost(self, peer: PeerId) -> None:
            """It does not care."""

    drivers: Drivers = {}
    async with running("a", tmp_path, drivers) as a:
        liar = object.__new__(Liar)
        drivers[PeerId("liar")] = liar
        a.driver.peer_connected(PeerId("liar"))
        async with asyncio.timeout(10):
            await a.link.dropped.wait()
        assert a.link.banned[0][0] == "liar"
        del drivers[PeerId("liar")]
        await a.catalogue.publish([ANN.genesis.raw])


async def test_garbage_gossip_and_requests_do_no_harm(tmp_path: Path) -> None:
    async with running("a", tmp_path, {}) as node:
        stranger = PeerId("stranger")
        node.driver.gossip(stranger, stranger, b"\xff" * 1000)
        with pytest.raises(Refused):
            await node.driver.answer(stranger, b"junk")
        node.driver.peer_connected(stranger)
        with pytest.raises(Refused):
            await node.driver.answer(stranger, b"junk")
        await node.catalogue.publish([ANN.genesis.raw])


async def test_too_many_waiting_publishes_are_refused(tmp_path: Path) -> None:
    async with running("a", tmp_path, {}) as node:
        raw = ANN.genesis.raw
        calls = [node.catalogue.publish([raw]) for _ in range(LOCAL_ACCOUNT_COUNT_MAX + 100)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        refused = [result for result in results if isinstance(result, Overloaded)]
        assert len(refused) == 100


async def test_one_account_cannot_take_every_place_of_waiting_publishes(tmp_path: Path) -> None:
    bob, cem = Writer("bob"), Writer("cem")
    async with running("a", tmp_path, {}) as node:
        raws = [ANN.genesis.raw] * LOCAL_COUNT_MAX
        calls = [node.catalogue.publish([raw]) for raw in (*raws, bob.genesis.raw)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert not isinstance(results[-1], BaseException)
        many = [Writer(f"w{number}").genesis.raw for number in range(LOCAL_COUNT_MAX)]
        calls = [node.catalogue.publish([raw]) for raw in (*many, cem.genesis.raw)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(one, Overloaded) for one in results] == [False] * 1024 + [True]


async def test_a_quiet_account_is_published_before_the_flood_that_came_first(
    tmp_path: Path,
) -> None:
    bob = Writer("bob")
    async with running("a", tmp_path, {}) as node:
        await node.catalogue.publish([ANN.genesis.raw, bob.genesis.raw])
        done: list[str] = []

        async def publish(who: str, raw: bytes) -> None:
            await node.catalogue.publish([raw])
            done.append(who)

        flood = [publish("ann", raw) for raw in puts(400)]
        await asyncio.gather(*flood, publish("bob", bob.put().raw))
        assert done.index("bob") <= BATCH_ITEM_COUNT_SHARED


async def test_stopping_finishes_what_was_accepted_and_refuses_the_rest(tmp_path: Path) -> None:
    async with running("a", tmp_path, {}) as node:
        accepted = asyncio.ensure_future(node.catalogue.publish([ANN.genesis.raw]))
        await asyncio.sleep(0)
        await node.driver.stop()
        assert (await accepted)[0].status is Status.NEW
        with pytest.raises(Stopping):
            await node.catalogue.publish([ANN.put().raw])


async def test_subscribers_hear_of_changes_and_one_that_raises_hurts_nobody(
    tmp_path: Path,
) -> None:
    heard: list[bytes] = []

    def listen(changes: Sequence[RecordChange]) -> None:
        heard.extend(change.record for change in changes)

    def fail(_changes: Sequence[RecordChange]) -> None:
        raise ValueError

    async with running("a", tmp_path, {}) as node:
        node.catalogue.subscribe(fail)
        stop = node.catalogue.subscribe(listen)
        await node.catalogue.publish([ANN.genesis.raw, ANN.put().raw])
        stop()
        await node.catalogue.publish([ANN.put(slug="other").raw])
    assert heard == [ANN.record()]


async def test_a_peer_that_comes_and_goes_leaves_no_trace(tmp_path: Path) -> None:
    async with running("a", tmp_path, {}) as node:
        for _ in range(3):
            node.driver.peer_connected(PeerId("b"))
            node.driver.peer_lost(PeerId("b"))
        await node.catalogue.publish([ANN.genesis.raw])
        assert node.catalogue.sync_status().peers == ()
