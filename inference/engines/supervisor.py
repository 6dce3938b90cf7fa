"""Keeps one engine process: starts it, proves it, watches it, restarts it, and stops it.

An engine is `READY`, and only then offered, after it has completed a real request: `/health` can
be 200 on an engine that dies at its first one. An engine that was never ready is not tried again,
since what broke it (the model, the flags, the memory) is still there; one that was, is restarted
with back-off until it crashes in a loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from inference.engines.client import Engine, OpenAIEngine, Proof
from inference.engines.logs import LINE_CHARACTERS_MAX, EngineLog
from inference.engines.metrics import EngineLoad
from inference.engines.restarts import RestartLimits, RestartPolicy
from inference.errors import EngineFailed, EngineUnavailable


class EngineState(Enum):
    """Where an engine stands. Only `READY` ones are offered."""

    STOPPED = "stopped"
    STARTING = "starting"
    PROVING = "proving"
    READY = "ready"
    DRAINING = "draining"
    WAITING = "waiting-to-restart"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SupervisorLimits:
    """How long things may take. Draining and stopping fit the ten seconds a node has to stop.

    Attributes:
        start_s: From the start of the process to a healthy answer.
        poll_s: Between two looks at the load.
        silent_count: So many polls in a row without an answer, and the engine is killed.
        drain_s: How long calls in progress may go on when it is stopped.
        stop_s: From SIGTERM to SIGKILL.
        last_words_s: How long an engine that failed may take to print why.
    """

    start_s: float = 600.0
    poll_s: float = 2.0
    silent_count: int = 5
    drain_s: float = 4.5
    stop_s: float = 4.0
    last_words_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start one engine; `{port}` in an argument is the loopback port chosen for it."""

    model: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict[str, str])


ChangeCallback = Callable[["EngineSupervisor"], None]
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "CUDA_HOME")
"""All that an engine gets of our environment: no setting or secret of ours is among it."""


