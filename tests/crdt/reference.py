"""The state rules a second time: slow, on sets, straight from the words of `crdt/DESIGN.md`.

Nothing here is shared with the `crdt` package. An entry or an operation is a small value, what was
delivered is a frozenset of them, and every function is a function of such sets. Read it beside
sections 1 to 3 of that page: each function is one of their sentences.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

Id = bytes
Key = bytes

GENESIS, ADD_KEY, REVOKE, ROTATE_ROOT, SET_RECOVERY, ADOPT = 1, 2, 3, 4, 5, 6
PUT, CARD, DELETE, CHECKPOINT = 1, 2, 3, 4
KNOWN_TYPES = frozenset({PUT, CARD, DELETE, CHECKPOINT})
MAINTAINER, EDITOR, EVALUATOR = 1, 2, 4
FIRST_ERA = b""
PATH_MAX = 1024
CITED_MAX = 16


@dataclass(frozen=True)
class RefEntry:
    """An account entry whose bytes and signature are in order.

    Attributes:
        signer: The key it is signed with.
        key: What it introduces (a genesis: the root key), or what a revoke ends.
        recovery: A genesis's recovery key.
        asked: The leading zero bits that the network asks of a genesis; none on an open one.
        work: Those of its stamp's work for its keys; -1 when the stamp has not the form of one.
    """

    id: Id
    type: int
    account: Id
    predecessor: Id | None
    signer: Key
    key: Key | None = None
    recovery: Key | None = None
    capabilities: int = 0
    scope: frozenset[Id] = frozenset()
    keep: frozenset[Id] = frozenset()
    asked: int = 0
    work: int = 0

    def __hash__(self) -> int:
        return hash(self.id)


@dataclass(frozen=True)
class RefCard:
    """What a card operation does.

    Attributes:
        references: Which operations it refers to, and how many of each one's items there must be.
        plain: It inserts or deletes in `text` or `tags`, or deletes what others evaluated.
        evals: The keys under which it inserts in `evals`.
    """

    references: frozenset[tuple[Id, int]] = frozenset()
    plain: bool = False
    evals: frozenset[Key] = frozenset()


@dataclass(frozen=True)
class RefOperation:
    """An operation that passed check A.

    Attributes:
        account_head: The one account entry it cites.
        era: As signed; a checkpoint's is empty, and the era that it opens is named by its id.
        number, has_facts: A checkpoint's.
        length: How many card items it brings: its card's, or those of its seed.
    """

    id: Id
    type: int
    account: Id
    record: Id
    key: Key
    account_head: Id
    predecessors: frozenset[Id] = frozenset()
    depth: int = 1
    era: Id = FIRST_ERA
    number: int = 0
    has_facts: bool = True
    card: RefCard | None = None
    length: int = 0

    def __hash__(self) -> int:
        return hash(self.id)


Entries = frozenset[RefEntry]
Operations = frozenset[RefOperation]


@dataclass(frozen=True)
class Delegate:
    capabilities: int
    scope: frozenset[Id]


@dataclass(frozen=True)
class AccountState:
    """What the path from the genesis to an entry says.

    Attributes:
        epoch: How often the root was rotated on the path.
        delegates: Those that are not revoked.
        ended_by: Which entry of the path ended a delegate's or a root's key.
        introduced: Every key that was ever on the path.
    """

    root: Key
    recovery: Key
    epoch: int = 0
    delegates: dict[Key, Delegate] = field(default_factory=dict)
    ended_by: dict[Key, RefEntry] = field(default_factory=dict)
    introduced: frozenset[Key] = frozenset()


# 1. Accounts


def valid_entries(candidates: Iterable[RefEntry]) -> Entries:
    """Those candidates that are valid among them; what cites something unknown is not, yet."""
    rest = frozenset(candidates)
    valid: Entries = frozenset()
    while True:
        more = frozenset(one for one in rest - valid if is_valid_entry(one, valid))
        if not more:
            return valid
        valid |= more


def is_valid_entry(entry: RefEntry, valid: Entries) -> bool:
    """Check B of an entry, given at least the valid entries on its path."""
    if entry.type == GENESIS:
        return (
            entry.predecessor is None
            and entry.account == entry.id
            and entry.signer == entry.key
            and entry.key != entry.recovery  # recovery is introduced, and was on the path
            and entry.work >= entry.asked
        )
    cited = [one for one in valid if one.id == entry.predecessor]
    if not cited or cited[0].account != entry.account:
        return False
    if len(path(cited[0], valid)) + 1 > PATH_MAX:
        return False
    return _may_sign_entry(entry, state_at(cited[0], valid))


def _may_sign_entry(entry: RefEntry, state: AccountState) -> bool:
    by_recovery = entry.signer == state.recovery
    by_root_or_recovery = entry.signer == state.root or by_recovery
    is_new = entry.key is not None and entry.key not in state.introduced
    if entry.type == ADD_KEY:
        return by_root_or_recovery and is_new
    if entry.type == REVOKE:
        return by_root_or_recovery and entry.key in state.delegates
    if entry.type in {ROTATE_ROOT, SET_RECOVERY}:
        return by_recovery and is_new
    return entry.type == ADOPT and by_recovery


@lru_cache(maxsize=65536)
def path(entry: RefEntry, entries: Entries) -> tuple[RefEntry, ...]:
    """The entries from the genesis to this one, both included."""
    if entry.predecessor is None:
        return (entry,)
    (cited,) = (one for one in entries if one.id == entry.predecessor)
    return (*path(cited, entries), entry)


@lru_cache(maxsize=65536)
def state_at(entry: RefEntry, entries: Entries) -> AccountState:
    """State at an entry: what the path to it says."""
    genesis, *later = path(entry, entries)
    assert genesis.key is not None
    assert genesis.recovery is not None
    state = AccountState(
        genesis.key, genesis.recovery, introduced=frozenset({genesis.key, genesis.recovery})
    )
    for one in later:
        state = _state_after(state, one)
    return state


def _state_after(state: AccountState, entry: RefEntry) -> AccountState:
    key = entry.key
    if entry.type == ADOPT:
        return state
    assert key is not None
    if entry.type == REVOKE:
        left = {one: grant for one, grant in state.delegates.items() if one != key}
        return replace(state, delegates=left, ended_by=state.ended_by | {key: entry})
    state = replace(state, introduced=state.introduced | {key})
    if entry.type == ADD_KEY:
        granted = {key: Delegate(entry.capabilities, entry.scope)}
        return replace(state, delegates=state.delegates | granted)
    if entry.type == ROTATE_ROOT:
        ended = state.ended_by | {state.root: entry}
        return replace(state, root=key, epoch=state.epoch + 1, ended_by=ended)
    assert entry.type == SET_RECOVERY
    return replace(state, recovery=key)


def successors(entry: RefEntry, entries: Entries) -> Entries:
    return frozenset(one for one in entries if one.predecessor == entry.id)


def behind(entry: RefEntry, entries: Entries) -> Entries:
    """The branch that starts with this entry: everything whose path holds it."""
    return frozenset(one for one in entries if entry in path(one, entries))


@lru_cache(maxsize=16384)
def trunk(entries: Entries) -> tuple[RefEntry, ...]:
    """The trunk of one account's valid entries, from its genesis."""
    (end,) = (one for one in entries if one.type == GENESIS)
    walked = [end]
    while True:
        branches = successors(walked[-1], entries)
        if len(branches) > 1:
            branches = adopted(branches, walked[-1], entries)
        if len(branches) != 1:
            return tuple(walked)
        walked += branches


