"""Hostile payloads against every decoder and a whole replica, in child processes that are watched.

    python -m tests.wire.fuzzing --count 1000000 --seed 7 --processes 2 --json FILE
    python -m tests.wire.fuzzing --seed 7 --round 12      # one round again, in this process

Every refusal must be a fault that a decoder may raise; none may take a second for a payload; memory
is bounded by the kernel. A finding carries the payload in hex, the seed and the round. `guided.py`
does the same with payloads that coverage chooses, where atheris is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import resource
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

from tests.wire.rounds import PAYLOAD_COUNT, SLOW_S, Round, Tally, make_round_maker

N = TypeVar("N", int, float)
MEMORY_BYTES_MAX = 2 << 30
"""Address space of a child; it needs some 600 MiB of it, most of it libraries."""
HANG_S = 30.0
"""A payload that takes so long is given up, with its process."""
POLL_S = 0.05
SLOT_BYTES = 2 << 20
_HEAD_BYTES = 32


@dataclass(frozen=True)
class Seen:
    """The payload that a child deals with at the moment."""

    round: int
    payload: int
    started_ns: int
    raw: bytes


class Slot:
    """A few shared pages in which a child says what it is about to do."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(SLOT_BYTES))
        with path.open("r+b") as file:
            self._pages = mmap.mmap(file.fileno(), SLOT_BYTES)

    def write(self, number: int, payload: int, raw: bytes) -> None:
        """Say it; no payload, by its length of 0, means that none is being dealt with."""
        raw = raw[: SLOT_BYTES - _HEAD_BYTES]
        self._pages[_HEAD_BYTES : _HEAD_BYTES + len(raw)] = raw
        numbers = (number, payload, time.monotonic_ns(), len(raw))
        self._pages[:_HEAD_BYTES] = b"".join(one.to_bytes(8, "big") for one in numbers)

    def read(self) -> Seen | None:
        """Return what is there, or None if nothing is, or it was changing."""
        head = bytes(self._pages[:_HEAD_BYTES])
        number, payload, started_ns, length = (
            int.from_bytes(head[at : at + 8], "big") for at in range(0, _HEAD_BYTES, 8)
        )
        raw = bytes(self._pages[_HEAD_BYTES : _HEAD_BYTES + length])
        if not length or bytes(self._pages[:_HEAD_BYTES]) != head:
            return None
        return Seen(number, payload, started_ns, raw)


# -- in a child


@dataclass
class Pace:
    """How long payloads took, and those that took long."""

    slowest_wall_s: float = 0
    slowest_cpu_s: float = 0
    slow: list[dict[str, Any]] = field(default_factory=list)

    def note(self, one: Round, raw: bytes, wall_s: float, cpu_s: float) -> None:
        self.slowest_wall_s = max(self.slowest_wall_s, wall_s)
        self.slowest_cpu_s = max(self.slowest_cpu_s, cpu_s)
        if wall_s > SLOW_S:
            times = {"wall_s": round(wall_s, 3), "cpu_s": round(cpu_s, 3)}
            where = {"round": one.number, "payload": one.payload_number}
            self.slow.append({**where, **times, "hex": raw.hex()})


def run_round(one: Round, count: int, pace: Pace, slot: Slot | None) -> None:
    """Make and feed the payloads of a round."""
    for _ in range(count):
        raw = one.payload()
        if slot is not None:
            slot.write(one.number, one.payload_number, raw)
        started_s = time.perf_counter()
        cpu_s = one.feed(raw)
        pace.note(one, raw, time.perf_counter() - started_s, cpu_s)
    if slot is not None:
        slot.write(one.number, one.payload_number, b"")
    one.finish()


