"""What an audit found, in words. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from crdt import (
    Audit,
    AuditedEntry,
    AuditedOperation,
    Capability,
    Cause,
    EntryType,
    Fork,
    ItemId,
    OperationId,
    OperationType,
    Place,
    short,
)
from node.cli.format import counted, lost_words

VOID_WORDS = {
    Cause.KEY_ENDED: "by a key that was ended",
    Cause.BRANCH_LOST: "on a branch of the account's log that lost",
    Cause.UNKNOWN_TYPE: "of a type this program does not know",
    Cause.LATER_VERSION: "of a later version than this program knows",
}
PLACES = {
    Place.TRUNK: "on the trunk",
    Place.OPEN: "behind the fork the log is frozen at",
    Place.LOST: "on a branch that lost",
}
VERSIONS_NAMED_MAX = 20
Labels = Mapping[OperationId, str]
"""What an operation is called beside its id: for a put, the version it states."""


def entry_numbers(audit: Audit) -> dict[ItemId, str]:
    """Return the short names of an account's entries: `e0` is the genesis."""
    return {one.entry.id: f"e{number}" for number, one in enumerate(audit.entries)}


def why_words(one: AuditedOperation, numbers: Mapping[ItemId, str]) -> str:
    """Return why an operation counts, or does not."""
    by = one.why.by
    entry = numbers.get(ItemId(by), short(by)) if by is not None else "?"
    match one.why.cause:
        case Cause.CURRENT:
            return "its key holds"
        case Cause.ENDORSED:
            return f"endorsed by the root's {short(by) if by is not None else '?'}"
        case Cause.KEPT:
            return f"kept by {entry}, which ended its key"
        case Cause.UNKNOWN_TYPE:
            return "of a type this program does not know"
        case Cause.LATER_VERSION:
            return "of a later version than this program knows"
        case Cause.BRANCH_LOST:
            return f"cites a branch of the account's log that lost to {entry}"
        case Cause.KEY_ENDED:
            return f"its key was ended by {entry}; no root's operation vouches for it"


def authority_words(one: AuditedOperation, numbers: Mapping[ItemId, str]) -> str:
    """Return what let its key write."""
    authority = one.authority
    granted = numbers[authority.granted_by]
    said = f"root of epoch {authority.epoch}, by {granted}"
    if not authority.is_root:
        said = f"{capability_words(authority.capabilities)}, granted by {granted}"
        if authority.scope:
            said += f", for {counted(len(authority.scope), 'record')} only"
    if authority.ended_by is not None:
        said += f", ended by {numbers[authority.ended_by]}"
    return said


def capability_words(capabilities: Capability) -> str:
    """Return a delegate's capabilities."""
    return " and ".join(str(one.name).lower() for one in Capability if one in capabilities)


def state_word(one: AuditedOperation) -> str:
    """Return in a word or two what became of an operation."""
    if one.is_winner:
        return "shows"
    if not one.effective:
        return "void"
    if one.lost_by is not None:
        return f"lost by {one.lost_by}"
    if not one.in_era:
        return "of another era"
    return "head" if one.is_head else "built on"


def entry_words(one: AuditedEntry, numbers: Mapping[ItemId, str]) -> str:
    """Return what an account entry says, and where it stands."""
    entry = one.entry
    signer = "recovery key" if one.by_recovery else "root key"
    about = "" if entry.type in {EntryType.GENESIS, EntryType.ADOPT} else f" {short(entry.key)}"
    said = f"{entry.type.name.lower().replace('_', ' ')}{about}"
    if entry.capabilities:
        said += f" ({capability_words(entry.capabilities)})"
    if entry.keep:
        said += f", keeps {counted(len(entry.keep), 'operation')}"
    on = "" if entry.predecessor is None else f", on {numbers[entry.predecessor]}"
    return f"{said}; signed by the {signer} {short(entry.signer)}{on}; {PLACES[one.place]}"


def fork_words(fork: Fork, numbers: Mapping[ItemId, str]) -> str:
    """Return what a fork is, and how it was settled."""
    branches = ", ".join(
        f"{numbers[one.first]} by {short(one.signer)} ({_entries(one.entry_count)})"
        for one in fork.branches
    )
    said = f"the log forks at {numbers[fork.at]}: {branches}"
    if not fork.on_trunk:
        return f"{said}; on a branch that does not hold"
    for one in fork.branches:
        if one.wins and one.adopted_by is not None:
            return f"{said}; the recovery key adopted {numbers[one.first]}"
    if fork.adopted_count > 1:
        return f"{said}; the recovery key signed on several branches, so it is frozen for good"
    return f"{said}; frozen until the recovery key signs on one branch"


