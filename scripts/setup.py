"""Make `.venv` with what the project needs, or say the one line that installs what is missing.

Standard library only: this runs with whatever Python the machine has. Safe to run again: when the
lock file and `pyproject.toml` have not changed, nothing is done.

Example: python3 scripts/setup.py
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "hansa-setup.stamp"
PYTHON_MIN = (3, 11)
UV = "uv>=0.9,<1"
DEBIAN = "apt-get install -y python3-venv python3-dev gcc libgmp-dev"
FEDORA = "dnf install -y python3-devel gcc gmp-devel"


def main() -> int:
    """Check the machine, make the environment, install the lock; 0 when all of it is there."""
    missing = list(missing_parts())
    if missing:
        for line in missing:
            print(f"setup: {line}", file=sys.stderr)
        print(f"setup: on Debian or Ubuntu:  {DEBIAN}", file=sys.stderr)
        print(f"setup: on Fedora:            {FEDORA}", file=sys.stderr)
        return 1
    want = fingerprint()
    if STAMP.exists() and STAMP.read_text() == want and (VENV / "bin" / "hansa").exists():
        return 0
    print("setup: installing the locked dependencies into .venv (about a minute)", flush=True)
    try:
        install()
    except subprocess.CalledProcessError as error:
        print(f"setup: this step failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        print(
            "setup: is the package registry reachable? then run `make setup` again", file=sys.stderr
        )
        return 1
    STAMP.write_text(want)
    print("setup: done", flush=True)
    return 0


def missing_parts() -> list[str]:
    """Return one line for each thing this machine lacks to build the dependencies."""
    missing: list[str] = []
    if sys.version_info < PYTHON_MIN:
        missing.append(f"Python {sys.version.split()[0]} is too old; 3.11 or newer is needed")
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        missing.append("Python's venv module is missing")
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if compiler is None:
        missing.append("a C compiler is missing (libp2p's fastecdsa has no wheel)")
    else:
        include = sysconfig.get_path("include")
        if not compiles(compiler, "#include <Python.h>", f"-I{include}"):
            missing.append("Python's C headers (Python.h) are missing")
        if not compiles(compiler, "#include <gmp.h>"):
            missing.append("the GMP headers (gmp.h) are missing (fastecdsa compiles against them)")
    return missing


def compiles(compiler: str, line: str, *flags: str) -> bool:
    """Whether a C file that consists of `line` compiles."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(f"{line}\nint main(void) {{ return 0; }}\n")
        result = subprocess.run(
            [compiler, *flags, "-fsyntax-only", str(source)], capture_output=True, check=False
        )
    return result.returncode == 0


def fingerprint() -> str:
    """Return what the environment depends on, hashed."""
    digest = hashlib.sha256(sys.version.encode())
    digest.update(str(ROOT).encode())
    for path in (LOCK, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def install() -> None:
    """Make the environment and put the lock and this project into it."""
    python = VENV / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", str(VENV))
    run(python, "-m", "pip", "install", "--quiet", UV)
    locked = ["-r", str(LOCK)]
    try:
        run(VENV / "bin" / "uv", "pip", "install", "--quiet", "--python", python, *locked)
    except subprocess.CalledProcessError:
        # Not every registry that pip is configured for is known to uv: pip is slower, and knows.
        print("setup: going on with pip, which knows your registry settings", flush=True)
        run(python, "-m", "pip", "install", "--quiet", *locked)
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--editable", str(ROOT))


def run(*command: object) -> None:
    """Run one step, letting it print; raise CalledProcessError if it fails."""
    environment = {
        **os.environ,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_NATIVE_TLS": "true",  # the system's certificates, which a company's own may be among
        "UV_SYSTEM_CERTS": "true",  # the same, by its newer name
    }
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT, env=environment)


if __name__ == "__main__":
    sys.exit(main())
