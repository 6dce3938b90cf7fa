"""Machines with a network between them, on one machine: network namespaces joined by slow links.

Every host is a namespace of its own with one interface, `link0`. What is between them:

- `netem`, where the kernel has that module (`sch_netem`): a bridge with a veth pair to each host,
  and the kernel's own delay and loss on every host's end of it;
- else `emulated`: `link0` is a TUN device, and a thread of this process carries IP packets from
  one to the other, late, and drops some. Delay and loss are per packet and one way, so that real
  TCP stacks see what they would see; what it is not: it has no bandwidth limit, no reordering, no
  jitter but the scheduler's, and it carries some thousand packets a second and not more.

Needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN) and iproute2; `why_not()` says what is missing. Names
begin with `hansa-PID-`; everything is removed at the end, whatever happened in between.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
NETWORK = "10.199.7"
"""Addresses that exist inside the namespaces only; nothing routes to or from them."""
MTU = 1400
PACKET_COUNT_MAX = 1000
"""Packets under way in all; one more is dropped. As netem's own limit."""
INTERFACE = "link0"
T = TypeVar("T")
Kind = Literal["netem", "emulated", "plain"]


@dataclass(frozen=True, slots=True)
class Impairment:
    """What every packet meets on its way out of a host: one way, so a round trip meets it twice."""

    delay_s: float = 0.0
    loss: float = 0.0


