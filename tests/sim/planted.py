"""Bugs on purpose: production code, broken in one place at a time, to see that the tests see it.

Each breaks one rule of `crdt/DESIGN.md` in a way that somebody might write in good faith. `planted`
switches one on; `test_planted.py` fails when one gets by.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import msgpack  # noqa: TID251 - to read what `crdt.wire` refuses

import crdt.accounts
import crdt.assembling
import crdt.cards.documents
import crdt.cards.layouts
import crdt.cards.weaving
import crdt.causes
import crdt.entries
import crdt.items
import crdt.operations
import crdt.reconcile.comparing
import crdt.reconcile.narrowing
import crdt.registers
import crdt.replica
import crdt.resolution
import crdt.stamps
import crdt.sync
import crdt.vouching
import node.storage.cards
import node.storage.epochs
from crdt.accounts import Account, Grant, Standing
from crdt.entries import EntryType
from crdt.operations import ERA_FIRST, Operation, OperationType
from crdt.reconcile.frames import Listed
from crdt.registers import Heads, follow
from crdt.replica import _Batch
from crdt.vouching import Vouching, past_of
from tests.sim import attacks, focus, gated, scenario, worlds

Plant = Callable[[], AbstractContextManager[None]]
Emphasis = Mapping[attacks.Move, int]


@dataclass(frozen=True)
class Bug:
    """One broken variant.

    Attributes:
        breaks: The rule, in a sentence.
        emphasis: Which attacks show it; none where any world does.
        steps: Which steps of a life show it; None where worlds alone do (`focus.py`).
        node_count: How many nodes such a life has: with few, nobody mends what one forgets.
        gated: It takes a network that asks for work (`gated.py`).
        play: What shows it, if neither a world nor a life does.
    """

    name: str
    breaks: str
    plant: Plant
    emphasis: Emphasis
    steps: Mapping[scenario.Step, int] | None = None
    node_count: int = 5
    gated: bool = False
    play: Callable[[int], object] | None = None

    def run(self, seed: int) -> None:
        """Play a seed in the way that shows this bug; planted or not.

        Raises:
            Violation, or whatever the bug makes of it: it is caught.
        """
        if self.play is not None:
            self.play(seed)
        elif self.gated:
            gated.play_gated(seed)
        elif self.steps is None:
            focus.focused(seed, self.emphasis).run()
        else:
            scenario.live(seed, self.node_count, 50, emphasis=self.emphasis, more_steps=self.steps)


BUGS: dict[str, Bug] = {}


def _bug(breaks: str, emphasis: Emphasis | None = None, **life: Any) -> Any:
    def keep(plant: Callable[[], Iterator[None]]) -> Plant:
        made = contextmanager(plant)
        BUGS[plant.__name__] = Bug(plant.__name__, breaks, made, emphasis or {}, **life)
        return made

    return keep


@contextmanager
def swapped(*swaps: tuple[Any, str, Any]) -> Iterator[None]:
    """Replace attributes for a while."""
    with ExitStack() as stack:
        for target, name, value in swaps:
            before = vars(target).get(name)
            assert before is not None, f"{target} has no {name}"
            stack.callback(setattr, target, name, before)
            if isinstance(value, cached_property):
                value.__set_name__(target, name)
            setattr(target, name, value)
        yield


# What shows


@_bug("the winner is the greatest of the heads, computed from them every time, never folded")
def winners_folded() -> Iterator[None]:
    honest = _Batch.changes

    def sticky(batch: _Batch) -> tuple[Any, ...]:
        disk = batch._replica.storage.disk  # type: ignore[attr-defined]
        changes = []
        for honest_change in honest(batch):
            change = honest_change
            before = disk.records.get(change.record)
            shows = None if before is None else before.register.winner
            if shows in change.register.conflicts:
                others = tuple(sorted({*change.register.facts} - {shows}))
                kept = change.register._replace(winner=shows, conflicts=others,
                               deleted=before.register.deleted)  # fmt: skip
                change = change._replace(operation=before.operation, register=kept)
            changes.append(change)
        return tuple(changes)

    with swapped((_Batch, "changes", sticky)):
        yield


@_bug("a delete ranks over an edit that did not know of it", {worlds.delete: 30})
def delete_loses_to_a_stale_edit() -> Iterator[None]:
    def rank(head: Operation, standing: Standing) -> Any:
        return standing.epoch, standing.is_root, head.depth, head.id

    with swapped((crdt.registers, "rank_of", rank)):
        yield


@_bug("the era is the effective checkpoint of greatest (epoch, number, id)",
      {attacks.twin_checkpoints: 30})  # fmt: skip
def era_by_arrival() -> Iterator[None]:
    honest = crdt.resolution.resolve

    def resolve(operations: Any, standing_of: Any) -> Any:
        come = list(operations)
        places = {one.id: place for place, one in enumerate(come)}

        def latest(ordered: Any, effective: Any, _standings: Any) -> list[Operation]:
            found = [o for o in ordered if o.type is OperationType.CHECKPOINT and o.id in effective]
            return sorted(found, key=lambda one: places[one.id], reverse=True)

        with swapped((crdt.resolution, "_checkpoints", latest)):
            return honest(come, standing_of)

    with swapped((crdt.replica, "resolve", resolve)):
        yield


@_bug("a revocation counts for what came before it too: effectiveness is never decided by arrival",
      {worlds.revoke: 20})  # fmt: skip
def revocation_by_arrival() -> Iterator[None]:
    with swapped((crdt.replica, "_QUIET_ENTRIES", frozenset(EntryType))):
        yield


@_bug("what an ended key did stays if the entry that ended it names it in `keep`",
      {worlds.revoke: 20})  # fmt: skip
def keep_list_ignored() -> Iterator[None]:
    with swapped((crdt.resolution, "_kept", lambda *_: frozenset())):
        yield


@_bug("a state followed one by one is asked anew when a keep list names what arrives (found once: "
      "seeds 1379 and 351)", {worlds.rotate: 60, worlds.revoke: 30})  # fmt: skip
def follow_forgets_keep_lists() -> Iterator[None]:
    def forgetful(heads: Heads, operation: Operation, standing: Standing) -> Heads | None:
        return follow(heads, operation, replace(standing, named=frozenset()))

    with swapped((crdt.replica, "follow", forgetful)):
        yield


@_bug("an operation of an unknown type by the root endorses as well (found once: seed 22600)",
      {focus.unknown_by_root: 80, worlds.revoke: 30})  # fmt: skip
def unknown_types_endorse_nothing_when_followed() -> Iterator[None]:
    def early(heads: Heads, operation: Operation, standing: Standing) -> Heads | None:
        if operation.type is OperationType.UNKNOWN and operation.era == heads.era:
            return heads._replace(void_count=heads.void_count + 1)
        return follow(heads, operation, standing)

    with swapped((crdt.replica, "follow", early)):
        yield


@_bug("a delegate's word carries nobody else's operation back from the dead",
      {attacks.bridge: 40, attacks.backdate: 20, worlds.revoke: 20})  # fmt: skip
def endorsed_through_any_delegate() -> Iterator[None]:
    def naive(self: Vouching, ids: Any) -> Any:
        cited = [one for id_ in ids for one in self._operations[id_].predecessors]
        return past_of(cited, self._operations)

    with swapped((Vouching, "vouched_by", naive)):
        yield


@_bug("who vouches knows only what was written with the consent of the entries on its own path",
      {attacks.lost_grant: 60})  # fmt: skip
def known_whatever_the_path() -> Iterator[None]:
    def knows(self: Standing, key: Any, head: Any) -> bool:
        return key in self.roles

    with swapped((Standing, "knows", knows)):
        yield


@_bug("what a delegate passes on is of its own key", {attacks.kept_bridge: 60, worlds.revoke: 20})
def anything_passed_on() -> Iterator[None]:
    def passed_on(self: Vouching, id_: Any) -> Any:
        vouched = set(self._known_to([id_]))
        for named in self._named_by(id_):
            vouched |= self._passed[named]
        return frozenset((id_, *vouched))

    with swapped((Vouching, "_passed_on", passed_on)):
        yield


# Accounts


@_bug("a fork that nobody adopted freezes the log; the first branch to arrive does not win",
      {attacks.fork: 30})  # fmt: skip
def fork_settled_by_arrival() -> Iterator[None]:
    def trunk(self: Account) -> Any:
        found = [self.entries[0]]
        while True:
            behind = [e for e in self.entries if e.predecessor == found[-1].id]
            if not behind:
                return tuple(found)
            found.append(behind[0])

    with swapped((Account, "trunk", cached_property(trunk))):
        yield


@_bug("while the log is frozen, rotations behind the fork raise nobody's epoch",
      {worlds.rotate: 40, attacks.recovery_forks: 40})  # fmt: skip
def epochs_counted_behind_a_fork() -> Iterator[None]:
    honest = Account._stand

    def stand(self: Account, head: Any, key: Any) -> Standing:
        return replace(honest(self, head, key), epoch=self.states[head].epoch)

    with swapped((Account, "_stand", stand)):
        yield


@_bug("while the log is frozen, what was granted behind the fork goes on working",
      {attacks.two_machines: 40, attacks.fork: 20})  # fmt: skip
def branches_dead_while_frozen() -> Iterator[None]:
    def live(self: Account) -> Any:
        return frozenset(entry.id for entry in self.trunk)

    with swapped((Account, "live", cached_property(live))):
        yield


@_bug("only the recovery key rotates the root", {attacks.fork: 30, attacks.bad_entry: 30})
def root_rotates_itself() -> Iterator[None]:
    with swapped((crdt.accounts, "_RECOVERY_ONLY", frozenset())):
        yield


@_bug("a key has one role for ever: none is introduced twice", {attacks.bad_entry: 60})
def keys_introduced_twice() -> Iterator[None]:
    honest = crdt.accounts._check

    def check(state: Any, entry: Any) -> None:
        honest(replace(state, used=frozenset()), entry)

    with swapped((crdt.accounts, "_check", check)):
        yield


# Rights


@_bug("a right is judged at the entry that is cited, not at the end of the log",
      {worlds.revoke: 20, worlds.rotate: 20})  # fmt: skip
def rights_of_today() -> Iterator[None]:
    honest = crdt.causes.check_authority

    def check(operation: Operation, account: Account) -> None:
        end = account.trunk[-1].id
        honest(operation._replace(account_heads=(end,)), account)

    with swapped((crdt.causes, "check_authority", check)):
        yield


@_bug("a delegate's scope holds the record", {attacks.beyond_rights: 50, worlds.add_delegate: 20})
def scope_ignored() -> Iterator[None]:
    def allows(self: Grant, wanted: Any, record: Any) -> bool:
        return bool(self.capabilities & wanted)

    with swapped((Grant, "allows", allows)):
        yield


@_bug("an evaluator inserts and deletes only its own evaluations",
      {attacks.beyond_rights: 50, worlds.add_delegate: 20})  # fmt: skip
def evaluators_edit_text() -> Iterator[None]:
    honest = crdt.causes.check_card

    def check(card: Any, *, key: Any, may_edit: bool, layout_of: Any) -> Any:
        return honest(card, key=key, may_edit=True, layout_of=layout_of)

    with swapped((crdt.causes, "check_card", check)):
        yield


# Checks A and B


@_bug(
    "one value has one spelling: what is not canonical is refused",
    {focus.respell: 20, focus.loosely_spelt: 10},
)
def canonical_form_unchecked() -> Iterator[None]:
    def lenient(raw: bytes, *, bytes_max: int) -> Any:
        if len(raw) > bytes_max:
            raise crdt.MalformedBytes("too long")
        try:
            value = msgpack.unpackb(raw, use_list=False)
        except (ValueError, TypeError) as error:
            raise crdt.MalformedBytes("not msgpack") from error
        return crdt.array(value, "the whole")

    with swapped((crdt.items, "decode_loosely", lenient), (crdt.operations, "decode", lenient),
                 (crdt.operations, "decode_loosely", lenient),
                 (crdt.entries, "decode", lenient)):  # fmt: skip
        yield


@_bug("a record's id is derived from its account: nobody writes to another's",
      {focus.squat_by_id: 20})  # fmt: skip
def record_id_believed() -> Iterator[None]:
    class Anything(bytes):
        def __ne__(self, other: object) -> bool:
            return False

        __hash__ = bytes.__hash__

    honest = crdt.operations.parse_operation

    def parse(item: Any, network: Any) -> Operation:
        with swapped((crdt.operations, "record_id", lambda *_: Anything())):
            return honest(item, network)

    with swapped((crdt.operations, "parse_operation", parse)):
        yield


@_bug("depth is computed from the predecessors, not believed", {attacks.inflate: 30})
def depth_believed() -> Iterator[None]:
    honest = crdt.causes._check_place

    def check(operation: Operation, predecessors: Collection[Operation]) -> None:
        depth = 1 + max((one.depth for one in predecessors), default=0)
        honest(operation._replace(depth=depth), predecessors)

    with swapped((crdt.causes, "_check_place", check)):
        yield


@_bug("every signature is verified, those under a known key too", {attacks.forged: 20})
def known_keys_trusted() -> Iterator[None]:
    honest = crdt.operations.verify_digest
    known: set[bytes] = set()

    def verify(digest: bytes, signature: bytes, public: Any) -> None:
        if public not in known:
            honest(digest, signature, public)
            known.add(public)

    with swapped((crdt.operations, "verify_digest", verify)):
        yield


@_bug("a signature is over the whole content, the record's name among it", {attacks.replay: 30})
def signature_not_over_the_record() -> Iterator[None]:
    honest = crdt.operations.verify_digest
    signed: set[bytes] = set()

    def verify(digest: bytes, signature: bytes, public: Any) -> None:
        # As if it covered less than the digest: once seen good, it is good for what it is put on.
        if signature not in signed:
            honest(digest, signature, public)
            signed.add(signature)

    with swapped((crdt.operations, "verify_digest", verify)):
        yield


@_bug("the body is the one whose hash was signed", {focus.other_body: 30})
def body_hash_unchecked() -> Iterator[None]:
    honest, sha3 = crdt.operations.parse_operation, crdt.sha3

    def parse(item: Any, network: Any) -> Operation:
        signed = crdt.decode(item.signed.content, bytes_max=4096)[-3]

        def believed(raw: bytes) -> Any:
            return signed if raw == item.body else sha3(raw)

        with swapped((crdt.operations, "sha3", believed)):
            return honest(item, network)

    with swapped((crdt.operations, "parse_operation", parse)):
        yield


@_bug("an operation counts for the network it was signed for", {attacks.replay: 30})
def network_unchecked() -> Iterator[None]:
    honest = crdt.operations.parse_operation

    def parse(item: Any, _network: Any) -> Operation:
        parts = crdt.decode(item.signed.content, bytes_max=4096)
        network = parts[2] if len(parts) > 2 else _network
        return honest(item, network)

    with swapped((crdt.operations, "parse_operation", parse)):
        yield


@_bug("what waited is judged again when what it waited for has come", {attacks.withhold: 20,
      attacks.inflate: 20, attacks.wrong_era: 20})  # fmt: skip
def released_without_a_check() -> Iterator[None]:
    honest_release, honest_check = _Batch.judge_released, crdt.replica.check_operation

    def released(self: _Batch, arrived: Any) -> Any:
        def check(operation: Operation, body: bytes, known: Any) -> None:
            account = known.account(operation.account)
            found = known.operations(operation.predecessors)
            known_head = account is not None and operation.account_head in account.states
            if not known_head or len(found) != len(operation.predecessors):
                honest_check(operation, body, known)

        with swapped((crdt.replica, "check_operation", check)):
            return honest_release(self, arrived)

    with swapped((_Batch, "judge_released", released)):
        yield


@_bug("predecessors are of one era, the operation's", {attacks.wrong_era: 40})
def eras_mixed() -> Iterator[None]:
    honest = crdt.causes._check_place

    def check(operation: Operation, predecessors: Collection[Operation]) -> None:
        alike = [one._replace(era=operation.era, type=OperationType.PUT) for one in predecessors]
        honest(operation, alike)

    with swapped((crdt.causes, "_check_place", check)):
        yield


# Admission


@_bug("a network that asks for work takes no genesis without", gated=True)
def stamps_unchecked() -> Iterator[None]:
    with swapped((crdt.stamps.StampBatch, "check", lambda *_: None)):
        yield


@_bug("a stamp does as many bits of work as the network's id says, not nearly", gated=True)
def stamps_a_bit_short() -> Iterator[None]:
    honest = crdt.stamps.is_good_stamp

    def is_good(challenge: bytes, stamp: bytes, bits: int) -> bool:
        return honest(challenge, stamp, bits - 1)

    with swapped((crdt.stamps, "is_good_stamp", is_good)):
        yield


@_bug(
    "a stamp is for the keys it was made for: one that was good once is not good again", gated=True
)
def stamps_for_whoever() -> Iterator[None]:
    honest = crdt.stamps.is_good_stamp
    good: set[bytes] = set()

    def is_good(challenge: bytes, stamp: bytes, bits: int) -> bool:
        if stamp not in good and not honest(challenge, stamp, bits):
            return False
        good.add(stamp)
        return True

    with swapped((crdt.stamps, "is_good_stamp", is_good)):
        yield


# Pruning


@_bug("only eras below the record's are dropped, never a head of the one that lasts",
      {worlds.checkpoint: 40})  # fmt: skip
def heads_pruned() -> Iterator[None]:
    def prunable(operations: Any, resolution: Any) -> Any:
        below = {ERA_FIRST, *resolution.checkpoints}
        return sorted(one.id for one in operations if crdt.era_of(one) in below)

    with swapped((crdt.replica, "prunable", prunable)):
        yield


# Cards


@_bug("a card's parts are woven in canonical order, not as they came")
def cards_by_arrival() -> Iterator[None]:
    honest = node.storage.cards.card_parts

    def parts(written: Any, resolution: Any, seed_of: Any) -> Any:
        come = list(written)
        places = {one.operation.id: place for place, one in enumerate(come)}
        return sorted(honest(come, resolution, seed_of), key=lambda part: places[part.id])

    with swapped((node.storage.cards, "card_parts", parts),
                 (crdt.cards.documents, "_in_order", list)):  # fmt: skip
        yield


@_bug("a card's order is by depth and id, not by the clock that its writer claims")
def cards_by_the_writers_clock() -> Iterator[None]:
    honest = node.storage.cards.card_parts

    def parts(written: Any, resolution: Any, seed_of: Any) -> Any:
        come = list(written)
        stamps = {one.operation.id: one.operation.timestamp_s for one in come}
        found = honest(come, resolution, seed_of)
        # Latest first; causes still before what refers to them.
        return sorted(found, key=lambda part: (-stamps[part.id], part.depth))

    with swapped((node.storage.cards, "card_parts", parts),
                 (crdt.cards.documents, "_in_order", list)):  # fmt: skip
        yield


@_bug("nothing that a void card operation did is done",
      {focus.strand: 60})  # fmt: skip
def void_edits_show() -> Iterator[None]:
    with swapped((crdt.cards.documents.CardDocument, "_is_void",
                  lambda self, part: not isinstance(part.content, crdt.CardBody)
                  and part.id != self.seed)):  # fmt: skip
        yield


@_bug("text of a void edit is woven as deleted text, so that what others wrote in it stays",
      {focus.strand: 60})  # fmt: skip
def void_text_left_out() -> Iterator[None]:
    with swapped((crdt.cards.documents.CardDocument, "_needed", lambda _self, _parts: set())):
        yield


@_bug("every deletion that an effective edit made is done")
def deletions_lost() -> Iterator[None]:
    honest = crdt.cards.weaving.Weaver.weave

    def weave(self: Any, part: Any, *, void: bool) -> Any:
        structs, deletions = honest(self, part, void=void)
        return structs, deletions[:-1]

    with swapped((crdt.cards.weaving.Weaver, "weave", weave)):
        yield


@_bug("a card refers only to what is in its past", {focus.refer_sideways: 40})
def references_out_of_the_past() -> Iterator[None]:
    with swapped((crdt.causes, "_check_past", lambda *_: None)):
        yield


# Swarms


@_bug(
    "what was dropped below a checkpoint is wanted again when that stops being effective",
    {worlds.put: 30, worlds.checkpoint: 40, worlds.rotate: 40, attacks.fork: 20},
    steps={scenario.prune: 30, scenario.world_moves: 40},
)
def never_unpruned() -> Iterator[None]:
    with swapped((_Batch, "unpruned", lambda _self: ())):
        yield


@_bug(
    "who passed gossip on does not pay for it (found once: an invalid item that waited)",
    steps={scenario.blame_an_honest_peer: 20},
)
def forwarders_blamed() -> Iterator[None]:
    honest = crdt.Replica.accept

    def accept(self: Any, items: Any, **options: Any) -> Any:
        return honest(self, items, **{**options, "author": None})

    with swapped((crdt.Replica, "accept", accept)):
        yield


@_bug("a cursor passes a page of ids only when what it lists is here", steps={})
def pages_skipped() -> Iterator[None]:
    with swapped((crdt.sync.SyncMachine, "_fetch", lambda *_: [])):
        yield


@_bug(
    "a store that was copied or put back gets another epoch, so that no cursor lies",
    steps={**scenario.RESTORES, scenario.creators_write: 20},
    node_count=3,
)
def epochs_kept() -> Iterator[None]:
    def settled(epoch: bytes, *, noted: bytes, found: bytes, fresh: bytes) -> bytes:
        return epoch or fresh

    with swapped((node.storage.epochs, "settled", settled)):
        yield


@_bug(
    "a cursor moves in the same commit as what was read, or not at all",
    steps={scenario.disk_full: 20, scenario.cut: 10},
    node_count=2,
)
def cursors_moved_on_a_failed_commit() -> Iterator[None]:
    honest = crdt.sync.SyncMachine._on_items

    def on_items(self: Any, peer: Any, page: Any, now_ms: int) -> Any:
        try:
            return honest(self, peer, page, now_ms)
        except crdt.WorldFault:
            peer.cursor = crdt.Cursor(page.epoch, page.next_n)
            raise

    with swapped((crdt.sync.SyncMachine, "_on_items", on_items)):
        yield


@_bug(
    "what a sketch has named is proven by the digest, or ranges are asked for",
    steps={scenario.store_copied: 40, scenario.creators_write: 20, scenario.cut: 10},
    node_count=2,
)
def sketches_believed() -> Iterator[None]:
    with swapped((crdt.reconcile.comparing.Comparison, "is_whole", lambda _self: True)):
        yield


@_bug(
    "every id that a range lists is compared (the digest would tell: it is silenced, too)",
    steps={scenario.store_copied: 40, scenario.creators_write: 20, scenario.cut: 10},
    node_count=2,
)
def listed_ids_overlooked() -> Iterator[None]:
    comparison, narrowing = crdt.reconcile.comparing.Comparison, crdt.reconcile.narrowing.Narrowing
    honest, is_whole = narrowing.told, comparison.is_whole

    def told(self: Any, parts: Any) -> None:
        honest(
            self, [Listed(part.marks[1:]) if isinstance(part, Listed) else part for part in parts]
        )

    def silenced(self: Any) -> bool:
        return bool(self.narrowing) or is_whole(self)

    with swapped((narrowing, "told", told), (comparison, "is_whole", silenced)):
        yield
