"""The whole job, end to end, on real parts: the story of `make demo` with the real vLLM."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
STORY_S_MAX = 900


@pytest.mark.e2e
@pytest.mark.engine
def test_the_story_comes_true() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "examples.demo", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=STORY_S_MAX,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-6000:] + result.stdout[-2000:]
    summary = json.loads(result.stdout)
    assert summary["ok"]
    assert len(summary["steps"]) == 8
    assert summary["facts"]["arrivals"]["B"].get("gossip")
    assert summary["facts"]["arrivals"]["D"].get("catch-up")
