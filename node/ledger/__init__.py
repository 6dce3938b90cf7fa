"""The node's own books: what it signed for, what it served, and bringing both to two signatures."""

from node.ledger.errors import (
    CallTooDear,
    LedgerBusy,
    NotOurLane,
    OperatorNotAdmitted,
    SettlementRefused,
    TermsChanged,
)
from node.ledger.ledger import Ledger, LedgerLimits, Party, Surroundings
from node.ledger.payee import Exposure, Payee
from node.ledger.payer import Payer, Spending
from node.ledger.settling import Pace
from node.ledger.store import LaneUse, LedgerStore, Side
from node.ledger.wire import COUNTERSIGN_PATH, SETTLE_BYTES_MAX, SETTLE_PATH

__all__ = [
    "COUNTERSIGN_PATH", "SETTLE_BYTES_MAX", "SETTLE_PATH", "CallTooDear", "Exposure", "LaneUse",
    "Ledger", "LedgerBusy", "LedgerLimits", "LedgerStore", "NotOurLane", "OperatorNotAdmitted",
    "Pace", "Party", "Payee", "Payer", "SettlementRefused", "Side", "Spending", "Surroundings",
    "TermsChanged",
]  # fmt: skip
