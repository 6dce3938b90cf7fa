"""Resolving what a record depends on: breadth first, exact versions, or the reason why not."""

from __future__ import annotations

from collections import deque

from crdt import HansaError, RecordKind, sha3
from node.api.views import DependenciesView, LockEntry, Unresolved
from node.catalogue import Catalogue, semver_of
from node.storage import RecordState, VersionEntry
from registry import ById, decode_record, in_range, parse_record_reference, version_key

ENTRY_COUNT_MAX = 256
"""Records in one closure; more is an error of somebody, or an attack."""


def resolve(catalogue: Catalogue, root: RecordState) -> DependenciesView:
    """Return the lock of everything `root` needs, and what could not be resolved.

    Each reference takes the greatest version in its range. One record at two versions is two
    entries: nothing here is linked together, so both can be had.
    """
    lock: dict[bytes, LockEntry] = {}
    unresolved: list[Unresolved] = []
    waiting = deque((text, root.slug) for text in _references(root.kind, root.body))
    while waiting:
        text, needed_by = waiting.popleft()
        found = _find(catalogue, text)
        if isinstance(found, str):
            unresolved.append(Unresolved(reference=text, required_by=needed_by, reason=found))
            continue
        operation = found.operation
        known = lock.get(operation.id)
        if known is not None:
            known.required_by.append(needed_by)
            continue
        if len(lock) >= ENTRY_COUNT_MAX:
            reason = f"there are over {ENTRY_COUNT_MAX} records in the closure"
            unresolved.append(Unresolved(reference=text, required_by=needed_by, reason=reason))
            break
        lock[operation.id] = _entry(text, found, needed_by)
        waiting.extend((one, operation.slug) for one in _references(operation.kind, found.body))
    return DependenciesView(
        resolved=not unresolved, lock=list(lock.values()), unresolved=unresolved
    )


def _references(kind: RecordKind, body: bytes) -> tuple[str, ...]:
    return decode_record(kind, body).dependencies


def _find(catalogue: Catalogue, text: str) -> VersionEntry | str:
    """Return the version that a reference means, or why there is none."""
    try:
        reference = parse_record_reference(text)
        if isinstance(reference, ById):
            state = catalogue.record(reference.record)
        else:
            state = catalogue.find_slug(reference.owner, reference.slug)
    except HansaError as error:
        return str(error)
    if state is None:
        return "no such record is known here"
    if state.deleted:
        return "the record was deleted by its owner"
    fits = [
        (semver_of(entry), entry)
        for entry in catalogue.versions(state.id)
        if in_range(semver_of(entry), reference.range)
    ]
    if not fits:
        return f"no version of {state.slug} is in the range {reference.range}"
    return max(fits, key=_precedence)[1]


def _precedence(fit: tuple[str, VersionEntry]) -> tuple[object, int, bytes]:
    version, entry = fit
    return (version_key(version), entry.operation.depth, entry.operation.id)


def _entry(text: str, found: VersionEntry, needed_by: str) -> LockEntry:
    operation = found.operation
    return LockEntry(
        reference=text,
        kind="model" if operation.kind is RecordKind.MODEL else "agent",
        id=operation.record.hex(),
        version=semver_of(found),
        version_id=operation.id.hex(),
        content_hash=sha3(found.body).hex(),
        required_by=[needed_by],
    )
