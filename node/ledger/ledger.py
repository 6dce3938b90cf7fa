"""The node's books as one thing: open the file, take up where we stopped, serve and settle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crdt import (
    Account,
    AccountId,
    Item,
    NetworkId,
    Outcome,
    PeerId,
    PublicKey,
    RecordId,
    SigningKey,
)
from inference import Offer
from node.ledger.payee import Exposure, Payee
from node.ledger.payer import Payer, Spending
from node.ledger.settling import Log, Pace, Settling
from node.ledger.store import LaneUse, LedgerStore, Side
from node.ledger.wire import decode_agreed, decode_settle, encode_agreed, encode_claimed
from node.peer import PeerEndpoint, PeerSession


@dataclass(frozen=True, slots=True)
class Party:
    """Who this node is in money matters.

    Attributes:
        key, genesis: Root key and first entry of the operator account.
        server: The node key's public half: tickets are for it.
        is_admitted: Whether the network takes that genesis; nothing is signed before it does.
        introduces: Whether consumers may introduce themselves, before the log knows them. Not where
            that takes work: receipts of an account that is never admitted could not be published.
    """

    network: NetworkId
    key: SigningKey
    genesis: Item
    server: PublicKey
    is_admitted: bool = True
    introduces: bool = True


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the ledger needs of the rest of the node.

    Attributes:
        offer_of: What this node offers of a record now.
        account_of: Accounts the log knows.
        endpoints_of: Where a peer can be reached now.
        publish: Puts items into the replicated log.
        now_s: Unix seconds.
        nonce: 16 fresh random bytes a call.
        log: Called as `log(event, **fields)`.
    """

    session: PeerSession
    offer_of: Callable[[RecordId], Offer | None]
    account_of: Callable[[AccountId], Account | None]
    endpoints_of: Callable[[PeerId], Sequence[PeerEndpoint]]
    publish: Callable[[Sequence[bytes]], Awaitable[Sequence[Outcome]]]
    now_s: Callable[[], int]
    nonce: Callable[[], bytes]
    log: Log


@dataclass(frozen=True, slots=True)
class LedgerLimits:
    """How much is signed for, served unsigned, and how soon it is settled."""

    spending: Spending = field(default_factory=Spending)
    exposure: Exposure = field(default_factory=Exposure)
    pace: Pace = field(default_factory=Pace)


class Ledger:
    """Both sides of the money: `payer` for the gateway's calls, `payee` for peers' calls."""

    def __init__(
        self,
        path: Path,
        party: Party,
        around: Surroundings,
        limits: LedgerLimits | None = None,
    ) -> None:
        limits = limits or LedgerLimits()
        self._network = party.network
        self._genesis = party.genesis
        self._account_of = around.account_of
        self.account = AccountId(party.genesis.id)
        self.store = LedgerStore(path, party.network)
        self.payer = Payer(
            network=party.network,
            key=party.key,
            genesis=party.genesis,
            store=self.store,
            spending=limits.spending,
            account_of=around.account_of,
            now_s=around.now_s,
            nonce=around.nonce,
            on_used=self._used,
            is_admitted=party.is_admitted,
        )
        self.payee = Payee(
            network=party.network,
            key=party.key,
            genesis=party.genesis,
            server=party.server,
            store=self.store,
            exposure=limits.exposure,
            offer_of=around.offer_of,
            account_of=around.account_of,
            now_s=around.now_s,
            introduces=party.introduces,
        )
        self.settling = Settling(
            network=party.network,
            payer=self.payer,
            store=self.store,
            session=around.session,
            endpoints_of=around.endpoints_of,
            publish=around.publish,
            log=around.log,
            pace=limits.pace,
        )

    async def start(self) -> None:
        """Take up what was left open when the node last stopped, and begin to settle."""
        self.store.start()
        for kept in self.store.unfinished():
            if kept.side is Side.CONSUMER:
                self.payer.adopt(kept)
                if not kept.forked:
                    self.settling.wake(kept.lane.id)
            else:
                self.payee.adopt(kept)
            if kept.agreed is not None and not kept.published:
                self.settling.publish_soon(kept.lane.id, kept.agreed, (self._genesis,))
        self.settling.start()

    def admitted(self, genesis: Item) -> None:
        """Take the genesis that the network admits in place of the one that it did not."""
        self._genesis = genesis
        self.account = AccountId(genesis.id)
        self.payer.admitted(genesis)
        self.payee.admitted(genesis)

    async def stop(self) -> None:
        """Settle what can be settled now, write everything, close the file."""
        await self.settling.stop()
        await self.store.stop()

    async def on_settle(self, raw: bytes, caller: PeerId) -> bytes:
        """Answer a consumer's report; `caller` is the peer whose grant came with it.

        Raises:
            RemoteFault: it is not in order.
        """
        settle = decode_settle(raw, self._network)
        if settle.agreed is not None:
            await self._agree(settle.agreed, settle.genesis)
        return encode_claimed(await self.payee.settle(settle, caller), self._network)

    async def on_countersigned(self, raw: bytes) -> bytes:
        """Take a countersigned receipt, and publish it too.

        Raises:
            RemoteFault: it is not a receipt this node claimed, or not the consumer's.
        """
        item, genesis = decode_agreed(raw, self._network)
        await self._agree(item, genesis)
        return encode_agreed(item, self._genesis, self._network)

    def uses(self, side: Side, first: int, last: int, *, count_max: int) -> list[LaneUse]:
        """Return what this node used or served in the epochs `first..last`, newest first."""
        return self.store.uses(side, first, last, count_max=count_max)

    async def _agree(self, item: Item, consumer: Item) -> None:
        agreed = await self.payee.agree(item, consumer=consumer)
        if agreed is not None:
            self.settling.publish_soon(agreed.receipt.lane.id, item, (self._genesis, consumer))

    def _used(self, lane_id: bytes) -> None:
        self.settling.wake(lane_id)
