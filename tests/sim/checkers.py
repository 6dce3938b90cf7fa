"""What must hold in every swarm: safety after any step, agreement once faults have ended."""

from __future__ import annotations

from crdt import Account, Capability, Operation, PeerId, open_genesis, open_operation
from tests.sim.swarm import SimNode, Swarm
from tests.writers import NETWORK


def check_safety(swarm: Swarm) -> None:
    """No acknowledged item is lost where it was acknowledged; nothing unsigned is anywhere."""
    everywhere = set().union(*(node.disk.numbers for node in swarm.nodes.values()))
    superseded = {item.id for item in swarm.acknowledged if item.kind.name == "RECEIPT"}
    lost = {item.id for item in swarm.acknowledged} - everywhere - superseded
    assert not lost, f"{len(lost)} acknowledged items are on no disk"
    for node in swarm.nodes.values():
        check_disk(node)


def check_disk(node: SimNode) -> None:
    """Everything on a node's disk is signed by who may, and what it cites came before it."""
    disk = node.disk
    for operation in disk.operations.values():
        account: Account = disk.accounts[operation.account]
        state = account.states[operation.account_head]
        assert state.may(operation.key, Capability.MAINTAINER, operation.record)
        n = disk.numbers[operation.id]  # type: ignore[index]
        for cited in operation.predecessors:
            assert disk.numbers[cited] < n  # type: ignore[index]
        opened: Operation = open_operation(disk.items[n], NETWORK)
        assert opened == operation
    for account in disk.accounts.values():
        genesis = disk.items[disk.numbers[account.id]]  # type: ignore[index]
        assert open_genesis(genesis, NETWORK).entries == account.entries[:1]


def views(swarm: Swarm) -> dict[PeerId, dict[bytes, object]]:
    """Each honest node's states: records, slots and accounts, by id."""
    return {
        node.name: {
            **{id_: change.register for id_, change in node.disk.records.items()},
            **{slot: found[0] for slot, found in node.disk.slots.items()},
            **node.disk.accounts,
        }
        for node in swarm.nodes.values()
        if node.liar is None
    }


def check_agreement(swarm: Swarm) -> None:
    """Every honest node has everything acknowledged, and all of them show the same states."""
    seen = list(views(swarm).values())
    assert all(view == seen[0] for view in seen), [len(view) for view in seen]
    for node in swarm.nodes.values():
        if node.liar is None:
            missing = [
                item
                for item in swarm.acknowledged
                if item.id not in node.disk.numbers and item.kind.name != "RECEIPT"
            ]
            assert not missing, f"{node.name} lacks {len(missing)} acknowledged items"
