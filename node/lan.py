"""Peers on the same LAN, by multicast DNS: keeps the LAN child running and reads what it says.

What it finds is hearsay of whoever is on the LAN: all of it counts as one informant, `lan`, so that
it holds its share of the outbound connections and no more (`network/outbound.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable

import structlog

from crdt import NetworkId, PeerId
from node.network import BadAddress
from node.network.addresses import (
    ADDRESS_CHARACTERS_MAX,
    PeerAddress,
    Scope,
    host_and_port,
    parse_address,
    scope_of,
)
from node.network.lan_service import HOST_COUNT_MAX

LOOK_S = 60.0
"""How often it is looked whether this machine has other addresses now."""
WAIT_S, WAIT_MAX_S = 5.0, 600.0
"""After a child that ended, doubling: a LAN that kills it has not much of our time."""
END_TIMEOUT_S = 3.0

logger = structlog.stdlib.get_logger(__name__)


class LanDiscovery:
    """Announces the node on its LAN and hands over whom it hears of.

    Args:
        addresses: The multiaddresses at which this node listens, asked anew.
        heard: Takes an address of a peer.
    """

    def __init__(
        self,
        *,
        network: NetworkId,
        peer: PeerId,
        addresses: Callable[[], list[str]],
        heard: Callable[[PeerAddress], None],
    ) -> None:
        self._network = network
        self._peer = peer
        self._addresses = addresses
        self._heard = heard
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="lan")

    async def stop(self) -> None:
        """Take the announcement back and end the child."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        wait_s = WAIT_S
        while True:
            places = self._places()
            if not places:
                await asyncio.sleep(LOOK_S)  # no LAN to be on
                continue
            try:
                lasted = await self._with_child(places)
            except OSError as error:
                logger.warning("lan discovery not started", reason=str(error))
                lasted = False
            wait_s = WAIT_S if lasted else min(2 * wait_s, WAIT_MAX_S)
            await asyncio.sleep(wait_s)

    async def _with_child(self, places: list[tuple[str, int]]) -> bool:
        """Run a child until it ends or this machine's addresses change; whether it lasted."""
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "node.network.lan_child",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, limit=4 * ADDRESS_CHARACTERS_MAX,
            start_new_session=True,
        )  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        started_s = asyncio.get_running_loop().time()
        try:
            child.stdin.write(json.dumps(self._told(places)).encode() + b"\n")
            while self._places() == places:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        if not await self._read(child.stdout):
                            said = (await child.stderr.read(300)).decode("utf-8", "replace")
                            logger.warning("lan discovery ended", reason=said.strip())
                            break
        finally:
            await _end(child)
        return asyncio.get_running_loop().time() - started_s > WAIT_MAX_S

    async def _read(self, lines: asyncio.StreamReader) -> bool:
        """Take in one line; whether there was one."""
        try:
            line = await lines.readline()
        except ValueError:
            return False  # longer than any address: it is not our child that speaks
        if not line:
            return False
        try:
            address = parse_address(line.decode("ascii", "replace").strip())
        except BadAddress as error:
            logger.warning("lan discovery says nonsense", reason=str(error))
            return True
        logger.debug("peer on the lan", address=str(address))
        self._heard(address)
        return True

    def _places(self) -> list[tuple[str, int]]:
        """Return the private IPv4 addresses at which the node listens."""
        found = [host_and_port(one) for one in self._addresses() if one.startswith("/ip4/")]
        return [(host, port) for host, port in found if scope_of(host) is Scope.PRIVATE]

    def _told(self, places: list[tuple[str, int]]) -> dict[str, object]:
        port = places[0][1]
        hosts = [host for host, at in places if at == port]
        return {
            "net": self._network.hex()[:16], "peer": self._peer, "port": port,
            "hosts": hosts[:HOST_COUNT_MAX],
        }  # fmt: skip


async def _end(child: asyncio.subprocess.Process) -> None:
    """Close the child's input, upon which it says good-bye; kill it if it does not."""
    assert child.stdin is not None
    child.stdin.close()
    try:
        async with asyncio.timeout(END_TIMEOUT_S):
            await child.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
