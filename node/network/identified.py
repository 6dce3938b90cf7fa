"""What a peer says of itself by libp2p's identify, bounded and made plain.

All of it is hearsay: for people to read and to choose how to speak to a peer. Nothing is allowed or
forbidden by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

SOFTWARE_CHARACTERS_MAX = 64
PROTOCOL_COUNT_MAX = 16
PROTOCOL_CHARACTERS_MAX = 32
_PRINTABLE = re.compile(r"[^\x20-\x7e]")
_PROTOCOL = re.compile(r"[a-z][a-z-]{0,23}/[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class Identified:
    """What a peer said.

    Attributes:
        software: As it calls itself; printable ASCII, perhaps empty.
        protocols: Of this network, without the prefix: `sync/0`. Sorted.
        observed: The host that it sees us at; empty when it says none.
    """

    software: str
    protocols: tuple[str, ...]
    observed: str


def identified(agent: str, protocols: Iterable[str], observed: str, *, prefix: str) -> Identified:
    """Return what can be read of a peer's words; what cannot is left out.

    Args:
        prefix: `/hansa/NET/`, of which network protocols are told.
        observed: A multiaddress.
    """
    ours = {one.removeprefix(prefix) for one in protocols if one.startswith(prefix)}
    kept = sorted(one for one in ours if _PROTOCOL.fullmatch(one))[:PROTOCOL_COUNT_MAX]
    parts = observed.split("/")
    host = parts[2] if len(parts) >= 5 and parts[1] in {"ip4", "ip6"} else ""
    software = _PRINTABLE.sub("", agent[:SOFTWARE_CHARACTERS_MAX])
    return Identified(software, tuple(kept), host[:45])


def newer_than(spoken: Iterable[str], ours: Iterable[str]) -> tuple[str, ...]:
    """Return the protocols that a peer speaks and we do not: later numbers, or unknown names."""
    known = dict(_split(one) for one in ours)
    found = [(name, number) for name, number in map(_split, spoken) if number > known.get(name, -1)]
    return tuple(f"{name}/{number}" for name, number in sorted(found))


def _split(protocol: str) -> tuple[str, int]:
    name, _, number = protocol.rpartition("/")
    return name, int(number)
