"""Types and versions of operations that are newer than this program: kept, passed on, no effect."""

from __future__ import annotations

import pytest

from crdt import (
    Item,
    ItemKind,
    MalformedBytes,
    OperationType,
    RecordKind,
    check_gossip,
    encode,
    open_operation,
    pack_item,
    seal,
    sha3,
)
from crdt.frames import Verdict, encode_ops
from tests.crdt.replicas import accept, new_replica, registers, statuses
from tests.sim.swarm import Swarm
from tests.writers import NETWORK, Writer, key_of

ANN = Writer("ann")
PUT = ANN.put()


def later(body: bytes = b"new things", *, key=ANN.key, version: int = 7, **changes: object) -> Item:
    """An operation of a later version: what is between account heads and body hash is unknown."""
    hash_ = changes.get("body_hash", sha3(body))
    content = encode([
        "hansa/operation", version, NETWORK, int(RecordKind.MODEL), ANN.record(), "thing", 1,
        ANN.account, key.public, [ANN.genesis.id], "whatever", [1, [2]], hash_, len(body), 5,
    ])  # fmt: skip
    return pack_item(ItemKind.OPERATION, seal(content, key), body)


def unknown_type(*cites: Item) -> Item:
    return ANN.write(9, b"any bytes at all", cites=cites)  # type: ignore[arg-type]


@pytest.mark.parametrize("item", [later(), unknown_type(PUT)], ids=["version", "type"])
def test_it_is_kept_and_changes_nothing_that_shows(item: Item) -> None:
    replica = new_replica()
    accepted = accept(replica, ANN.genesis, PUT, item)
    assert statuses(accepted) == ["new", "new", "new"]
    register = registers(replica)[ANN.record()]
    assert (register.winner, register.heads) == (PUT.id, (PUT.id,))
    again = ANN.put(b"next", cites=(PUT,))
    accept(replica, again)
    assert registers(replica)[ANN.record()].winner == again.id


@pytest.mark.parametrize("item", [later(), unknown_type(PUT)], ids=["version", "type"])
def test_it_is_passed_on_by_gossip_and_by_catch_up(item: Item) -> None:
    assert check_gossip(encode_ops([item], NETWORK), NETWORK) is Verdict.ACCEPT
    swarm = Swarm(1, 3)
    swarm.run(1_000)
    swarm.publish(sorted(swarm.nodes)[0], [ANN.genesis, PUT, item])
    swarm.run(2_000)
    late = swarm.add_node()
    swarm.run(5_000)
    assert all(item.id in node.disk.numbers for node in swarm.nodes.values())
    assert swarm.nodes[late].disk.records[ANN.record()].register.winner == PUT.id


def test_it_is_refused_when_it_is_nobodys() -> None:
    stranger = later(key=key_of("eve"))
    accepted = accept(new_replica(), ANN.genesis, stranger)
    assert accepted.faults[0][1].code == "not-authorised"
    forged = pack_item(
        ItemKind.OPERATION, seal(later().signed.content, key_of("eve")), b"new things"
    )
    assert accept(new_replica(), ANN.genesis, forged).faults[0][1].code == "bad-signature"


def test_its_body_is_held_to_its_hash() -> None:
    swapped = pack_item(ItemKind.OPERATION, later().signed, b"other bytes")
    with pytest.raises(MalformedBytes, match="not the one that was signed"):
        open_operation(swapped, NETWORK)


def test_nothing_of_this_version_cites_one_of_a_later_version() -> None:
    new = later()
    heir = ANN.put(b"heir", cites=(PUT,), depth=2)
    assert ANN.opened(heir).type is OperationType.PUT
    bad = ANN.write(OperationType.PUT, b"heir", cites=(PUT, new), depth=2)
    accepted = accept(new_replica(), ANN.genesis, PUT, new, bad)
    assert accepted.faults[0][1].code == "causal-fault"


def test_floats_and_deep_arrays_are_refused_in_every_version() -> None:
    content = encode([
        "hansa/operation", 7, NETWORK, int(RecordKind.MODEL), ANN.record(), "thing", 1,
        ANN.account, ANN.key.public, [ANN.genesis.id], 0.5, sha3(b""), 0, 5,  # type: ignore[list-item]
    ])  # fmt: skip
    with pytest.raises(MalformedBytes, match="float"):
        open_operation(pack_item(ItemKind.OPERATION, seal(content, ANN.key)), NETWORK)
