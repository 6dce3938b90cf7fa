# pyright: reportUnknownMemberType=false, reportCallIssue=false
# (trio's own types: attrs classes and variadic functions that pyright reads in part)
"""The network child's process: frames from the node in, calls on the host out, and back.

Started as `python -m node.network.child FD`; the seed and the memory limit come in the first frame,
for which it waits with its libraries imported. It ends when its node does, because the socket pair
then ends.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
import sys
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import trio

from crdt import HansaError, MalformedBytes, NetworkId
from crdt.wire import Value
from node.collector import collected_after
from node.network import wire
from node.network.circuits import RelayLimits
from node.network.errors import NetworkFailed
from node.network.settings import NetworkSettings

if TYPE_CHECKING:
    from node.network.host import GuardedHost
    from node.network.identified import Identified

OUTBOX_BYTES_MAX = 16 * 1024 * 1024
"""Gossip and requests beyond this are refused: the node does not keep up."""
MEMORY_LOOK_S = 0.25
"""Peers were seen to add 50 MB in this time; a sixteenth of the default limit is 128."""
MEMORY_EXIT_STATUS = 3


class Outbox:
    """Frames to the node, in order, bounded in bytes."""

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._wake = trio.Event()

    def put(self, kind: str, *fields: Value) -> None:
        """Queue a frame that must not be lost; there are only as many as calls and peers."""
        frame = wire.pack(kind, *fields)
        self._frames.append(frame)
        self._bytes += len(frame)
        self._wake.set()

    def offer(self, kind: str, *fields: Value) -> bool:
        """Queue a frame if there is room; whether there was."""
        if self._bytes > OUTBOX_BYTES_MAX:
            return False
        self.put(kind, *fields)
        return True

    async def pump(self, stream: trio.SocketStream) -> None:
        """Write frames for ever."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._frames:
                await self.flush(stream)

    async def flush(self, stream: trio.SocketStream) -> None:
        """Write what is queued now."""
        frames = list(self._frames)
        self._frames.clear()
        await stream.send_all(b"".join(frames))
        self._bytes -= sum(map(len, frames))


