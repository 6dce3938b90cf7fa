"""What every engine must do for the supervisor: the fake ones, and the real vLLM."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from inference import EngineFailed, EngineUnavailable, Task
from inference.engines import (
    VLLM_CPU,
    Engine,
    EngineEnvironment,
    EngineState,
    EngineSupervisor,
    Launch,
    OpenAIEngine,
    SupervisorLimits,
    default_root,
)
from tests.engines.fake import fake_engine
from tests.engines.memory import MemoryEngine

ROOT = Path(__file__).parents[2]
VLLM = EngineEnvironment(VLLM_CPU, Path(os.environ.get("HANSA_ENGINES__FOLDER", default_root())))
ARGUMENTS = (
    "--dtype", "bfloat16", "--enforce-eager", "--max-model-len", "512",
    "--kv-cache-memory-bytes", str(32 * 2**20), "--max-num-seqs", "4",
    "--distributed-executor-backend", "uni", "--disable-uvicorn-access-log",
)  # fmt: skip
VARIABLES = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
KINDS = ["memory", "fake-process", pytest.param("vllm", marks=[pytest.mark.engine])]


def tiny_model(folder: Path, *more: str) -> Path:
    command = [sys.executable, "-m", "examples.tiny_model", str(folder), *more]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def vllm_launch(model: Path, log: Path) -> Launch:
    where = ("--host", "127.0.0.1", "--port", "{port}", "--served-model-name", "tiny")
    argv = VLLM.command(("serve", str(model), *where, *ARGUMENTS))
    return Launch("tiny", argv, log, VARIABLES)


def fake_launch(log: Path, *more: str) -> Launch:
    argv = (sys.executable, "-m", "tests.engines.fake", "--port", "{port}", "--model", "tiny")
    return Launch("tiny", (*argv, *more), log, {"PYTHONPATH": str(ROOT)})


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=KINDS)
async def engine(request, tmp_path_factory) -> AsyncIterator[Engine]:
    if request.param == "memory":
        yield MemoryEngine()
        return
    folder = tmp_path_factory.mktemp("engine")
    if request.param == "vllm":
        launch = vllm_launch(tiny_model(folder / "model"), folder / "log")
    else:
        launch = fake_launch(folder / "log")
    supervisor = EngineSupervisor(launch, lambda _supervisor: None)
    await supervisor.start()
    client = OpenAIEngine(supervisor.url, "tiny")
    yield client
    await client.close()
    await supervisor.stop()


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_it_is_healthy(engine):
    assert await engine.healthy()


async def test_it_proves_what_it_can_do(engine):
    proof = await engine.prove()
    assert Task.CHAT in proof.tasks
    assert Task.COMPLETIONS in proof.tasks
    assert proof.first_token_ms > 0
    assert proof.tokens_per_s_milli >= 0


async def test_an_idle_engine_says_so(engine):
    for _ in range(50):
        load = await engine.load()
        if load.running == 0:
            break
        await asyncio.sleep(0.02)
    assert (load.running, load.waiting) == (0, 0)


@pytest.mark.parametrize(
    "fault", ["die", "busy", "hang", "garbage", "die-midstream", "cut", "error-event"]
)
async def test_an_engine_that_fails_its_first_request_is_never_ready(fault, tmp_path):
    launch = fake_launch(tmp_path / "log", "--fault", fault)
    seen: list[EngineState] = []
    supervisor = EngineSupervisor(
        launch,
        lambda s: seen.append(s.state),
        limits=SupervisorLimits(last_words_s=0.1),
        connect=lambda url, model: OpenAIEngine(url, model, proof_timeout_s=0.5),
    )
    with pytest.raises(EngineFailed, match="first real request"):
        await supervisor.start()
    assert seen == [EngineState.STARTING, EngineState.PROVING, EngineState.FAILED]
    assert supervisor.pid is None
    assert "first real request" in supervisor.problem


async def test_an_engine_that_does_not_start_says_why(tmp_path):
    code = "raise RuntimeError('the weights are missing')"
    launch = Launch("tiny", (sys.executable, "-c", code), tmp_path / "log")
    supervisor = EngineSupervisor(launch, lambda _supervisor: None)
    with pytest.raises(EngineFailed, match="RuntimeError: the weights are missing"):
        await supervisor.start()
    assert supervisor.state is EngineState.FAILED


async def test_a_program_that_is_not_there_is_an_engine_that_failed(tmp_path):
    supervisor = EngineSupervisor(
        Launch("tiny", ("/no/such/engine",), tmp_path / "log"), lambda _supervisor: None
    )
    with pytest.raises(EngineFailed, match="cannot be started"):
        await supervisor.start()


async def test_a_killed_engine_is_started_again_and_proved_again(tmp_path):
    changed = asyncio.Event()
    supervisor = EngineSupervisor(fake_launch(tmp_path / "log"), lambda _supervisor: changed.set())
    await supervisor.start()
    first = supervisor.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    seen: list[EngineState] = []
    async with asyncio.timeout(20):
        while supervisor.restart_count == 0 or supervisor.state is not EngineState.READY:
            changed.clear()
            await changed.wait()
            seen.append(supervisor.state)
    assert EngineState.WAITING in seen
    assert EngineState.PROVING in seen
    assert supervisor.pid not in {None, first}
    await supervisor.stop()
    assert supervisor.state is EngineState.STOPPED


async def test_a_call_in_progress_is_finished_before_it_is_stopped(tmp_path):
    launch = fake_launch(tmp_path / "log", "--tokens", "20", "--pace-ms", "20")
    supervisor = EngineSupervisor(launch, lambda _supervisor: None)
    await supervisor.start()
    body = {"model": "tiny", "stream": True, "messages": []}
    async with aiohttp.ClientSession() as session:
        url = supervisor.url + "/v1/chat/completions"
        async with session.post(url, json=body) as answer:
            stopping = asyncio.create_task(supervisor.stop())
            raw = await answer.read()
    await stopping
    assert raw.endswith(b"data: [DONE]\n\n")


async def test_an_engine_that_is_gone_is_unavailable():
    with fake_engine() as fake:
        client = OpenAIEngine(fake.url, "fake")
        assert await client.models() == ["fake"]
        fake.kill()
        assert not await client.healthy()
        with pytest.raises(EngineUnavailable):
            await client.load()
        await client.close()


@pytest.mark.engine
async def test_vllm_that_is_healthy_and_dies_at_its_first_request_is_never_ready(tmp_path):
    model = tiny_model(tmp_path / "model", "--head-dim", "16")
    seen: list[EngineState] = []
    launch = vllm_launch(model, tmp_path / "log")
    supervisor = EngineSupervisor(launch, lambda s: seen.append(s.state))
    with pytest.raises(EngineFailed, match="head_dim=16"):
        await supervisor.start()
    assert seen == [EngineState.STARTING, EngineState.PROVING, EngineState.FAILED]


@pytest.mark.engine
async def test_vllm_does_not_outlive_a_killed_node(tmp_path):
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.contract.test_engine import vllm_launch\n"
        "from inference.engines import EngineSupervisor\n"
        "async def main():\n"
        "    launch = vllm_launch(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "    supervisor = EngineSupervisor(launch, lambda s: None)\n"
        "    await supervisor.start()\n"
        "    print(supervisor.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    model = tiny_model(tmp_path / "model")
    node = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(model), str(tmp_path / "log"),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert node.stdout is not None
    engine_pid = int(await node.stdout.readline())
    family = _session(engine_pid)
    assert len(family) >= 2, "the API server and the engine's core"
    node.kill()
    await node.wait()
    async with asyncio.timeout(10):
        while any(_alive(pid) for pid in family):  # noqa: ASYNC110 - no event from strangers
            await asyncio.sleep(0.05)


def _session(leader: int) -> list[int]:
    """Every process of a session (a supervisor starts each engine in one of its own)."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == leader:
                    found.append(int(entry.name))
            except ProcessLookupError:
                continue
    return found


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
