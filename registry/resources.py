"""What a model or an agent needs of a machine, and what its owner recommends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from registry.errors import Problem
from registry.fields import U32_MAX, Closed
from registry.weights import weights_bytes_min

VCPU_MAX = 1024
MEMORY_MB_MAX = 16 * 1024 * 1024
"""16 TiB: more than one machine has."""
DISK_GB_MAX = 1024 * 1024
VRAM_GB_MAX = 64 * 1024
MB = 1024 * 1024
GB = 1024 * MB

Vcpus = Annotated[int, Field(ge=1, le=VCPU_MAX)]
MemoryMb = Annotated[int, Field(ge=1, le=MEMORY_MB_MAX)]
DiskGb = Annotated[int, Field(ge=1, le=DISK_GB_MAX)]
Cores = Annotated[int, Field(ge=1, le=U32_MAX)]


class ModelResourceRequirements(Closed):
    """What a model needs. `mb` and `gb` are binary: 2**20 and 2**30 bytes."""

    min_vcpus: Vcpus = 1
    recommended_vcpus: Vcpus = 2
    min_memory_mb: MemoryMb = 1024
    recommended_memory_mb: MemoryMb = 4096
    min_disk_gb: DiskGb = 10
    recommended_disk_gb: DiskGb = 20
    requires_gpu: bool = False
    min_vram_gb: Annotated[int, Field(ge=1, le=VRAM_GB_MAX)] | None = None
    """Over all GPUs together. Only with `requires_gpu`."""
    cuda_cores: Cores | None = None
    tensor_cores: Cores | None = None


class AgentResourceRequirements(Closed):
    """What an agent needs; the models it calls run elsewhere."""

    min_vcpus: Vcpus = 1
    recommended_vcpus: Vcpus = 1
    min_memory_mb: MemoryMb = 512
    recommended_memory_mb: MemoryMb = 1024
    min_disk_gb: DiskGb = 5
    recommended_disk_gb: DiskGb = 10


ResourceRequirements = ModelResourceRequirements | AgentResourceRequirements
MODEL_RESOURCE_FIELDS = tuple(ModelResourceRequirements.model_fields)
AGENT_RESOURCE_FIELDS = tuple(AgentResourceRequirements.model_fields)
_PATH = "resource_requirements"
_PAIRS = (
    ("min_vcpus", "recommended_vcpus"),
    ("min_memory_mb", "recommended_memory_mb"),
    ("min_disk_gb", "recommended_disk_gb"),
)


def resource_problems(given: ResourceRequirements) -> Iterator[Problem]:
    """Yield what in the requirements contradicts itself."""
    values = given.__dict__
    for least, more in _PAIRS:
        low, high = values[least], values[more]
        if high < low:
            yield _problem(more, high, f"is below {least} {low}; at least that is recommended")
    vram = values.get("min_vram_gb")
    if vram is not None and not values["requires_gpu"]:
        yield _problem("min_vram_gb", vram, "is given without requires_gpu")


def capacity_problems(
    given: ModelResourceRequirements, parameters: int, quantization: str | None
) -> Iterator[Problem]:
    """Yield which minimums cannot even hold the weights (registry/weights.py, no other term)."""
    weights = weights_bytes_min(parameters, quantization)
    if weights is None or not parameters:
        return
    if given.requires_gpu:
        memory = ("min_vram_gb", given.min_vram_gb, GB)
    else:
        memory = ("min_memory_mb", given.min_memory_mb, MB)
    for name, least, unit in (memory, ("min_disk_gb", given.min_disk_gb, GB)):
        if least is not None and least * unit < weights:
            what = f"{parameters} parameters in {quantization} are {weights} bytes of weights"
            yield _problem(name, least, f"{what}; at least {-(-weights // unit)}")


def _problem(name: str, value: Any, message: str) -> Problem:
    return Problem(f"{_PATH}.{name}", str(value), message)
