"""One fetch from start to end: runs the scheduler, gives its pulls to threads, keeps score."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from crdt import HansaError, ManifestDigest, PeerId, RemoteFault, WorldFault
from node.builds.errors import BuildStoreFull, HolderHung, NoHolder, WrongBytes
from node.builds.exchange import (
    AskHolders,
    Ban,
    Blame,
    ChunkVerified,
    Drop,
    Effect,
    Event,
    Exchange,
    ExchangeLimits,
    Fault,
    Finish,
    GiveUp,
    HoldersFound,
    Pull,
    RetryDue,
    RunArrived,
    RunFailed,
    StartTimer,
)
from node.builds.partial import Partial
from node.builds.store import BuildStore
from node.builds.transfer import Holder
from node.peer import PeerEndpoint, PeerMisbehaved, PeerRefused, PeerUnreachable, WrongPeerKey
from registry.builds import SealedManifest, open_manifest

T = TypeVar("T")

EVENT_COUNT_MAX = 4096
PROGRESS_S = 0.1
DESCRIPTION_ROUND_COUNT = 3
"""Times that all holders are asked for a manifest, `retry_s` and twice that apart."""
_RATE_WINDOW_S = 3.0


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How far a fetch is.

    Attributes:
        phase: `asking`, `checking` (hashing what an earlier try left), `fetching`, `finishing`
            or `done`.
        bytes_verified: Checked and on disk; in `checking`, hashed so far.
        bytes_per_s: Measured over the last seconds; 0 while unknown.
        seconds_left: None while unknown.
        holder: Who is asked now.
        bytes_wasted: Received and thrown away.
    """

    digest: ManifestDigest
    phase: str
    bytes_total: int = 0
    bytes_verified: int = 0
    bytes_per_s: int = 0
    seconds_left: int | None = None
    holder: PeerId | None = None
    bytes_wasted: int = 0


HoldersOf = Callable[[ManifestDigest], list[PeerEndpoint]]
Connect = Callable[[PeerEndpoint], Holder]


