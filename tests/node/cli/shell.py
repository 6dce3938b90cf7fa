"""A person who types commands against a node's real API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from node.cli import run
from tests.node.cli.api_node import ApiNode

MODEL = {
    "name": "Tiny Chat",
    "license": "Apache-2.0",
    "tags": ["chat", "tiny"],
    "capabilities": ["chat"],
    "price": {"input": 100_000, "output": 250_000},
}


class Shell:
    """Types commands as one person: own accounts, own files."""

    def __init__(self, node: ApiNode, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.node = node
        self._capsys = capsys

    def __call__(self, *words: object, status: int = 0) -> tuple[str, str]:
        """Run a command and return what it wrote to standard output and error."""
        self._capsys.readouterr()
        found = run(["--node", self.node.url, *map(str, words)])
        out, err = self._capsys.readouterr()
        assert found == status, out + err
        return out, err

    def json(self, *words: object, status: int = 0) -> Any:
        """Run a command with --json and return its result, or its error if it is to fail."""
        out, err = self(*words, "--json", status=status)
        if status:
            assert out == ""
        return json.loads(err if status else out)

    def file(self, file_name: str, /, **changes: Any) -> Path:
        path = self.folder / file_name
        path.write_text(json.dumps({**MODEL, **changes}))
        return path
