"""The circuit breaker: keeps a host that fails out of the choice, and lets it back gradually.

One circuit per peer and record, because a node can serve one model well and another not at all.
Closed -> (5 failures in a row) open -> (60 s) one probe -> ramp over 30 s -> closed. A failure
while probing or ramping opens it again. Pure: the caller passes the time and the randomness.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from random import Random

from crdt import PeerId, RecordId


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When circuits open and how they close.

    Attributes:
        failure_count: Failures in a row that open a circuit (inference.md).
        open_s: How long it stays open before one probe (inference.md).
        probe_s: How long a probe may take before another one is let through.
        ramp_s: How long a recovered host takes to get its whole share back.
        circuit_count_max: Circuits remembered; the longest untouched is forgotten first.
    """

    failure_count: int = 5
    open_s: float = 60.0
    probe_s: float = 30.0
    ramp_s: float = 30.0
    circuit_count_max: int = 8192


class CircuitState(Enum):
    """Where a circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"
    RAMPING = "ramping"


@dataclass(slots=True)
class _Circuit:
    state: CircuitState = CircuitState.CLOSED
    failures: int = 0
    since_s: float = 0.0


Key = tuple[PeerId, RecordId]


class Breaker:
    """Every circuit of this node."""

    def __init__(self, limits: BreakerLimits | None = None) -> None:
        self._limits = limits or BreakerLimits()
        self._circuits: OrderedDict[Key, _Circuit] = OrderedDict()

    def state(self, peer: PeerId, record: RecordId) -> CircuitState:
        """Return where the circuit stands, without changing it."""
        circuit = self._circuits.get((peer, record))
        return circuit.state if circuit else CircuitState.CLOSED

    def share(self, peer: PeerId, record: RecordId, now_s: float) -> float:
        """Return how much of its usual traffic the host may get now, 0 to 1; changes nothing."""
        circuit = self._circuits.get((peer, record))
        if circuit is None or circuit.state is CircuitState.CLOSED:
            return 1.0
        waited_s = now_s - circuit.since_s
        if circuit.state is CircuitState.RAMPING:
            return min(1.0, max(0.1, waited_s / self._limits.ramp_s))
        pause_s = self._pause_s(circuit)
        return 1.0 if waited_s >= pause_s else 0.0

    def admit(self, peer: PeerId, record: RecordId, now_s: float, rng: Random) -> bool:
        """Whether one call may go to this host now; a call let through an open circuit is a probe.

        Call it once, for the host that was chosen: it takes the probe's place.
        """
        circuit = self._circuits.get((peer, record))
        if circuit is None or circuit.state is CircuitState.CLOSED:
            return True
        if circuit.state is CircuitState.RAMPING:
            if now_s - circuit.since_s >= self._limits.ramp_s:
                self._circuits.pop((peer, record))
                return True
            return rng.random() < self.share(peer, record, now_s)
        if now_s - circuit.since_s < self._pause_s(circuit):
            return False
        circuit.state, circuit.since_s = CircuitState.PROBING, now_s
        return True

    def succeeded(self, peer: PeerId, record: RecordId, now_s: float) -> None:
        """Take note of a call that delivered."""
        circuit = self._circuits.get((peer, record))
        if circuit is None:
            return
        circuit.failures = 0
        if circuit.state in {CircuitState.OPEN, CircuitState.PROBING}:
            circuit.state, circuit.since_s = CircuitState.RAMPING, now_s
        elif circuit.state is CircuitState.CLOSED or self.share(peer, record, now_s) >= 1.0:
            self._circuits.pop((peer, record))

    def failed(self, peer: PeerId, record: RecordId, now_s: float) -> bool:
        """Take note of a call that the host failed; whether that opened the circuit."""
        key = (peer, record)
        circuit = self._circuits.setdefault(key, _Circuit())
        self._circuits.move_to_end(key)
        if len(self._circuits) > self._limits.circuit_count_max:
            self._circuits.popitem(last=False)
        circuit.failures += 1
        if circuit.state is CircuitState.OPEN:
            return False  # a call that began before it opened
        recovering = circuit.state is not CircuitState.CLOSED
        if not recovering and circuit.failures < self._limits.failure_count:
            return False
        circuit.state, circuit.since_s = CircuitState.OPEN, now_s
        return True

    def _pause_s(self, circuit: _Circuit) -> float:
        probing = circuit.state is CircuitState.PROBING
        return self._limits.probe_s if probing else self._limits.open_s
