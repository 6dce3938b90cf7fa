"""Fair queues: who sends little is not kept waiting by who sends much. Pure, and bounded.

A *flow* is what fairness is between: here an account. `FairQueue` serves flows by deficit round
robin (Shreedhar and Varghese, 1995): each in turn may take as many bytes as the others, however
many it has waiting. `FairLanes` puts two of them behind each other: a flow that keeps to a small
rate goes in the *prompt* lane, before all that does not.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from crdt.budgets import TokenBucket

T = TypeVar("T")

QUANTUM_BYTES = 16 * 1024
"""What a flow may take in its turn: a quarter of a gossip frame, so that four share one."""
PROMPT_PER_S = 6
"""Things a second that a flow may send promptly: more than a person or an agent writes for long,
and a third of the frames that a topic carries (`outbox.FRAMES_PER_S`)."""
PROMPT_BURST = 32
"""Promptly at once: a model, its card, its build and what goes with them."""
FLOW_COUNT_MAX = 4096
"""Flows whose rate is remembered; who was not seen for longest starts anew."""


@dataclass(slots=True)
class _Flow(Generic[T]):
    waiting: deque[tuple[T, int]] = field(default_factory=deque[tuple[T, int]])
    cost: int = 0
    deficit: int = 0


class FairQueue(Generic[T]):
    """Things that wait, served flow by flow; within a flow in the order in which they came."""

    def __init__(self, *, cost_max: int, quantum: int = QUANTUM_BYTES) -> None:
        """Hold at most `cost_max` in all; each turn of a flow is worth `quantum`."""
        assert quantum > 0
        self._cost_max = cost_max
        self._quantum = quantum
        self._flows: OrderedDict[bytes, _Flow[T]] = OrderedDict()
        self._cost = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def cost(self) -> int:
        """What all that waits costs."""
        return self._cost

    def __contains__(self, flow: bytes) -> bool:
        return flow in self._flows

    @property
    def flow_count(self) -> int:
        """How many flows have something waiting."""
        return len(self._flows)

    def count_of(self, flow: bytes) -> int:
        """Return how many things of a flow wait."""
        mine = self._flows.get(flow)
        return len(mine.waiting) if mine else 0

    def put(self, flow: bytes, thing: T, cost: int) -> list[T]:
        """Let a thing wait; return what had to leave for it: the oldest of the longest flow."""
        assert cost > 0
        mine = self._flows.get(flow)
        if mine is None:
            mine = self._flows[flow] = _Flow(deficit=self._quantum)
        mine.waiting.append((thing, cost))
        mine.cost += cost
        self._cost += cost
        self._count += 1
        left: list[T] = []
        while self._cost > self._cost_max:
            longest = max(self._flows, key=lambda one: self._flows[one].cost)
            left.append(self._pop(longest)[0])
        return left

    def next_cost(self) -> int:
        """Return what the next thing costs; 0 when nothing waits."""
        return self._flows[self._turn()].waiting[0][1] if self._flows else 0

    def take(self) -> T | None:
        """Return the next thing; None when nothing waits."""
        if not self._flows:
            return None
        flow = self._turn()
        thing, cost = self._pop(flow)
        if flow in self._flows:
            self._flows[flow].deficit -= cost
        return thing

    def _turn(self) -> bytes:
        """Return whose turn it is; who cannot pay for its next thing is given more, and waits."""
        while True:
            flow, mine = next(iter(self._flows.items()))
            if mine.deficit >= mine.waiting[0][1]:
                return flow
            mine.deficit += self._quantum
            self._flows.move_to_end(flow)

    def _pop(self, flow: bytes) -> tuple[T, int]:
        mine = self._flows[flow]
        thing, cost = mine.waiting.popleft()
        mine.cost -= cost
        self._cost -= cost
        self._count -= 1
        if not mine.waiting:
            del self._flows[flow]  # and what it saved: a flow is owed nothing for its absence
        return thing, cost


class FairLanes(Generic[T]):
    """Two fair queues: what flows send within a small rate of their own goes first.

    A flow that has something in the second lane sends nothing in the first, so that its things
    leave in the order in which they came.
    """

    def __init__(self, *, cost_max: int) -> None:
        """Hold at most `cost_max` in each lane."""
        self.prompt: FairQueue[T] = FairQueue(cost_max=cost_max)
        self.bulk: FairQueue[T] = FairQueue(cost_max=cost_max)
        self._rates: OrderedDict[bytes, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self.prompt) + len(self.bulk)

    @property
    def cost(self) -> int:
        """What all that waits costs."""
        return self.prompt.cost + self.bulk.cost

    def put(self, flow: bytes, thing: T, cost: int, now_ms: int, *, weight: float = 1) -> list[T]:
        """Let a thing wait that counts as `weight` things; return what had to leave for it."""
        is_prompt = self._rate_of(flow, now_ms).take(weight, now_ms) and flow not in self.bulk
        return (self.prompt if is_prompt else self.bulk).put(flow, thing, cost)

    def take(self) -> T | None:
        """Return the next thing, of the prompt lane if it has one; None when nothing waits."""
        return (self.prompt if self.prompt else self.bulk).take()

    def next_cost(self) -> int:
        """Return what the next thing costs; 0 when nothing waits."""
        return (self.prompt if self.prompt else self.bulk).next_cost()

    def _rate_of(self, flow: bytes, now_ms: int) -> TokenBucket:
        rate = self._rates.pop(flow, None)
        if rate is None:
            rate = TokenBucket(rate_per_s=PROMPT_PER_S, burst=PROMPT_BURST, now_ms=now_ms)
            if len(self._rates) >= FLOW_COUNT_MAX:
                self._rates.popitem(last=False)
        self._rates[flow] = rate
        return rate
