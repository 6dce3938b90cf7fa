"""Whole nodes as processes of their own, for tests that start, stop, kill and starve them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

READY_S = 30.0


def free_port() -> int:
    """Return a TCP port of the loopback that nobody used a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


class NodeProcess:
    """One `hansa run`; its standard error is collected line by line."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.port = free_port()
        own = (
            f"api.port={self.port}", "peer.host=127.0.0.1", "peer.port=0", "node.network=test",
            f"p2p.listen=/ip4/127.0.0.1/tcp/{free_port()}", "log.format=console",
        )  # fmt: skip
        given = {flag.partition("=")[0] for flag in flags}
        kept = [flag for flag in own if flag.partition("=")[0] not in given]
        words = [word for flag in (*kept, *flags) for word in ("--set", flag)]
        for flag in flags:
            if flag.startswith("api.port="):
                self.port = int(flag.partition("=")[2])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "node", "run", "--data-dir", str(folder), *words],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env={name: value for name, value in os.environ.items() if "HANSA" not in name},
        )  # fmt: skip
        self.lines: list[str] = []
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._said:
                self.lines.append(line.rstrip())
                self._said.notify_all()

    def said(self, text: str, *, timeout_s: float = READY_S) -> str:
        """Wait for a line with `text` on standard error and return it."""
        with self._said:
            found = self._said.wait_for(
                lambda: next((line for line in self.lines if text in line), None), timeout_s
            )
        assert found, f"{text!r} was not said: {self.lines}"
        return found

    def ended(self, *, timeout_s: float = READY_S) -> tuple[int, list[str]]:
        """Wait for the end and return the exit status and what was said on standard error."""
        status = self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status, self.lines

    def ready(self, *, timeout_s: float = READY_S) -> NodeProcess:
        """Wait until the node says it is ready."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            assert self.process.poll() is None, self.lines
            with contextlib.suppress(urllib.error.URLError, OSError):
                if self.ask("GET", "/readyz")[0] == 200:
                    return self
            time.sleep(0.05)  # another process: there is no event to wait for
        raise AssertionError(f"not ready in {timeout_s} s: {self.lines}")

    def ask(self, method: str, path: str, value: Any = None) -> tuple[int, Any]:
        """Return the status and JSON of an answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if value is None else json.dumps(value).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def stop(self) -> tuple[int, list[str]]:
        """Ask the node to stop and return how it ended."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended(timeout_s=15)

    def kill(self) -> None:
        """End the node as a power cut would."""
        self.process.kill()
        self.ended()


@contextlib.contextmanager
def running(folder: Path, *flags: str) -> Generator[NodeProcess]:
    """Run a node, ready, in the block; it is killed if the block did not end it."""
    node = NodeProcess(folder, *flags)
    try:
        yield node.ready()
    finally:
        if node.process.poll() is None:
            node.kill()