class EngineSupervisor:
    """One engine, from start to stop. Make it, `await start()`, and read `state`."""

    def __init__(
        self,
        launch: Launch,
        on_change: ChangeCallback,
        *,
        limits: SupervisorLimits | None = None,
        restarts: RestartLimits | None = None,
        connect: Callable[[str, str], Engine] = OpenAIEngine,
    ) -> None:
        self.launch = launch
        self.state = EngineState.STOPPED
        self.url = ""
        self.proof: Proof | None = None
        self.load = EngineLoad()
        self.problem = ""
        self.restart_count = 0
        self.log = EngineLog(launch.log)
        self._on_change = on_change
        self._limits = limits or SupervisorLimits()
        self._policy = RestartPolicy(restarts)
        self._connect = connect
        self._engine: Engine | None = None
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> Proof:
        """Start the engine and return what it was seen to do; it is watched from then on.

        Raises:
            EngineFailed: it did not come up, or failed its first real request.
        """
        assert self._watcher is None, "an engine is started once"
        try:
            proof = await self._bring_up()
        except BaseException as error:
            await self._put_down()
            text = str(error) if isinstance(error, EngineFailed) else "its start was given up"
            self._enter(EngineState.FAILED, text)
            self.log.close()
            raise
        self._watcher = asyncio.create_task(self._watch(), name=f"engine {self.launch.model}")
        return proof

    async def stop(self) -> None:
        """Stop offering, let calls in progress finish for a while, and end the process."""
        if self.state is EngineState.READY:
            self._enter(EngineState.DRAINING)
            await self._drain()
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        await self._put_down()
        if self.state is not EngineState.FAILED:
            self._enter(EngineState.STOPPED)
        self.log.close()

    async def _bring_up(self) -> Proof:
        self._enter(EngineState.STARTING)
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        argv = [argument.replace("{port}", str(port)) for argument in self.launch.argv]
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        try:
            self._process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                env=inherited | dict(self.launch.env),
                start_new_session=True,
                limit=64 * 1024,
            )
        except OSError as error:
            raise EngineFailed(f"{argv[0]} cannot be started: {error}") from error
        self._reader = asyncio.create_task(self._read_log(self._process))
        self._engine = self._connect(self.url, self.launch.model)
        await self._wait_until_healthy(self._process, self._engine)
        self._enter(EngineState.PROVING)
        try:
            self.proof = await self._engine.prove()
        except EngineFailed as error:
            await self._let_it_die(self._process)
            raise EngineFailed(f"{error}; its log says: {self.log.reason()}") from error
        self._enter(EngineState.READY)
        return self.proof

    async def _wait_until_healthy(self, process: Process, engine: Engine) -> None:
        deadline = time.monotonic() + self._limits.start_s
        while not await engine.healthy():
            if process.returncode is not None:
                await self._let_it_die(process)
                raise EngineFailed(
                    f"the engine for {self.launch.model} ended with status {process.returncode} "
                    f"before it was up: {self.log.reason()} (whole log: {self.log.path})"
                )
            if time.monotonic() > deadline:
                raise EngineFailed(
                    f"the engine for {self.launch.model} was not up after "
                    f"{self._limits.start_s:.0f} s (log: {self.log.path})"
                )
            await asyncio.sleep(0.1)

    async def _watch(self) -> None:
        while True:
            await self._watch_one()
            if self.state is EngineState.DRAINING:
                return
            code = self._process.returncode if self._process else None
            await self._put_down()
            cause = f"signal {-code}" if code is not None and code < 0 else self.log.reason()
            self.restart_count += 1
            pause_s = self._policy.crashed(time.monotonic())
            if pause_s is None:
                self._enter(EngineState.FAILED, f"it crashes in a loop: {cause}")
                return
            self._enter(EngineState.WAITING, f"it died: {cause}")
            await asyncio.sleep(pause_s)
            with contextlib.suppress(EngineFailed):
                await self._bring_up()

    async def _watch_one(self) -> None:
        """Return when the running engine has died, or has been silent for too long."""
        process, engine = self._process, self._engine
        if process is None or engine is None:
            return  # it could not even be started
        silent = 0
        while process.returncode is None and self.state in {
            EngineState.READY,
            EngineState.DRAINING,
        }:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), self._limits.poll_s)
                return
            try:
                load = await engine.load()
            except EngineUnavailable:
                silent += 1
                if silent >= self._limits.silent_count:
                    self.log.write(f"hansa: silent for {silent} polls; killing it")
                    return
                continue
            silent = 0
            if load != self.load:
                self.load = load
                self._on_change(self)

    async def _drain(self) -> None:
        deadline = time.monotonic() + self._limits.drain_s
        while self._engine is not None and time.monotonic() < deadline:
            try:
                load = await self._engine.load()
            except EngineUnavailable:
                return
            if not load.running + load.waiting:
                return
            await asyncio.sleep(0.1)

    async def _put_down(self) -> None:
        """End the process and everything it started, and let go of what belongs to it."""
        if self._engine is not None:
            await self._engine.close()
            self._engine = None
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), self._limits.stop_s)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # it leads its own session
            await process.wait()
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)
            self._reader = None

    async def _let_it_die(self, process: Process) -> None:
        """Give a dying process a moment to print why, and its log to be read."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), self._limits.last_words_s)
        if self._reader is not None:
            await asyncio.wait({self._reader}, timeout=min(1.0, self._limits.last_words_s))

    async def _read_log(self, process: Process) -> None:
        assert process.stdout is not None
        pending = b""
        while piece := await process.stdout.read(64 * 1024):
            *lines, pending = (pending + piece).split(b"\n")
            for line in lines:
                self.log.write(line.decode("utf-8", "replace"))
            if len(pending) > LINE_CHARACTERS_MAX:
                self.log.write(pending.decode("utf-8", "replace"))
                pending = b""
        if pending:
            self.log.write(pending.decode("utf-8", "replace"))

    def _enter(self, state: EngineState, problem: str = "") -> None:
        self.state = state
        self.problem = problem
        if state is not EngineState.READY:
            self.load = EngineLoad()
        self._on_change(self)


def _free_port() -> int:
    """Return a loopback port nobody listens on now; the kernel does not hand it out soon again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
