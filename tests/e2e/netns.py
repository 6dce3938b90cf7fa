"""Network namespaces for tests: an isolated internet of a few machines, some of them behind a NAT.

Needs Linux, root and `nft`. Nothing in it reaches, or is reached by, the machine's own network.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
RUN = Path("/run/netns")

NAT = """
table ip nat {
    chain out {
        type nat hook postrouting priority 100
        oifname "wan" masquerade%s
    }
}
table ip filter {
    chain pass {
        type filter hook forward priority 0; policy drop;
        iifname "lan" accept
        ct state established,related accept
    }
    chain own {
        type filter hook input priority 0; policy accept;
        iifname "wan" ct state new drop
    }
}
"""
"""What a home router does: who is inside may open connections, and others hear nothing at all."""


def missing() -> str:
    """Return what this machine lacks to make namespaces with a NAT; empty if nothing."""
    if os.geteuid() != 0:
        return "root is needed to make network namespaces"
    absent = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    return f"{' and '.join(absent)} not installed (iproute2, nftables)" if absent else ""


class Internet:
    """Namespaces on one wire. Each machine is a namespace of its own with a loopback."""

    def __init__(self) -> None:
        self._prefix = f"hansa{os.getpid()}-"
        self._stack = ExitStack()
        self._wire = self._namespace("wire")
        self._in(self._wire, "ip", "link", "add", "wire", "type", "bridge")
        self._in(self._wire, "ip", "link", "set", "wire", "up")

    def close(self) -> None:
        """Remove every namespace that was made here, with all that is in them."""
        self._stack.close()

    def public(self, name: str, address: str) -> str:
        """Return a new machine that anybody reaches at `address`; all of 11.0.0.0/8 is one wire."""
        machine = self._namespace(name)
        self._plug(machine, name, address)
        return machine

    def behind_nat(self, name: str, address: str, *, keeps_ports: bool = True) -> str:
        """Return a new machine at 192.168.7.2 behind a router of its own at `address`.

        Args:
            keeps_ports: Connections leave from the port that they are made from, as at most home
                routers. Otherwise each leaves from a random one.
        """
        router = self._namespace(f"{name}-nat")
        self._plug(router, name, address)
        machine = self._namespace(name)
        self._in(
            router, "ip", "link", "add", "lan", "type", "veth",
            "peer", "name", "eth0", "netns", machine,
        )  # fmt: skip
        for where, link, own in ((router, "lan", "192.168.7.1"), (machine, "eth0", "192.168.7.2")):
            self._in(where, "ip", "addr", "add", f"{own}/24", "dev", link)
            self._in(where, "ip", "link", "set", "dev", link, "up")
        self._in(machine, "ip", "route", "add", "default", "via", "192.168.7.1")
        self._in(router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        self._in(router, "nft", "-f", "-", text=NAT % ("" if keeps_ports else " fully-random"))
        return machine

    def _plug(self, machine: str, name: str, address: str) -> None:
        self._in(
            machine, "ip", "link", "add", "wan", "type", "veth",
            "peer", "name", name, "netns", self._wire,
        )  # fmt: skip
        self._in(machine, "ip", "addr", "add", f"{address}/8", "dev", "wan")
        self._in(machine, "ip", "link", "set", "wan", "up")
        self._in(self._wire, "ip", "link", "set", "dev", name, "master", "wire", "up")

    def _namespace(self, name: str) -> str:
        full = self._prefix + name
        _run("ip", "netns", "add", full)
        self._stack.callback(_run, "ip", "netns", "del", full)
        self._in(full, "ip", "link", "set", "lo", "up")
        return full

    def _in(self, namespace: str, *command: str, text: str = "") -> None:
        _run("ip", "netns", "exec", namespace, *command, text=text)


@contextmanager
def internet() -> Iterator[Internet]:
    """Give an internet of its own to a test, and remove it after."""
    made = Internet()
    try:
        yield made
    finally:
        made.close()


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Let this thread open its sockets, and start its processes, in a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(RUN / namespace, os.O_RDONLY)
    try:
        _enter(libc, there)
        try:
            yield
        finally:
            _enter(libc, back)
    finally:
        os.close(there)
        os.close(back)


def _enter(libc: ctypes.CDLL, fd: int) -> None:
    if libc.setns(fd, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _run(*command: str, text: str = "") -> None:
    subprocess.run(command, check=True, input=text, text=True, capture_output=True, timeout=30)