def adopted(branches: Entries, fork: RefEntry, entries: Entries) -> Entries:
    """Those branches that hold an entry signed by the recovery key of the state at the fork."""
    recovery = state_at(fork, entries).recovery
    return frozenset(
        branch
        for branch in branches
        if any(one.signer == recovery for one in behind(branch, entries))
    )


def is_frozen(entries: Entries) -> bool:
    """The trunk ends at a fork."""
    return bool(successors(trunk(entries)[-1], entries))


def account_now(entries: Entries) -> AccountState:
    return state_at(trunk(entries)[-1], entries)


@lru_cache(maxsize=16384)
def live(entries: Entries) -> Entries:
    """The trunk; and, only while frozen, everything behind the fork on every branch."""
    if is_frozen(entries):
        return frozenset(trunk(entries)) | behind(trunk(entries)[-1], entries)
    return frozenset(trunk(entries))


def anchor(entry: RefEntry, entries: Entries) -> RefEntry:
    """The last entry of the trunk on its path."""
    return [one for one in path(entry, entries) if one in trunk(entries)][-1]


# 2. Operations


def valid_operations(candidates: Iterable[RefOperation], entries: Entries) -> Operations:
    """Those candidates that are valid, given the valid entries of every account."""
    rest = frozenset(candidates)
    valid: Operations = frozenset()
    while True:
        more = frozenset(one for one in rest - valid if is_valid_operation(one, valid, entries))
        if not more:
            return valid
        valid |= more


