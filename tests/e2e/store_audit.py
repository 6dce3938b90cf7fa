"""Reads a node's registry database with nothing but sqlite3, and judges everything in it anew.

Nothing of `node.storage` or of the replica runs here: an item is decoded by the places its fields
have (docs/wire.md), its signature and its causes are checked, and every record's state is computed
from the whole set. What this does not know (entry types, operation types, later versions) must
still be signed by a key that it names and stand behind its causes; the rest of it is not judged.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crdt import HansaError, NetworkId, PublicKey, RecordKind, decode, encode, sha3
from crdt.signed import verify_digest
from registry import decode_record

ACCOUNT, OPERATION = 1, 2
GENESIS = 1
PUT, DELETE, CHECKPOINT = 1, 3, 4
BYTES_MAX = 1 << 20
DATABASES = ("registry.sqlite3", "access.sqlite3", "ledger.sqlite3")


@dataclass(frozen=True, slots=True)
class Entry:
    """An account entry: which account it is of, and the keys that it could be signed by."""

    id: bytes
    account: bytes
    type: int
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Write:
    """An operation, by the places of its fields; what only version 0 says is None in others."""

    id: bytes
    kind: int
    record: bytes
    slug: str
    type: int
    account: bytes
    key: bytes
    account_heads: tuple[bytes, ...]
    predecessors: tuple[bytes, ...] | None
    depth: int | None


@dataclass(frozen=True, slots=True)
class State:
    """What a record must show.

    Attributes:
        winner: None where rules decide that this module does not know.
    """

    kind: int
    heads: frozenset[bytes]
    winner: bytes | None
    deleted: bool | None


@dataclass
class Store:
    """What a file holds, and everything that is wrong with it."""

    faults: list[str] = field(default_factory=list)
    raws: dict[bytes, bytes] = field(default_factory=dict)
    numbers: dict[bytes, int] = field(default_factory=dict)
    entries: dict[bytes, Entry] = field(default_factory=dict)
    writes: dict[bytes, Write] = field(default_factory=dict)
    kinds: dict[bytes, int] = field(default_factory=dict)

    def states(self) -> dict[bytes, State]:
        """Return the state of every record, computed from all operations at once."""
        of_record: dict[bytes, list[Write]] = {}
        for write in self.writes.values():
            of_record.setdefault(write.record, []).append(write)
        plain = {entry.account for entry in self.entries.values() if entry.type == GENESIS}
        plain -= {entry.account for entry in self.entries.values() if entry.type != GENESIS}
        return {
            record: _state(writes, judged=writes[0].account in plain)
            for record, writes in of_record.items()
        }


Memory = dict[bytes, Entry | Write]
"""Items by their raw bytes that were decoded and verified before."""


def audit(folder: Path, network: NetworkId, memory: Memory | None = None) -> Store:
    """Return what a node's databases hold, with a fault for everything that should not be so.

    Args:
        folder: A data folder, or a copy of one, that no process has open.
        memory: What earlier audits verified; None judges every byte again.
    """
    store = Store()
    for name in DATABASES:
        if (folder / name).exists():
            _check_file(folder / name, store)
    path = folder / "registry.sqlite3"
    if not path.exists() or store.faults:
        return store
    with closing(sqlite3.connect(path)) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE name = 'item_v1'")
        if tables.fetchone() is None:
            return store  # killed before the first migration was done
        rows = database.execute("SELECT n, id, kind, record, raw FROM item_v1 ORDER BY n")
        for n, id_, kind, record, raw in rows:
            _take(store, n, (id_, kind, record), raw, network, {} if memory is None else memory)
    for write in store.writes.values():
        _check_causes(store, write)
    return store


def copy_databases(source: Path, target: Path) -> Path:
    """Copy the databases of a killed node with their logs, as the kill left them."""
    target.mkdir(parents=True)
    for name in DATABASES:
        for path in (source / name, source / f"{name}-wal"):
            if path.exists():
                shutil.copy(path, target / path.name)
    return target


def snapshot_registry(source: Path, target: Path) -> Path:
    """Copy the registry database of a running node as it stands at one moment."""
    target.mkdir(parents=True)
    with (
        closing(open_read_only(source)) as database,
        closing(sqlite3.connect(target / DATABASES[0])) as copy,
    ):
        database.backup(copy)
    return target


def ids_in(folder: Path) -> frozenset[bytes]:
    """Return the ids of every item that a running node holds."""
    with closing(open_read_only(folder)) as database:
        return frozenset(id_ for (id_,) in database.execute("SELECT id FROM item_v1"))


def open_read_only(folder: Path) -> sqlite3.Connection:
    """Return a connection that reads the registry database of a running node."""
    path = (folder / DATABASES[0]).absolute()
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)


def _check_file(path: Path, store: Store) -> None:
    try:
        with closing(sqlite3.connect(path)) as database:
            found = [row[0] for row in database.execute("PRAGMA integrity_check")]
            found += [str(row) for row in database.execute("PRAGMA foreign_key_check")]
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    if found != ["ok"]:
        store.faults.append(f"{path.name}: {found[:5]}")


def _take(
    store: Store, n: int, columns: tuple[bytes, int, bytes | None], raw: bytes, network: bytes,
    memory: Memory,
) -> None:  # fmt: skip
    """Decode and verify one row, and put it into the store; it may cite what came before it."""
    id_, kind, record = columns
    store.raws[id_], store.numbers[id_], store.kinds[id_] = raw, n, kind
    try:
        found = memory.get(raw)
        if found is None:
            found = memory[raw] = _judged(store, raw, kind, network)
        if found.id != id_ or (record or b"") != (found.record if _is_write(found) else b""):
            raise ValueError("the row's columns are not what the item says")
    except (HansaError, ValueError, TypeError, IndexError, AssertionError) as error:
        store.faults.append(f"item {n} {id_.hex()[:16]}: {type(error).__name__}: {error}")
        return
    if isinstance(found, Write):
        store.writes[id_] = found
    else:
        store.entries[id_] = found


def _is_write(found: Entry | Write) -> bool:
    return isinstance(found, Write)


def _judged(store: Store, raw: bytes, kind: int, network: bytes) -> Entry | Write:
    version, own_kind, content, signature, body = decode(raw, bytes_max=BYTES_MAX)
    assert (version, own_kind) == (0, kind), "it is of another wire version or kind"
    id_ = sha3(content)
    parts = decode(content, bytes_max=BYTES_MAX)
    if kind == ACCOUNT:
        return _entry(store, id_, signature, parts, network)
    if kind == OPERATION:
        assert parts[0] == "hansa/operation", "it is no operation"
        verify_digest(id_, signature, PublicKey(parts[8]))
        return _write(id_, parts, body, network)
    # A receipt: its rules are royalties', and no crash load signs one.
    return Entry(id_, b"", 0, ())


def _entry(
    store: Store, id_: bytes, signature: bytes, parts: tuple[Any, ...], network: bytes
) -> Entry:
    assert parts[0] == "hansa/account", "it is no account entry"
    assert parts[2] == network, "it is of another network"
    named = tuple(part for part in parts if type(part) is bytes and len(part) == 32)
    if parts[3] == GENESIS:
        verify_digest(id_, signature, PublicKey(parts[4]))
        return Entry(id_, id_, GENESIS, (parts[4],))
    # Of an entry type that this does not know: it names its account or a predecessor that does,
    # and is signed by a key that it or an earlier entry of the account names.
    before = [store.entries[one] for one in named if one in store.entries]
    assert before, "an account entry comes before what it builds on"
    account = before[0].account
    earlier = [key for one in store.entries.values() if one.account == account for key in one.keys]
    assert any(_is_signed(id_, signature, key) for key in (*named, *earlier)), "nobody signed it"
    return Entry(id_, account, parts[3], named)


def _is_signed(id_: bytes, signature: bytes, key: bytes) -> bool:
    try:
        verify_digest(id_, signature, PublicKey(key))
    except HansaError:
        return False
    return True


def _write(id_: bytes, parts: tuple[Any, ...], body: bytes, network: bytes) -> Write:
    _domain, version, own, kind, record, slug, type_, account, key, heads = parts[:10]
    assert own == network, "it is of another network"
    derived = sha3(encode(["hansa/record", 0, network, kind, account, slug]))
    assert record == derived, "the record's id is not its account's and slug's"
    if version != 0:
        return Write(id_, kind, record, slug, type_, account, key, tuple(heads), None, None)
    predecessors, depth, body_hash, body_bytes = parts[11:15]
    assert (sha3(body), len(body)) == (body_hash, body_bytes), "the body is not what was signed"
    if type_ == PUT:
        decode_record(RecordKind(kind), body)
    elif type_ == DELETE:
        assert not body, "a delete has a body"
    return Write(
        id_, kind, record, slug, type_, account, key, tuple(heads), tuple(predecessors), depth
    )


def _check_causes(store: Store, write: Write) -> None:
    """What an operation cites stands before it, and its key and depth follow from that."""

    def complain(what: str) -> None:
        store.faults.append(f"item {store.numbers[write.id]} {write.id.hex()[:16]}: {what}")

    for head in write.account_heads:
        if store.numbers.get(head, 2**63) > store.numbers[write.id]:
            complain("an account entry that it cites is not before it")
    genesis = store.entries.get(write.account)
    if genesis is None:
        complain("its account is not there")
    elif write.account_heads == (write.account,) and write.key not in genesis.keys:
        complain("its key may not write for its account")
    if write.predecessors is None:
        return
    found = [store.writes[one] for one in write.predecessors if one in store.writes]
    if len(found) != len(write.predecessors):
        # Only what is below a checkpoint may have been dropped.
        if not any(
            o.type == CHECKPOINT and o.record == write.record for o in store.writes.values()
        ):
            complain("an operation that it cites is not there")
    elif any(store.numbers[one.id] > store.numbers[write.id] for one in found):
        complain("an operation that it cites came after it")
    elif any(one.record != write.record for one in found):
        complain("an operation that it cites is of another record")
    elif not found and write.type == DELETE:
        complain("it deletes nothing")
    else:
        depths = [one.depth for one in found if one.depth is not None]
        if len(depths) == len(found) and write.depth != 1 + max(depths, default=0):
            complain(f"its depth is {write.depth} after {depths}")


def _state(writes: Iterable[Write], *, judged: bool) -> State:
    """Return a record's state: the operations nobody cites, and the greatest of them."""
    writes = list(writes)
    cited = {id_ for write in writes for id_ in write.predecessors or ()}
    heads = [write for write in writes if write.id not in cited]
    known = all(write.type in {PUT, DELETE} and write.depth is not None for write in writes)
    if not judged or not known:
        return State(writes[0].kind, frozenset(one.id for one in heads), None, None)
    # Every key is its account's one root key here: of the rank, these are left.
    winner = max(heads, key=lambda one: (one.type == DELETE, one.depth, one.id))
    return State(winner.kind, frozenset(one.id for one in heads), winner.id, winner.type == DELETE)


def shown_state(status: int, answer: Mapping[str, Any], kind: int) -> State:
    """Return a record's state as a node's answer to a GET of it says."""
    heads = frozenset(bytes.fromhex(one["version_id"]) for one in answer.get("heads", ()))
    if status == 410:
        return State(kind, heads, bytes.fromhex(answer["tombstone"]), deleted=True)
    assert status == 200, f"HTTP {status}: {answer}"
    conflicts = frozenset(bytes.fromhex(one) for one in answer["conflicts"])
    winner = bytes.fromhex(answer["version_id"])
    assert heads == conflicts | {winner}, f"heads, conflicts and winner disagree: {answer}"
    return State(kind, heads, winner, deleted=False)


def disagreement(expected: State, shown: State) -> str:
    """Return how a shown state differs from what the set says; empty if it does not."""
    if expected.winner is None:
        return ""  # effectiveness decides, which this module does not judge
    return "" if expected == shown else f"{shown} is shown where the set gives {expected}"
