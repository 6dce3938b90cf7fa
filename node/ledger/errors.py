"""What can go wrong with keeping the books."""

from __future__ import annotations

from crdt import RemoteFault, UserFault, WorldFault


class LedgerBusy(WorldFault):
    """The disk does not keep up with the calls: refuse new ones, never forget old ones."""

    code = "ledger-busy"


class NotOurLane(RemoteFault):
    """A settlement for a lane in which this node's account is not the party it must be."""

    code = "not-our-lane"


class TermsChanged(RemoteFault):
    """An order for other terms than this node offers now."""

    code = "terms-changed"


class CallTooDear(UserFault):
    """One call could cost more than this node lets an order cover."""

    code = "call-too-dear"


class SettlementRefused(WorldFault):
    """A provider did not answer a settlement as it should; it is asked again later."""

    code = "settlement-refused"


class OperatorNotAdmitted(WorldFault):
    """The operator's account has no stamp yet, so nothing can be paid for or earned under it."""

    code = "operator-not-admitted"
