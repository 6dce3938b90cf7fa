"""What was signed about a record, and the writes that lost, over real HTTP."""

from __future__ import annotations

import asyncio
import base64

import pytest

from crdt import (
    Capability,
    EntryType,
    OperationType,
    RecordKind,
    make_entry,
    unpack_item,
)
from node.api.errors import TooMany
from node.api.record_log import PAGE_BYTES_MAX, RecordWaiters
from registry import encode_record, validate
from tests.node.api_support import put_of, running_api, write_of
from tests.writers import NETWORK, NOW_S, Writer, key_of

ANN = Writer("ann")
RECOVERY, EVE = key_of("ann recovery"), key_of("eve")
DATA = {"name": "Thing", "description": "reads maps"}


@pytest.fixture
async def api(tmp_path):
    async with running_api(tmp_path) as made:
        yield made


def item_of(text):
    return unpack_item(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def entry(type_, signer, before, **fields):
    return make_entry(
        network=NETWORK, type=type_, account=ANN.account, predecessor=before.id, signer=signer,
        **fields,
    )  # fmt: skip


GRANT = entry(
    EntryType.ADD_KEY, ANN.key, ANN.genesis, key=EVE.public, capabilities=Capability.MAINTAINER
)
REVOCATION = entry(EntryType.REVOKE, RECOVERY, GRANT, key=EVE.public)


def by_eve(body, **changes):
    return ANN.write(OperationType.PUT, body, key=EVE, account_heads=(GRANT.id,), **changes)


async def publish(api, *items):
    for outcome in await api.catalogue.publish([item.raw for item in items]):
        assert outcome.fault is None, outcome.fault


async def created(api):
    _, made = await api.create(ANN, DATA)
    return made, f"/v1/models/{made['model_id']}"


async def rivals(api):
    """Publish a record and two updates that know nothing of each other."""
    made, path = await created(api)
    items = [
        put_of(ANN, DATA | {"version": version}, heads=made["heads"])
        for version in ("0.2.0", "0.3.0")
    ]
    await publish(api, *items)
    return path, sorted(items, key=lambda item: item.id, reverse=True)


@pytest.mark.parametrize("prefix", ["/v1", ""])
async def test_the_log_holds_the_signed_bytes_in_order_of_arrival(api, prefix):
    path, (high, low) = await rivals(api)
    await publish(api, GRANT)
    status, log = await api.ask("GET", f"{prefix}{path.removeprefix('/v1')}/log")
    assert status == 200
    assert [item_of(raw).raw for raw in log["entries"]] == [ANN.genesis.raw, GRANT.raw]
    items = [item_of(one["raw"]) for one in log["items"]]
    assert {item.id for item in items[1:]} == {high.id, low.id}
    numbers = [one["n"] for one in log["items"]]
    assert numbers == sorted(numbers)
    assert (log["next_n"], log["next_entry"], log["done"]) == (numbers[-1], 2, True)
    _, rest = await api.ask("GET", f"{path}/log?after={log['next_n']}&after_entry=2")
    assert rest == {
        "entries": [], "items": [], "next_n": log["next_n"], "next_entry": 2, "done": True
    }  # fmt: skip


async def test_a_long_log_comes_in_pages(api):
    made, path = await created(api)
    big = DATA | {"description": "x" * 30_000}
    items = [put_of(ANN, big | {"version": f"0.{n}.0"}, heads=made["heads"]) for n in range(2, 14)]
    await publish(api, *items)
    seen, after, done = [], 0, False
    while not done:
        _, page = await api.ask("GET", f"{path}/log?after={after}")
        raws = [item_of(one["raw"]).raw for one in page["items"]]
        assert sum(map(len, raws)) <= PAGE_BYTES_MAX
        seen += raws
        after, done = page["next_n"], page["done"]
    assert len(seen) == 13
    assert seen[1:] == [item.raw for item in items]


async def test_waiting_ends_when_an_operation_comes(api):
    made, path = await created(api)
    _, log = await api.ask("GET", f"{path}/log")
    waiting = asyncio.create_task(api.ask("GET", f"{path}/log?after={log['next_n']}&wait_s=25"))
    await asyncio.wait_for(api.waiters.began.wait(), 10)
    item = put_of(ANN, DATA | {"version": "0.2.0"}, heads=made["heads"])
    await publish(api, item)
    status, more = await waiting
    assert (status, [item_of(one["raw"]).id for one in more["items"]]) == (200, [item.id])
    assert api.waiters.count == 0


async def test_waiting_ends_when_the_account_changes_what_shows(api):
    await publish(api, ANN.genesis, GRANT)
    data = {"name": "Thing"}
    put = by_eve(body_of(data))
    await publish(api, put)
    path = f"/v1/models/{ANN.record().hex()}"
    _, log = await api.ask("GET", f"{path}/log")
    cursor = f"after={log['next_n']}&after_entry={log['next_entry']}"
    waiting = asyncio.create_task(api.ask("GET", f"{path}/log?{cursor}&wait_s=25"))
    await asyncio.wait_for(api.waiters.began.wait(), 10)
    await publish(api, REVOCATION)
    _, more = await waiting
    assert [item_of(raw).id for raw in more["entries"]] == [REVOCATION.id]
    # Nothing shows any more, and the log is still to be had.
    assert (await api.ask("GET", path))[0] == 404
    _, log = await api.ask("GET", f"/v1/models/{ANN.account.hex()}%2Fthing/log")
    assert [item_of(one["raw"]).id for one in log["items"]] == [put.id]
    status, shown = await api.ask("GET", f"{path}/conflicts")
    assert (status, shown["winner"], shown["conflicts"], shown["heads"]) == (200, None, [], [])


async def test_waiting_ends_with_its_time_and_when_the_node_stops(api):
    _, path = await created(api)
    _, log = await api.ask("GET", f"{path}/log")
    status, empty = await api.ask("GET", f"{path}/log?after={log['next_n']}&wait_s=0.01")
    assert (status, empty["items"], empty["done"]) == (200, [], True)
    waiting = asyncio.create_task(api.ask("GET", f"{path}/log?after={log['next_n']}&wait_s=25"))
    await asyncio.wait_for(api.waiters.began.wait(), 10)
    api.waiters.end_all()
    assert (await waiting)[1]["items"] == []


async def test_only_so_many_wait():
    waiters = RecordWaiters(count_max=1)

    class Silent:
        def subscribe(self, _callback):
            return lambda: None

    with (
        waiters.waiting_for(ANN.record(), Silent()),
        pytest.raises(TooMany, match="1 requests wait"),
        waiters.waiting_for(ANN.record(), Silent()),
    ):
        pass
    assert waiters.count == 0


@pytest.mark.parametrize(
    "query", ["after=-1", "after=x", "wait_s=26", "wait_s=nan", "after=9223372036854775808", "b=1"]
)
async def test_a_bad_cursor_or_wait_is_refused(api, query):
    _, path = await created(api)
    status, problem = await api.ask("GET", f"{path}/log?{query}")
    assert (status, problem["code"]) == (422, "bad-fields")


@pytest.mark.parametrize("what", ["log", "conflicts"])
async def test_what_is_not_known_or_of_the_other_kind_is_not_found(api, what):
    made, _ = await created(api)
    for path in (f"/v1/models/{'ab' * 32}", f"/v1/agents/{made['model_id']}"):
        status, problem = await api.ask("GET", f"{path}/{what}")
        assert (status, problem["code"]) == (404, "not-found")
    status, _ = await api.ask("GET", f"/v1/models/{ANN.account.hex()[:9]}%2Fthing/{what}")
    assert status == 200


async def test_conflicts_show_both_writes_and_why_one_lost(api):
    path, (high, low) = await rivals(api)
    status, found = await api.ask("GET", f"{path}/conflicts")
    assert status == 200
    winner, (loser,) = found["winner"], found["conflicts"]
    assert (winner["version_id"], winner["lost_by"]) == (high.id.hex(), None)
    assert (loser["version_id"], loser["lost_by"]) == (low.id.hex(), "id")
    assert {winner["version"], loser["version"]} == {"0.2.0", "0.3.0"}
    assert loser["record"]["version"] == loser["version"]
    assert loser["rank"] == {
        "epoch": 0, "is_root": True, "is_delete": False, "depth": 2, "id": low.id.hex()
    }  # fmt: skip
    assert loser["signed_by"]["timestamp_s"] == NOW_S
    assert [one["version_id"] for one in found["heads"]] == [high.id.hex(), low.id.hex()]
    assert (found["conflict_count"], found["era"]) == (1, "")


async def test_conflicts_of_a_deleted_record_and_how_the_next_write_settles_them(api):
    made, path = await created(api)
    put = put_of(ANN, DATA | {"version": "0.2.0"}, heads=made["heads"])
    gone = write_of(ANN, b"", heads=made["heads"], type_=OperationType.DELETE)
    await publish(api, put, gone)
    assert (await api.ask("GET", path))[0] == 410
    _, found = await api.ask("GET", f"{path}/conflicts")
    assert (found["winner"]["record"], found["winner"]["version"]) == ("deleted", None)
    assert [one["lost_by"] for one in found["conflicts"]] == ["is_delete"]
    back = put_of(ANN, DATA | {"version": "0.4.0"}, heads=found["heads"])
    await publish(api, back)
    _, found = await api.ask("GET", f"{path}/conflicts")
    assert (found["winner"]["version"], found["conflicts"]) == ("0.4.0", [])


async def test_a_delegate_loses_to_the_root_by_is_root(api):
    made, path = await created(api)
    await publish(api, GRANT)
    cites = (item_of((await api.ask("GET", f"{path}/log"))[1]["items"][0]["raw"]),)
    mine = put_of(ANN, DATA | {"version": "0.2.0"}, heads=made["heads"])
    theirs = by_eve(body_of(DATA | {"version": "0.3.0"}), cites=cites)
    await publish(api, mine, theirs)
    _, found = await api.ask("GET", f"{path}/conflicts")
    assert found["winner"]["version_id"] == mine.id.hex()
    assert [one["lost_by"] for one in found["conflicts"]] == ["is_root"]
    assert found["conflicts"][0]["signed_by"]["key"] == EVE.public.hex()


def body_of(data):
    return encode_record(validate(RecordKind.MODEL, data))
