"""How much work comparisons may make for whoever answers: a budget for all, and one for each peer.

A token is a third of a millisecond. What a request costs is owed once it is known, and nothing is
answered on debt; so one peer's requests cost what its own share allows, and the others have theirs.
"""

from __future__ import annotations

from collections import OrderedDict

from crdt.budgets import TokenBucket
from crdt.ids import PeerId

RATE_S, BURST = 100, 4_000
"""For all peers together, of one kind of work; there are two kinds: at most 7 % of a core."""
PEER_RATE_S, PEER_BURST = 50, 2_000
"""Of one: enough for a sketch of a million ids, or for the ranges of ten thousand differences."""
PEER_COUNT_MAX = 1024
"""Peers remembered, connected or not: nobody's debt is forgotten because it has reconnected."""


class HeavyWork:
    """Who has had how much of the answering side's time."""

    def __init__(self) -> None:
        self._all = TokenBucket(rate_per_s=RATE_S, burst=BURST, now_ms=0)
        self._by_peer: OrderedDict[PeerId, TokenBucket] = OrderedDict()

    def may(self, peer: PeerId, now_ms: int) -> bool:
        """Whether a peer's request is looked at now; takes one token of either budget."""
        mine = self._bucket(peer, now_ms)
        return mine.wait_ms(1, now_ms) == 0 and self._all.take(1, now_ms) and mine.take(1, now_ms)

    def owe(self, peer: PeerId, amount: float, now_ms: int) -> None:
        """Take what a request has cost."""
        self._all.owe(amount, now_ms)
        self._bucket(peer, now_ms).owe(amount, now_ms)

    def _bucket(self, peer: PeerId, now_ms: int) -> TokenBucket:
        found = self._by_peer.pop(peer, None)
        if found is None:
            found = TokenBucket(rate_per_s=PEER_RATE_S, burst=PEER_BURST, now_ms=now_ms)
        self._by_peer[peer] = found
        while len(self._by_peer) > PEER_COUNT_MAX:
            self._by_peer.popitem(last=False)
        return found