class Fetch:
    """Fetches one build into the store. Made anew for each fetch; `run` is called once.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        digest: ManifestDigest,
        *,
        store: BuildStore,
        holders: HoldersOf,
        connect: Connect,
        blame: Blame,
        executor: Executor,
        progress: Callable[[FetchProgress], None],
        limits: ExchangeLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._digest = digest
        self._store = store
        self._holders = holders
        self._connect = connect
        self._blame = blame
        self._executor = executor
        self._report = progress
        self._limits = limits or ExchangeLimits()
        self._clock = clock
        self._endpoints: dict[PeerId, PeerEndpoint] = {}
        self._open: dict[tuple[PeerId, int], Holder] = {}
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._error: BaseException | None = None
        self._now = FetchProgress(digest, "asking")
        self._marks: list[tuple[float, int]] = []
        self._reported = 0.0

    async def run(self) -> Path:
        """Fetch what is missing and return the folder of the build's files.

        Raises:
            NoHolder: nobody has it, or everybody who has it failed.
            BuildStoreFull, BuildStoreBusy: it cannot be written.
        """
        self._tell(force=True)
        try:
            await self._describe()
            self._now = replace(self._now, phase="checking")
            loop = asyncio.get_running_loop()

            def hashed(done: int, total: int) -> None:
                loop.call_soon_threadsafe(self._checked, done, total)

            partial = await self._call(self._store.resume, self._digest, hashed)
            self._now = replace(
                self._now,
                phase="fetching",
                bytes_total=partial.chunks.size,
                bytes_verified=partial.bytes_verified,
            )
            self._tell(force=True)
            try:
                await self._exchange(partial)
                self._now = replace(self._now, phase="finishing", seconds_left=None)
                self._tell(force=True)
                path = await self._call(self._store.finish, self._digest)
            except BaseException:
                await self._end_tasks()
                self._store.release(self._digest)
                raise
            self._now = replace(self._now, phase="done", seconds_left=0)
            self._tell(force=True)
            return path
        finally:
            await self._end_tasks()

    async def _describe(self) -> None:
        """Get manifest and tables, unless an earlier fetch or an upload left them here."""
        sealed = self._store.manifest(self._digest)
        if sealed is not None:
            await self._call(self._store.offer, sealed)
        if sealed is not None and not self._store.missing_tables(self._digest):
            return
        reasons: list[str] = []
        for attempt in range(DESCRIPTION_ROUND_COUNT):
            if attempt:
                await asyncio.sleep(attempt * self._limits.retry_s)
            for endpoint in self._holders(self._digest):
                if self._blame.is_banned(endpoint.peer, self._clock()):
                    continue
                holder = self._connect(endpoint)
                try:
                    await self._call(self._fetch_description, holder)
                    return
                except BuildStoreFull:
                    raise
                except (RemoteFault, WorldFault) as error:
                    reasons.append(str(error))
                finally:
                    holder.close()
        detail = "; ".join(dict.fromkeys(reasons)) or "no reachable peer advertises it"
        raise NoHolder(f"build {self._digest.hex()} cannot be fetched: {detail}")

    def _fetch_description(self, holder: Holder) -> None:
        sealed: SealedManifest | None = self._store.manifest(self._digest)
        if sealed is None:
            sealed = open_manifest(holder.manifest(self._digest), self._digest)
        self._store.offer(sealed)
        for number in self._store.missing_tables(self._digest):
            self._store.put_table(self._digest, number, holder.table(self._digest, number))

    async def _exchange(self, partial: Partial) -> None:
        missing = partial.missing()
        exchange = Exchange(partial.chunks.length, missing, self._blame, self._limits)
        effects = exchange.start()
        while True:
            for effect in effects:
                if isinstance(effect, Finish):
                    return
                self._execute(effect, partial)
            event = await self._events.get()
            if self._error is not None:
                raise self._error
            effects = exchange.handle(event, self._clock())
            self._now = replace(
                self._now, bytes_verified=partial.bytes_verified, holder=exchange.holder
            )
            self._tell()

    def _execute(self, effect: Effect, partial: Partial) -> None:
        match effect:
            case AskHolders():
                found = self._holders(self._digest)
                self._endpoints = {endpoint.peer: endpoint for endpoint in found}
                self._put(HoldersFound(tuple(self._endpoints)))
            case Pull():
                self._spawn(self._pull(effect, partial))
            case StartTimer(seconds):
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(seconds, self._put, RetryDue())
            case Drop(holder):
                for key in [key for key in self._open if key[0] == holder]:
                    self._open.pop(key).close()
            case GiveUp(reason):
                raise NoHolder(
                    f"build {self._digest.hex()} cannot be fetched now: {reason}; "
                    f"{partial.bytes_verified} of {partial.chunks.size} bytes are kept"
                )
            case Ban() | Finish():
                pass

    async def _pull(self, pull: Pull, partial: Partial) -> None:
        endpoint = self._endpoints.get(pull.holder)
        if endpoint is None:
            self._put(RunFailed(pull.run, Fault.UNREACHABLE))
            return
        key = (pull.holder, pull.connection)
        holder = self._open.get(key)
        if holder is None:
            holder = self._open[key] = self._connect(endpoint)
        loop = asyncio.get_running_loop()
        started = self._clock()

        def sink(index: int, chunk: memoryview) -> None:
            wasted = 0 if partial.write(index, chunk) else len(chunk)
            loop.call_soon_threadsafe(self._landed, pull.run, wasted)

        try:
            await self._call(
                holder.pull, self._digest, partial.chunks, pull.first, pull.count, sink
            )
        except WrongBytes as error:
            self._waste(partial.chunks.length(error.index))
            self._failed(pull, error)
        except HansaError as error:
            self._failed(pull, error)
        except Exception as error:  # of the disk, or ours: the fetch ends with it
            self._fail(error)
        else:
            self._put(RunArrived(pull.run, self._clock() - started))

    def _failed(self, pull: Pull, error: HansaError) -> None:
        fault = _fault_of(error)
        if fault is None:  # ours, not the holder's: the disk is full
            self._fail(error)
            return
        gone = self._open.pop((pull.holder, pull.connection), None)
        if gone is not None:
            gone.close()
        self._put(RunFailed(pull.run, fault))

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._put(RetryDue())

    def _landed(self, run: int, wasted: int) -> None:
        self._waste(wasted)
        self._put(ChunkVerified(run))

    def _waste(self, count: int) -> None:
        self._now = replace(self._now, bytes_wasted=self._now.bytes_wasted + count)

    def _put(self, event: Event) -> None:
        # Bounded by the runs in flight (exchange.py), those of the last holder, and a timer.
        assert self._events.qsize() < EVENT_COUNT_MAX
        self._events.put_nowait(event)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end_tasks(self) -> None:
        """Close every connection, and wait until no thread writes to the partial build."""
        for holder in self._open.values():
            holder.close()
        self._open.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def _call(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, function, *arguments
        )

    def _checked(self, done: int, total: int) -> None:
        self._now = replace(self._now, bytes_verified=done, bytes_total=total)
        self._tell()

    def _tell(self, *, force: bool = False) -> None:
        """Report, at most ten times a second."""
        now = self._clock()
        if not force and now - self._reported < PROGRESS_S:
            return
        self._reported = now
        if self._now.phase == "fetching":
            self._marks.append((now, self._now.bytes_verified))
            while now - self._marks[0][0] > _RATE_WINDOW_S:
                del self._marks[0]
            (since, before), (_until, after) = self._marks[0], self._marks[-1]
            rate = int((after - before) / (now - since)) if now > since else 0
            left = self._now.bytes_total - self._now.bytes_verified
            self._now = replace(
                self._now, bytes_per_s=rate, seconds_left=left // rate if rate else None
            )
        self._report(self._now)


def _fault_of(error: HansaError) -> Fault | None:
    match error:
        case WrongBytes():
            return Fault.WRONG_BYTES
        case PeerUnreachable() | WrongPeerKey():
            return Fault.UNREACHABLE
        case PeerRefused():
            return Fault.REFUSED
        case HolderHung():
            return Fault.HUNG
        case PeerMisbehaved():
            return Fault.BROKEN
        case _:
            return None
