"""Rounds: a stretch of hostile payloads that one seed names, against decoders and a whole replica.

Each round starts from the same town, and what a replica accepts stays in it until the round ends:
so states grow strange. A round is repeated exactly by its seed and number.
"""

from __future__ import annotations

import contextlib
import random
import re
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from crdt import (
    Accepted,
    AnswerReceived,
    DropPeer,
    GossipReceived,
    Heartbeat,
    Item,
    PeerConnected,
    PeerId,
    RemoteFault,
    RequestFailed,
    RequestReceived,
    SendRequest,
    SyncMachine,
    check_gossip,
    peer_id_of,
    unpack_item,
)
from crdt.frames import encode_caught_up, encode_ops
from node.signing import to_header
from node.storage.cards import CardShelf
from registry import RegistryRules
from tests.wire.decoders import Decoder, decoders_of
from tests.wire.mutating import Forger, Mutator
from tests.wire.town import Town, copied, make_town, new_replica
from tests.wire.writing import Writer
from tests.writers import NETWORK, key_of

PAYLOAD_COUNT = 1000
"""Payloads of a round."""
FINDING_COUNT_MAX = 20
SLOW_S = 1.0
"""For one payload in one decoder, machine or replica; more is a finding if it was all work."""
LARGE_BYTES = 32 * 1024
PAYLOAD_BYTES_MAX = 1 << 20
"""No frame is longer; what is cut is malformed, and short frames are cut too."""
PEER = peer_id_of(key_of("a peer").public)
_NUMBERS = re.compile(r"[0-9a-f]{8,}|'[^']*'|b\"[^\"]*\"|-?\d+(\.\d+)?")


@dataclass
class Tally:
    """What became of the payloads.

    Attributes:
        outcomes: By target, then by outcome: `accepted`, or the class of the fault.
        findings: What must not happen, with all that it takes to see it again.
        slowest_s: By target, the most seconds that a payload took; those of small ones with the
            waiting for a turn.
    """

    payload_count: int = 0
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)
    slowest_s: dict[str, float] = field(default_factory=dict)

    def count(self, target: str, outcome: str) -> None:
        self.outcomes.setdefault(target, Counter())[outcome] += 1

    def add(self, other: dict[str, Any]) -> None:
        """Take over what another process has counted."""
        self.payload_count += other["payload_count"]
        for target, counts in other["outcomes"].items():
            self.outcomes.setdefault(target, Counter()).update(counts)
        for target, took_s in other["slowest_s"].items():
            self.slowest_s[target] = max(self.slowest_s.get(target, 0), took_s)
        self.findings += other["findings"][: FINDING_COUNT_MAX - len(self.findings)]