def is_valid_operation(o: RefOperation, valid: Operations, entries: Entries) -> bool:
    """Check B, given at least the valid operations of its past."""
    cited = [one for one in entries if one.id == o.account_head]
    if not cited or cited[0].account != o.account:
        return False
    if not is_allowed(o, state_at(cited[0], entries)):
        return False
    predecessors = [one for one in valid if one.id in o.predecessors]
    if len(predecessors) != len(o.predecessors):
        return False
    if any(one.record != o.record or era_of(one) != o.era for one in predecessors):
        return False
    if o.type == CHECKPOINT and (o.predecessors or o.era != FIRST_ERA or o.number < 1):
        return False
    if not o.predecessors and not (o.type == PUT and o.era == FIRST_ERA) and o.type != CHECKPOINT:
        return False
    if o.depth != 1 + max((one.depth for one in predecessors), default=0):
        return False
    return o.card is None or _is_card_in_order(o, o.card, valid)


def is_allowed(o: RefOperation, state: AccountState) -> bool:
    """Whether the state at the cited entry lets the signer do this."""
    if o.key == state.root:
        return True
    grant = state.delegates.get(o.key)
    if grant is None or (grant.scope and o.record not in grant.scope):
        return False
    if o.type in {PUT, DELETE}:
        return bool(grant.capabilities & MAINTAINER)
    if o.type not in KNOWN_TYPES:
        return bool(grant.capabilities)
    if o.type == CHECKPOINT:
        return False
    if grant.capabilities & (MAINTAINER | EDITOR):
        return True
    return bool(grant.capabilities & EVALUATOR) and o.card is not None and not o.card.plain


def _is_card_in_order(o: RefOperation, card: RefCard, valid: Operations) -> bool:
    """References into the past and within what is there; evaluations under one's own key."""
    if not card.evals <= {o.key}:
        return False
    before = {one.id: one for one in valid if one.id in past(o, valid)}
    return all(
        id_ in before
        and (before[id_].type in {CARD, CHECKPOINT} or before[id_].type == PUT)
        and (before[id_].type != PUT or before[id_].era == FIRST_ERA)
        and count <= before[id_].length
        for id_, count in card.references
    )


def era_of(o: RefOperation) -> Id:
    """The era's checkpoint counts as of its era."""
    return o.id if o.type == CHECKPOINT else o.era


@lru_cache(maxsize=131072)
def past(o: RefOperation, operations: Operations) -> frozenset[Id]:
    """Everything below it, transitively, through whatever is between; not itself."""
    found = frozenset(o.predecessors)
    for one in operations:
        if one.id in o.predecessors:
            found |= past(one, operations)
    return found


# 3. What shows


@dataclass(frozen=True)
class RefState:
    """What a record shows, by ids."""

    winner: Id
    conflicts: tuple[Id, ...]
    deleted: bool
    heads: tuple[Id, ...]
    era: Id
    effective: frozenset[Id]


def entry_of(o: RefOperation, entries: Entries) -> RefEntry:
    """The entry that an operation cites."""
    (cited,) = (one for one in entries if one.id == o.account_head)
    return cited


def is_live(o: RefOperation, entries: Entries) -> bool:
    """It cites a live entry."""
    return entry_of(o, entries) in live(entries)


def current(o: RefOperation, entries: Entries) -> bool:
    """No entry of the trunk has ended its key."""
    return o.key not in account_now(entries).ended_by


def has_role(key: Key, state: AccountState) -> bool:
    """It is the root or a delegate there."""
    return key == state.root or key in state.delegates


def knows_of(r: RefOperation, o: RefOperation, operations: Operations, entries: Entries) -> bool:
    """It is in `r`'s past, its key has a role at the entry `r` cites, and its entry is on the path.

    The path is the one to the entry that `r` cites.
    """
    there = entry_of(r, entries)
    return (
        o.id in past(r, operations)
        and has_role(o.key, state_at(there, entries))
        and entry_of(o, entries) in path(there, entries)
    )


@lru_cache(maxsize=131072)
def vouched(r: RefOperation, operations: Operations, entries: Entries) -> frozenset[Id]:
    """Everything that `r` vouches for: what it knows of, and what those pass on that it names."""
    found = {o.id for o in operations if knows_of(r, o, operations, entries)}
    for q in operations:
        if q.id in r.predecessors and not knows_of(r, q, operations, entries):
            found |= passed_on(q, operations, entries)
    return frozenset(found)


