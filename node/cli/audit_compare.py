"""What a node shows of a record, against what follows from the log that was judged here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from crdt import (
    PREDECESSOR_COUNT_MAX,
    Audit,
    HansaError,
    NetworkId,
    Operation,
    OperationId,
    RecordId,
    Replica,
    Written,
)
from node.api.views import record_view
from node.catalogue import Catalogue, Publisher
from node.storage import facts_in
from node.storage.memory import MemoryDisk, MemoryStorage
from registry import RegistryRules, decode_record
from royalties import ReceiptRules

SHOWN_CHARACTERS_MAX = 80


class LocalSet:
    """An empty replica of our own, and what it derives once a log was fed to it."""

    def __init__(self, network: NetworkId) -> None:
        self.storage = MemoryStorage(MemoryDisk(bytes(16)))
        self.replica = Replica(network, self.storage, RegistryRules(), ReceiptRules(network))
        self.network = network

    def view(self, record: RecordId) -> dict[str, Any] | None:
        """Return what a node that holds this set shows; None for nothing, or a deletion."""
        state = self.storage.record(record)
        if state is None or state.deleted:
            return None
        reads_only = cast("Publisher", None)
        catalogue = Catalogue(reads_only, self.storage, self.network)
        shown: dict[str, Any] = json.loads(record_view(catalogue, state).model_dump_json())
        return shown

    def labels(self, record: RecordId) -> dict[OperationId, str]:
        """Return the versions that puts and checkpoints state."""
        found: dict[OperationId, str] = {}
        for written in self.storage.written(record):
            version = _version(written)
            if version is not None:
                found[written.operation.id] = version
        return found


def _version(written: Written) -> str | None:
    operation: Operation = written.operation
    if not operation.is_fact or operation.is_tombstone:
        return None
    try:
        return decode_record(operation.kind, facts_in(operation, written.body)).version
    except HansaError:
        return None


def differences(
    audit: Audit,
    mine: Mapping[str, Any] | None,
    conflicts: Mapping[str, Any],
    shown: Mapping[str, Any] | None,
) -> list[str]:
    """Return every way in which a node shows something else than follows from its log.

    Args:
        mine: The record as `LocalSet.view` derives it.
        conflicts: The node's answer about concurrent writes.
        shown: The record as the node shows it; None when it shows none.
    """
    found = _of_heads(audit, conflicts)
    if mine is None and shown is not None:
        found.append("the node shows a record where nothing shows, or it is deleted")
    elif mine is not None and shown is None:
        found.append("the node shows no record where one shows")
    elif mine is not None and shown is not None:
        names = [name for name in mine if mine[name] != shown.get(name)]
        found += [_difference(name, mine[name], shown.get(name)) for name in names]
    return found


def _of_heads(audit: Audit, conflicts: Mapping[str, Any]) -> list[str]:
    """Compare winner, losers with their terms, era, and what is to be cited."""
    register = audit.register
    if register is None:
        return ["nothing of what the node sent can be judged"]
    winner = conflicts["winner"]
    heads = {id_.hex() for id_ in register.heads}
    cited = [one["version_id"] for one in conflicts["heads"]]
    lost = {one.operation.id.hex(): one.lost_by for one in audit.conflicts}
    given = {one["version_id"]: one["lost_by"] for one in conflicts["conflicts"]}
    expected_winner = register.winner.hex() if register.winner is not None else None
    pairs: list[tuple[str, object, object]] = [
        ("winner", expected_winner, winner["version_id"] if winner else None),
        ("number of conflicts", len(lost), conflicts["conflict_count"]),
        ("era", register.era.hex(), conflicts["era"]),
        ("number of heads", min(len(heads), PREDECESSOR_COUNT_MAX), len(set(cited))),
        ("heads that are none", [], sorted(set(cited) - heads)),
        ("conflicts that are none", [], sorted(given.keys() - lost.keys())),
        ("terms", {id_: lost[id_] for id_ in given if id_ in lost},
         {id_: term for id_, term in given.items() if id_ in lost}),
    ]  # fmt: skip
    return [_difference(name, one, other) for name, one, other in pairs if one != other]


def _difference(name: str, mine: object, shown: object) -> str:
    return f"{name}: the node shows {_cut(shown)}, and the log says {_cut(mine)}"


def _cut(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True, sort_keys=True)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[: SHOWN_CHARACTERS_MAX - 1] + "…"
