"""How peers behave: rates, points and bans. Pure: the time is passed in.

Ours, because py-libp2p 0.8.1's own scoring is off by default and has a sign inverted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

POINTS_MAX = 100
"""At so many points a peer is banned."""
POINTS_FORGOTTEN_S = 1.0
"""A second takes a point off: 100 small faults in a minute are a ban, over an hour they are not."""
BAN_S = 600.0
PEER_COUNT_MAX = 4096
"""Peers remembered; the longest unseen is forgotten first."""


@dataclass(slots=True)
class TokenBucket:
    """A rate with a burst."""

    rate_s: float
    burst: float
    tokens: float = field(default=-1.0)
    at_s: float = 0.0

    def take(self, now_s: float) -> bool:
        """Take one token if there is one."""
        self._refill(now_s)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def wait_s(self, now_s: float) -> float:
        """Return how long until there is a token."""
        self._refill(now_s)
        return max(0.0, (1 - self.tokens) / self.rate_s)

    def _refill(self, now_s: float) -> None:
        if self.tokens < 0:
            self.tokens = self.burst
        else:
            self.tokens = min(self.burst, self.tokens + max(0.0, now_s - self.at_s) * self.rate_s)
        self.at_s = now_s


@dataclass(slots=True)
class _Peer:
    gossip: TokenBucket
    requests: TokenBucket
    points: float = 0.0
    points_at_s: float = 0.0
    banned_until_s: float = 0.0


class Standing:
    """What is remembered of each peer, bounded."""

    def __init__(self, *, gossip_rate_s: float, request_rate_s: float) -> None:
        self._gossip_rate_s = gossip_rate_s
        self._request_rate_s = request_rate_s
        self._peers: dict[str, _Peer] = {}

    def may_gossip(self, peer: str, now_s: float) -> bool:
        """Count a message that a neighbour forwards; whether it is within its rate."""
        return self._of(peer).gossip.take(now_s)

    def may_request(self, peer: str, now_s: float) -> bool:
        """Count a request; whether it is within its rate."""
        return self._of(peer).requests.take(now_s)

    def penalise(self, peer: str, points: float, now_s: float) -> bool:
        """Give a peer points; whether that just got it banned."""
        known = self._of(peer)
        idle_s = max(0.0, now_s - known.points_at_s)
        known.points = max(0.0, known.points - idle_s / POINTS_FORGOTTEN_S) + points
        known.points_at_s = now_s
        if known.points < POINTS_MAX or known.banned_until_s > now_s:
            return False
        known.points = 0.0
        known.banned_until_s = now_s + BAN_S
        return True

    def ban(self, peer: str, until_s: float) -> None:
        """Keep a peer out until a time."""
        self._of(peer).banned_until_s = until_s

    def is_banned(self, peer: str, now_s: float) -> bool:
        """Whether a peer is kept out now."""
        known = self._peers.get(peer)
        return known is not None and known.banned_until_s > now_s

    def banned(self, now_s: float) -> Mapping[str, float]:
        """Return who is kept out, and until when."""
        return {
            peer: known.banned_until_s
            for peer, known in self._peers.items()
            if known.banned_until_s > now_s
        }

    def _of(self, peer: str) -> _Peer:
        known = self._peers.pop(peer, None)
        if known is None:
            if len(self._peers) >= PEER_COUNT_MAX:
                del self._peers[next(iter(self._peers))]
            known = _Peer(
                TokenBucket(self._gossip_rate_s, self._gossip_rate_s),
                TokenBucket(self._request_rate_s, 4 * self._request_rate_s),
            )
        self._peers[peer] = known
        return known
