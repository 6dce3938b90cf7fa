"""An engine's log: a file that never grows past its bound, and the last lines for messages."""

from __future__ import annotations

import re
from collections import deque
from pathlib import Path

FILE_BYTES_MAX = 4 * 2**20
TAIL_LINE_COUNT = 60
LINE_CHARACTERS_MAX = 2000
_EXCEPTION = re.compile(r"\b[A-Za-z_]*(?:Error|Exception|SIGILL|Killed)\b: .+")


class EngineLog:
    """Takes lines; keeps `path` and one older file `path.1`, each at most 4 MiB."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tail: deque[str] = deque(maxlen=TAIL_LINE_COUNT)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", errors="replace")
        self._size = path.stat().st_size

    def write(self, line: str) -> None:
        """Add one line, cut at 2000 characters."""
        line = line.rstrip("\n")[:LINE_CHARACTERS_MAX]
        self._tail.append(line)
        if self._size > FILE_BYTES_MAX:
            self._rotate()
        self._file.write(line + "\n")
        self._file.flush()
        self._size += len(line.encode("utf-8", "replace")) + 1

    def tail(self, count: int = 12) -> list[str]:
        """Return the last lines."""
        return list(self._tail)[-count:]

    def reason(self) -> str:
        """Return what most likely killed the engine: the last exception that names its own cause.

        vLLM's front process reports an `EngineDeadError` that points to "the root cause above".
        """
        for line in reversed(self._tail):
            found = _EXCEPTION.search(line)
            if found and "root cause" not in line:
                return found.group()[:300]
        return self._tail[-1].strip()[:300] if self._tail else "it printed nothing"

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        self.path.replace(self.path.with_name(self.path.name + ".1"))
        self._file = self.path.open("a", encoding="utf-8", errors="replace")
        self._size = 0
