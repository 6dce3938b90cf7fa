"""Starts the network child, reads what it says, and starts it again when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import signal
import socket
import subprocess
import time
from typing import IO, Protocol

import structlog

from crdt import HansaError, MalformedBytes
from node.launch import NetworkProcess, launch_network
from node.network import wire
from node.network.errors import BadAddress, NetworkBusy, NetworkFailed, PortInUse

RESTART_DELAYS_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""The first makes a killed child be back within 2 s, imports included; the last is for a loop."""
HEALTHY_AFTER_S = 30.0
STOP_TIMEOUT_S = 3.0
WRITE_BUFFER_BYTES_MAX = 16 * 1024 * 1024
"""Frames that wait for the child to read them."""

logger = structlog.stdlib.get_logger(__name__)


class Owner(Protocol):
    """What the supervisor needs of the client."""

    def start_frame(self) -> bytes:
        """Return the frame that a new child reads first."""
        ...

    def frame_received(self, link: Link, frame: tuple[object, ...]) -> None:
        """Carry out what a child says."""
        ...

    def child_ended(self, *, reason: str) -> None:
        """Forget the child."""
        ...

    def child_failed(self, error: HansaError) -> bool:
        """Tell whoever waits for the first child; whether somebody did."""
        ...


class Link:
    """The way to one child."""

    def __init__(self, process: subprocess.Popen[bytes], writer: asyncio.StreamWriter) -> None:
        self._process = process
        self._writer = writer

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def send(self, frame: bytes) -> None:
        """Queue a frame for the child; into the void when it has ended.

        Raises:
            NetworkBusy: 16 MiB wait already.
        """
        transport = self._writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > WRITE_BUFFER_BYTES_MAX:
            raise NetworkBusy("the network child does not keep up; try again in a second")
        self._writer.write(frame)


class Supervisor:
    """Keeps one child running; the first may have been launched before."""

    def __init__(self, owner: Owner, first: NetworkProcess | None = None) -> None:
        self._owner = owner
        self._first = first
        self._task: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = asyncio.Event()

    def start(self) -> None:
        """Start the first child, and every next one."""
        self._task = asyncio.create_task(self._run(), name="network-supervisor")

    async def stop(self) -> None:
        """Ask the child to end, and end it if it does not."""
        self._stopping.set()
        if self._link is not None:
            with contextlib.suppress(NetworkBusy):
                self._link.send(wire.pack("stop"))
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._task), STOP_TIMEOUT_S)
            return
        self._kill()
        await self._task

    async def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            started_s = time.monotonic()
            try:
                reason = await self._one_life()
            except Exception as error:
                self._kill()
                reason = f"{type(error).__name__}: {error}"
                logger.exception("talking to the network child failed")
            self._link = None
            self._owner.child_ended(reason=reason)
            if self._stopping.is_set():
                return
            if self._owner.child_failed(NetworkFailed(f"the network child ended: {reason}")):
                return
            failures = 1 if time.monotonic() - started_s > HEALTHY_AFTER_S else failures + 1
            delay_s = RESTART_DELAYS_S[min(failures, len(RESTART_DELAYS_S)) - 1]
            logger.warning("network child ended; starting it again", reason=reason, in_s=delay_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)

    async def _one_life(self) -> str:
        """Run one child to its end and return how it ended."""
        launched, self._first = self._first or launch_network(), None
        process = self._process = launched.process
        assert process.stderr is not None
        tail = asyncio.create_task(_last_line(process.stderr))
        reader, writer = await asyncio.open_unix_connection(sock=launched.socket, limit=2**20)
        writer.write(self._owner.start_frame())
        self._link = Link(process, writer)
        if self._stopping.is_set():
            self._link.send(wire.pack("stop"))
        try:
            await self._read_frames(reader, self._link)
        except MalformedBytes as error:
            logger.warning("the network child talks nonsense", reason=str(error))
        finally:
            writer.close()
            await self._await_end(process)
        return _ending(process.returncode or 0, await tail)

    async def _read_frames(self, reader: asyncio.StreamReader, link: Link) -> None:
        while True:
            try:
                header = await reader.readexactly(wire.HEADER_BYTES)
                raw = await reader.readexactly(wire.length_of(header))
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            frame = wire.unpack(raw)
            try:
                self._owner.frame_received(link, frame)
            except NetworkBusy:
                logger.warning("a frame from the network child is dropped", frame=frame[0])

    async def _await_end(self, process: subprocess.Popen[bytes]) -> None:
        try:
            await asyncio.to_thread(process.wait, 1.0)
        except subprocess.TimeoutExpired:
            self._kill()
            await asyncio.to_thread(process.wait)

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)


def require_free_ports(listen: tuple[str, ...]) -> None:
    """Check that nobody listens yet: libp2p binds with SO_REUSEPORT and would share the port.

    Raises:
        PortInUse: somebody does, or the address is not this machine's.
        BadAddress: not `/ip4|ip6/HOST/tcp/PORT`.
    """
    for address in listen:
        found = re.fullmatch(r"/ip([46])/([0-9a-fA-F.:]+)/tcp/(\d{1,5})", address)
        if found is None or int(found[3]) > 65535:
            raise BadAddress(
                f"cannot listen on {address!r}; set p2p.listen to /ip4/HOST/tcp/PORT or /ip6/..."
            )
        family = socket.AF_INET if found[1] == "4" else socket.AF_INET6
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((found[2], int(found[3])))
            except OSError as error:
                why = "is in use" if error.errno == errno.EADDRINUSE else f"fails: {error.strerror}"
                raise PortInUse(
                    f"port {found[3]} on {found[2]} {why}; set p2p.listen to another address"
                ) from error


async def _last_line(pipe: IO[bytes]) -> str:
    """Log the child's complaints and return the last one."""
    stream = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), pipe
    )
    last = ""
    while chunk := await stream.read(4096):
        lines = [line for line in chunk.decode(errors="replace").splitlines() if line.strip()]
        if lines:
            last = lines[-1][:300]
            logger.debug("network child stderr", text=chunk.decode(errors="replace")[:2000])
    return last


def _ending(status: int, last_line: str) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}" + (f" ({last_line})" if last_line else "")
