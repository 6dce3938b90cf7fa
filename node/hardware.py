"""What this machine has for models: processors, memory, disk and GPUs, as containers limit them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psutil

from inference.placement import Gpu, Machine

NVIDIA_SMI_S = 15.0
GPU_COUNT_MAX = 64
_CGROUP = Path("/sys/fs/cgroup")


def read_hardware(folder: Path, *, cgroup: Path = _CGROUP) -> Machine:
    """Return what this machine has; blocking (nvidia-smi takes a second where there is one)."""
    memory = psutil.virtual_memory()
    limit, used = _cgroup_memory(cgroup)
    total = min(memory.total, limit) if limit is not None else memory.total
    free = min(memory.available, limit - used) if limit is not None else memory.available
    place = folder
    while not place.exists():
        place = place.parent
    return Machine(
        vcpus=_vcpus(cgroup),
        memory_bytes=total,
        memory_free_bytes=max(0, free),
        disk_free_bytes=shutil.disk_usage(place).free,
        gpus=_gpus(),
    )


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """Return the GPUs in nvidia-smi's `index,name,memory.total,memory.free` rows (MiB, no units).

    A row that is not one (MIG parts say `[N/A]`) is left out.
    """
    found: list[Gpu] = []
    for line in text.splitlines()[:GPU_COUNT_MAX]:
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 4 or not all(parts[at].isdecimal() for at in (0, 2, 3)):
            continue
        total, free = int(parts[2]) << 20, int(parts[3]) << 20
        found.append(Gpu(int(parts[0]), parts[1][:60], total, free))
    return tuple(found)


def _gpus() -> tuple[Gpu, ...]:
    if shutil.which("nvidia-smi") is None:
        return ()
    query = "--query-gpu=index,name,memory.total,memory.free"
    try:
        done = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=NVIDIA_SMI_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
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
