"""An audit as JSON: everything it found, ids in hex. Pure."""

from __future__ import annotations

from typing import Any

from crdt import RANK_TERMS, Audit, AuditedEntry, AuditedOperation
from node.cli.audit_words import (
    Labels,
    authority_words,
    entry_numbers,
    entry_words,
    state_word,
    summary,
    why_words,
)

Json = dict[str, Any]


def audit_json(audit: Audit, labels: Labels, wrong: list[str]) -> Json:
    """Return the whole audit.

    Args:
        wrong: What the node shows that does not follow from the log.
    """
    register, account = audit.register, audit.account
    return {
        "record": audit.record.hex(),
        "account": account.id.hex() if account else None,
        "sound": not audit.refusals and not wrong,
        "summary": summary(audit, labels),
        "differences": wrong,
        "winner": _hex(register.winner) if register else None,
        "conflicts": [one.operation.id.hex() for one in audit.conflicts],
        "heads": [one.hex() for one in register.heads] if register else [],
        "era": register.era.hex() if register else None,
        "frozen_at": _hex(account.fork) if account else None,
        "entries": [entry_json(audit, one) for one in audit.entries],
        "forks": [
            {
                "at": fork.at.hex(), "on_trunk": fork.on_trunk, "settled": fork.settled,
                "branches": [
                    {
                        "first": one.first.hex(), "signer": one.signer.hex(), "wins": one.wins,
                        "entry_count": one.entry_count, "adopted_by": _hex(one.adopted_by),
                    }
                    for one in fork.branches
                ],
            }
            for fork in audit.forks
        ],
        "operations": [operation_json(audit, one, labels) for one in audit.operations],
        "checkpoints": [
            {
                "id": one.id.hex(), "epoch": one.epoch, "number": one.number,
                "effective": one.effective, "is_era": one.is_era, "lost_by": one.lost_by,
                "rivals": [id_.hex() for id_ in one.rivals],
            }
            for one in audit.checkpoints
        ],
        "equivocations": [
            {"key": one.key.hex(), "operations": [id_.hex() for id_ in one.operations]}
            for one in audit.equivocations
        ],
        "concurrency": [
            {
                "key": one.key.hex(), "pair_count": one.pair_count,
                "pairs": [[first.hex(), second.hex()] for first, second in one.pairs],
            }
            for one in audit.concurrency
        ],
        "refusals": [
            {
                "id": _hex(one.id), "kind": one.kind.name.lower() if one.kind else None,
                "code": one.code, "message": one.message,
            }
            for one in audit.refusals
        ],
    }  # fmt: skip


def operation_json(audit: Audit, one: AuditedOperation, labels: Labels) -> Json:
    """Return everything about one operation."""
    operation, authority = one.operation, one.authority
    numbers = entry_numbers(audit)
    rank: Json = dict(zip(RANK_TERMS, one.rank, strict=True))
    return {
        "id": operation.id.hex(),
        "type": operation.type.name.lower(),
        "version": labels.get(operation.id),
        "key": operation.key.hex(),
        "authority": {
            "words": authority_words(one, numbers),
            "is_root": authority.is_root,
            "epoch": authority.epoch,
            "capabilities": int(authority.capabilities),
            "scope": [record.hex() for record in authority.scope],
            "granted_by": authority.granted_by.hex(),
            "ended_by": _hex(authority.ended_by),
        },
        "account_entry": operation.account_head.hex(),
        "predecessors": [id_.hex() for id_ in operation.predecessors],
        "era": one.era.hex(),
        "in_era": one.in_era,
        "depth": operation.depth,
        "timestamp_s": operation.timestamp_s,
        "body_bytes": operation.body_bytes,
        "references": one.reference_count,
        "effective": one.effective,
        "why": {"cause": one.why.cause.value, "by": _hex(one.why.by),
                "words": why_words(one, numbers)},
        "state": state_word(one),
        "is_winner": one.is_winner,
        "is_head": one.is_head,
        "rank": {**rank, "id": operation.id.hex()},
        "lost_by": one.lost_by,
    }  # fmt: skip


def entry_json(audit: Audit, one: AuditedEntry) -> Json:
    """Return everything about one account entry."""
    entry = one.entry
    numbers = entry_numbers(audit)
    return {
        "id": entry.id.hex(), "number": numbers[entry.id], "type": entry.type.name.lower(),
        "predecessor": _hex(entry.predecessor), "signer": entry.signer.hex(),
        "by_recovery": one.by_recovery, "key": entry.key.hex(),
        "capabilities": int(entry.capabilities), "scope": [id_.hex() for id_ in entry.scope],
        "keep": [id_.hex() for id_ in entry.keep], "epoch": one.epoch,
        "place": one.place.value, "words": entry_words(one, numbers),
    }  # fmt: skip


def _hex(raw: bytes | None) -> str | None:
    return raw.hex() if raw is not None else None
