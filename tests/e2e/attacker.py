# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportCallIssue=false
# (py-libp2p's signatures are partly untyped, and trio's are variadic)
"""A hostile libp2p peer in a process of its own: authenticated, and free to send any bytes.

    python -m tests.e2e.attacker

It takes one JSON object a line on stdin and answers each with one on stdout. `open` makes a host
with a key of the caller's choice and connects it; everything else names that host. Nothing of the
product's own network code runs here: what is sent is what the test wrote, byte for byte.
"""

from __future__ import annotations

import itertools
import json
import logging
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_uvarint
from multiaddr.multiaddr import Multiaddr

ROOT = Path(__file__).resolve().parent.parent.parent
PUBSUB_PREFIX = b"libp2p-pubsub:"
READ_S = 5.0
OPEN_S = 10.0
_numbers = itertools.count(1)


class Hostile:
    """One host: its streams, and what it answers when it is asked."""

    def __init__(self, seed: bytes) -> None:
        self.pair = create_new_key_pair(seed)
        self.host: Any = new_host(key_pair=self.pair)
        self.answers: dict[str, list[bytes]] = {}
        self.asked: dict[str, list[str]] = {}
        self.stop = trio.Event()
        self.listening = trio.Event()

    async def run(self) -> None:
        """Be there until told to stop."""
        async with self.host.run(listen_addrs=[Multiaddr("/ip4/127.0.0.1/tcp/0")]):
            self.listening.set()
            await self.stop.wait()

    def serve(self, protocol: str, answers: list[bytes]) -> None:
        """Answer requests on a protocol with these bytes in turn, the last one for ever."""
        self.answers[protocol] = answers
        self.asked.setdefault(protocol, [])

        async def handle(stream: Any) -> None:
            while True:
                header = await exactly(stream, 4)
                payload = await exactly(stream, int.from_bytes(header, "big"))
                self.asked[protocol].append(payload.hex())
                left = self.answers[protocol]
                await stream.write(left.pop(0) if len(left) > 1 else left[0])

        self.host.set_stream_handler(TProtocol(protocol), handle)

    async def send(self, peer: ID, protocol: str, raw: bytes, *, read: bool) -> str:
        """Open a stream, write these bytes, and return what comes back, in hex."""
        with trio.fail_after(OPEN_S):
            stream = await self.host.new_stream(peer, [TProtocol(protocol)])
            await stream.write(raw)
        found = b""
        if read:
            with trio.move_on_after(READ_S):
                header = await exactly(stream, 4)
                found = header
                length = int.from_bytes(header, "big")
                if length != 0xFFFFFFFF:
                    found += await exactly(stream, length)
            await stream.reset()
        return found.hex()

    def message(self, topic: str, data: bytes, fault: str) -> bytes:
        """Return a gossip RPC with one message, signed, or broken in the way `fault` says."""
        message = rpc_pb2.Message(
            data=data,
            topicIDs=[topic],
            from_id=ID.from_pubkey(self.pair.public_key).to_bytes(),
            seqno=next(_numbers).to_bytes(8, "big"),
        )
        signature = self.pair.private_key.sign(PUBSUB_PREFIX + message.SerializeToString())
        message.key = self.pair.public_key.serialize()
        message.signature = signature
        if fault == "unsigned":
            message.ClearField("signature")
        elif fault == "wrongly-signed":
            message.signature = bytes(len(signature))
        elif fault == "altered":
            message.data = data + b"!"
        elif fault == "two-topics":
            message.topicIDs.append(topic)
        elif fault == "garbage-key":
            message.key = b"\xff" * 40
        raw = rpc_pb2.RPC(publish=[message]).SerializeToString()
        return encode_uvarint(len(raw)) + raw


async def exactly(stream: Any, length: int) -> bytes:
    """Return so many bytes."""
    found = bytearray()
    while len(found) < length:
        part = await stream.read(min(65536, length - len(found)))
        if not part:
            raise EOFError
        found += part
    return bytes(found)


