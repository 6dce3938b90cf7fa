"""What can be wrong with orders, receipts and statements."""

from __future__ import annotations

from crdt import RemoteFault, UserFault


class BadOrder(RemoteFault):
    """An order or ticket that does not cover the call it came with."""

    code = "bad-order"


class OrderExhausted(RemoteFault):
    """What is left of an order does not cover the most that a call can cost."""

    code = "order-exhausted"


class ExposureExceeded(RemoteFault):
    """A consumer has too much served and unsigned: it must settle first."""

    code = "exposure-exceeded"


class BadReceipt(RemoteFault):
    """A receipt that says what it may not, or that does not continue its lane."""

    code = "bad-receipt"


class LaneForked(RemoteFault):
    """A provider signed two receipts with one sequence number: nothing after them counts."""

    code = "lane-forked"


class BadStatement(UserFault):
    """A statement whose evidence does not give what it claims."""

    code = "bad-statement"


class MissingEvidence(UserFault):
    """A statement needs a record version or an account that is not at hand."""

    code = "missing-evidence"
