"""Serving: from a record to a proven offer, what stops it, and what a restart remembers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from crdt import ManifestDigest, OperationId, RecordId, RecordKind, WorldFault
from inference import CannotServe, EngineFailed, Task
from inference.engines import (
    VLLM_CPU,
    EngineEnvironment,
    EngineState,
    InstallProgress,
    SupervisorLimits,
)
from node.serving import Prepared, ServeProgress, Serving, ServingTerms
from node.serving import serving as module
from node.serving.state import STATE_FILE, recall
from registry import encode_record, validate
from templates import DoesNotFit

ROOT = Path(__file__).parents[2]
RECORD = RecordId(b"\x01" * 32)
OTHER = RecordId(b"\x02" * 32)
BUILD = ManifestDigest(b"\x03" * 32)
SECOND = ManifestDigest(b"\x04" * 32)
LIMITS = SupervisorLimits(poll_s=0.05, drain_s=1.0, last_words_s=0.1)


class FakeEnvironment(EngineEnvironment):
    """An environment whose engine is the fake one."""

    __slots__ = ()

    @property
    def installed(self) -> bool:
        return (self.root / "installed").exists()

    def command(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        return (sys.executable, "-m", "tests.engines.fake", *arguments)


class World:
    """Records, builds and a planner, all in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = FakeEnvironment(VLLM_CPU, folder)
        (folder / "installed").touch()
        self.records: dict[RecordId, Any] = {}
        self.held: set[ManifestDigest] = set()
        self.fetched: list[ManifestDigest] = []
        self.unfit = ""
        self.arguments: tuple[str, ...] = ()
        self.changes = 0
        self.add(RECORD)

    def add(self, id_: RecordId, kind: RecordKind = RecordKind.MODEL, **changes: Any) -> None:
        data = {"name": "Tiny", "builds": [BUILD.hex()], "quantization": "BF16"}
        data |= {"price": {"input": 100, "output": 200, "cached_input": 50}}
        data |= {"pricing_tier": "paid"} | changes
        if kind is RecordKind.AGENT:
            data = {"name": "Agent"}
        self.records[id_] = SimpleNamespace(
            id=id_,
            kind=kind,
            account=b"\x0a" * 32,
            slug="tiny",
            deleted=False,
            operation=SimpleNamespace(id=OperationId(b"\x05" * 32)),
            body=encode_record(validate(kind, data)),
        )

    def record(self, record: RecordId) -> Any:
        return self.records.get(record)

    def has(self, digest: ManifestDigest) -> bool:
        return digest in self.held

    async def fetch(self, digest: ManifestDigest, progress: Any = None) -> Path:
        self.fetched.append(digest)
        if digest not in self.held:
            raise WorldFault(f"nobody holds {digest.hex()}")
        progress(SimpleNamespace(phase="done", bytes_verified=7, bytes_total=7))
        return self.folder

    def check(self, _model: Any) -> tuple[str, ...]:
        if self.unfit:
            raise DoesNotFit(self.unfit)
        return ("the CPU will do",)

    def prepare(self, _model: Any, _tree: Path, served_name: str) -> Prepared:
        return Prepared(
            engine="vllm",
            environment=self.environment,
            device="cpu",
            argv=("--port", "{port}", "--model", served_name, *self.arguments),
            env={"PYTHONPATH": str(ROOT)},
            context=1024,
            slots=16,
            reasons=("a reason",),
        )

    def serving(self, **terms: Any) -> Serving:
        def changed() -> None:
            self.changes += 1

        return Serving(
            records=cast("Any", self),
            builds=cast("Any", self),
            planner=cast("Any", self),
            folder=self.folder / "data",
            terms=ServingTerms(**terms),
            limits=LIMITS,
            on_change=changed,
        )

    def remembered(self) -> list[RecordId]:
        return recall(self.folder / "data" / STATE_FILE)


@pytest.fixture
def world(tmp_path) -> World:
    world = World(tmp_path)
    world.held.add(BUILD)
    return world


async def test_a_model_is_served_offered_and_stopped(world):
    serving = world.serving(region="eu", price_output=250)
    seen: list[ServeProgress] = []
    served = await serving.serve(RECORD, seen.append)
    assert served.state == "ready"
    (offer,) = serving.offers()
    assert offer == served.offer
    assert (offer.price_input, offer.price_output, offer.price_cached) == (100, 250, 50)
    assert (offer.record, offer.manifest, offer.region) == (RECORD, BUILD, "eu")
    assert (offer.context, offer.slots, offer.quantization) == (1024, 16, "BF16")
    assert offer.tasks == Task.CHAT | Task.COMPLETIONS
    assert offer.ttft_ms > 0
    steps = [progress.step for progress in seen]
    assert sorted(set(steps), key=steps.index) == [
        "resolving", "planning", "fetching", "starting", "proving", "ready",
    ]  # fmt: skip
    assert str(serving.engine_url(RECORD)).startswith("http://127.0.0.1:")
    assert serving.engine_name(RECORD) == "0a0a0a0a0a0a0a0a/tiny"
    assert world.remembered() == [RECORD]
    await serving.stop(RECORD)
    assert serving.offers() == []
    assert serving.engine_url(RECORD) is None
    assert world.remembered() == []
    with pytest.raises(CannotServe, match="not served here"):
        await serving.stop(RECORD)


