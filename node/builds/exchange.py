"""Which chunks to ask of whom, and whom to believe: the whole of fetching but its input and output.

One holder at a time, over two connections; runs of consecutive chunks, each asked of one holder, so
that blame is exact. What fails goes back to the front of what is left, and another holder goes on
from there. Pure: events in, effects out, and the clock comes with the event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from crdt import PeerId


class Fault(Enum):
    """Why a run did not arrive."""

    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    HUNG = "hung"
    BROKEN = "broken"
    WRONG_BYTES = "wrong-bytes"


@dataclass(frozen=True, slots=True)
class HoldersFound:
    """Peers that advertise the build, best first."""

    holders: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True)
class ChunkVerified:
    """The next chunk of a run arrived, was right and was written."""

    run: int


@dataclass(frozen=True, slots=True)
class RunArrived:
    """All of a run arrived, in this time."""

    run: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The rest of a run will not arrive."""

    run: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class RetryDue:
    """The timer that `StartTimer` asked for went off."""


@dataclass(frozen=True, slots=True)
class Pull:
    """Ask `holder` for `count` chunks from `first`, on its connection number `connection`."""

    run: int
    holder: PeerId
    connection: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class AskHolders:
    """Find out who holds the build now; answer with `HoldersFound`."""


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Send `RetryDue` after this long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the connections to a holder; its runs that are in flight will fail."""

    holder: PeerId


@dataclass(frozen=True, slots=True)
class Ban:
    """A holder sent wrong bytes and is not asked for this build until the ban ends."""

    holder: PeerId
    seconds: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Every chunk is here."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nobody gave us a chunk for too many rounds."""

    reason: str


Event: TypeAlias = HoldersFound | ChunkVerified | RunArrived | RunFailed | RetryDue
Effect: TypeAlias = Pull | AskHolders | StartTimer | Drop | Ban | Finish | GiveUp


@dataclass(frozen=True, slots=True)
class ExchangeLimits:
    """How the scheduler behaves.

    Attributes:
        run_s: A run is what arrives in this time: long enough to hide a round trip, short
            enough to lose little (builds.md).
        run_chunk_count_max: Of files so small that a run's bytes would be thousands of chunks;
            it bounds the events that are under way.
        hang_count_max: A hung answer is retried this often before it counts.
        round_count_max: Rounds through all holders without one chunk before giving up; with
            `retry_s` doubling up to `retry_s_max` that is about a minute.
    """

    connection_count: int = 2
    run_s: float = 0.4
    run_bytes_min: int = 1024 * 1024
    run_bytes_max: int = 16 * 1024 * 1024
    run_chunk_count_max: int = 256
    hang_count_max: int = 3
    round_count_max: int = 6
    retry_s: float = 1.0
    retry_s_max: float = 20.0


class Blame:
    """Who sent wrong bytes for one build: banned for an hour, doubling each time. Bounded."""

    BAN_S = 3600
    BAN_S_MAX = 7 * 24 * 3600
    PEER_COUNT_MAX = 1024

    def __init__(self) -> None:
        self._banned: dict[PeerId, tuple[float, int]] = {}

    def ban(self, peer: PeerId, now_s: float) -> int:
        """Ban a peer and return for how many seconds."""
        _until, times = self._banned.pop(peer, (0.0, 0))
        seconds: int = min(self.BAN_S * 2**times, self.BAN_S_MAX)
        if len(self._banned) >= self.PEER_COUNT_MAX:
            del self._banned[next(iter(self._banned))]
        self._banned[peer] = (now_s + seconds, times + 1)
        return seconds

    def is_banned(self, peer: PeerId, now_s: float) -> bool:
        """Whether a peer is banned at this time."""
        return self._banned.get(peer, (0.0, 0))[0] > now_s


@dataclass(slots=True)
class _Run:
    holder: PeerId
    connection: int
    first: int
    count: int
    bytes_total: int
    done: int = 0


@dataclass(slots=True)
class _State:
    """What changes; apart from the limits and the map, which do not."""

    todo: deque[tuple[int, int]]
    chunks_left: int
    bytes_left: int
    runs: dict[int, _Run] = field(default_factory=dict[int, _Run])
    line: deque[PeerId] = field(default_factory=deque[PeerId])
    holder: PeerId | None = None
    faults: dict[PeerId, str] = field(default_factory=dict[PeerId, str])
    hangs: int = 0
    rate: float = 0.0
    round_count: int = 0
    verified_in_round: bool = False
    waiting: bool = False
    over: bool = False


