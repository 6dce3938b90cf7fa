"""The ledger on disk: calls, claims and agreed receipts, written in batches by one thread.

The hot path only queues; `flush` returns once everything queued before it is durable. A crash
loses at most the calls of the batch in flight: the consumer then reports a call that the provider
does not know, which costs nobody anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from crdt import (
    AccountId,
    Item,
    ManifestDigest,
    NetworkId,
    OperationId,
    PeerId,
    RecordId,
    Signed,
    array,
    decode,
    encode,
    field,
    fixed_bytes,
    natural,
    unpack_item,
)
from node.ledger.errors import LedgerBusy
from node.storage.migrations import SCHEMA_FOLDER, open_database, transaction
from royalties import (
    Call,
    Dispute,
    Lane,
    Receipt,
    claim_bytes,
    open_call,
    open_claim,
    open_prices,
)

QUEUE_COUNT_MAX = 20_000
"""Writes that wait for the disk: seconds of full load. Past it new calls are refused."""
LANE_BYTES_MAX = 1024
CALLS_BYTES_MAX = 1024 * 1024
SEEN_COUNT_MAX = 64
Write = tuple[str, tuple[Any, ...]]


class Side(IntEnum):
    """Which party of a lane this node is."""

    CONSUMER = 1
    PROVIDER = 2


class CallState(IntEnum):
    """What became of a call."""

    OPEN = 0
    SETTLED = 1
    DISPUTED = 2


@dataclass(frozen=True, slots=True)
class KeptLane:
    """A lane as it was when the node stopped."""

    side: Side
    lane: Lane
    peer: PeerId
    agreed: Item | None
    published: bool
    delivered: bool
    forked: bool
    open_calls: tuple[Call, ...]
    claims: tuple[tuple[Receipt, Signed, tuple[Call, ...]], ...]


@dataclass(frozen=True, slots=True)
class LaneUse:
    """A row of a usage report: the lane and every call of it, settled or not."""

    side: Side
    lane: Lane
    peer: PeerId
    agreed: Item | None
    open_count: int
    disputed_count: int
    forked: bool


class LedgerStore:
    """One SQLite file; `start` and `stop` bracket its writer."""

    def __init__(self, path: Path, network: NetworkId) -> None:
        self._path = path
        self._network = network
        self._database = open_database(path, SCHEMA_FOLDER / "ledger")
        self._reader = open_database(path, SCHEMA_FOLDER / "ledger")
        self._queue: list[Write] = []
        self._wake = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._writing = False
        self._thread = ThreadPoolExecutor(1, "hansa-ledger")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write what is queued."""
        assert self._task is None
        self._task = asyncio.get_running_loop().create_task(self._run(), name="ledger-writer")

    async def stop(self) -> None:
        """Write what is left and close the file."""
        if self._task is not None:
            await self.flush()
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._thread.shutdown(wait=True)
        self._database.close()
        self._reader.close()

    async def flush(self) -> None:
        """Return once everything queued so far is durable.

        Raises:
            WorldFault: the disk could not take it.
        """
        if not self._queue and not self._waiting and not self._writing:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._wake.set()
        await future

    def check_room(self) -> None:
        """Raise LedgerBusy when no more calls should be taken on."""
        if len(self._queue) >= QUEUE_COUNT_MAX:
            raise LedgerBusy(f"{len(self._queue)} entries wait for {self._path}; try again soon")

    def keep_lane(self, side: Side, lane: Lane, peer: PeerId) -> None:
        """Remember a lane and the node to settle it with."""
        other = lane.provider if side is Side.CONSUMER else lane.consumer
        self._write(
            "INSERT INTO lanes_v1 (role, lane, fields, epoch, record, other, peer)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (role, lane) DO UPDATE SET peer = excluded.peer",
            int(side), lane.id, encode(list(lane.wire())), lane.epoch, lane.record, other, peer,
        )  # fmt: skip

    def keep_call(self, side: Side, lane: Lane, call: Call) -> None:
        """Remember a call that has ended."""
        self._write(
            "INSERT OR IGNORE INTO calls_v1 (role, lane, nonce, order_hash, call, state)"
            " VALUES (?, ?, ?, ?, ?, 0)",
            int(side), lane.id, call.nonce, call.order, call.wire(),
        )  # fmt: skip

    def keep_claim(self, side: Side, lane: Lane, claim: Signed, receipt: Receipt,
                   calls: Sequence[Call]) -> None:  # fmt: skip
        """Remember a claim, before it is sent or after it was seen."""
        self._write(
            "INSERT OR IGNORE INTO claims_v1 (role, lane, sequence, claim, calls)"
            " VALUES (?, ?, ?, ?, ?)",
            int(side), lane.id, receipt.sequence, claim_bytes(claim),
            encode([call.wire() for call in calls]),
        )  # fmt: skip

    def keep_agreed(self, side: Side, lane: Lane, item: Item, sequence: int,
                    settled: Sequence[bytes]) -> None:  # fmt: skip
        """Remember an agreed receipt; what it settles needs no more settling."""
        self._write(
            "UPDATE lanes_v1 SET agreed = ?, published = 0, delivered = ?"
            " WHERE role = ? AND lane = ?",
            item.raw, int(side is Side.PROVIDER), int(side), lane.id,
        )  # fmt: skip
        self._mark(side, lane, settled, CallState.SETTLED)
        horizon = sequence if side is Side.PROVIDER else sequence - SEEN_COUNT_MAX
        self._write(
            "DELETE FROM claims_v1 WHERE role = ? AND lane = ? AND sequence <= ?",
            int(side), lane.id, horizon,
        )  # fmt: skip

    def keep_disputes(self, side: Side, lane: Lane, disputes: Sequence[Dispute]) -> None:
        """Remember calls that the two sides count differently."""
        for one in disputes:
            self._write(
                "INSERT OR REPLACE INTO disputes_v1 (role, lane, nonce, theirs, mine)"
                " VALUES (?, ?, ?, ?, ?)",
                int(side), lane.id, one.nonce, encode(list(one.theirs.wire())),
                encode(list(one.mine.wire())) if one.mine else None,
            )  # fmt: skip
        if side is Side.CONSUMER:
            self._mark(side, lane, [one.nonce for one in disputes], CallState.DISPUTED)

    def keep_fork(self, lane: Lane, sequence: int, first: Signed, second: Signed) -> None:
        """Remember the proof that a provider signed two receipts under one number."""
        self._write(
            "INSERT OR IGNORE INTO forks_v1 (lane, sequence, first, second) VALUES (?, ?, ?, ?)",
            lane.id, sequence, claim_bytes(first), claim_bytes(second),
        )  # fmt: skip
        self._write(
            "UPDATE lanes_v1 SET forked = 1 WHERE role = ? AND lane = ?",
            int(Side.CONSUMER), lane.id,
        )  # fmt: skip

    def keep_order(self, side: Side, hash_: bytes, raw: bytes, expires_s: int) -> None:
        """Remember a signed order: what the receipts that name it rest on."""
        self._write(
            "INSERT OR IGNORE INTO orders_v1 (hash, role, raw, expires_s) VALUES (?, ?, ?, ?)",
            hash_, int(side), raw, expires_s,
        )  # fmt: skip

    def mark_delivered(self, lane_id: bytes, item: Item) -> None:
        """Note that the provider holds a lane's receipt."""
        self._write(
            "UPDATE lanes_v1 SET delivered = 1 WHERE role = ? AND lane = ? AND agreed = ?",
            int(Side.CONSUMER), lane_id, item.raw,
        )  # fmt: skip

    def mark_published(self, lane_id: bytes, item: Item) -> None:
        """Note that the log holds a lane's receipt."""
        self._write(
            "UPDATE lanes_v1 SET published = 1 WHERE lane = ? AND agreed = ?", lane_id, item.raw
        )

    def spent_under(self, side: Side, order_hash: bytes) -> list[tuple[bytes, Call]]:
        """Return the calls (with their lanes' ids) that were ever made under an order."""
        rows = self._reader.execute(
            "SELECT lane, call FROM calls_v1 WHERE role = ? AND order_hash = ?",
            (int(side), order_hash),
        )
        return [(lane, open_call(raw)) for lane, raw in rows]

    def unfinished(self) -> Iterator[KeptLane]:
        """Yield every lane that has something left to settle, publish or watch for forks."""
        for row in self._reader.execute(
            "SELECT role, lane, fields, peer, agreed, published, delivered, forked"
            " FROM lanes_v1 AS l"
            " WHERE (published + delivered < 2 AND agreed IS NOT NULL)"
            " OR EXISTS (SELECT 1 FROM calls_v1 AS c"
            " WHERE c.state = 0 AND c.role = l.role AND c.lane = l.lane)"
        ).fetchall():
            yield self._kept(row)

    def lane(self, side: Side, lane_id: bytes) -> KeptLane | None:
        """Return one lane, or None when it is new."""
        row = self._reader.execute(
            "SELECT role, lane, fields, peer, agreed, published, delivered, forked"
            " FROM lanes_v1"
            " WHERE role = ? AND lane = ?",
            (int(side), lane_id),
        ).fetchone()
        return self._kept(row) if row else None

    def uses(self, side: Side, first: int, last: int, *, count_max: int) -> list[LaneUse]:
        """Return the lanes of the epochs `first..last`, newest first."""
        found: list[LaneUse] = []
        for row in self._reader.execute(
            "SELECT role, fields, peer, agreed, forked,"
            " (SELECT count(*) FROM calls_v1 AS c WHERE c.state = 0 AND c.role = l.role"
            "  AND c.lane = l.lane),"
            " (SELECT count(*) FROM calls_v1 AS c WHERE c.state = 2 AND c.role = l.role"
            "  AND c.lane = l.lane)"
            " FROM lanes_v1 AS l WHERE role = ? AND epoch BETWEEN ? AND ?"
            " ORDER BY epoch DESC, lane LIMIT ?",
            (int(side), first, last, count_max),
        ):
            agreed = unpack_item(row[3]) if row[3] else None
            lane = _open_lane(row[1])
            found.append(
                LaneUse(Side(row[0]), lane, PeerId(row[2]), agreed, row[5], row[6], bool(row[4]))
            )
        return found

    def _kept(self, row: tuple[Any, ...]) -> KeptLane:
        role, lane_id, fields, peer, agreed, published, delivered, forked = row
        calls = self._reader.execute(
            "SELECT call FROM calls_v1 WHERE state = 0 AND role = ? AND lane = ? ORDER BY n",
            (role, lane_id),
        )
        claims = self._reader.execute(
            "SELECT claim, calls FROM claims_v1 WHERE role = ? AND lane = ? ORDER BY sequence",
            (role, lane_id),
        )
        return KeptLane(
            side=Side(role),
            lane=_open_lane(fields),
            peer=PeerId(peer),
            agreed=unpack_item(agreed) if agreed else None,
            published=bool(published),
            delivered=bool(delivered),
            forked=bool(forked),
            open_calls=tuple(open_call(raw) for (raw,) in calls),
            claims=tuple(
                (*open_claim(claim, self._network), _open_calls(covered))
                for claim, covered in claims
            ),
        )

    def _mark(self, side: Side, lane: Lane, nonces: Sequence[bytes], state: CallState) -> None:
        for nonce in nonces:
            self._write(
                "UPDATE calls_v1 SET state = ? WHERE role = ? AND lane = ? AND nonce = ?",
                int(state), int(side), lane.id, nonce,
            )  # fmt: skip

    def _write(self, statement: str, *values: Any) -> None:
        self._queue.append((statement, values))
        self._wake.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._queue = self._queue, []
            waiting, self._waiting = self._waiting, []
            # A flush that comes meanwhile waits for the next turn, when this batch is on the disk.
            self._writing = True
            try:
                if batch:
                    await loop.run_in_executor(self._thread, self._commit, batch)
            except Exception as error:
                self._queue = batch + self._queue
                for future in waiting:
                    if not future.done():
                        future.set_exception(error)
                await asyncio.sleep(1.0)
                if self._queue or self._waiting:
                    self._wake.set()
                continue
            finally:
                self._writing = False
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def _commit(self, batch: list[Write]) -> None:
        with transaction(self._database, self._path):
            for statement, values in batch:
                self._database.execute(statement, values)


def _open_lane(raw: bytes) -> Lane:
    parts = decode(raw, bytes_max=LANE_BYTES_MAX)
    return Lane(
        network=NetworkId(fixed_bytes(parts[0], 32, "network")),
        consumer=AccountId(fixed_bytes(parts[1], 32, "consumer")),
        provider=AccountId(fixed_bytes(parts[2], 32, "provider")),
        record=RecordId(fixed_bytes(parts[3], 32, "record")),
        version=OperationId(fixed_bytes(parts[4], 32, "version")),
        manifest=ManifestDigest(fixed_bytes(parts[5], 32, "manifest")),
        prices=open_prices(parts[6], "prices"),
        epoch=natural(parts[7], "epoch"),
    )


def _open_calls(raw: bytes) -> tuple[Call, ...]:
    parts = array(decode(raw, bytes_max=CALLS_BYTES_MAX), "calls")
    return tuple(open_call(field(part, bytes, "call")) for part in parts)
