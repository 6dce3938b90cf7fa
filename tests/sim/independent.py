"""Checkers that share no code with the core: own hash, own signature check, the slow rules.

Each is given what a replica has admitted and what it shows, and raises `Violation` with the first
thing that is wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from crdt import Item
from crdt.wire import decode
from tests.crdt import reference as ref
from tests.crdt.reference import RefEntry, RefOperation
from tests.sim.worlds import World


class Violation(AssertionError):
    """A promise of the design is broken; `name` says which."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name


@dataclass(frozen=True)
class Shown:
    """What a replica shows of a record, by ids."""

    winner: bytes
    conflicts: tuple[bytes, ...]
    deleted: bool
    heads: tuple[bytes, ...]
    era: bytes


@dataclass(frozen=True)
class Whole:
    """The valid part of a set of delivered things, and what its records show, by the slow rules."""

    entries: ref.Entries
    operations: ref.Operations
    shown: Mapping[bytes, Shown]


def whole_of(world: World, delivered: frozenset[bytes]) -> Whole:
    """Read the rules for those things of a world that were delivered."""
    whats = [made.what for made in world.made if made.id in delivered]
    entries = ref.valid_entries(one for one in whats if isinstance(one, RefEntry))
    operations = ref.valid_operations(
        (one for one in whats if isinstance(one, RefOperation)), entries
    )
    shown = {}
    for record in sorted({one.record for one in operations}):
        own = frozenset(one for one in operations if one.record == record)
        (account,) = {one.account for one in own}
        state = ref.resolve(own, frozenset(e for e in entries if e.account == account))
        if state is not None:
            shown[record] = Shown(
                state.winner, state.conflicts, state.deleted, state.heads, state.era
            )
    return Whole(entries, operations, shown)


def check_agreement(
    sets: Mapping[str, frozenset[bytes]], states: Mapping[str, Mapping[bytes, Shown]]
) -> None:
    """Every two replicas with equal sets show equal states."""
    first: dict[frozenset[bytes], str] = {}
    for name, admitted in sorted(sets.items()):
        other = first.setdefault(admitted, name)
        if states[name] != states[other]:
            raise Violation("divergence", f"{other} and {name}: {_difference(states, other, name)}")


def _difference(states: Mapping[str, Mapping[bytes, Shown]], one: str, other: str) -> str:
    for record in sorted({*states[one], *states[other]}):
        if states[one].get(record) != states[other].get(record):
            return f"record {record.hex()[:8]}: {_brief(states[one].get(record))} and " + _brief(
                states[other].get(record)
            )
    return "nothing"


def _brief(shown: Shown | None) -> str:
    if shown is None:
        return "nothing"
    return (
        f"winner {shown.winner.hex()[:8]} conflicts {[c.hex()[:8] for c in shown.conflicts]} "
        f"deleted {shown.deleted} heads {[h.hex()[:8] for h in shown.heads]} "
        f"era {shown.era.hex()[:8]}"
    )


def check_authentic(world: World, items: Mapping[bytes, Item]) -> None:
    """Every admitted item is one that somebody signed, whole, under the key that it names."""
    made = {one.id: one for one in world.made}
    for id_, item in sorted(items.items()):
        source = made.get(id_)
        if source is None or source.what is None:
            raise Violation("unauthentic", f"{id_.hex()[:8]} was admitted, and nobody signed it")
        if source.item is None or source.item.raw != item.raw:
            raise Violation("unauthentic", f"{id_.hex()[:8]} is not as it was signed")
        _check_bytes(item, source.what)


def _check_bytes(item: Item, what: RefEntry | RefOperation) -> None:
    _, _, content, signature, body = decode(item.raw, bytes_max=100_000)
    digest = hashlib.sha3_256(content).digest()
    key = what.signer if isinstance(what, RefEntry) else what.key
    try:
        VerifyKey(key).verify(b"hansa-signature-v0:" + digest, signature)
    except BadSignatureError as error:
        raise Violation("unauthentic", f"{item.id.hex()[:8]}: signature") from error
    fields = decode(content, bytes_max=100_000)
    if digest != what.id or (
        isinstance(what, RefOperation)
        and (fields[8] != key or fields[13] != hashlib.sha3_256(body).digest())
    ):
        raise Violation("unauthentic", f"{item.id.hex()[:8]}: id, key or body")