class Commands:
    """Carries out what the test writes."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._hosts: dict[str, Hostile] = {}
        self._gossip: dict[tuple[str, str], Any] = {}

    async def carry_out(self, what: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to one command."""
        if what["do"] == "open":
            return await self._open(what)
        hostile = self._hosts[what["host"]]
        peer = ID.from_string(what["peer"])
        match what["do"]:
            case "gossip":
                raw = hostile.message(what["topic"], bytes.fromhex(what["data"]), what["fault"])
                await self._write_gossip(what["host"], hostile, peer, raw)
            case "raw-gossip":
                raw = bytes.fromhex(what["data"])
                await self._write_gossip(what["host"], hostile, peer, raw)
            case "ask":
                raw = bytes.fromhex(what["data"])
                return {"raw": await hostile.send(peer, what["protocol"], raw, read=True)}
            case "write":
                raw = bytes.fromhex(what["data"])
                await hostile.send(peer, what["protocol"], raw, read=False)
            case "asked":
                return {"asked": hostile.asked.get(what["protocol"], [])}
            case "close":
                hostile.stop.set()
            case _:
                raise ValueError(what["do"])
        return {}

    async def _open(self, what: dict[str, Any]) -> dict[str, Any]:
        hostile = self._hosts[what["host"]] = Hostile(bytes.fromhex(what["seed"]))
        for protocol, answers in what.get("serve", {}).items():
            hostile.serve(protocol, [bytes.fromhex(one) for one in answers])
        self._nursery.start_soon(hostile.run)
        await hostile.listening.wait()
        with trio.fail_after(OPEN_S):
            await hostile.host.connect(info_from_p2p_addr(Multiaddr(what["address"])))
        return {"peer": str(hostile.host.get_id())}

    async def _write_gossip(self, name: str, hostile: Hostile, peer: ID, raw: bytes) -> None:
        key = (name, str(peer))
        with trio.fail_after(OPEN_S):
            if key not in self._gossip:
                protocols = [TProtocol("/meshsub/1.1.0")]
                self._gossip[key] = await hostile.host.new_stream(peer, protocols)
            await self._gossip[key].write(raw)


async def main() -> None:
    """Serve stdin until it ends."""
    logging.disable(logging.CRITICAL)
    async with trio.open_nursery() as nursery:
        commands = Commands(nursery)
        print("READY", flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            try:
                answer = await commands.carry_out(json.loads(line))
            except Exception as error:  # whatever the library raises is an answer here
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
        nursery.cancel_scope.cancel()


class Attacker:
    """The test's end of such a process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._count = 0

    def do(self, **command: Any) -> dict[str, Any]:
        """Send one command and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def open(
        self, seed: bytes, address: str, *, serve: dict[str, list[bytes]] | None = None
    ) -> Peer:
        """Return a new hostile peer that is connected to the node at `address`."""
        self._count += 1
        name = str(self._count)
        served = {protocol: [one.hex() for one in raw] for protocol, raw in (serve or {}).items()}
        answer = self.do(do="open", host=name, seed=seed.hex(), address=address, serve=served)
        assert "peer" in answer, answer
        return Peer(self, name, str(answer["peer"]), address.rpartition("/")[2])


class Peer:
    """One hostile identity, connected to one node."""

    def __init__(self, attacker: Attacker, name: str, peer_id: str, victim: str) -> None:
        self.peer_id = peer_id
        self._attacker = attacker
        self._name = name
        self._victim = victim

    def gossip(self, topic: str, data: bytes, fault: str = "") -> dict[str, Any]:
        """Send one gossip message."""
        return self._do("gossip", topic=topic, data=data.hex(), fault=fault)

    def raw_gossip(self, data: bytes) -> dict[str, Any]:
        """Write bytes on the gossip stream."""
        return self._do("raw-gossip", data=data.hex())

    def ask(self, protocol: str, data: bytes) -> bytes:
        """Write bytes on a request stream and return what came back; empty for nothing."""
        return bytes.fromhex(self._do("ask", protocol=protocol, data=data.hex()).get("raw", ""))

    def write(self, protocol: str, data: bytes) -> dict[str, Any]:
        """Write bytes on a request stream, leave it open, and wait for nothing."""
        return self._do("write", protocol=protocol, data=data.hex())

    def asked(self, protocol: str) -> list[bytes]:
        """Return what the node asked this peer."""
        return [bytes.fromhex(one) for one in self._do("asked", protocol=protocol)["asked"]]

    def close(self) -> None:
        """Go away."""
        self._do("close")

    def _do(self, what: str, **more: Any) -> dict[str, Any]:
        return self._attacker.do(do=what, host=self._name, peer=self._victim, **more)


@contextmanager
def attacker() -> Generator[Attacker]:
    """Run an attacker for the time of a `with` block."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.attacker"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "READY\n"
            yield Attacker(process)
        finally:
            process.kill()


if __name__ == "__main__":
    trio.run(main)
