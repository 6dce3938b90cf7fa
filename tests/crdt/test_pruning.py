"""What checkpoints stand for can be dropped, and comes back when they stop counting."""

from __future__ import annotations

from crdt import (
    EntryType,
    OperationId,
    OperationType,
    RecordId,
    Seed,
    encode_checkpoint,
    make_entry,
    make_operation,
)
from node.storage.memory import MemoryDisk
from tests.crdt.replicas import accept, new_replica, registers, statuses
from tests.sim.swarm import Swarm
from tests.writers import NETWORK, NOW_S, Writer, key_of

ANN = Writer("ann")
RECOVERY = key_of("ann recovery")
NEW_ROOT = key_of("ann's second root")
RECORD = ANN.record()


def checkpoint(number: int = 1, facts: bytes = b"whole", *, timestamp_s: int = NOW_S):
    body = encode_checkpoint(number, facts, Seed("text", ("tag",)))
    return ANN.write(OperationType.CHECKPOINT, body, depth=1, timestamp_s=timestamp_s)


def on(era, body: bytes, *cites, key=ANN.key, head=None):
    """A put in an era, citing its checkpoint or what followed it."""
    depth = 1 + max(ANN.opened(one).depth for one in cites)
    return make_operation(
        network=NETWORK, kind=ANN.opened(era).kind, slug="thing", type=OperationType.PUT,
        account=ANN.account, key=key, account_heads=(head or ANN.genesis.id,),
        predecessors=tuple(OperationId(one.id) for one in cites), depth=depth, body=body,
        timestamp_s=NOW_S, era=era.id,
    )  # fmt: skip


FIRST = ANN.put(b"first")
SECOND = ANN.put(b"second", cites=(FIRST,))
ERA = checkpoint()
THIRD = on(ERA, b"third", ERA)
ROTATION = make_entry(
    network=NETWORK, type=EntryType.ROTATE_ROOT, account=ANN.account,
    predecessor=ANN.genesis.id, signer=RECOVERY, key=NEW_ROOT.public,
)  # fmt: skip


def pruned_replica():
    replica = new_replica(MemoryDisk(b"e" * 16))
    accept(replica, ANN.genesis, FIRST, SECOND, ERA, THIRD)
    assert replica.prune(RECORD) == 2
    return replica


def test_what_is_dropped_changes_nothing_that_shows() -> None:
    whole = new_replica()
    accept(whole, ANN.genesis, FIRST, SECOND, ERA, THIRD)
    replica = pruned_replica()
    assert registers(replica) == registers(whole)
    assert registers(replica)[RECORD].winner == THIRD.id
    assert replica.storage.known([FIRST.id, SECOND.id]) == set()


def test_nothing_is_dropped_without_a_checkpoint() -> None:
    replica = new_replica()
    accept(replica, ANN.genesis, FIRST, SECOND)
    assert replica.prune(RECORD) == 0
    assert replica.prune(RecordId(b"x" * 32)) == 0


def test_what_was_dropped_is_not_wanted_again_and_what_cites_it_is_declined() -> None:
    replica = pruned_replica()
    assert replica.seen([FIRST.id, SECOND.id, ERA.id]) == {FIRST.id, SECOND.id, ERA.id}
    late = ANN.put(b"late", cites=(SECOND,))
    accepted = accept(replica, late)
    assert statuses(accepted) == ["declined"]
    assert not accepted.faults
    assert not len(replica.pending)


def test_a_rotation_that_does_not_endorse_the_checkpoint_brings_the_rest_back() -> None:
    replica = pruned_replica()
    accepted = accept(replica, ROTATION)
    assert accepted.unpruned == (RECORD,)
    assert replica.seen([FIRST.id, SECOND.id]) == set()
    accept(replica, FIRST, SECOND)
    whole = new_replica()
    accept(whole, ANN.genesis, FIRST, SECOND, ERA, THIRD, ROTATION)
    assert registers(replica) == registers(whole)
    assert registers(whole)[RECORD].winner is None


def test_a_rotation_that_keeps_the_era_brings_nothing_back() -> None:
    replica = pruned_replica()
    keeping = make_entry(
        network=NETWORK, type=EntryType.ROTATE_ROOT, account=ANN.account,
        predecessor=ANN.genesis.id, signer=RECOVERY, key=NEW_ROOT.public,
        keep=(OperationId(THIRD.id),),
    )  # fmt: skip
    accepted = accept(replica, keeping)
    assert accepted.unpruned == ()
    assert registers(replica)[RECORD].winner == THIRD.id
    fourth = on(ERA, b"fourth", THIRD, key=NEW_ROOT, head=keeping.id)
    accept(replica, fourth)
    assert registers(replica)[RECORD].winner == fourth.id


def test_a_frozen_log_is_not_pruned_and_a_fork_brings_the_rest_back() -> None:
    replica = pruned_replica()
    add = make_entry(
        network=NETWORK, type=EntryType.ADD_KEY, account=ANN.account,
        predecessor=ANN.genesis.id, signer=ANN.key, key=key_of("d").public, capabilities=1,
    )  # fmt: skip
    other = make_entry(
        network=NETWORK, type=EntryType.ADD_KEY, account=ANN.account,
        predecessor=ANN.genesis.id, signer=ANN.key, key=key_of("e").public, capabilities=1,
    )  # fmt: skip
    assert accept(replica, add).unpruned == ()
    assert accept(replica, other).unpruned == (RECORD,)
    accept(replica, FIRST, SECOND)
    assert replica.prune(RECORD) == 0


def test_a_checkpoint_of_a_deleted_record_is_a_tombstone() -> None:
    replica = new_replica()
    gone = checkpoint(facts=b"")
    accept(replica, ANN.genesis, FIRST, gone)
    register = registers(replica)[RECORD]
    assert (register.winner, register.deleted) == (gone.id, True)
    accept(replica, on(gone, b"back", gone))
    assert not registers(replica)[RECORD].deleted


def test_the_greatest_number_is_the_era_whatever_came_first() -> None:
    low, high = checkpoint(1), checkpoint(2, timestamp_s=NOW_S + 1)
    for order in ((low, high), (high, low)):
        replica = new_replica()
        for item in (ANN.genesis, *order, FIRST):
            accept(replica, item)
        assert registers(replica)[RECORD].era == high.id


def test_a_swarm_reads_peers_again_when_dropped_operations_are_wanted() -> None:
    swarm = Swarm(3, 3)
    n0, n1, n2 = sorted(swarm.nodes)
    swarm.publish(n0, [ANN.genesis, FIRST, SECOND, ERA, THIRD])
    swarm.run(5_000)
    machine = swarm.nodes[n1].machine
    assert machine is not None
    assert machine._replica.prune(RECORD) == 2
    swarm.run(120_000)
    assert swarm.nodes[n1].storage.known([FIRST.id]) == set()  # nobody pushed it back
    swarm.publish(n2, [ROTATION])
    swarm.run(120_000)
    assert swarm.nodes[n1].storage.known([FIRST.id, SECOND.id]) == {FIRST.id, SECOND.id}
    views = [{k: v.register for k, v in node.disk.records.items()} for node in swarm.nodes.values()]
    assert views[0] == views[1] == views[2]
