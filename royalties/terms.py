"""Reading the money terms out of a record version, whatever kind of record it is."""

from __future__ import annotations

from crdt import AccountId, Operation, RecordId
from royalties.errors import MissingEvidence
from royalties.splits import BASIS_POINTS, Base, Terms


def terms_of(operation: Operation, body: bytes) -> Terms:
    """Return the terms in a put's body.

    Raises:
        RemoteFault: the body is not a record of the operation's kind.
        MissingEvidence: its bases are promised more than there is.
    """
    from registry import decode_record  # it loads pydantic; most of this package needs none of it

    record = decode_record(operation.kind, body)
    bases = tuple(
        Base(RecordId(bytes.fromhex(base.record)), base.share_bps) for base in record.base_models
    )
    if sum(base.share_bps for base in bases) > BASIS_POINTS:
        raise MissingEvidence(f"version {operation.id.hex()[:16]} promises its bases over 100 %")
    return Terms(
        owner=operation.account,
        record=operation.record,
        royalty_bps=record.royalty_bps,
        splits=tuple((AccountId(bytes.fromhex(one.account)), one.weight) for one in record.splits),
        bases=bases,
    )