def child(seed: int, numbers: range, count: int, slot: Slot, out: Path) -> None:
    """Run rounds, and append a line of JSON for each."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    make_round, parent = make_round_maker(), os.getppid()
    with out.open("a") as file:
        for number in numbers:
            if os.getppid() != parent:
                return  # nobody is there any more who would read it
            tally, pace = Tally(), Pace()
            run_round(make_round(tally, seed=seed, number=number), count, pace, slot)
            line = {"round": number, **vars(tally), **vars(pace), "peak_mib": _peak_mib()}
            print(json.dumps(line), file=file, flush=True)


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


# -- in the parent


class Watched:
    """A child, started again behind the round that it died of.

    Args:
        command: What runs it, given its slot, the file it appends to, and its rounds.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        numbers: range,
        command: Callable[[Path, Path, range], list[str]],
        *,
        hang_s: float = HANG_S,
    ) -> None:
        self.out = folder / f"{name}.jsonl"
        self.deaths: list[dict[str, Any]] = []
        self._slot_path = folder / f"{name}.slot"
        self._slot = Slot(self._slot_path)
        self._numbers = numbers
        self._command = command
        self._hang_s = hang_s
        self._slow: dict[tuple[int, int], dict[str, Any]] = {}
        self._process = self._started()

    @property
    def slow(self) -> list[dict[str, Any]]:
        """Payloads that were seen to take over a second while they did."""
        return list(self._slow.values())

    def poll(self) -> bool:
        """Look after the child; whether there is more to come."""
        seen = self._slot.read()
        age_s = 0.0 if seen is None else (time.monotonic_ns() - seen.started_ns) / 1e9
        if seen is not None and age_s > SLOW_S:
            self._note_slow(seen, age_s)
        if age_s > self._hang_s:
            self._process.kill()
            self._process.wait()
        status = self._process.poll()
        return status is None or (status != 0 and self._died(status, hung=age_s > self._hang_s))

    def stop(self) -> None:
        """End the child if it runs."""
        self._process.kill()
        self._process.wait()

    def _died(self, status: int, *, hung: bool) -> bool:
        """Note what the child died of, and start it again; False if there is no use in that."""
        last = self._slot.read()
        if last is None:  # it died before it began, or at the end of a round
            self.deaths.append({"status": status, "hung": hung})
            return False
        where = {"round": last.round, "payload": last.payload, "hex": last.raw.hex()}
        self.deaths.append({**where, "status": status, "hung": hung})
        step = self._numbers.step
        self._numbers = range(last.round + step, self._numbers.stop, step)
        if self._numbers:
            self._process = self._started()
        return bool(self._numbers)

    def _note_slow(self, seen: Seen, age_s: float) -> None:
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(self._process.pid).cpu_times()
            note = {
                "round": seen.round, "payload": seen.payload, "wall_s": round(age_s, 3),
                "process_cpu_s": times.user + times.system, "hex": seen.raw.hex(),
            }  # fmt: skip
            self._slow[seen.round, seen.payload] = note

    def _started(self) -> subprocess.Popen[bytes]:
        self._slot.write(0, 0, b"")
        return subprocess.Popen(self._command(self._slot_path, self.out, self._numbers))