def passed_on(q: RefOperation, operations: Operations, entries: Entries) -> frozenset[Id]:
    """Itself, and what it vouches for: as far as that is of its key, or all if it is the root's."""
    of_root = q.key == state_at(entry_of(q, entries), entries).root
    own = {o.id for o in operations if of_root or o.key == q.key}
    return frozenset({q.id} | (vouched(q, operations, entries) & own))


def endorses(r: RefOperation, entries: Entries) -> bool:
    """A live, current operation whose key is the root in the state at the entry it cites."""
    there = state_at(entry_of(r, entries), entries)
    return is_live(r, entries) and current(r, entries) and r.key == there.root


def endorsed(o: RefOperation, operations: Operations, entries: Entries) -> bool:
    """Some operation that endorses vouches for it, or is of the era that it opens."""
    return any(
        endorses(r, entries) and (o.id in vouched(r, operations, entries) or r.era == o.id)
        for r in operations
    )


def kept(o: RefOperation, operations: Operations, entries: Entries) -> bool:
    """The entry of the trunk that ended its key names in `keep` what passes it on."""
    ending = account_now(entries).ended_by.get(o.key)
    if ending is None:
        return False
    named = [one for one in operations if one.id in ending.keep]
    return any(o.id in passed_on(one, operations, entries) for one in named)


def effective(o: RefOperation, operations: Operations, entries: Entries) -> bool:
    """Whether a valid operation of a record shows, among all the valid ones of that record."""
    if o.type not in KNOWN_TYPES:
        return False
    return endorsed(o, operations, entries) or (
        is_live(o, entries) and (current(o, entries) or kept(o, operations, entries))
    )


def epoch(o: RefOperation, entries: Entries) -> int:
    return state_at(anchor(entry_of(o, entries), entries), entries).epoch


def is_root(o: RefOperation, entries: Entries) -> bool:
    """Its key is the root at the entry it cites if that is live, else at its anchor."""
    cited = entry_of(o, entries)
    where = cited if is_live(o, entries) else anchor(cited, entries)
    return o.key == state_at(where, entries).root


def is_delete(o: RefOperation) -> bool:
    """A checkpoint without facts counts as a delete."""
    return o.type == DELETE or (o.type == CHECKPOINT and not o.has_facts)


def rank(o: RefOperation, entries: Entries) -> tuple[int, bool, bool, int, Id]:
    return epoch(o, entries), is_root(o, entries), is_delete(o), o.depth, o.id


def era(effectives: Operations, entries: Entries) -> Id:
    """The effective checkpoint of greatest (epoch, number, id), or the first era."""
    checkpoints = [one for one in effectives if one.type == CHECKPOINT]
    if not checkpoints:
        return FIRST_ERA
    return max(checkpoints, key=lambda one: (epoch(one, entries), one.number, one.id)).id


def tops(some: Iterable[RefOperation], operations: Operations) -> Operations:
    """Those that no other of them has in its past."""
    some = frozenset(some)
    return frozenset(
        one for one in some if not any(one.id in past(other, operations) for other in some)
    )


def effective_operations(operations: Operations, entries: Entries) -> Operations:
    return frozenset(one for one in operations if effective(one, operations, entries))


def resolve(operations: Operations, entries: Entries) -> RefState | None:
    """What one record shows, from its valid operations and its account's valid entries.

    None: no fact head, so it does not show at all.
    """
    effectives = effective_operations(operations, entries)
    now = era(effectives, entries)
    of_era = frozenset(one for one in effectives if era_of(one) == now)
    fact_heads = tops((one for one in of_era if one.type != CARD), operations)
    if not fact_heads:
        return None
    winner = max(fact_heads, key=lambda one: rank(one, entries))
    return RefState(
        winner=winner.id,
        conflicts=tuple(sorted(one.id for one in fact_heads if one != winner)),
        deleted=is_delete(winner),
        heads=tuple(sorted(one.id for one in tops(of_era, operations))),
        era=now,
        effective=frozenset(one.id for one in effectives),
    )


def cited_next(operations: Operations, entries: Entries) -> tuple[RefOperation, ...]:
    """The heads that the next write cites: at most 16, the winner first, then by rank."""
    effectives = effective_operations(operations, entries)
    now = era(effectives, entries)
    heads = tops((one for one in effectives if era_of(one) == now), operations)
    state = resolve(operations, entries)
    winner = state.winner if state else None
    ranked = sorted(heads, key=lambda one: (one.id == winner, rank(one, entries)), reverse=True)
    return tuple(ranked[:CITED_MAX])