def check_admitted(whole: Whole, admitted: frozenset[bytes]) -> None:
    """Exactly what is valid among what was delivered is in the set."""
    valid = {one.id for one in (*whole.entries, *whole.operations)}
    if admitted - valid:
        extra = sorted(one.hex()[:8] for one in admitted - valid)
        raise Violation("admitted invalid", ", ".join(extra))
    if valid - admitted:
        lacking = sorted(one.hex()[:8] for one in valid - admitted)
        raise Violation("lost valid", ", ".join(lacking))


def check_authority(whole: Whole, shown: Mapping[bytes, Shown]) -> None:
    """Whoever signed what shows had the right at the entry it cites, and it is not void now."""
    operations = {one.id: one for one in whole.operations}
    for record, state in sorted(shown.items()):
        for id_ in {state.winner, *state.conflicts, *state.heads}:
            o = operations.get(id_)
            if o is None or o.record != record:
                raise Violation("unauthorised", f"{id_.hex()[:8]} is no valid one of the record")
            entries = frozenset(e for e in whole.entries if e.account == o.account)
            if not ref.is_allowed(o, ref.state_at(ref.entry_of(o, entries), entries)):
                raise Violation("unauthorised", f"{id_.hex()[:8]} had no right")
            own = frozenset(one for one in whole.operations if one.record == record)
            if not ref.effective(o, own, entries):
                raise Violation("unauthorised", f"{id_.hex()[:8]} is void")


def check_endorsed(world: World, whole: Whole, shown: Mapping[bytes, Shown]) -> None:
    """No honest edit is lost that an honest operation of the present root stands on.

    It is below something that shows; or a root's checkpoint came instead of its era: one of the
    present root, or of an earlier one that the entry which ended that root keeps.
    """
    operations = {one.id: one for one in whole.operations}
    entries = frozenset(e for e in whole.entries if e.account == world.account)
    if not entries:
        return
    now, lives = ref.account_now(entries), {e.id for e in ref.live(entries)}
    for edit_id, by in world.endorsements:
        edit, r = operations.get(edit_id), operations.get(by)
        if edit is None or r is None or r.key != now.root or r.account_head not in lives:
            continue
        state = shown.get(edit.record)
        if state is None:
            if edit.type == ref.CARD:
                continue  # a card alone shows no record
            raise Violation("endorsed edit lost", f"{edit_id.hex()[:8]}: nothing shows")
        if ref.era_of(edit) != state.era:
            opened = operations.get(state.era)
            own = frozenset(one for one in whole.operations if one.record == edit.record)
            if opened is None or not (
                ref.endorses(opened, entries)
                or ref.endorsed(opened, own, entries)
                or ref.kept(opened, own, entries)
            ):
                raise Violation("endorsed edit lost", f"{edit_id.hex()[:8]}: another era")
            continue
        if edit_id not in _below({state.winner, *state.conflicts, *state.heads}, operations):
            raise Violation("endorsed edit lost", f"{edit_id.hex()[:8]} is below nothing shown")


def _below(tops: set[bytes], operations: Mapping[bytes, RefOperation]) -> set[bytes]:
    found: set[bytes] = set()
    todo = list(tops)
    while todo:
        one = todo.pop()
        if one not in found and one in operations:
            found.add(one)
            todo += operations[one].predecessors
    return found


def check_reference(whole: Whole, shown: Mapping[bytes, Shown]) -> None:
    """The states are those of the slow reading of the rules."""
    states = {"the reference": whole.shown, "the replica": shown}
    if whole.shown != shown:
        raise Violation("not the reference", _difference(states, "the reference", "the replica"))
