"""Adversarial worlds in any order end in agreement; planted bugs do not get past the checkers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import crdt.accounts
import crdt.branches
import crdt.causes
import crdt.operations
import crdt.registers
import crdt.replica
from crdt.pending import PendingItems
from crdt.registers import Heads, follow
from tests.crdt import reference as ref
from tests.sim.attacks import MOVES, draw_world
from tests.sim.press import Paper
from tests.sim.schedules import Failure, play

REPOSITORY = Path(__file__).parents[2]


def failures(first: int, count: int) -> list[Failure]:
    found = (play(seed)[1] for seed in range(first, first + count))
    return [failure for failure in found if failure is not None]


def first_failure(count: int = 400) -> str:
    """The name of what is found first, however long that takes."""
    for seed in range(count):
        failure = play(seed)[1]
        if failure is not None:
            return failure.name
    return "nothing"


def test_worlds_in_any_order_end_in_agreement() -> None:
    assert failures(0, 60) == []


def test_worlds_have_what_they_are_for() -> None:
    """Among a few hundred: every move, frozen logs, later eras, void operations, conflicts."""
    moves: set[str] = set()
    seen = dict.fromkeys(("frozen", "era", "void", "conflicts", "kept", "endorsed"), 0)
    for seed in range(300):
        world = draw_world(seed, Paper())
        moves |= {move.split()[0] for move in world.moves}
        view = world.look(may_lag=False)
        seen["frozen"] += ref.is_frozen(view.entries)
        operations = view.of(world.record("thing"))
        state = ref.resolve(operations, view.entries)
        if state is None:
            continue
        seen["era"] += bool(state.era)
        seen["conflicts"] += bool(state.conflicts)
        seen["void"] += len(state.effective) < len(operations)
        for o in operations:
            if not (ref.current(o, view.entries) and ref.is_live(o, view.entries)):
                seen["kept"] += ref.kept(o, operations, view.entries)
                seen["endorsed"] += ref.endorsed(o, operations, view.entries)
    assert moves == {move.__name__ for move in MOVES}
    assert min(seen.values()) >= 5, seen


def test_a_seed_gives_one_history_whatever_the_hashes() -> None:
    """Nothing iterates over a set without sorting it."""
    code = (
        "from tests.sim.attacks import draw_world; from tests.sim.press import Print;"
        "import hashlib; print([hashlib.sha256(b''.join(m.id for m in "
        "draw_world(s, Print()).made)).hexdigest() for s in range(40)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": "."},
            cwd=REPOSITORY,
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(outputs) == 1


# Bugs planted in the core, each found


def test_a_state_that_follows_arrival_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def last_comes_first(heads: Heads, operation: object, standing: object) -> Heads | None:
        after = follow(heads, operation, standing)  # type: ignore[arg-type]
        if after is None or len(after.facts) < 2:
            return after
        return Heads(frozenset({operation.id}), after.heads, after.era)  # type: ignore[attr-defined]

    monkeypatch.setattr(crdt.replica, "follow", last_comes_first)
    assert first_failure() in {"divergence", "not the reference", "endorsed edit lost"}


def test_a_rank_by_depth_alone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crdt.registers, "rank_of", lambda head, standing: (head.depth, head.id))
    assert first_failure() == "not the reference"


def test_a_forgotten_right_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crdt.causes, "check_authority", lambda operation, account: None)
    assert first_failure() in {"admitted invalid", "unauthorised"}


def test_a_forgotten_signature_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crdt.operations, "verify_digest", lambda digest, signature, key: None)
    assert first_failure() in {"unauthentic", "admitted invalid"}


def test_a_fork_settled_by_id_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        crdt.branches.EntryTree, "is_signed", lambda self, branch, signer: branch[0] < 128
    )
    assert first_failure() in {"not the reference", "unauthorised"}


def test_a_waiting_room_that_loses_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PendingItems, "release", lambda self, arrived: [])
    assert first_failure() == "lost valid"


def test_a_depth_that_is_believed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crdt.causes, "_check_place", lambda operation, predecessors: None)
    assert first_failure() == "admitted invalid"
