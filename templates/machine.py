"""What a machine has, as sizing and rendering see it; node/hardware.py reads it."""

from __future__ import annotations

from dataclasses import dataclass

from registry import AgentResourceRequirements, ModelResourceRequirements

MB = 1024 * 1024
GB = 1024 * MB


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU."""

    name: str
    vram_bytes: int


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine.

    Attributes:
        memory_bytes: All of it; what others use is the operator's business.
        disk_free_bytes: Free where builds and engines are kept.
        gpus: Those that may be used.
    """

    vcpus: int
    memory_bytes: int
    disk_free_bytes: int
    gpus: tuple[Gpu, ...] = ()

    @property
    def vram_bytes(self) -> int:
        """VRAM of all GPUs together."""
        return sum(gpu.vram_bytes for gpu in self.gpus)


def misfits(
    needs: ModelResourceRequirements | AgentResourceRequirements, machine: Machine
) -> tuple[str, ...]:
    """Return why declared minimums are not met, one sentence each; empty when all are."""
    found = [
        f"{what}: needs {need} {unit}, the machine has {have}"
        for what, need, have, unit in (
            ("vCPUs", needs.min_vcpus, machine.vcpus, "or more"),
            ("memory", needs.min_memory_mb, machine.memory_bytes // MB, "MB"),
            ("disk", needs.min_disk_gb, machine.disk_free_bytes // GB, "GB free"),
        )
        if have < need
    ]
    if isinstance(needs, ModelResourceRequirements) and needs.requires_gpu:
        vram_gb = needs.min_vram_gb or 0
        if not machine.gpus:
            found.append("GPU: needs one, the machine has none")
        elif machine.vram_bytes < vram_gb * GB:
            found.append(f"VRAM: needs {vram_gb} GB, the machine has {machine.vram_bytes // GB}")
    return tuple(found)


def fits(needs: ModelResourceRequirements | AgentResourceRequirements, machine: Machine) -> bool:
    """Whether a machine meets declared minimums."""
    return not misfits(needs, machine)
