"""A command on a terminal of its own: what is typed, what is seen, and how it ends."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager

SEEN_S_MAX = 20.0
CTRL_C = "\x03"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Colours and movements of the cursor."""
ON_TERMINAL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # where passphrases are read and Ctrl-C comes from
from node.__main__ import main
main()
"""


class Terminal:
    """A process whose input, output and errors are one pseudo-terminal."""

    def __init__(self, process: subprocess.Popen[bytes], controller: int) -> None:
        self._process = process
        self._controller = controller
        self._raw = ""

    @property
    def seen(self) -> str:
        """What was shown so far, as text."""
        return CONTROL.sub("", self._raw)

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Return once the text was shown that often in all."""
        give_up_at_s = time.monotonic() + SEEN_S_MAX
        while self.seen.count(text) < times:
            left_s = give_up_at_s - time.monotonic()
            assert left_s > 0, f"{text!r} never came; seen: {self.seen!r}"
            assert self._read(left_s), f"ended before {text!r}; seen: {self.seen!r}"

    def type(self, text: str) -> None:
        """Type text as a person would."""
        os.write(self._controller, text.encode())

    def end(self) -> int:
        """Return the exit status once the process has ended, with all it showed in `seen`."""
        while self._read(SEEN_S_MAX):
            pass
        return self._process.wait(SEEN_S_MAX)

    def _read(self, left_s: float) -> bool:
        ready, _, _ = select.select([self._controller], [], [], left_s)
        if not ready:
            return False
        try:
            piece = os.read(self._controller, 65536)
        except OSError:
            # The other side is closed: Linux says so with EIO.
            return False
        self._raw += piece.decode(errors="replace").replace("\r\n", "\n")
        return bool(piece)


@contextmanager
def hansa(*words: str, env: Mapping[str, str]) -> Generator[Terminal, None, None]:
    """Run a command on a new terminal; it is ended with the block if it still runs."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, *words],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", **env},
        start_new_session=True,
    )
    os.close(terminal)
    try:
        yield Terminal(process, controller)
    finally:
        process.kill()
        process.wait()
        os.close(controller)
