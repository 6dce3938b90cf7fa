"""What each gossip topic carries, judged in the child before it is passed on.

Stateless checks only: the bytes, their bounds and their signatures. What an item means beside
others is judged by the node.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from crdt import RemoteFault, Verdict, check_gossip
from node.network.settings import NetworkSettings

Validator = Callable[[bytes], Verdict]


def make_validators(settings: NetworkSettings) -> dict[str, Validator]:
    """Return the judge of every topic that this network gossips."""
    from inference import AdvertStale, check_advert

    def ops(data: bytes) -> Verdict:
        return check_gossip(data, settings.network)

    def adverts(data: bytes) -> Verdict:
        try:
            check_advert(data, settings.network, time.time())  # noqa: TID251 - adverts expire
        except AdvertStale:
            return Verdict.IGNORE
        except RemoteFault:
            return Verdict.REJECT
        return Verdict.ACCEPT

    return {settings.ops_topic: _total(ops), settings.adverts_topic: _total(adverts)}


def _total(judge: Validator) -> Validator:
    """Return a judge that never raises: an error of ours must not punish an honest neighbour."""

    def judged(data: bytes) -> Verdict:
        try:
            return judge(data)
        except Exception:  # the library ends the host when a synchronous validator raises
            return Verdict.IGNORE

    return judged
