"""A statement as JSON for people and programs, with the bytes that prove it inside."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from typing import Any, cast

from royalties.errors import BadStatement
from royalties.receipts import Receipt
from royalties.statements import STATEMENT_BYTES_MAX, Line, Statement, verify_bytes

FORMAT = "hansa-statement/0"
_DAY_ONE = dt.date(1970, 1, 1).toordinal()
_NOT_PROVEN = frozenset({"skipped"})
"""Members that say something about the node that wrote the document, not about what is owed."""


def statement_document(statement: Statement) -> dict[str, Any]:
    """Return a statement as JSON: every figure readable, `proof` to recompute them from."""
    return {
        "format": FORMAT,
        "network": statement.network.hex(),
        "account": statement.account.hex(),
        "epoch": statement.epoch,
        "day": day_of(statement.epoch),
        "earned_picos": statement.earned_picos,
        "owed_picos": statement.owed_picos,
        "payable_micros": statement.payable_micros,
        "lines": [_line(line) for line in statement.lines],
        "skipped": [{"lane": o.lane.hex(), "reason": o.reason} for o in statement.skipped],
        "proof": base64.urlsafe_b64encode(statement.raw).rstrip(b"=").decode(),
    }


def verify(raw: bytes) -> Statement:
    """Return the statement in a file after recomputing it; needs nothing but the file.

    Args:
        raw: The JSON document, or the bare canonical bytes that are its proof.

    Raises:
        BadStatement: any figure or byte does not follow from the evidence inside.
    """
    if len(raw) > 2 * STATEMENT_BYTES_MAX:
        raise BadStatement(f"the file has {len(raw)} bytes; a statement is smaller")
    if raw.lstrip()[:1] != b"{":
        return verify_bytes(raw)
    document = _parsed(raw)
    statement = verify_bytes(_proof(document))
    expected = statement_document(statement)
    for name in sorted((expected.keys() | document.keys()) - _NOT_PROVEN):
        # A member that is null says something too.
        if (name in document) != (name in expected) or not _same(document[name], expected[name]):
            raise BadStatement(f"{name} is not what the evidence gives; the proof itself holds")
    return statement


def day_of(epoch: int) -> str:
    """Return the UTC date of an epoch, as `2026-11-21`."""
    return dt.date.fromordinal(_DAY_ONE + epoch).isoformat()


def _line(line: Line) -> dict[str, Any]:
    receipt: Receipt = line.receipt
    lane, tokens = receipt.lane, receipt.tokens
    return {
        "lane": lane.id.hex(),
        "record": lane.record.hex(),
        "version": lane.version.hex(),
        "consumer": lane.consumer.hex(),
        "provider": lane.provider.hex(),
        "sequence": receipt.sequence,
        "calls": receipt.call_count,
        "tokens": {
            "input": tokens.input_count,
            "cached": tokens.cached_count,
            "output": tokens.output_count,
        },
        "amount_picos": receipt.amount_picos,
        "shares": [
            {
                "role": share.role.value,
                "record": share.record.hex(),
                "amount_picos": share.amount_picos,
            }
            for share in line.shares
        ],
        "owed_picos": line.owed_picos,
    }


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        found: Any = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BadStatement(f"the file is not JSON: {error}") from error
    return cast("dict[str, Any]", found)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that stands twice: a person reads the first, a program the last."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _proof(document: dict[str, Any]) -> bytes:
    text = document.get("proof")
    if document.get("format") != FORMAT or not isinstance(text, str):
        raise BadStatement(f"the file is not a statement of format {FORMAT!r} with its proof")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise BadStatement("the proof is not base64url without padding") from error


def _same(left: object, right: object) -> bool:
    """Whether two JSON values are the same, so that 1, 1.0 and true are three values."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
