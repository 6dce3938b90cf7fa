# pyright: reportUnknownMemberType=false
# (zeroconf's signatures are partly untyped)
"""The LAN child's process: says by multicast DNS where its node listens, and who else is there.

Started as `python -m node.network.lan_child`, with one JSON line on standard input; each peer that
it finds is a line on standard output, a multiaddress. It ends when its input does. A process of its
own under a memory limit, because whoever is on the same network can send it anything: what it loses
is itself, and no connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import resource
import sys
from collections import OrderedDict
from ipaddress import IPv4Address

from zeroconf import IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from node.network.lan_service import SERVICE, LanSelf, address_in, properties_of, self_in

MEMORY_BYTES_MAX = 512 * 1024 * 1024
ASK_COUNT_MAX = 16
"""Names that are being asked for at once; more are heard of again when they are repeated."""
ASK_TIMEOUT_MS = 3000
TOLD_COUNT_MAX = 256
"""Addresses remembered as told, so that each is told once."""
TOLD_A_MINUTE_MAX = 64
MINUTE_S = 60.0


class Teller:
    """Asks for what is announced and prints the addresses of this network's nodes."""

    def __init__(self, own: LanSelf, zeroconf: Zeroconf) -> None:
        self._own = own
        self._zeroconf = zeroconf
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._told: OrderedDict[str, None] = OrderedDict()
        self._left = TOLD_A_MINUTE_MAX
        self._loop = asyncio.get_running_loop()
        self._refill()

    def changed(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        """Take note of an announcement; zeroconf calls it by these names."""
        del zeroconf, service_type
        if state_change is ServiceStateChange.Removed or name in self._tasks:
            return
        if len(self._tasks) < ASK_COUNT_MAX and name != self._own.service_name:
            task = self._loop.create_task(self._ask(name))
            self._tasks[name] = task
            task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def _ask(self, name: str) -> None:
        info = AsyncServiceInfo(SERVICE, name)
        with contextlib.suppress(Exception):  # hostile packets raise many kinds
            if await info.async_request(self._zeroconf, ASK_TIMEOUT_MS):
                hosts = info.parsed_addresses(IPVersion.V4Only)
                found = address_in(info.properties, hosts, info.port or 0, self._own)
                if found is not None:
                    self._tell(found)

    def _tell(self, address: str) -> None:
        if address in self._told or self._left <= 0:
            return
        self._left -= 1
        self._told[address] = None
        if len(self._told) > TOLD_COUNT_MAX:
            self._told.popitem(last=False)
        sys.stdout.write(f"{address}\n")
        sys.stdout.flush()

    def _refill(self) -> None:
        """Give the next minute its number, and let what was told be told again."""
        self._left = TOLD_A_MINUTE_MAX
        self._told.clear()
        self._loop.call_later(MINUTE_S, self._refill)


async def _run(own: LanSelf, ended: asyncio.Event) -> None:
    zeroconf = AsyncZeroconf(ip_version=IPVersion.V4Only)
    info = AsyncServiceInfo(
        SERVICE,
        own.service_name,
        port=own.port,
        properties=properties_of(own),
        server=f"{own.peer[-16:].lower()}.local.",  # not the machine's name: nobody needs it
        addresses=[IPv4Address(host).packed for host in own.hosts],
    )
    try:
        # Cooperating: or whoever claims our name first keeps us from being found.
        await zeroconf.async_register_service(info, cooperating_responders=True)
        teller = Teller(own, zeroconf.zeroconf)
        browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[teller.changed])
        await ended.wait()
        await browser.async_cancel()
    finally:
        await zeroconf.async_close()


async def _main() -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    own = self_in(json.loads(await loop.run_in_executor(None, sys.stdin.readline)))

    def look() -> None:
        if not os.read(sys.stdin.fileno(), 64):
            loop.remove_reader(sys.stdin.fileno())
            ended.set()

    loop.add_reader(sys.stdin.fileno(), look)
    await _run(own, ended)


def main() -> None:
    """Run the child; a machine without multicast is one line on standard error and status 1."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The library logs what strangers send, and nobody reads standard error while it runs.
    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(_main())
    except OSError as error:
        sys.stderr.write(f"no multicast here: {error}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
