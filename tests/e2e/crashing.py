"""Kills real nodes with SIGKILL at random moments under load, and shows that nothing is lost.

    python -m tests.e2e.crashing --kills 200 --seed 7 --json FILE

The kills are spread over *worlds*: each is one data folder, or two of connected nodes, on which
one kill follows another. The seed decides everything but the machine's own timing: which node,
when, main process or all, whether the start is killed too, and what the creators write.

Whoever is killed is looked at twice: the files as the kill left them (`store_audit`), and what the
node shows once it is back. A SIGKILL takes the process and leaves the kernel's cache, so this says
nothing about a disk that lies or a power cut; `synchronous=FULL` is what answers for those.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import secrets
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from crdt import RecordKind
from tests.e2e.crash_load import LoadWriter, Notes
from tests.e2e.crash_nodes import Corpse, Member, member
from tests.e2e.store_audit import (
    ACCOUNT,
    OPERATION,
    PUT,
    Memory,
    State,
    Store,
    audit,
    copy_databases,
    disagreement,
    ids_in,
    shown_state,
    snapshot_registry,
)
from tests.writers import NETWORK, Writer

WORLD_KILLS = 25
"""Kills on one folder before a fresh one: first starts are killed too."""
LOAD_S = (0.02, 0.9)
"""How long creators write before the kill."""
START_S = (0.0, 2.2)
"""When in its start a node is killed; on an idle machine it takes 1.9 s."""
AGREE_S_MAX = 60.0
PLURALS = {int(RecordKind.MODEL): "models", int(RecordKind.AGENT): "agents"}


class CrashFault(AssertionError):
    """A kill cost something; the message says what, and the seed brings the same kills back."""


@dataclass
class Figures:
    """What a campaign counted.

    Attributes:
        kills_with_write_in_flight: A write was sent before the kill and is unanswered for ever.
        unanswered_kept: Such writes that are in the store all the same: whole, as every item.
        leftover_files: Temporary files that kills left behind in data folders.
    """

    kills: int = 0
    kills_main_only: int = 0
    kills_in_start: int = 0
    kills_in_first_start: int = 0
    kills_of_second_node: int = 0
    kills_with_write_in_flight: int = 0
    worlds: int = 0
    acknowledged_writes: int = 0
    acknowledged_lost: int = 0
    unanswered_writes: int = 0
    unanswered_kept: int = 0
    refused_writes: int = 0
    invalid_sent: int = 0
    invalid_found: int = 0
    items_audited: int = 0
    records_compared: int = 0
    leftover_files: int = 0
    restart_s: list[float] = field(default_factory=list)
    child_s: list[float] = field(default_factory=list)

    def summary(self, *, seed: int, seconds: float) -> dict[str, Any]:
        """Return the figures as they are kept."""
        lists = ("restart_s", "child_s")
        plain = {name: value for name, value in vars(self).items() if name not in lists}
        return {
            "name": "crashes", **plain, "seed": seed, "seconds": round(seconds, 1),
            "restart_s_median": round(statistics.median(self.restart_s or [0]), 2),
            "restart_s_max": round(max(self.restart_s, default=0), 2),
            "child_outlived_s_max": round(max(self.child_s, default=0), 3),
            "python": platform.python_version(), "sqlite": sqlite3.sqlite_version,
        }  # fmt: skip


class World:
    """One data folder, or two of connected nodes, and everything that was written to them."""

    def __init__(
        self, folder: Path, rng: random.Random, figures: Figures, *, paired: bool, kills: int
    ) -> None:
        self._folder = folder
        self._rng = rng
        self._figures = figures
        self._kills_left = kills
        self.notes = Notes()
        self._memory: dict[str, Memory] = {}
        self._unanswered: set[bytes] = set()
        names = ("one", "two") if paired else ("one",)
        ports = random.Random(secrets.randbits(64))  # what is free is no matter of the seed
        self.members = [member(name, folder / name, ports) for name in names]
        self._writers: list[LoadWriter] = []
        who = [Writer(f"creator {number} of {folder.name}") for number in range(3)]
        self._creators = [*who, who[0]]  # the fourth writes to the first one's records

    def run(self) -> None:
        """Kill, restart and check until the kills are used up, then check everything at rest."""
        try:
            self._begin()
            while self._kills_left:
                self._round()
            self._check_at_rest()
            for one in self.members:
                one.stop()
            for one in self.members:
                self._check_finally(one)
        finally:
            for one in self.members:
                if one.process is not None and one.process.process.poll() is None:
                    one.process.kill()

    def _begin(self) -> None:
        for one in self.members:
            if one is not self.members[0]:
                shown = self.members[0].node.ask("GET", "/v1/node")[1]
                one.bootstrap = shown["addresses"][0]
            while self._rng.random() < 0.4 and self._kills_left:
                self._figures.kills_in_first_start += 1
                self._kill_in_start(one)
            one.await_ready(one.spawn())

    def _round(self) -> None:
        """Load every node, kill one, perhaps kill its start too, start it, and look at it."""
        rng, notes = self._rng, self.notes
        victim = rng.choice([*self.members, self.members[0]])
        self._load()
        time.sleep(rng.uniform(*LOAD_S))  # the moment of the kill, from the seed
        waiting = notes.in_flight()
        corpse, copy = self._kill(victim)
        spawned_s = None if rng.random() < 0.5 else victim.spawn()  # at once, as a keeper would
        if spawned_s is None:
            self._figures.child_s.append(corpse.buried())
            victim.leaves_nothing_behind()
        alone = rng.random() < 0.5  # else the other node is written to while this one comes back
        for writer in self._writers:
            if writer.url == victim.url or alone:
                writer.stop.set()
                writer.join()
        store = self._check_copy(victim, copy)
        if spawned_s is None:
            while rng.random() < 0.3 and self._kills_left:
                store = self._kill_in_start(victim)
            spawned_s = victim.spawn()
        victim.await_ready(spawned_s)
        corpse.buried(timeout_s=60.0)
        self._figures.restart_s.append(victim.start_s[-1])
        self._end_load(victim)
        unanswered = notes.close_round()
        self._unanswered |= unanswered
        self._figures.kills_with_write_in_flight += bool(waiting & unanswered)
        self._check_back(victim, store)

    def _kill(self, victim: Member) -> tuple[Corpse, Path]:
        """Kill a node, count it, and return what it left: processes that end, and a copy."""
        everything = self._rng.random() < 0.5
        corpse = victim.kill(self._rng, everything=everything)
        figures = self._figures
        figures.kills += 1
        figures.kills_main_only += not everything
        figures.kills_of_second_node += victim is not self.members[0]
        self._kills_left -= 1
        copy = copy_databases(victim.folder, self._folder / f"kill-{figures.kills}")
        return corpse, copy

    def _kill_in_start(self, victim: Member) -> Store:
        victim.spawn()
        time.sleep(self._rng.uniform(*START_S))  # the moment of the kill, from the seed
        corpse, copy = self._kill(victim)
        self._figures.kills_in_start += 1
        self._figures.child_s.append(corpse.buried())
        victim.leaves_nothing_behind()
        return self._check_copy(victim, copy)

    def _load(self) -> None:
        self._writers = [
            LoadWriter(
                self.members[number % len(self.members)].url, who, self._rng.getrandbits(64),
                self.notes,
            )
            for number, who in enumerate(self._creators)
        ]  # fmt: skip
        for writer in self._writers:
            writer.start()

    def _end_load(self, victim: Member) -> None:
        for writer in self._writers:
            writer.stop.set()
        for writer in self._writers:
            writer.join()
            if writer.url != victim.url and writer.lost is not None:
                raise CrashFault(f"a node that was not killed broke off: {writer.lost!r}")
        if self.notes.complaints:
            raise CrashFault("; ".join(self.notes.complaints[:5]))

    def _check_copy(self, victim: Member, copy: Path) -> Store:
        """Judge the files as a kill left them."""
        store = audit(copy, NETWORK, self._memory.setdefault(victim.name, {}))
        self.check_store(victim, store, f"after kill {self._figures.kills}")
        shutil.rmtree(copy)
        return store

    def check_store(self, one: Member, store: Store, when: str) -> None:
        """Every acknowledged write is there as it was sent; nothing else is but unanswered ones."""
        figures, notes = self._figures, self.notes.frozen()
        figures.items_audited += len(store.raws)
        own = {sent.item.id: sent for sent in notes.acknowledged.values() if sent.url == one.url}
        genesis = {sent.genesis.id: sent.genesis for sent in own.values()}
        owed = {**{id_: sent.item for id_, sent in own.items()}, **genesis}
        lost = [id_ for id_, item in owed.items() if store.raws.get(id_) != item.raw]
        known = {id_: sent.item for id_, sent in notes.sent.items() if id_ not in notes.refused}
        known |= {sent.genesis.id: sent.genesis for sent in notes.sent.values()}
        # A creator is introduced by an invalid write as well.
        known |= {who.genesis.id: who.genesis for who in self._creators}
        strange = [
            id_ for id_, raw in store.raws.items()
            if (known[id_].raw != raw if id_ in known else not self._is_operator(id_, store))
        ]  # fmt: skip
        figures.acknowledged_lost += len(lost)
        figures.invalid_found += len(strange) + len(store.faults)
        for what, found in (
            ("acknowledged writes lost", [one.hex() for one in lost]),
            ("items that nobody may have written", [notes.story(one) for one in strange]),
            ("faults", store.faults),
        ):
            if found:
                raise CrashFault(f"node {one.name} {when}: {what}: {found[:5]}")

    def _is_operator(self, id_: bytes, store: Store) -> bool:
        """Whether an item is a node's own account: the only one that no creator here sent."""
        if store.kinds[id_] != ACCOUNT or id_ in self.notes.spoiled:
            return False
        known = [one.identity[1] for one in self.members if one.identity is not None]
        # Before a node was ever ready its account can be in its store and is not known here yet.
        return id_.hex() in known or len(known) < len(self.members)

    def _check_back(self, victim: Member, store: Store) -> None:
        """What a node shows after its restart is what its file held, and what was acknowledged."""
        notes = self.notes
        last = [s for s in notes.acknowledged.values() if s.round == notes.round - 1]
        for sent in last:
            write = store.writes.get(sent.item.id)
            if write is None or write.type != PUT:
                continue  # written to the other node meanwhile, or a delete: the states tell
            path = f"/v1/{PLURALS[write.kind]}/{write.record.hex()}/versions/{write.id.hex()}"
            if victim.node.ask("GET", path)[0] != 200:
                self._figures.acknowledged_lost += 1
                raise CrashFault(f"node {victim.name} shows no version {write.id.hex()}")
        if len(self.members) == 1:
            # Of unanswered ones too: a kill between the commit and the answer leaves such.
            sent_last = [id_ for id_, s in notes.sent.items() if s.round == notes.round - 1]
            touched = {store.writes[id_].record for id_ in sent_last if id_ in store.writes}
            self._compare(victim, {r: s for r, s in store.states().items() if r in touched})

    def _compare(self, one: Member, states: dict[bytes, State]) -> None:
        for record, expected in sorted(states.items()):
            path = f"/v1/{PLURALS[expected.kind]}/{record.hex()}"
            shown = shown_state(*one.node.ask("GET", path), expected.kind)
            self._figures.records_compared += 1
            if wrong := disagreement(expected, shown):
                self._figures.invalid_found += 1
                raise CrashFault(f"node {one.name}, record {record.hex()}: {wrong}")

    def _check_at_rest(self) -> None:
        """All nodes hold one set, show one state for each record, and find what is not deleted."""
        until = time.monotonic() + AGREE_S_MAX
        while len(held := {ids_in(one.folder) for one in self.members}) > 1:
            if time.monotonic() > until:
                sizes = [len(ids) for ids in held]
                raise CrashFault(f"the nodes do not agree after {AGREE_S_MAX} s: {sizes} items")
            time.sleep(0.2)  # other processes: there is no event to wait for
        for one in self.members:
            copy = snapshot_registry(one.folder, self._folder / f"rest-{one.name}")
            store = audit(copy, NETWORK, self._memory.setdefault(one.name, {}))
            self.check_store(one, store, "at rest")
            self._compare(one, store.states())
            self._check_search(one, store.states(), until)
            shutil.rmtree(copy)

    def _check_search(self, one: Member, states: dict[bytes, State], until: float) -> None:
        """The search views, which are written behind the log, caught up with it."""
        for kind, plural in PLURALS.items():
            live = {r.hex() for r, s in states.items() if s.kind == kind and s.deleted is False}
            unsure = {r.hex() for r, s in states.items() if s.deleted is None}
            while (found := _listed(one, plural) - unsure) != live:
                if time.monotonic() > until:
                    raise CrashFault(f"node {one.name} lists {len(found)} {plural} of {len(live)}")
                time.sleep(0.2)

    def _check_finally(self, one: Member) -> None:
        """Judge a node's own files, every byte anew."""
        store = audit(one.folder, NETWORK)
        self.check_store(one, store, "at the end")
        operations = {id_ for id_, kind in store.kinds.items() if kind == OPERATION}
        missing = [id_ for id_ in self.notes.acknowledged if id_ not in operations]
        self._figures.leftover_files += sum(
            path.is_file() and path.name.startswith(".") for path in one.folder.rglob("*")
        )
        if missing:  # of both nodes: what one acknowledged reached the other
            self._figures.acknowledged_lost += len(missing)
            raise CrashFault(f"node {one.name} has not {[id_.hex() for id_ in missing[:5]]}")
        if one is self.members[0]:
            self._count(store)

    def _count(self, store: Store) -> None:
        figures, notes = self._figures, self.notes
        figures.acknowledged_writes += len(notes.acknowledged)
        figures.unanswered_writes += len(self._unanswered)
        figures.unanswered_kept += len(self._unanswered & store.raws.keys())
        figures.refused_writes += len(notes.refused)
        figures.invalid_sent += len(notes.spoiled)