async def test_two_who_ask_at_once_get_one_engine(world):
    serving = world.serving()
    first, second = await asyncio.gather(serving.serve(RECORD), serving.serve(RECORD))
    assert first.pid == second.pid
    assert (await serving.serve(RECORD)).pid == first.pid
    await serving.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w.records.clear(), "no record"),
        (lambda w: setattr(w.records[RECORD], "deleted", True), "was deleted"),
        (lambda w: w.add(RECORD, RecordKind.AGENT), "is an agent"),
        (lambda w: w.add(RECORD, status="withdrawn"), "was withdrawn"),
        (lambda w: w.add(RECORD, builds=[]), "names no build"),
        (lambda w: w.add(RECORD, price={"per_request": 5}), "price per request"),
        (lambda w: setattr(w, "unfit", "needs 9 GiB of memory, 2 are free"), "needs 9 GiB"),
        (lambda w: w.held.clear(), "nobody holds"),
    ],
)
async def test_what_cannot_be_served_says_why_and_leaves_nothing(world, change, says):
    change(world)
    serving = world.serving()
    seen: list[ServeProgress] = []
    with pytest.raises((CannotServe, DoesNotFit, WorldFault), match=says):
        await serving.serve(RECORD, seen.append)
    assert seen[-1].step == "failed"
    assert says in seen[-1].text
    assert serving.offers() == serving.served() == []
    assert world.remembered() == []


async def test_an_engine_that_dies_at_its_first_request_is_never_offered(world):
    world.arguments = ("--fault", "die")
    serving = world.serving()
    offered: list[int] = []
    with pytest.raises(EngineFailed, match="first real request"):
        await serving.serve(RECORD, lambda _progress: offered.append(len(serving.offers())))
    assert set(offered) == {0}
    assert serving.served() == []
    world.arguments = ()
    assert (await serving.serve(RECORD)).state == "ready"  # mended, and asked again
    await serving.close()


async def test_a_build_that_is_here_comes_before_those_that_are_not(world):
    world.add(RECORD, builds=[SECOND.hex(), BUILD.hex()])
    serving = world.serving()
    await serving.serve(RECORD)
    assert world.fetched == [BUILD]
    await serving.close()


async def test_a_missing_engine_is_installed_first_and_only_if_allowed(world, monkeypatch):
    marker = world.folder / "installed"
    marker.unlink()

    def installed(_environment: Any, tell: Any) -> None:
        tell(InstallProgress("downloading", "torch", 5, 10))
        marker.touch()

    monkeypatch.setattr(module, "install", installed)
    with pytest.raises(CannotServe, match="hansa engine install"):
        await world.serving(install=False).serve(RECORD)
    serving = world.serving()
    seen: list[ServeProgress] = []
    await serving.serve(RECORD, seen.append)
    assert ("installing", 5, 10) in [(p.step, p.done, p.total) for p in seen]
    await serving.close()


async def test_more_models_than_allowed_are_refused(world):
    world.add(OTHER)
    serving = world.serving(model_count_max=1)
    await serving.serve(RECORD)
    with pytest.raises(CannotServe, match=r"engines\.model_count_max"):
        await serving.serve(OTHER)
    await serving.close()


async def test_a_restart_serves_again_what_was_served(world):
    first = world.serving()
    await first.serve(RECORD)
    await first.close()
    assert world.remembered() == [RECORD]
    second = world.serving()
    await second.resume()
    assert (await second.serve(RECORD)).state == "ready"
    await second.close()


async def test_a_restart_that_cannot_serve_again_says_why_and_keeps_trying_later(world):
    first = world.serving()
    await first.serve(RECORD)
    await first.close()
    world.held.clear()
    second = world.serving()
    await second.resume()
    await asyncio.gather(*(job.task for job in second._jobs.values()), return_exceptions=True)
    (served,) = second.served()
    assert (served.state, "nobody holds" in served.problem) == ("failed", True)
    assert world.remembered() == [RECORD]
    await second.close()


async def test_a_dead_engine_is_not_offered_until_it_is_proven_again(world):
    serving = world.serving()
    served = await serving.serve(RECORD)
    assert served.pid is not None
    supervisor = serving._jobs[RECORD].supervisor
    assert supervisor is not None
    states: list[tuple[EngineState, int]] = []
    done = asyncio.Event()
    tell = supervisor._on_change

    def changed(supervisor: Any) -> None:
        tell(supervisor)
        states.append((supervisor.state, len(serving.offers())))
        if supervisor.state is EngineState.READY:
            done.set()

    supervisor._on_change = changed
    os.kill(served.pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        await done.wait()
    assert (EngineState.WAITING, 0) in states
    assert (EngineState.PROVING, 0) in states
    assert states[-1] == (EngineState.READY, 1)
    await serving.close()


async def test_stopping_while_it_comes_up_ends_it(world):
    world.arguments = ("--fault", "hang")
    serving = world.serving()
    proving = asyncio.Event()
    task = asyncio.create_task(
        serving.serve(RECORD, lambda step: proving.set() if step.step == "proving" else None)
    )
    await proving.wait()
    await serving.stop(RECORD)
    with pytest.raises(CannotServe, match="was stopped"):
        await task


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"records": 1}', b'{"records": ["ab"]}',
                                 b'{"records": [1]}', b"\xff", b" " * 70_000])  # fmt: skip
def test_a_damaged_list_of_served_models_is_an_empty_one(tmp_path, raw):
    path = tmp_path / STATE_FILE
    path.write_bytes(raw)
    assert recall(path) == []


async def test_the_list_is_written_whole(world):
    serving = world.serving()
    await serving.serve(RECORD)
    text = (world.folder / "data" / STATE_FILE).read_text()
    assert json.loads(text) == {"version": 1, "records": [RECORD.hex()]}
    assert not list((world.folder / "data").glob("*.partial"))
    await serving.close()