def summary(audit: Audit, labels: Labels) -> list[str]:
    """Return what an audit found, a sentence or two a line; what shows comes first."""
    numbers = entry_numbers(audit)
    return [
        *_shows(audit, labels, numbers),
        *_void(audit),
        *_twice(audit),
        _log(audit),
        *(_sentence(fork_words(fork, numbers)) + "." for fork in audit.forks),
        *_checkpoints(audit),
        *_refused(audit),
    ]


def _shows(audit: Audit, labels: Labels, numbers: Mapping[ItemId, str]) -> list[str]:
    winner = audit.winner
    if audit.account is None:
        return ["Nothing can be judged: the owner's genesis is not in the log."]
    if winner is None:
        return ["Nothing shows: no effective operation says what the record is."]
    name = named(winner, labels)
    says = "It is deleted" if winner.operation.is_tombstone else f"{_sentence(name)} shows"
    lost = Counter(one.lost_by for one in audit.conflicts)
    id_, why = short(winner.operation.id), why_words(winner, numbers)
    if not lost:
        return [f"{says}: {id_} is the only head, and {why}."]
    terms = ", ".join(f"{count} {lost_words(str(term))}" for term, count in lost.items())
    count = len(audit.conflicts)
    first = f"{says}: {id_} is the greatest of {1 + count} concurrent writes, and {why}."
    return [first, f"{counted(count, 'write')} lost: {terms}. The next update settles them."]


def _void(audit: Audit) -> list[str]:
    void = [one for one in audit.operations if not one.effective]
    now = Counter(one.why.cause for one in void if one.in_era)
    said: list[str] = []
    if now:
        causes = ", ".join(f"{n} {VOID_WORDS[cause]}" for cause, n in now.items())
        said.append(f"{_are(sum(now.values()), 'operation')} void: {causes}.")
    if before := len(void) - sum(now.values()):
        said.append(
            f"{_are(before, 'operation')} void in eras that are over; what shows does not hang on "
            "that."
        )
    return said


def _twice(audit: Audit) -> list[str]:
    said = [
        f"Equivocation: key {short(one.key)} signed {len(one.operations)} writes that cite the "
        f"same heads: {', '.join(short(id_) for id_ in one.operations[:VERSIONS_NAMED_MAX])}."
        for one in audit.equivocations
    ]
    said += [
        f"Key {short(one.key)} signed {counted(one.pair_count, 'pair')} of writes that do not know "
        f"of each other, such as {short(one.pairs[0][0])} and {short(one.pairs[0][1])}."
        for one in audit.concurrency
    ]
    return said or ["No key signed two writes that do not know of each other."]


def _log(audit: Audit) -> str:
    frozen = audit.account is not None and audit.account.frozen
    state = "FROZEN" if frozen else "not frozen"
    return f"The account's log has {_entries(len(audit.entries))} and is {state}."


def _checkpoints(audit: Audit) -> list[str]:
    now = next((one for one in audit.checkpoints if one.is_era), None)
    if now is None:
        return []
    rivals = [one for one in audit.checkpoints if one.rivals]
    said = [f"The record's era is that of checkpoint {now.number}, {short(now.id)}."]
    if rivals:
        ids = ", ".join(short(one.id) for one in rivals)
        said.append(f"Rival checkpoints, made without knowing of each other: {ids}.")
    return said


def _refused(audit: Audit) -> list[str]:
    return [
        f"NOT VALID: {one.kind.name.lower() if one.kind else 'an item'} "
        f"{short(one.id) if one.id else ''}: {one.message} ({one.code})."
        for one in audit.refusals[:VERSIONS_NAMED_MAX]
    ]


def named(one: AuditedOperation, labels: Labels) -> str:
    """Return what to call an operation: its version, or what it does."""
    label = labels.get(one.operation.id)
    if label is None:
        return one.operation.type.name.lower()
    return f"version {label}" if one.operation.type is OperationType.PUT else label


def _are(count: int, noun: str) -> str:
    return f"{counted(count, noun)} {'is' if count == 1 else 'are'}"


def _entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
