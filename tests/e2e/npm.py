"""JavaScript programs for tests: `bench/npm.py`, with which a test fails when it cannot install."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import npm
from bench.npm import node, program

__all__ = ["install", "node", "program"]


def install(source: Path) -> Path:
    """Install what `source`/package-lock.json pins, once per lock; return the folder."""
    try:
        return npm.install(source)
    except npm.NpmFault as fault:
        pytest.fail(str(fault))