def fuzz(
    *, count: int, seed: int, processes: int = 1, payloads: int = PAYLOAD_COUNT
) -> dict[str, Any]:
    """Return what became of at least `count` payloads."""
    rounds = -(-count // payloads)
    started_s = time.monotonic()

    def command(slot: Path, out: Path, numbers: range) -> list[str]:
        which = (numbers.start, numbers.stop, numbers.step)
        return [
            sys.executable, "-m", "tests.wire.fuzzing", "--child", str(slot), str(out),
            *map(str, which), "--seed", str(seed), "--payloads", str(payloads),
        ]  # fmt: skip

    with tempfile.TemporaryDirectory(prefix="hansa-fuzz-") as name:
        shares = [range(first, rounds, processes) for first in range(min(processes, rounds))]
        children = [Watched(Path(name), str(one.start), one, command) for one in shares]
        try:
            while [one for one in children if one.poll()]:
                time.sleep(POLL_S)
        finally:
            for one in children:
                one.stop()
        found = _report(seed, children, time.monotonic() - started_s)
    return _without_stalls(found, payloads)


def _without_stalls(found: dict[str, Any], payloads: int) -> dict[str, Any]:
    """Return the report without seconds that were not taken when their round was made again.

    On a machine that is shared even the processor time of a process jumps now and then.
    """
    kept, stalls = [], []
    for finding in found["findings"]:
        again = finding["is_time"] and not _is_slow_again(finding, payloads)
        (stalls if again else kept).append(finding)
    names = ("round", "payload", "target", "error")
    return {
        **found,
        "ok": found["ok"] or (not kept and not found["deaths"] and found["payload_count"] > 0),
        "findings": kept,
        "stalls_that_did_not_happen_again": [{name: one[name] for name in names} for one in stalls],
    }


def _is_slow_again(finding: dict[str, Any], payloads: int) -> bool:
    command = [
        sys.executable, "-m", "tests.wire.fuzzing", "--seed", str(finding["seed"]),
        "--round", str(finding["round"]), "--payloads", str(payloads),
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    _, _, text = done.stdout.decode().partition("\n")
    try:
        again = json.loads(text)["findings"]
    except ValueError:
        return True  # it did not come to an end
    places = {(one["payload"], one["target"]) for one in again}
    return (finding["payload"], finding["target"]) in places


def _report(seed: int, children: list[Watched], wall_s: float) -> dict[str, Any]:
    tally, slow = Tally(), [one for child in children for one in child.slow]
    deaths = [one for child in children for one in child.deaths]
    lines = [
        json.loads(line)
        for child in children
        if child.out.exists()
        for line in child.out.read_text().splitlines()
    ]
    for line in lines:
        tally.add(line)
        slow += line["slow"]
    return {
        "seed": seed,
        "payload_count": tally.payload_count,
        "ok": bool(lines) and not (tally.findings or deaths),
        "wall_s": round(wall_s, 1),
        "slowest_ms": {
            target: round(took_s * 1000, 1) for target, took_s in _sorted(tally.slowest_s)
        },
        "slowest_of_all_targets_together_ms": _greatest(lines, "slowest_cpu_s", 1000),
        "peak_rss_mib": _greatest(lines, "peak_mib", 1),
        "over_a_second_of_wall_for_all_targets": [
            {name: value for name, value in one.items() if name != "hex"} for one in slow
        ],
        "deaths": deaths,
        "findings": tally.findings,
        "outcomes": {name: dict(_sorted(counts)) for name, counts in tally.outcomes.items()},
    }


def _greatest(lines: list[dict[str, Any]], name: str, factor: int) -> float:
    return round(max((line[name] * factor for line in lines), default=0), 1)


def _sorted(counts: Mapping[str, N]) -> list[tuple[str, N]]:
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))


def main(arguments: list[str] | None = None) -> int:
    """Fuzz as the command line says; 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.wire.fuzzing", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--payloads", type=int, default=PAYLOAD_COUNT, help="payloads of a round")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--round", type=int, default=None, help="this one again, and here")
    parser.add_argument("--child", nargs=5, default=None, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    seed = secrets.randbelow(2**32) if asked.seed is None else asked.seed
    if asked.child is not None:
        slot, out, *numbers = asked.child
        child(seed, range(*map(int, numbers)), asked.payloads, Slot(Path(slot)), Path(out))
        return 0
    print(f"seed {seed}", flush=True)
    if asked.round is not None:
        tally, pace = Tally(), Pace()
        make_round = make_round_maker()
        run_round(make_round(tally, seed=seed, number=asked.round), asked.payloads, pace, None)
        found = {**vars(tally), **vars(pace), "ok": not tally.findings}
    else:
        found = fuzz(
            count=asked.count, seed=seed, processes=asked.processes, payloads=asked.payloads
        )
    text = json.dumps(found, indent=2)
    if asked.json is not None:
        asked.json.write_text(text + "\n")
    print(text)
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