class Round:
    """One round: `payload` makes the next bytes, `feed` shows them to everything that reads."""

    def __init__(
        self, town: Town, decoders: list[Decoder], tally: Tally, *, seed: int, number: int
    ) -> None:
        self._rng = random.Random(f"{seed} {number}")
        self._where = {"seed": seed, "round": number}
        self._town = town
        self._decoders = decoders
        self._seeded = [one for one in decoders if one.seeds]
        self._tally = tally
        self.replica = new_replica(copied(town.disk))
        self._shelf = CardShelf(self.replica.storage, RegistryRules().seed_of)
        self._machine = SyncMachine(self.replica, random.Random(number))
        self._keys = dict(town.keys)
        self._ids = _ids_of(town)
        self._mutator = Mutator(self._rng, self._ids)
        self._forger = Forger(self._rng, self._mutator, self._keys)
        self._writer = Writer(self._rng, self.replica, self._keys, self._mutator, self._forger)
        self.number = number
        self._slow: list[tuple[str, float]] = []
        self._is_large = False
        self._now_ms = 0
        self._asked: list[int] = []
        self.payload_number = -1

    def payload(self) -> bytes:
        """Return the next hostile bytes."""
        return self._made()[:PAYLOAD_BYTES_MAX]

    def _made(self) -> bytes:
        self.payload_number += 1
        draw = self._rng.random()
        if draw < 0.45:
            return self._framed(self._writer.item())
        if draw < 0.7:
            return self._framed(self._forger.item(self._rng.choice(self._town.items)))
        return self._mutator.raw(self._rng.choice(self._rng.choice(self._seeded).seeds))

    def seeds(self) -> list[bytes]:
        """Return valid bytes for every decoder."""
        return [raw for one in self._seeded for raw in one.seeds]

    def changed(self, raw: bytes, rng: random.Random) -> bytes:
        """Return bytes changed by another source than the round's; an item is signed again."""
        mutator = Mutator(rng, self._ids)
        with contextlib.suppress(RemoteFault):
            item = unpack_item(raw)
            if rng.random() < 0.9:
                return Forger(rng, mutator, self._keys).item(item).raw
        return mutator.raw(raw)

    def feed(self, raw: bytes) -> float:
        """Show bytes to every decoder, to the sync machine, and as an item to the replica.

        Returns:
            Seconds of processor time.
        """
        self._tally.payload_count += 1
        self._is_large = len(raw) > LARGE_BYTES
        # Asked once for all: where it is a system call, it takes longer than most decoders.
        started_s = time.process_time()
        for one in self._decoders:
            self._attempt(one.name, lambda one=one: one.decode(raw), raw, one.faults)
        self._attempt("sync machine", lambda: self._exchange(raw), raw, ())
        with contextlib.suppress(RemoteFault):
            item = unpack_item(raw)
            self._attempt("replica", lambda: self._accept(item), raw, ())
        took_s = time.process_time() - started_s
        for target, target_s in self._slow:
            if took_s > SLOW_S:  # else the machine was busy with something else
                self._report(target, raw, TimeoutError(f"{target_s:.2f} s"))
        self._slow.clear()
        return took_s

    def finish(self) -> None:
        """Check that what the replica keeps of each record is what all its operations say."""
        for record in self.replica.storage.disk.records:
            self._attempt("whole set", lambda record=record: self._settle(record), b"", ())

    def _framed(self, item: Item) -> bytes:
        """Return an item, or now and then a frame around it."""
        draw = self._rng.random()
        if draw < 0.83:
            return item.raw
        if draw < 0.85:
            return b'{"items":["%s"]}' % to_header(item.raw).encode()
        with contextlib.suppress(AssertionError):  # too big for gossip
            if draw < 0.93:
                return encode_ops([item], NETWORK)
        n = self._rng.randrange(100)
        return encode_caught_up(
            network=NETWORK, epoch=b"e" * 16, next_n=n, last_n=n, done=draw < 0.96,
            raws=[item.raw],
        )  # fmt: skip

    def _attempt(
        self, target: str, action: Callable[[], object], raw: bytes, faults: tuple[type, ...]
    ) -> None:
        # Large ones take so long in all targets together that each must be asked by itself.
        clock = time.process_time if self._is_large else time.perf_counter
        started_s = clock()
        self._try(target, action, raw, faults)
        took_s = clock() - started_s
        self._tally.slowest_s[target] = max(self._tally.slowest_s.get(target, 0), took_s)
        if took_s > SLOW_S:
            self._slow.append((target, took_s))

    def _try(
        self, target: str, action: Callable[[], object], raw: bytes, faults: tuple[type, ...]
    ) -> None:
        try:
            found = action()
        except faults as fault:
            self._tally.count(target, type(fault).__name__)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic in Rust is no Exception
            self._tally.count(target, f"DEFECT {type(error).__name__}")
            self._report(target, raw, error)
        else:
            self._tally.count(target, "accepted" if found is not False else "nothing")

    def _report(self, target: str, raw: bytes, error: BaseException) -> None:
        if len(self._tally.findings) < FINDING_COUNT_MAX:
            self._tally.findings.append(
                {
                    **self._where,
                    "payload": self.payload_number,
                    "target": target,
                    "is_time": isinstance(error, TimeoutError),
                    "hex": raw.hex(),
                    "error": "".join(traceback.format_exception(error))[-3000:],
                }
            )

    # -- a whole replica

    def _accept(self, item: Item) -> None:
        self._now_ms += 1
        source = PeerId(PEER)
        self._look(self.replica.accept([item], source=source, now_ms=self._now_ms))

    def _look(self, accepted: Accepted) -> None:
        for outcome in accepted.outcomes:
            self._tally.count("an item's outcome", outcome.status.value)
            if outcome.fault is not None:
                assert isinstance(outcome.fault, RemoteFault), repr(outcome.fault)
                reason = _NUMBERS.sub("_", str(outcome.fault))[:70]
                self._tally.count("why an item is refused", f"{outcome.fault.code}: {reason}")
        for admission in accepted.admitted:
            subject: Any = admission.subject
            what = getattr(subject, "type", None)
            self._tally.count("what is new", what.name if what is not None else "RECEIPT")
        for change in accepted.changes:
            self._settle(change.record)

    def _settle(self, record: Any) -> None:
        """Hold a record's kept state to the rule itself, and make its card."""
        kept = self.replica.storage.register(record)
        assert kept == self.replica.resolution(record).register, record.hex()
        card = self._shelf.card(record)
        self._tally.count("a record's card", "made" if card is not None else "none")

    # -- a whole sync machine

    def _exchange(self, raw: bytes) -> None:
        """Let a peer gossip, ask and answer with these bytes."""
        self._now_ms += 1000
        if PEER not in {one.peer for one in self._machine.status().peers}:
            self._handle(PeerConnected(PEER))
        check_gossip(raw, NETWORK)
        self._handle(GossipReceived(PEER, PEER, raw))
        self._handle(RequestReceived(PEER, 1, raw))
        self._handle(Heartbeat())
        for request in self._asked[-2:]:
            self._handle(AnswerReceived(PEER, request, raw))
            self._handle(RequestFailed(PEER, request, "no answer"))
        self._asked.clear()

    def _handle(self, event: Any) -> None:
        for effect in self._machine.handle(event, now_ms=self._now_ms):
            if isinstance(effect, SendRequest):
                self._asked.append(effect.request)
            elif isinstance(effect, DropPeer):
                self._tally.count("sync machine", "peer dropped")


def make_round_maker() -> Callable[..., Round]:
    """Return what makes rounds of one town; making the town takes a second."""
    town = make_town()
    decoders = decoders_of(town)

    def make_round(tally: Tally, *, seed: int, number: int) -> Round:
        return Round(town, decoders, tally, seed=seed, number=number)

    return make_round


def _ids_of(town: Town) -> list[bytes]:
    """Return what is 32 bytes somewhere: items, records, keys; and the first era."""
    records = sorted(town.disk.records)
    return [b"", *(item.id for item in town.items), *records, *sorted(town.keys)]
