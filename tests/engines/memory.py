"""An honest engine in memory: what a supervisor sees of one, without a process."""

from __future__ import annotations

from inference import EngineFailed, EngineUnavailable, Task
from inference.engines import EngineLoad, Proof


class MemoryEngine:
    """Implements `inference.engines.Engine`; tests set `broken`, `gone` and `running`."""

    def __init__(self, tasks: Task = Task.CHAT | Task.COMPLETIONS) -> None:
        self.tasks = tasks
        self.broken = ""
        self.gone = False
        self.running = 0

    async def healthy(self) -> bool:
        return not self.gone

    async def prove(self) -> Proof:
        if self.broken or self.gone:
            raise EngineFailed(f"failed its first real request: {self.broken or 'gone'}")
        return Proof(self.tasks, first_token_ms=5, tokens_per_s_milli=100_000)

    async def load(self) -> EngineLoad:
        if self.gone:
            raise EngineUnavailable("gone")
        return EngineLoad(running=self.running)

    async def close(self) -> None:
        return None
