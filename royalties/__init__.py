"""Who is owed what: orders, receipts, lanes, splits and statements, in integers and without I/O."""

from royalties.documents import day_of, statement_document, verify
from royalties.errors import (
    BadOrder,
    BadReceipt,
    BadStatement,
    ExposureExceeded,
    LaneForked,
    MissingEvidence,
    OrderExhausted,
)
from royalties.lanes import (
    Answer,
    CallMade,
    CallServed,
    CallsReported,
    ClaimAgreed,
    ClaimReceived,
    ConsumerLane,
    Countersign,
    Dispute,
    DisputesReceived,
    Forked,
    KeepAgreed,
    KeepCall,
    KeepClaim,
    KeepDisputes,
    ProviderLane,
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
    EPOCH_MAX,
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
    verify_any,
)
from royalties.splits import Base, Role, Share, Terms, shares_of
from royalties.statements import Evidence, Line, Skipped, Statement, statement, verify_bytes
from royalties.terms import terms_of

__all__ = [
    "DAY_S", "EPOCH_MAX", "PICOS_PER_MICRO", "Agreed", "Answer", "BadOrder", "BadReceipt",
    "BadStatement", "Base", "Call", "CallMade", "CallServed", "CallsReported", "ClaimAgreed",
    "ClaimReceived", "ConsumerLane", "Countersign", "Dispute", "DisputesReceived", "Evidence",
    "ExposureExceeded", "Forked", "KeepAgreed", "KeepCall", "KeepClaim", "KeepDisputes",
    "Lane", "LaneForked", "Line", "MissingEvidence", "Order", "OrderExhausted", "Prices",
    "ProviderLane", "Receipt", "ReceiptRules", "Role", "Share", "Skipped", "Statement",
    "Terms", "Ticket", "Tokens", "check_order", "check_ticket", "claim_bytes", "countersign",
    "day_of", "divide", "open_agreed", "open_call", "open_claim", "open_order", "open_prices",
    "open_receipt", "open_ticket", "open_tokens", "order_hash", "shares_of", "sign_order",
    "sign_receipt", "sign_ticket", "statement", "statement_document", "terms_of", "verify",
    "verify_agreed", "verify_any", "verify_bytes",
]  # fmt: skip
