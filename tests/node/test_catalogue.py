"""The catalogue: what the rest of a node asks of the replicated log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crdt import OperationId, RecordId, RecordKind
from node.catalogue import AmbiguousSlug
from registry import Query, encode_record, validate
from tests.node.links import Running, running
from tests.writers import Writer, make_receipt

ANN = Writer("ann")
BOB = Writer("bob")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Running]:
    async with running("a", tmp_path, {}) as made:
        await made.catalogue.publish([ANN.genesis.raw, BOB.genesis.raw])
        yield made


async def test_a_record_by_owner_and_slug(node: Running) -> None:
    await node.catalogue.publish([ANN.put().raw, BOB.put(slug="bobs").raw])
    for owner in (ANN.account.hex(), ANN.account.hex()[:8]):
        state = node.catalogue.find_slug(owner, "thing")
        assert state is not None
        assert state.id == ANN.record()
    for owner in (ANN.account.hex()[:7], BOB.account.hex(), "xyz", "", "0" * 65):
        assert node.catalogue.find_slug(owner, "thing") is None
    assert node.catalogue.find_slug(ANN.account.hex(), "bobs") is None


async def test_a_deleted_record_is_found_by_id_and_not_by_slug(node: Running) -> None:
    put = ANN.put()
    await node.catalogue.publish([put.raw, ANN.delete(cites=(put,)).raw])
    assert node.catalogue.find_slug(ANN.account.hex(), "thing") is None
    state = node.catalogue.record(ANN.record())
    assert state is not None
    assert state.deleted


async def test_a_model_comes_before_an_agent_of_the_same_slug(node: Running) -> None:
    await node.catalogue.publish([ANN.put(kind=RecordKind.AGENT).raw, ANN.put().raw])
    state = node.catalogue.find_slug(ANN.account.hex(), "thing")
    assert state is not None
    assert state.kind is RecordKind.MODEL


async def test_an_owner_prefix_that_fits_two_is_an_error(
    node: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.catalogue.publish([ANN.put().raw, BOB.put().raw])
    # Two accounts that share eight digits cannot be made in a test: shorten what is asked for.
    monkeypatch.setattr("node.catalogue.PREFIX_LENGTH_MIN", 0)
    with pytest.raises(AmbiguousSlug, match="write more digits"):
        node.catalogue.find_slug("", "thing")


async def test_a_version_by_its_id_only_of_its_own_record(node: Running) -> None:
    first = ANN.put(b"one")
    second = ANN.put(b"two", cites=(first,))
    other = ANN.put(slug="other")
    await node.catalogue.publish([first.raw, second.raw, other.raw])
    entry = node.catalogue.version(ANN.record(), first.id.hex())
    assert entry is not None
    assert entry.body == b"one"
    assert node.catalogue.version(ANN.record(), other.id.hex()) is None
    assert node.catalogue.version(ANN.record(), "0" * 64) is None
    assert [e.operation.id for e in node.catalogue.versions(ANN.record())] == [
        OperationId(second.id), OperationId(first.id),
    ]  # fmt: skip


def body_of(version: str) -> bytes:
    return encode_record(validate(RecordKind.MODEL, {"name": "thing", "version": version}))


async def test_a_version_by_its_semver_and_the_same_one_of_two_everywhere(node: Running) -> None:
    first = ANN.put(body_of("1.0.0"))
    left = ANN.put(body_of("1.1.0"), cites=(first,), timestamp_s=1)
    right = ANN.put(body_of("1.1.0"), cites=(first,), timestamp_s=2)
    await node.catalogue.publish([item.raw for item in (first, left, right)])
    found = {v: node.catalogue.version(ANN.record(), v) for v in ("1.0.0", "1.1.0", "2.0.0")}
    assert found["1.0.0"] is not None
    assert found["1.0.0"].operation.id == first.id
    assert found["1.1.0"] is not None
    assert found["1.1.0"].operation.id == max(left.id, right.id)
    assert found["2.0.0"] is None


async def test_a_search_finds_what_was_just_published(tmp_path: Path) -> None:
    async with running("s", tmp_path, {}, searches=True) as node:
        await node.catalogue.publish([ANN.genesis.raw, ANN.put(body_of("1.0.0")).raw])
        assert [hit.slug for hit in node.catalogue.search(Query(text="thing")).hits] == ["thing"]


async def test_receipts_by_record(node: Running) -> None:
    lanes = [b"lane%d" % number for number in range(3)]
    await node.catalogue.publish(
        [make_receipt(ANN.account, lane, 1, key=ANN.key).raw for lane in lanes]
    )
    assert len(node.catalogue.receipts()) == 3
    subjects = [RecordId(lane.ljust(32, b"\0")) for lane in lanes[:2]]
    assert len(node.catalogue.receipts([*subjects, *subjects])) == 2
    assert len(node.catalogue.receipts(subjects, count_max=1)) == 1
    assert node.catalogue.receipts([], period=1) == []
    assert len(node.catalogue.receipts(period=1)) == 3
    assert node.catalogue.receipts(period=2) == []


async def test_counts_accounts_and_items(node: Running) -> None:
    put = ANN.put()
    await node.catalogue.publish([put.raw, ANN.put(slug="agent", kind=RecordKind.AGENT).raw])
    counts = node.catalogue.counts()
    assert {key: counts[key] for key in ("items", "accounts", "records", "models", "agents")} == {
        "items": 4, "accounts": 2, "records": 2, "models": 1, "agents": 1,
    }  # fmt: skip
    account = node.catalogue.account(ANN.account)
    assert account is not None
    assert account.root_key == ANN.key.public
    assert node.catalogue.item(put.id) == put
    assert set(node.catalogue.records_of(ANN.account)) == {
        ANN.record(), ANN.record("agent", RecordKind.AGENT),
    }  # fmt: skip
