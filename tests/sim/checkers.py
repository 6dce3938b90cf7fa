"""What must hold in every swarm: safety after any step, agreement once faults have ended.

What an item says is read here a second time, from its bytes; what follows from items is the slow
reading of the rules (`tests/crdt/reference.py`). None of it is the core's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from crdt import Item, ItemKind, PeerId, encode
from crdt.replica import PENDING_COUNT_MAX
from tests.sim.edits import Editors, cards_on, check_cards, check_equal_cards
from tests.sim.independent import (
    Violation,
    check_admitted,
    check_authority,
    check_endorsed,
    check_reference,
    whole_of,
)
from tests.sim.mutations import opened
from tests.sim.schedules import shown_on
from tests.sim.swarm import SimNode, Swarm
from tests.sim.worlds import World
from tests.writers import NETWORK

ACCOUNT, OPERATION, RECEIPT = 1, 2, 3


@dataclass
class Watch:
    """What is known of a life besides its nodes, and how far each node has been looked at.

    Attributes:
        signed: The bytes of all that anybody in `people` signed, by id.
        people: Accounts whose keys are in no stranger's hands.
    """

    signed: dict[bytes, bytes] = field(default_factory=dict)
    people: set[bytes] = field(default_factory=set)
    seen: dict[PeerId, dict[int, bytes]] = field(default_factory=dict)

    def note(self, item: Item, account: bytes) -> None:
        """Somebody of an account signed this."""
        self.signed[item.id] = item.raw
        self.people.add(account)


def check_safety(swarm: Swarm, watch: Watch | None = None) -> None:
    """Nothing acknowledged is lost, nothing unsigned is anywhere, equal sets show equal states.

    Raises:
        Violation: it is not so.
    """
    watch = watch or Watch()
    for node in swarm.nodes.values():
        _check_kept(node)
        _check_new(node, watch)
        _check_bounds(swarm, node)
    _check_equal_sets(swarm)
    _check_blame(swarm)


def _check_kept(node: SimNode) -> None:
    """What a node said it has is on its own disk, or was dropped for a checkpoint."""
    lost = node.acknowledged - node.disk.numbers.keys() - node.dropped
    if lost:
        raise Violation("lost", f"{node.name} lacks {len(lost)} items that it acknowledged")


def _check_new(node: SimNode, watch: Watch) -> None:
    """Look at what a disk has that was not there when it was last looked at."""
    disk = node.disk
    before = watch.seen.get(node.name, {})
    for n in sorted(disk.items.keys() - before.keys()):
        item = disk.items[n]
        kind, account, cited = read_item(item)
        if kind == RECEIPT:
            continue
        if account in watch.people and watch.signed.get(item.id) != item.raw:
            raise Violation("unauthentic", f"{node.name} has {item.id.hex()[:8]}: nobody signed it")
        earlier = {one for one in cited if disk.numbers.get(one, n) < n}  # type: ignore[call-overload]
        late = set(cited) - earlier - node.dropped
        if late:
            raise Violation("effect before cause", f"{item.id.hex()[:8]} on {node.name}")
    watch.seen[node.name] = {n: item.id for n, item in disk.items.items()}


def read_item(item: Item) -> tuple[int, bytes, tuple[bytes, ...]]:
    """Return an item's kind, its account and what it cites, after checking that it is signed.

    Raises:
        Violation: its id, signature, body, network or record id is not what it should be.
    """
    _, kind, content, signature, body = opened(item.raw)
    digest = hashlib.sha3_256(content).digest()
    fields = opened(content)
    if kind == RECEIPT:
        return RECEIPT, fields[1], ()
    if kind == ACCOUNT:
        first = fields[3] == 1
        key, account = (fields[4], digest) if first else (fields[6], fields[4])
        cited = () if first else (fields[5],)
        domain = "hansa/account"
    else:
        key, account = fields[8], fields[7]
        cited = (fields[9][0], *(fields[11] if fields[1] == 0 else ()))
        domain = "hansa/operation"
        name = encode(["hansa/record", 0, NETWORK, fields[3], account, fields[5]])
        if hashlib.sha3_256(name).digest() != fields[4]:
            raise Violation("unauthentic", f"{digest.hex()[:8]}: the record is another's")
        if hashlib.sha3_256(body).digest() != fields[-3]:
            raise Violation("unauthentic", f"{digest.hex()[:8]}: another body")
    if fields[0] != domain or fields[2] != NETWORK or digest != item.id:
        raise Violation("unauthentic", f"{digest.hex()[:8]}: of another kind or network")
    try:
        VerifyKey(key).verify(b"hansa-signature-v0:" + digest, signature)
    except BadSignatureError as error:
        raise Violation("unauthentic", f"{digest.hex()[:8]}: signature") from error
    return kind, account, cited


def _check_bounds(swarm: Swarm, node: SimNode) -> None:
    """What waits is bounded by the number of peers, whatever they send."""
    if node.machine is not None:
        count = node.machine.status().pending_count
        if count > PENDING_COUNT_MAX * len(swarm.nodes):
            raise Violation("unbounded", f"{count} items wait on {node.name}")


def _check_equal_sets(swarm: Swarm) -> None:
    first: dict[frozenset[bytes], SimNode] = {}
    for node in swarm.nodes.values():
        if node.dropped:
            continue
        other = first.setdefault(frozenset(node.disk.numbers), node)
        if view_of(node) != view_of(other):
            raise Violation("divergence", f"{other.name} and {node.name}")


def _check_blame(swarm: Swarm) -> None:
    """No honest node drops an honest one, whatever the others make it pass on."""
    for name, peer, reason in swarm.dropped:
        if swarm.nodes[name].is_honest and swarm.nodes[peer].is_honest:
            raise Violation("honest peer dropped", f"{name} dropped {peer}: {reason}")


def check_cursors(swarm: Swarm) -> None:
    """No cursor lies: what a node says it has read of another's store, it has.

    Judged from the disks alone. A liar's store may hold what it never showed.
    """
    for node in swarm.nodes.values():
        for peer, cursor in node.disk.cursors.items():
            other = swarm.nodes.get(peer)
            if other is None or not (node.is_honest and other.is_honest):
                continue
            if cursor.epoch != other.disk.epoch:
                continue  # of another store, so it says nothing of this one
            read = {item.id for n, item in other.disk.items.items() if n <= cursor.n}
            lacking = read - node.disk.numbers.keys() - node.disk.pruned.keys()
            lacking = {id_ for id_ in lacking if not _gave_way(node, other, id_)}
            if lacking:
                what = f"{node.name} has read {peer} to {cursor.n}, but lacks {len(lacking)} of it"
                raise Violation("a cursor lies", what)


def _gave_way(node: SimNode, other: SimNode, id_: bytes) -> bool:
    """Whether it is a receipt that a greater one stands over, or stands on an era that is over."""
    item = other.disk.items[other.disk.numbers[id_]]  # type: ignore[index]
    return item.kind is ItemKind.RECEIPT or bool(node.disk.pruned)


def view_of(node: SimNode) -> dict[bytes, object]:
    """A node's states: records, slots and accounts, by id."""
    disk = node.disk
    entries = {id_: frozenset(one.id for one in some) for id_, some in disk.entries.items()}
    return {
        **{id_: change.register for id_, change in disk.records.items()},
        **{slot: found[0] for slot, found in disk.slots.items()},
        **entries,
    }


