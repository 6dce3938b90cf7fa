"""Starts the network child's process; imports nothing heavy, so that `hansa run` calls it first.

The child needs over a second to import its libraries. Begun before the node's own imports, that
time passes beside them, and the child is waiting when its first frame comes.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NetworkProcess:
    """A network child that imports its libraries and then waits for its first frame.

    Attributes:
        process: With its standard error as a pipe.
        socket: Our end of the socket pair. The child ends when it is closed.
    """

    process: subprocess.Popen[bytes]
    socket: socket.socket

    def end(self) -> None:
        """Kill the process, if it still runs, and let go of it. Calling it again does nothing."""
        self.socket.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


def launch_network() -> NetworkProcess:
    """Start a network child and return it."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "node.network.child", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # A Ctrl-C is for the main process, which then says stop.
            start_new_session=True,
        )
    return NetworkProcess(process, ours)