def _listed(one: Member, plural: str) -> set[str]:
    """Return the ids of all records that a node lists."""
    found: set[str] = set()
    cursor = ""
    while True:
        status, page = one.node.ask("GET", f"/v1/{plural}?limit=200{cursor}")
        assert status == 200, page
        found |= {item[f"{plural.removesuffix('s')}_id"] for item in page["items"]}
        if not page["next_cursor"]:
            return found
        cursor = f"&cursor={quote(page['next_cursor'])}"


def campaign(
    folder: Path, figures: Figures, *, kills: int, seed: int, world_kills: int = WORLD_KILLS,
    say: Callable[[str], None] = lambda _line: None,
) -> None:  # fmt: skip
    """Kill nodes so many times, every other world with two of them; count into `figures`.

    Raises:
        CrashFault: something was lost, or is there and should not be; its folder is left as it is.
    """
    rng = random.Random(seed)
    while figures.kills < kills:
        share = min(world_kills, kills - figures.kills)
        paired = figures.worlds % 2 == 1
        figures.worlds += 1
        here = folder / f"world-{figures.worlds}-of-{seed}"
        here.mkdir(parents=True)
        # A generator for each, so that the plan of one world does not hang on the one before.
        World(here, random.Random(rng.getrandbits(64)), figures, paired=paired, kills=share).run()
        shutil.rmtree(here)
        say(f"world {figures.worlds}: {figures.kills} of {kills} kills, nothing lost")


def main() -> int:
    """Run a campaign from the command line; 0 if nothing was lost and nothing invalid is there."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.crashing", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    parser.add_argument("--folder", type=Path, default=None, help="where nodes keep their data")
    given = parser.parse_args()
    seed = secrets.randbits(32) if given.seed is None else given.seed
    folder = given.folder or Path(tempfile.mkdtemp(prefix="hansa-crashes-"))
    print(f"seed {seed}, data in {folder}", flush=True)
    figures, started_s, status = Figures(), time.monotonic(), 0
    try:
        campaign(folder, figures, kills=given.kills, seed=seed, say=partial(print, flush=True))
    except Exception:
        traceback.print_exc()
        print(f"seed {seed} failed; what it left is in {folder}", file=sys.stderr)
        status = 1
    found = figures.summary(seed=seed, seconds=time.monotonic() - started_s)
    print(json.dumps(found, indent=2))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
