"""JavaScript programs for tests: what a lock pins is installed once, into the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import platformdirs
import pytest

INSTALL_S_MAX = 300
"""110 MB at 400 kB/s; with what npm has in its own cache it takes 10 s."""
PINNED = ("package.json", "package-lock.json", ".npmrc")


def install(source: Path) -> Path:
    """Install what `source`/package-lock.json pins, once per lock; return the folder."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is not installed; the tests of {source.name} need it")
    lock = (source / "package-lock.json").read_bytes()
    target = Path(
        platformdirs.user_cache_dir("hansa-tests"), "js", hashlib.sha256(lock).hexdigest()
    )
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        _install_into(source, target)
    return target


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


def _install_into(source: Path, target: Path) -> None:
    """Install beside the target and rename: another test run may do the same at the same time."""
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
            pytest.fail(f"npm ci in {source.name} took more than {INSTALL_S_MAX} s; try it by hand")
        if done.returncode:
            pytest.fail(f"npm ci failed in {source.name}: {done.stderr.strip()[-300:]}")
        try:
            folder.rename(target)
        except OSError:
            assert target.exists()
