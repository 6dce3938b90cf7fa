"""Hostile sockets: how soon a node answers, and how it grows, while strangers attack its ports.

A real node, its network child and a live session, each a process with the usual 1024 files at most;
the strangers are another one (`tests/e2e/socket_attacks.py`). Honest callers connect anew for each
request, 20 times a second to the API, 4 times to the peer port, libp2p and the live session.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from tests.e2e.besieged import Place, Siege, place
from tests.e2e.socket_attacks import SIEGES

MIB = 1 << 20


def run(seconds: float = 5.0) -> dict[str, Any]:
    """Return latencies of the API and of the attacked port, and memory, for each attack.

    Args:
        seconds: Of each attack on each port.
    """
    return asyncio.run(_measured(seconds))


async def _measured(seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        async with place(Path(folder)) as besieged:
            quiet = await besieged.besieged("", "quiet", seconds)
            sieges = {
                f"{kind} {attack}": await _one(besieged, kind, attack, seconds)
                for kind, attack in SIEGES
            }
    each = list(sieges.values())
    return {
        "p95_ms": max(one["api_p95_ms"] for one in each),
        "port_p95_ms": max(one["port_p95_ms"] for one in each),
        "grown_mb": max(max(one["grown_mb"].values()) for one in each),
        "unanswered": sum(one["unanswered"] for one in each),
        "quiet_p50_ms": quiet.asked["api"].p50_ms,
        "quiet_p95_ms": quiet.asked["api"].ms(0.95),
        "quiet_mb": {name: round(size / MIB, 1) for name, size in quiet.peak.items()},
        "attacks": sieges,
    }


async def _one(besieged: Place, kind: str, attack: str, seconds: float) -> dict[str, Any]:
    return _figures(kind, await besieged.besieged(kind, attack, seconds))


def _figures(kind: str, siege: Siege) -> dict[str, Any]:
    api, attacked = siege.asked["api"], siege.asked[kind]
    return {
        "api_p50_ms": api.p50_ms,
        "api_p95_ms": api.ms(0.95),
        "api_max_ms": api.ms(1),
        "port_p95_ms": attacked.ms(0.95),
        "unanswered": sum(len(one.failed) for one in siege.asked.values()),
        "grown_mb": {name: round(size / MIB, 1) for name, size in siege.grown.items()},
        "connections": siege.did["connections"],
    }