class Exchange:
    """Schedules the fetch of one build.

    Args:
        length_of: Bytes of a chunk.
        missing: Chunks to fetch.
        blame: Bans, which outlive this fetch.
    """

    def __init__(
        self,
        length_of: Callable[[int], int],
        missing: Iterable[int],
        blame: Blame,
        limits: ExchangeLimits | None = None,
    ) -> None:
        self._length_of = length_of
        self._blame = blame
        self._limits = limits or ExchangeLimits()
        indices = sorted(missing)
        self._state = _State(
            todo=deque(_intervals(indices)),
            chunks_left=len(indices),
            bytes_left=sum(length_of(index) for index in indices),
        )
        self._next_run = 0

    @property
    def holder(self) -> PeerId | None:
        """The peer that is asked now."""
        return self._state.holder

    def start(self) -> list[Effect]:
        """Return the first effects."""
        if not self._state.chunks_left:
            self._state.over = True
            return [Finish()]
        return [AskHolders()]

    def handle(self, event: Event, now_s: float) -> list[Effect]:
        """Apply one event and return what must now be done, in order."""
        if self._state.over:
            return []
        match event:
            case HoldersFound(holders):
                return self._on_holders(holders, now_s)
            case ChunkVerified(run):
                return self._on_chunk(run)
            case RunArrived(run, seconds):
                return self._on_arrived(run, seconds)
            case RunFailed(run, fault):
                return self._on_failed(run, fault, now_s)
            case RetryDue():
                self._state.waiting = False
                return [AskHolders()]

    def _on_holders(self, holders: tuple[PeerId, ...], now_s: float) -> list[Effect]:
        state = self._state
        usable = [peer for peer in dict.fromkeys(holders) if not self._blame.is_banned(peer, now_s)]
        for peer in set(holders) - set(usable):
            state.faults.setdefault(peer, "banned for wrong bytes")
        state.line = deque(peer for peer in usable if peer != state.holder)
        if state.holder is not None:
            return []
        return self._next_holder()

    def _on_chunk(self, number: int) -> list[Effect]:
        state = self._state
        run = state.runs.get(number)
        if run is None or run.done == run.count:
            return []
        state.bytes_left -= self._length_of(run.first + run.done)
        run.done += 1
        state.chunks_left -= 1
        state.verified_in_round = True
        if run.holder == state.holder:
            state.hangs = 0
        if state.chunks_left:
            return []
        state.over = True
        return [Finish()]

    def _on_arrived(self, number: int, seconds: float) -> list[Effect]:
        state = self._state
        run = state.runs.pop(number, None)
        if run is None:
            return []
        self._put_back(run)
        rate = run.bytes_total / max(seconds, 0.001)
        state.rate = rate if not state.rate else 0.7 * state.rate + 0.3 * rate
        return self._pulls()

    def _on_failed(self, number: int, fault: Fault, now_s: float) -> list[Effect]:
        state = self._state
        run = state.runs.pop(number, None)
        if run is None:
            return []
        self._put_back(run)
        effects: list[Effect] = []
        if fault is Fault.WRONG_BYTES and not self._blame.is_banned(run.holder, now_s):
            effects.append(Ban(run.holder, self._blame.ban(run.holder, now_s)))
        if fault is Fault.WRONG_BYTES or state.faults.get(run.holder) is None:
            state.faults[run.holder] = fault.value
        if run.holder != state.holder:
            return effects + self._pulls()
        if fault is Fault.HUNG:
            state.hangs += 1
            if state.hangs < self._limits.hang_count_max:
                return effects + self._pulls()
        state.holder = None
        return [*effects, Drop(run.holder), *self._next_holder()]

    def _next_holder(self) -> list[Effect]:
        """Turn to the next peer in line; at its end, wait and ask again who there is."""
        state = self._state
        if state.line:
            state.holder = state.line.popleft()
            state.hangs = 0
            state.rate = 0.0
            return self._pulls()
        if state.waiting:
            return []
        state.round_count = 0 if state.verified_in_round else state.round_count + 1
        state.verified_in_round = False
        if state.round_count > self._limits.round_count_max:
            state.over = True
            return [GiveUp(self._reasons())]
        state.waiting = True
        seconds = self._limits.retry_s * 2 ** max(0, state.round_count - 1)
        return [StartTimer(min(seconds, self._limits.retry_s_max))]

    def _pulls(self) -> list[Effect]:
        """Give every free connection of the current holder something to do."""
        state = self._state
        if state.holder is None:
            return []
        busy = {run.connection for run in state.runs.values() if run.holder == state.holder}
        effects: list[Effect] = []
        for connection in range(self._limits.connection_count):
            if connection in busy or not state.todo:
                continue
            first, count, size = self._take()
            self._next_run += 1
            state.runs[self._next_run] = _Run(state.holder, connection, first, count, size)
            effects.append(Pull(self._next_run, state.holder, connection, first, count))
        return effects

    def _take(self) -> tuple[int, int, int]:
        """Take the next run from what is left: `run_s` of bytes, less towards the end."""
        limits, state = self._limits, self._state
        wanted = min(int(state.rate * limits.run_s), limits.run_bytes_max)
        share = state.bytes_left // (2 * limits.connection_count)
        budget = max(limits.run_bytes_min, min(wanted, share))
        first, available = state.todo.popleft()
        count, size = 0, 0
        for index in range(first, first + min(available, limits.run_chunk_count_max)):
            length = self._length_of(index)
            if count and size + length > budget:
                break
            size += length
            count += 1
        if count < available:
            state.todo.appendleft((first + count, available - count))
        return first, count, size

    def _put_back(self, run: _Run) -> None:
        if run.done < run.count:
            self._state.todo.appendleft((run.first + run.done, run.count - run.done))

    def _reasons(self) -> str:
        if not self._state.faults:
            return "no reachable peer advertises the build"
        listed = sorted(self._state.faults.items())[:5]
        return "; ".join(f"{peer}: {why}" for peer, why in listed)


def _intervals(indices: list[int]) -> list[tuple[int, int]]:
    """Return sorted indices as (first, count) runs."""
    found: list[tuple[int, int]] = []
    for index in indices:
        if found and found[-1][0] + found[-1][1] == index:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((index, 1))
    return found
