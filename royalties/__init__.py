"""Who is owed what: orders, receipts, lanes, splits and statements, in integers and without I/O."""

from royalties.errors import (
    BadOrder,
    BadReceipt,
    BadStatement,
    ExposureExceeded,
    LaneForked,
    MissingEvidence,
    OrderExhausted,
)
from royalties.money import PICOS_PER_MICRO, Prices, Tokens, divide, open_prices, open_tokens
from royalties.orders import (
    DAY_S,
    Order,
    Ticket,
    check_order,
    check_ticket,
    open_order,
    open_ticket,
    order_hash,
    sign_order,
    sign_ticket,
)
from royalties.receipts import (
    Agreed,
    Call,
    Lane,
    Receipt,
    ReceiptRules,
    claim_bytes,
    countersign,
    open_agreed,
    open_call,
    open_claim,
    open_receipt,
    sign_receipt,
    verify_agreed,
)

__all__ = [
    "DAY_S", "PICOS_PER_MICRO", "Agreed", "BadOrder", "BadReceipt", "BadStatement", "Call",
    "ExposureExceeded", "Lane", "LaneForked", "MissingEvidence", "Order", "OrderExhausted",
    "Prices", "Receipt", "ReceiptRules", "Ticket", "Tokens", "check_order", "check_ticket",
    "claim_bytes", "countersign", "divide", "open_agreed", "open_call", "open_claim", "open_order",
    "open_prices", "open_receipt", "open_ticket", "open_tokens", "order_hash", "sign_order",
    "sign_receipt", "sign_ticket", "verify_agreed",
]  # fmt: skip
