"""Peers that break the rules, on trio in a thread of the test, against real child processes."""

from __future__ import annotations

import asyncio
import gc
import struct
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr.multiaddr import Multiaddr

from node.network import guards
from tests.node.network.guard_hosts import doors_for
from tests.node.network.swarms import LOOPBACK, seed_of

Script = Callable[[list[Any], ID], Awaitable[None]]
Handler = Callable[[Any], Awaitable[None]]


async def nothing(_hosts: list[Any], _victim: ID) -> None:
    """Only be there."""


@asynccontextmanager
async def attacking(
    *names: str,
    address: str,
    script: Script = nothing,
    handlers: dict[str, Handler] | None = None,
) -> AsyncGenerator[None, None]:
    """Connect hosts to a node's address and run a script on them, until the block ends."""
    ended = threading.Event()

    async def one(
        name: str, hosts: list[Any], task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        host = guards.make_host(seed_of(name), 8, doors_for(24))
        for protocol, handler in (handlers or {}).items():
            host.set_stream_handler(TProtocol(protocol), handler)
        async with host.run(listen_addrs=[Multiaddr(LOOPBACK)]):
            await host.connect(info_from_p2p_addr(Multiaddr(address)))
            hosts.append(host)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await guards.close_sockets(host, ID.from_string(address.rpartition("/")[2]))

    async def main() -> None:
        hosts: list[Any] = []
        with trio.move_on_after(30):
            async with trio.open_nursery() as nursery:
                for name in names:
                    await nursery.start(one, name, hosts)
                nursery.start_soon(script, hosts, info_from_p2p_addr(Multiaddr(address)).peer_id)
                await trio.to_thread.run_sync(ended.wait, abandon_on_cancel=True)
                nursery.cancel_scope.cancel()

    thread = asyncio.create_task(asyncio.to_thread(trio.run, main))
    try:
        yield
    finally:
        ended.set()
        await thread
        gc.collect()  # the library forgets sockets; better here than in another test


async def fill_memory(hosts: list[Any], victim: ID) -> None:
    """Leave almost 8 MiB unread on every connection: as much as is allowed, and no more."""
    body = bytes(65000)
    for host in hosts:
        with suppress(Exception):  # the victim may end on the way
            muxed = host.get_network().get_connections(victim)[0].muxed_conn
            for number in range(1_000_001, 1_000_001 + 2 * 120, 2):
                # A stream that opens with no negotiation: it is reset, and its bytes stay.
                await muxed._write_frame(struct.pack("!BBHII", 0, 0, 1, number, len(body)) + body)


async def garbage(stream: Any) -> None:
    """Answer with an array that no core knows."""
    await stream.read(4)
    await stream.write(b"\0\0\0\x20" + b"\x93\xff" * 16)
    await trio.sleep_forever()


async def truncated(stream: Any) -> None:
    """Promise 100 bytes, send three, and end."""
    await stream.read(4)
    await stream.write(b"\0\0\0\x64abc")
    await stream.close()


async def oversized(stream: Any) -> None:
    """Announce 4 GiB."""
    await stream.read(4)
    await stream.write(b"\xff\xff\xff\xfe" + bytes(65536))
    await trio.sleep_forever()


async def endless(stream: Any) -> None:
    """Announce little, and never stop sending."""
    await stream.read(4)
    await stream.write(b"\0\0\0\x08")
    while True:
        await stream.write(bytes(65536))


async def trickling(stream: Any) -> None:
    """Send an allowed answer at ten bytes a second."""
    await stream.read(4)
    await stream.write(b"\0\x03\0\0")
    while True:
        await stream.write(b"\0")
        await trio.sleep(0.1)


async def silent(stream: Any) -> None:
    """Take the request and say nothing."""
    await trio.sleep_forever()


async def closing(stream: Any) -> None:
    """Hang up on whoever asks."""
    await stream.reset()