class Host:
    """One namespace. Whatever `run` is given happens in it: sockets, and processes it starts."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self._thread = ThreadPoolExecutor(1, initializer=self.enter)

    def enter(self) -> None:
        """Move the calling thread into this namespace, for good."""
        with Path(f"/run/netns/{self.name}").open("rb") as file:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter namespace {self.name}")

    def run(self, work: Callable[[], T]) -> T:
        """Do something in this namespace and return what came of it."""
        return self._thread.submit(work).result()

    def ip(self, *words: str) -> None:
        """Run an `ip` command in this namespace."""
        run_tool("ip", "-n", self.name, *words)

    def set_link(self, *, up: bool) -> None:
        """Plug the cable in, or pull it."""
        self.ip("link", "set", INTERFACE, "up" if up else "down")

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()


class Lan:
    """Some hosts and the network between them; use as a context manager."""

    def __init__(self, count: int, impairment: Impairment, *, kind: Kind | None = None) -> None:
        self.kind = kind or ("netem" if has_netem() else "emulated")
        self.hosts: list[Host] = []
        self._count = count
        self._impairment = impairment
        self._stack = ExitStack()

    def __enter__(self) -> Lan:
        with self._stack as stack:
            for number in range(1, self._count + 1):
                self.hosts.append(self._add_host(f"hansa-{os.getpid()}-{number}", number))
            if self.kind == "emulated":
                self._join_by_tun()
            else:
                self._join_by_bridge()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._stack.close()

    def _add_host(self, name: str, number: int) -> Host:
        _add_namespace(name, self._stack)
        host = Host(name, f"{NETWORK}.{number}")
        self._stack.callback(host.close)
        host.ip("link", "set", "lo", "up")
        return host

    def _join_by_tun(self) -> None:
        ends: dict[str, int] = {}
        for host in self.hosts:
            ends[host.address] = end = host.run(_open_tun)
            self._stack.callback(os.close, end)
            self._set_up(host)
        emulator = Emulator(ends, self._impairment)
        self._stack.callback(emulator.stop)
        emulator.start()

    def _join_by_bridge(self) -> None:
        hub = f"hansa-{os.getpid()}-hub"
        _add_namespace(hub, self._stack)
        run_tool("ip", "-n", hub, "link", "add", "hub0", "type", "bridge")
        run_tool("ip", "-n", hub, "link", "set", "hub0", "up")
        for number, host in enumerate(self.hosts):
            port = f"port{number}"
            host.ip("link", "add", INTERFACE, "type", "veth", "peer", "name", port, "netns", hub)
            run_tool("ip", "-n", hub, "link", "set", port, "master", "hub0", "up")
            self._set_up(host)
            if self.kind == "netem":
                run_tool(*netem_words(host.name, INTERFACE, self._impairment))

    def _set_up(self, host: Host) -> None:
        host.ip("addr", "add", f"{host.address}/24", "dev", INTERFACE)
        host.ip("link", "set", INTERFACE, "mtu", str(MTU), "up")


class Emulator(threading.Thread):
    """Carries IPv4 packets between TUN devices: each late by the delay, some not at all.

    Attributes:
        carried, dropped: Packets, those for nobody or for a device that is down not counted.
    """

    def __init__(self, ends: dict[str, int], impairment: Impairment) -> None:
        super().__init__(daemon=True)
        self.carried = self.dropped = 0
        self._ends = {bytes(map(int, address.split("."))): end for address, end in ends.items()}
        self._impairment = impairment
        self._rng = random.Random(7)
        self._under_way: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        self._stop_read, self._stop_write = os.pipe()

    def stop(self) -> None:
        """End the thread; the devices stay open."""
        os.write(self._stop_write, b"x")
        if self.ident is not None:
            self.join()
        os.close(self._stop_read)
        os.close(self._stop_write)

    def run(self) -> None:
        """Carry packets until told to stop."""
        ends = [*self._ends.values(), self._stop_read]
        while True:
            wait_s = max(0.0, self._under_way[0][0] - time.monotonic()) if self._under_way else None
            ready = select.select(ends, [], [], wait_s)[0]
            if self._stop_read in ready:
                return
            for end in ready:
                with suppress(OSError):  # the device is down
                    self._take(os.read(end, 65536))
            self._deliver()

    def _take(self, packet: bytes) -> None:
        """Let a packet of IPv4 set out: its destination is in bytes 16 to 19."""
        end = self._ends.get(packet[16:20]) if packet[:1] and packet[0] >> 4 == 4 else None
        if end is None:
            return
        if self._rng.random() < self._impairment.loss or len(self._under_way) >= PACKET_COUNT_MAX:
            self.dropped += 1
            return
        self._count += 1  # packets of one moment arrive in the order in which they set out
        due_s = time.monotonic() + self._impairment.delay_s
        heapq.heappush(self._under_way, (due_s, self._count, end, packet))

    def _deliver(self) -> None:
        now_s = time.monotonic()
        while self._under_way and self._under_way[0][0] <= now_s:
            _due_s, _count, end, packet = heapq.heappop(self._under_way)
            with suppress(OSError):  # the device is down: the packet is lost
                os.write(end, packet)
                self.carried += 1


def why_not() -> str | None:
    """Return why namespaces cannot be made here, in one line; None if they can."""
    if shutil.which("ip") is None:
        return "iproute2 is not installed"
    name = f"hansa-{os.getpid()}-probe"
    try:
        with ExitStack() as stack:
            _add_namespace(name, stack)
            host = Host(name, "")
            stack.callback(host.close)
            if not has_netem():
                os.close(host.run(_open_tun))
    except (OSError, subprocess.CalledProcessError) as error:
        return f"they are not permitted: {getattr(error, 'stderr', None) or error}".strip()
    return None


def has_netem() -> bool:
    """Whether the kernel delays and drops packets itself; asked in a namespace that is removed."""
    if shutil.which("tc") is None:
        return False
    name = f"hansa-{os.getpid()}-netem"
    with ExitStack() as stack:
        _add_namespace(name, stack)
        words = netem_words(name, "lo", Impairment(0.001, 0.01))
        return subprocess.run(words, check=False, capture_output=True).returncode == 0


def netem_words(namespace: str, device: str, impairment: Impairment) -> Sequence[str]:
    """Return the `tc` command that impairs what leaves a device."""
    delay, loss = f"{impairment.delay_s * 1000:g}ms", f"{impairment.loss * 100:g}%"
    return (
        *("tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "netem"),
        *("delay", delay, "loss", loss, "limit", str(PACKET_COUNT_MAX)),
    )


def run_tool(*words: str) -> None:
    """Run a command that must succeed."""
    subprocess.run(words, check=True, capture_output=True, text=True, timeout=20)


def _add_namespace(name: str, stack: ExitStack) -> None:
    """Make a namespace that is removed, with all devices in it, when the stack is closed."""
    run_tool("ip", "netns", "add", name)
    stack.callback(run_tool, "ip", "netns", "del", name)


def _open_tun() -> int:
    """Return a TUN device of the calling thread's namespace; it goes when this is closed."""
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", INTERFACE.encode(), IFF_TUN | IFF_NO_PI))
    except OSError:
        os.close(end)
        raise
    return end
