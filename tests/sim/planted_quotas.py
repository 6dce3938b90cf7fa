"""Bugs on purpose in fairness and quotas, beside those of `planted.py`; they join its list."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import crdt.outbox
from crdt import Admission, Gossip, parse_operation
from crdt.fairness import FairLanes
from crdt.frames import Ops, decode_gossip
from crdt.inbox import Inbox
from crdt.outbox import Outbox
from crdt.progress import PeerProgress
from crdt.quotas import Meter, Quotas
from crdt.replica import Replica
from tests.sim.checkers import Violation
from tests.sim.flooded import play_fairness, play_quota
from tests.sim.planted import _bug, swapped
from tests.writers import NETWORK, Writer


@_bug("who sends little is served before who floods", play=play_fairness)
def first_come_first_served() -> Iterator[None]:
    def put(
        self: FairLanes[Any], _flow: bytes, thing: Any, cost: int, _now_ms: int, **_: Any
    ) -> Any:
        return self.bulk.put(b"all", thing, cost)

    with swapped((FairLanes, "put", put)):
        yield


@_bug("a flow has a rate of its own, past which it is not prompt any more", play=play_fairness)
def everything_is_prompt() -> Iterator[None]:
    def put(
        self: FairLanes[Any], _flow: bytes, thing: Any, cost: int, _now_ms: int, **_: Any
    ) -> Any:
        return self.prompt.put(b"all", thing, cost)

    with swapped((FairLanes, "put", put)):
        yield


@_bug("a frame is taken apart by account: one flow is not all that a neighbour passes on",
      play=play_fairness)  # fmt: skip
def flows_of_neighbours() -> Iterator[None]:
    with swapped((Inbox, "learn", lambda *_: None)):
        yield


@_bug("nothing is stored of an account beyond its quota", play=play_quota)
def quota_ignored() -> Iterator[None]:
    with swapped((Meter, "check_operation", lambda *_: None)):
        yield


@_bug("what a quota keeps out is not fetched again and again", play=play_quota)
def passed_over_is_fetched_for_ever() -> Iterator[None]:
    with swapped((Quotas, "passed", lambda *_: set()),
                 (PeerProgress, "compared", lambda *_, **__: None)):  # fmt: skip
        yield


@_bug("what was passed over is taken once there is room", play=play_quota)
def never_taken_up() -> Iterator[None]:
    with swapped((Replica, "take_up", lambda _self: False)):
        yield


def play_reserve(seed: int) -> None:
    """A quiet account writes the moment after a flood has taken all frames that it may."""
    rng = random.Random(seed)
    outbox, quiet = Outbox(NETWORK), Writer("quiet").put(slug=f"s{seed}")
    flood = [Writer("flood").put(rng.randbytes(2_000), slug=f"s{n}") for n in range(1_000)]
    outbox.put([Admission(one, parse_operation(one, NETWORK)) for one in flood], 0)
    outbox.flush(0)
    outbox.put([Admission(quiet, parse_operation(quiet, NETWORK))], 0)
    frames = [decode_gossip(one.raw, NETWORK) for one in outbox.flush(0) if isinstance(one, Gossip)]
    if not any(isinstance(one, Ops) and quiet in one.items for one in frames):
        raise Violation("starved", "a quiet account waits for a flood")


@_bug("a flood leaves some frames of the burst to others", play=play_reserve)
def no_reserve_of_frames() -> Iterator[None]:
    with swapped((crdt.outbox, "FRAME_RESERVE", 0)):
        yield