def views(swarm: Swarm) -> dict[PeerId, dict[bytes, object]]:
    """Each honest node's states."""
    return {node.name: view_of(node) for node in swarm.nodes.values() if node.is_honest}


def check_agreement(swarm: Swarm) -> None:
    """Every honest node has everything acknowledged, and all of them show the same states.

    One that has pruned shows the same, and lacks nothing but what it dropped, and what is of an era
    that is over.
    """
    honest = [node for node in swarm.nodes.values() if node.is_honest]
    whole = [node for node in honest if not node.dropped]
    everything = frozenset(whole[0].disk.numbers)
    for node in honest:
        lacking = everything - node.disk.numbers.keys() - node.dropped
        if node.dropped:  # what builds on something dropped is declined
            lacking = {one for one in lacking if not _is_below_its_era(whole[0], one)}
        if lacking or node.disk.numbers.keys() - everything:
            extra = node.disk.numbers.keys() - everything
            raise Violation("sets differ", f"{node.name}: {len(lacking)} less, {len(extra)} more")
        odd = [id_ for id_ in _counted(view_of(node), whole[0]) if id_]
        if odd:
            raise Violation("divergence", f"{whole[0].name} and {node.name} on {odd[0].hex()[:8]}")
    lost = {item.id for item in swarm.acknowledged if item.kind is not ItemKind.RECEIPT}
    # Whoever acknowledged something may have dropped it before anybody else had it.
    lost -= everything.union(*(node.dropped for node in honest))
    if lost:
        raise Violation("lost", f"{len(lost)} acknowledged items are nowhere")


def _is_below_its_era(node: SimNode, id_: bytes) -> bool:
    operation = node.disk.operations.get(id_)  # type: ignore[call-overload]
    if operation is None:
        return False
    return bool(node.disk.records[operation.record].register.era not in {operation.era, id_})


def _counted(mine: Mapping[bytes, object], other: SimNode) -> list[bytes]:
    """Return where two views differ."""
    theirs = view_of(other)
    return sorted(id_ for id_ in {*mine, *theirs} if mine.get(id_) != theirs.get(id_))


def check_world(node: SimNode, world: World, editors: Editors) -> None:
    """A whole node's states and cards are those of the slow reading of the rules."""
    made = frozenset(one.id for one in world.made if one.what is not None)
    admitted = frozenset(node.disk.numbers) & made
    whole = whole_of(world, admitted)
    records = {world.record(slug) for slug in ("thing", "other")}
    shown = {id_: one for id_, one in shown_on(node.disk).items() if id_ in whole.shown}
    shown |= {id_: one for id_, one in shown_on(node.disk).items() if id_ in records}
    check_admitted(whole, admitted)
    check_authority(whole, shown)
    check_endorsed(world, whole, shown)
    check_reference(whole, shown)
    check_cards(editors, whole, shown, cards_on(node.disk, shown).get)


def check_digests(swarm: Swarm) -> None:
    """In the end all honest nodes derive equal cards, those that have pruned among them."""
    digests = {
        node.name: {
            record: card.digest()
            for record, card in cards_on(node.disk, shown_on(node.disk)).items()
            if card is not None
        }
        for node in swarm.nodes.values()
        if node.is_honest
    }
    check_equal_cards({name: frozenset() for name in digests}, digests)
