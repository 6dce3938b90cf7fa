"""Engines: their own environments, the processes in them, and how to talk to one."""

from inference.engines.client import Engine, OpenAIEngine, Proof
from inference.engines.doctor import Check, examine
from inference.engines.install import (
    VLLM_CPU,
    VLLM_GPU,
    EngineEnvironment,
    EngineSpec,
    InstallProgress,
    default_root,
    install,
)
from inference.engines.metrics import EngineLoad, parse_metrics
from inference.engines.restarts import RestartLimits, RestartPolicy
from inference.engines.supervisor import (
    EngineState,
    EngineSupervisor,
    Launch,
    SupervisorLimits,
)

__all__ = [
    "VLLM_CPU", "VLLM_GPU", "Check", "Engine", "EngineEnvironment", "EngineLoad", "EngineSpec",
    "EngineState", "EngineSupervisor", "InstallProgress", "Launch", "OpenAIEngine", "Proof",
    "RestartLimits", "RestartPolicy", "SupervisorLimits", "default_root", "examine", "install",
    "parse_metrics",
]  # fmt: skip