class Child:
    """Carries out the node's frames on a guarded host."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._outbox = Outbox()
        self._calls: dict[int, trio.CancelScope] = {}
        self._asks: dict[int, trio.Event] = {}
        self._answers: dict[int, bytes | None] = {}
        self._ask_id = 0

    async def run(self) -> None:
        """Start the host, serve the node until it says stop or goes away."""
        with collected_after():
            from node.network.host import GuardedHost

        frame = await self._read()
        if frame is None:
            return
        settings, bans = _settings_of(frame)
        # Before the first byte from outside; the imports above are not what grows.
        memory_max = settings.memory_bytes_max
        resource.setrlimit(resource.RLIMIT_AS, (memory_max, memory_max))
        host = GuardedHost(settings, self, bans)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._outbox.pump, self._stream)
            nursery.start_soon(_watch_memory)
            try:
                async with host.running():
                    await self._serve(host, nursery)
            except HansaError as error:
                self._outbox.put("failed", error.code, str(error)[:500])
                with trio.move_on_after(1):
                    await self._outbox.flush(self._stream)
            finally:
                nursery.cancel_scope.cancel()

    # -- what the host calls

    def ready(self, peer: str, addresses: list[str]) -> None:
        """Tell the node that peers can come."""
        self._outbox.put("ready", peer, addresses)

    def connected(self, peer: str, address: str, *, outgoing: bool) -> None:
        """Tell the node of a peer."""
        self._outbox.put("connected", peer, address[:200], outgoing)

    def lost(self, peer: str) -> None:
        """Tell the node of a peer that is gone."""
        self._outbox.put("lost", peer)

    def identified(self, peer: str, said: Identified) -> None:
        """Tell the node what a peer says of itself."""
        self._outbox.offer("identified", peer, said.software, said.protocols, said.observed)

    def circuits(self, addresses: list[str]) -> None:
        """Tell the node where others reach it through relays."""
        self._outbox.put("circuits", addresses)

    def rtt(self, peer: str, seconds: float) -> None:
        """Tell the node how far away a peer is."""
        self._outbox.offer("rtt", peer, int(seconds * 1e6))

    def gossip(self, topic: str, author: str, forwarder: str, data: bytes) -> None:
        """Hand a frame to the node; dropped when it does not keep up."""
        self._outbox.offer("gossip", topic, author, forwarder, data)

    def log(self, level: str, event: str, *details: Value) -> None:
        """Let the node log something."""
        self._outbox.offer("log", level, event, details)

    async def ask(self, peer: str, protocol: str, payload: bytes) -> bytes | None:
        """Return the node's answer to a peer's request, or None when it refuses."""
        self._ask_id += 1
        ask = self._ask_id
        self._asks[ask] = trio.Event()
        try:
            if not self._outbox.offer("ask", ask, peer, protocol, payload):
                return None
            with trio.move_on_after(40):
                await self._asks[ask].wait()
            return self._answers.pop(ask, None)
        finally:
            del self._asks[ask]
            self._answers.pop(ask, None)

    # -- the node's frames

    async def _serve(self, host: GuardedHost, nursery: trio.Nursery) -> None:
        while True:
            frame = await self._read()
            match frame:
                case None | ("stop",):
                    return
                case ("publish", int(call), str(topic), bytes(data)):
                    self._finish(call, host.enqueue(topic, data))
                case ("request" | "dial" | "probe", int(call), *_):
                    nursery.start_soon(self._call, host, call, frame)
                case ("cancel", int(call)):
                    if call in self._calls:
                        self._calls[call].cancel()
                case ("answer", int(ask), bool(given), bytes(payload)):
                    if ask in self._asks:
                        self._answers[ask] = payload if given else None
                        self._asks[ask].set()
                case ("drop", str(peer), str(reason), int(ban_ms)):
                    nursery.start_soon(host.drop, peer, reason, ban_ms / 1000)
                case _:
                    raise MalformedBytes(f"a {frame[0]} frame is not for the child")

    async def _call(self, host: GuardedHost, call: int, frame: tuple[object, ...]) -> None:
        with trio.CancelScope() as scope:
            self._calls[call] = scope
            try:
                payload = await _carry_out(host, frame)
            except HansaError as error:
                self._finish(call, error)
            except Exception as error:
                self._finish(call, NetworkFailed(f"{type(error).__name__}: {str(error)[:200]}"))
            else:
                self._outbox.put("done", call, "", "", payload)
        self._calls.pop(call, None)

    def _finish(self, call: int, error: HansaError | None) -> None:
        if error is None:
            self._outbox.put("done", call, "", "", b"")
        else:
            self._outbox.put("done", call, error.code, str(error)[:500], b"")

    async def _read(self) -> tuple[object, ...] | None:
        """Return the node's next frame, or None when it is gone."""
        header = await self._read_exactly(wire.HEADER_BYTES)
        if header is None:
            return None
        raw = await self._read_exactly(wire.length_of(header))
        return None if raw is None else wire.unpack(raw)

    async def _read_exactly(self, length: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < length:
            try:
                part = await self._stream.receive_some(length - len(parts))
            except trio.BrokenResourceError:
                return None
            if not part:
                return None
            parts += part
        return bytes(parts)


async def _carry_out(host: GuardedHost, frame: tuple[object, ...]) -> bytes:
    match frame:
        case ("request", _, str(peer), str(protocol), bytes(payload), int(ms), int(answer_max)):
            # The node has its own timer; this one frees the stream even if "cancel" is late.
            with trio.move_on_after(ms / 1000 + 1):
                return await host.request(peer, protocol, payload, answer_max)
            raise NetworkFailed("the request timed out")
        case ("dial", _, str(address)):
            await host.dial(address)
            return b""
        case ("probe", _, str(address)):
            await host.probe(address)
            return b""
        case _:
            raise MalformedBytes(f"a malformed {frame[0]} frame")


def _settings_of(frame: tuple[object, ...]) -> tuple[NetworkSettings, dict[str, float]]:
    if frame[0] != "start":
        raise MalformedBytes("the first frame is not a start")
    seed, network, listen, bootstrap, peers, requests, gossip, ping, pong, bans, memory = frame[
        1:12
    ]
    outbound, group, allow, deny, relay, reserve = frame[12:]
    settings = NetworkSettings(
        node_seed=cast("bytes", seed),
        network=NetworkId(cast("bytes", network)),
        listen=cast("tuple[str, ...]", listen),
        bootstrap=cast("tuple[str, ...]", bootstrap),
        peer_count_max=cast("int", peers),
        memory_bytes_max=cast("int", memory),
        request_rate_s=cast("int", requests),
        gossip_rate_s=cast("int", gossip),
        ping_interval_s=cast("int", ping) / 1000,
        ping_timeout_s=cast("int", pong) / 1000,
        outbound_count=cast("int", outbound),
        inbound_group_count_max=cast("int", group),
        allow=cast("tuple[str, ...]", allow),
        deny=cast("tuple[str, ...]", deny),
        relay=_limits_of(cast("tuple[int, ...]", relay)),
        reserve=cast("bool", reserve),
    )
    return settings, {peer: ms / 1000 for peer, ms in cast("tuple[tuple[str, int], ...]", bans)}


def _limits_of(numbers: tuple[int, ...]) -> RelayLimits | None:
    """Return what a relay may give: three numbers, or none for no relay."""
    if not numbers:
        return None
    reservations, circuits, bytes_s = numbers
    return RelayLimits(
        reservation_count_max=reservations,
        reservation_group_count_max=max(1, reservations // 8),
        circuit_count_max=circuits,
        bytes_s=bytes_s,
    )


def memory_bytes_most(limit: int) -> int:
    """Return at how much memory the child ends: a sixteenth below the limit."""
    return limit - limit // 16


async def _watch_memory() -> None:
    """End the process before it is out of memory.

    At the limit itself a MemoryError comes up anywhere, and the library swallows it: a child that
    lives and does nothing is worse than one that is started again.
    """
    while True:
        used = _memory_bytes()
        most = memory_bytes_most(resource.getrlimit(resource.RLIMIT_AS)[0])
        if used > most:
            os.write(2, f"out of memory: {used >> 20} of {most >> 20} MiB\n".encode())
            os._exit(MEMORY_EXIT_STATUS)
        await trio.sleep(MEMORY_LOOK_S)


def _memory_bytes() -> int:
    """Return this process's address space, which is what RLIMIT_AS bounds."""
    fd = os.open("/proc/self/statm", os.O_RDONLY)
    try:
        return int(os.read(fd, 64).split()[0]) * resource.getpagesize()
    finally:
        os.close(fd)


async def _main(sock: socket.socket) -> None:
    with suppress(trio.BrokenResourceError):
        await Child(trio.SocketStream(trio.socket.from_stdlib_socket(sock))).run()


def main() -> None:
    """Run the child on the socket that its node left open for it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The library logs what strangers send, at every level; what matters is said in frames.
    logging.disable(logging.CRITICAL)
    trio.run(_main, socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
