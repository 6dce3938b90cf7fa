"""What this machine has for models: processors, memory, disk and GPUs, as containers limit them."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from templates import Gpu, Machine

NVIDIA_SMI_S = 15.0
GPU_COUNT_MAX = 64
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Hardware:
    """One machine twice: all that it has, and what of that is free now."""

    total: Machine
    free: Machine

    def without_gpus(self) -> Hardware:
        """Return the same machine as if it had no GPU."""
        return Hardware(replace(self.total, gpus=()), replace(self.free, gpus=()))


def read_hardware(folder: Path, *, cgroup: Path = _CGROUP) -> Hardware:
    """Return what this machine has; blocking (nvidia-smi takes a second where there is one)."""
    memory = psutil.virtual_memory()
    limit, used = _cgroup_memory(cgroup)
    total = min(memory.total, limit) if limit is not None else memory.total
    free = min(memory.available, limit - used) if limit is not None else memory.available
    place = folder
    while not place.exists():
        place = place.parent
    disk = shutil.disk_usage(place).free
    gpus, gpus_free = _gpus()
    vcpus = _vcpus(cgroup)
    return Hardware(
        Machine(vcpus, total, disk, gpus), Machine(vcpus, max(0, free), disk, gpus_free)
    )


Gpus = tuple[Gpu, ...]


def parse_gpus(text: str) -> tuple[Gpus, Gpus]:
    """Return the GPUs in nvidia-smi's `name,memory.total,memory.free` rows: whole, and free.

    Sizes are MiB without units. A row that is not one (MIG parts say `[N/A]`) is left out.
    """
    whole: list[Gpu] = []
    free: list[Gpu] = []
    for line in text.splitlines()[:GPU_COUNT_MAX]:
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal():
            whole.append(Gpu(parts[0][:60], int(parts[1]) << 20))
            free.append(Gpu(parts[0][:60], int(parts[2]) << 20))
    return tuple(whole), tuple(free)


def _gpus() -> tuple[Gpus, Gpus]:
    if shutil.which("nvidia-smi") is None:
        return (), ()
    try:
        done = subprocess.run(
            [
                "nvidia-smi",
                "--query-gpu=name,memory.total,memory.free",
                "--format=csv,noheader,nounits",
            ],
            capture_output=True,
            text=True,
            timeout=NVIDIA_SMI_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return (), ()
    return parse_gpus(done.stdout)


def _vcpus(cgroup: Path) -> int:
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()[:2]
        if quota != "max":
            count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        pass
    return count


def _cgroup_memory(cgroup: Path) -> tuple[int | None, int]:
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
        if (cgroup / "memory.stat").exists():  # cached files go when memory is wanted
            rows = (line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
            used -= sum(int(row[1]) for row in rows if row[:1] == ["inactive_file"])
        return (None if limit == "max" else int(limit)), used
    except (OSError, ValueError):
        return None, 0
