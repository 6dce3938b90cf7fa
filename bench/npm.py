"""JavaScript programs: what a lock pins is installed once, into the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import platformdirs

INSTALL_S_MAX = 300
"""110 MB at 400 kB/s. With what npm has in its own cache it takes 10 s, of all the rivals 35."""
PINNED = ("package.json", "package-lock.json", ".npmrc")
NODE_PACKAGES = "node_modules/node-*/bin/node"
"""npm's own packages of Node 22, for the platforms that a package.json names."""


class NpmFault(RuntimeError):
    """What a program needs could not be installed; says why in one line."""


def install(source: Path) -> Path:
    """Install what `source`/package-lock.json pins, once per lock; return the folder.

    Raises:
        NpmFault: node or npm is missing, or npm failed.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            folder = f"{source.parent.name}/{source.name}"
            raise NpmFault(f"{program} is not found; install Node.js and npm, which {folder} needs")
    target = _target(source)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        _install_into(source, target)
    return target


def is_installed(source: Path) -> bool:
    """Whether `install` has been there."""
    return _target(source).exists()


def program(folder: Path, source: Path, name: str, *, beside: Sequence[str] = ()) -> Path:
    """Put a module, and those it imports, where what was installed is found; return its path."""
    texts = {one: (source / one).read_bytes() for one in (name, *beside)}
    target = folder / f"programs-{hashlib.sha256(b''.join(texts.values())).hexdigest()[:16]}"
    target.mkdir(exist_ok=True)
    for one, text in texts.items():
        scratch = target / f"{one}.{os.getpid()}"
        scratch.write_bytes(text)
        scratch.rename(target / one)
    return target / name


def node(folder: Path) -> Path:
    """Return the Node that was installed; on other platforms the system's, if it is new enough."""
    return next(iter(folder.glob(NODE_PACKAGES)), Path("node"))


def version(folder: Path, package: str) -> str:
    """Return the version of a package that was installed."""
    manifest = json.loads((folder / "node_modules" / package / "package.json").read_text())
    return str(manifest["version"])


def _target(source: Path) -> Path:
    lock = hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()
    return Path(platformdirs.user_cache_dir("hansa-tests"), "js", lock)


def _install_into(source: Path, target: Path) -> None:
    """Install beside the target and rename: another run may do the same at the same time."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch, "js")
        folder.mkdir()
        for name in PINNED:
            shutil.copy(source / name, folder)
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, check=False,
                timeout=INSTALL_S_MAX,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise NpmFault(
                f"npm ci in {source.name} took more than {INSTALL_S_MAX} s; try it by hand"
            ) from None
        if done.returncode:
            raise NpmFault(f"npm ci failed in {source.name}: {done.stderr.strip()[-300:]}")
        try:
            folder.rename(target)
        except OSError:
            assert target.exists()
