"""Works for the admission of the operator's account, while the node does everything else.

It takes minutes on a network that asks for work, once in the life of a data folder. Meanwhile the
node keeps its copy, answers reads, takes creators' writes and fetches builds, none of which needs
an account of its own; what does, offering models and paying for calls, waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from crdt import HansaError, Network
from node.config import Settings
from node.identity import Identity, keep_stamp, operator_challenge, stamped
from node.stamping import StampSearch

RETRY_S = 5.0
"""A store that cannot write the account is asked again after this long."""

logger = structlog.stdlib.get_logger(__name__)


class Admitting:
    """Finds the operator's stamp if there is none yet. Start it once, stop it once."""

    def __init__(
        self,
        settings: Settings,
        network: Network,
        identity: Identity,
        on_admitted: Callable[[Identity], Awaitable[None]],
    ) -> None:
        """Take what to call, on the event loop, with the identity that has its stamp."""
        self._settings = settings
        self._network = network
        self._identity = identity
        self._on_admitted = on_admitted
        self._search: StampSearch | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def mean_s(self) -> int | None:
        """How long the work takes this machine in the mean; None while none is done."""
        found = self._search.mean_s if self._search else None
        return None if found is None else max(1, round(found))

    async def start(self) -> None:
        """Begin, if there is something to do; return at once."""
        if not self._identity.is_admitted:
            self._task = asyncio.create_task(self._work(), name="admission")

    async def stop(self) -> None:
        """Give up what is under way; the next start begins again."""
        if self._search is not None:
            self._search.stop()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _work(self) -> None:
        rule = self._network.rule
        assert rule is not None, "an open network admits everybody"
        challenge = operator_challenge(self._identity, self._network)
        logger.info("working for the operator's admission", bits=rule.bits)
        # One thread, so that the others serve; it tries from nought, to find a lost stamp again.
        with StampSearch(challenge, rule, thread_count=1) as self._search:
            stamp = await asyncio.to_thread(self._search.wait)
        if stamp is None:
            return  # stopped
        self._search = None
        await self._settle(stamp)

    async def _settle(self, stamp: bytes) -> None:
        identity = stamped(self._identity, self._network, stamp)
        while True:
            try:
                await asyncio.to_thread(keep_stamp, self._settings, self._network, stamp)
                await self._on_admitted(identity)
            except HansaError as fault:
                logger.warning("the operator's account waits", reason=str(fault))
                await asyncio.sleep(RETRY_S)
            else:
                logger.info("the operator's account is admitted", account=identity.operator.hex())
                return
