"""What a relay grants: who may be called through it, how much, how long. Pure.

A relay lends its bandwidth and its places to strangers. So each of them has a bound for one peer
and one for all together, and a peer can only ever reserve for itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """What strangers may take of a relay."""

    reservation_count_max: int = 32
    """Peers that may be called through it."""
    reservation_group_count_max: int = 4
    """Of them from one address group: an eighth, so that one provider does not take all."""
    circuit_count_max: int = 32
    """Circuits at once. Each costs a task and two buffers of 64 KiB."""
    circuit_peer_count_max: int = 4
    """Circuits that one peer may be an end of."""
    circuit_bytes_max: int = 64 * 1024 * 1024
    """Both ways together; then both ends have to call again."""
    bytes_s: int = 1024 * 1024
    """All circuits together, both ways."""
    reservation_s: float = 3600.0
    circuit_s: float = 3600.0
    """How long a circuit may last, used or not."""


class Circuit:
    """One connection that is passed on between two peers."""

    __slots__ = ("bytes_left", "callee", "caller")

    def __init__(self, caller: str, callee: str, bytes_left: int) -> None:
        self.caller = caller
        self.callee = callee
        self.bytes_left = bytes_left

    def pass_on(self, count: int) -> bool:
        """Count bytes, either way; whether they may still pass."""
        self.bytes_left -= count
        return self.bytes_left >= 0


class Switchboard:
    """Who has a reservation, and which circuits there are."""

    def __init__(self, limits: RelayLimits) -> None:
        self._limits = limits
        self._reserved: dict[str, tuple[str, float]] = {}
        self._circuits: set[Circuit] = set()
        self._ends: Counter[str] = Counter()

    @property
    def counts(self) -> tuple[int, int]:
        """How many reservations and circuits there are."""
        return len(self._reserved), len(self._circuits)

    def reserve(self, peer: str, group: str, now_s: float) -> float | None:
        """Let a peer be called, or prolong that; until when, or None: not now.

        Args:
            group: The address group that the peer is seen in.
        """
        self._forget_old(now_s)
        if peer not in self._reserved:
            crowd = sum(known == group for known, _ in self._reserved.values())
            if (
                len(self._reserved) >= self._limits.reservation_count_max
                or crowd >= self._limits.reservation_group_count_max
            ):
                return None
        until_s = now_s + self._limits.reservation_s
        self._reserved[peer] = (group, until_s)
        return until_s

    def forget(self, peer: str) -> None:
        """Drop the reservation of a peer that is not connected any more."""
        self._reserved.pop(peer, None)

    def has_reserved(self, peer: str, now_s: float) -> bool:
        """Whether a peer may be called."""
        self._forget_old(now_s)
        return peer in self._reserved

    def open(self, caller: str, callee: str) -> Circuit | None:
        """Count a new circuit and return it, to be closed at the end; None: too many."""
        limits = self._limits
        if len(self._circuits) >= limits.circuit_count_max or any(
            self._ends[peer] >= limits.circuit_peer_count_max for peer in (caller, callee)
        ):
            return None
        circuit = Circuit(caller, callee, limits.circuit_bytes_max)
        self._circuits.add(circuit)
        self._ends.update((caller, callee))
        return circuit

    def close(self, circuit: Circuit) -> None:
        """Count a circuit that ended."""
        self._circuits.discard(circuit)
        for peer in (circuit.caller, circuit.callee):
            self._ends[peer] -= 1
            if not self._ends[peer]:
                del self._ends[peer]

    def _forget_old(self, now_s: float) -> None:
        self._reserved = {
            peer: (group, until_s)
            for peer, (group, until_s) in self._reserved.items()
            if until_s > now_s
        }


class Pace:
    """Bytes a second, with one second's worth at once."""

    def __init__(self, bytes_s: int) -> None:
        self._bytes_s = bytes_s
        self._free_at_s = 0.0

    def wait_s(self, count: int, now_s: float) -> float:
        """Take so many bytes and return how long to wait before they may pass."""
        self._free_at_s = max(self._free_at_s, now_s - 1.0) + count / self._bytes_s
        return max(0.0, self._free_at_s - now_s)
