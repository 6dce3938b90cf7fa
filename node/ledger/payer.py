"""The consumer's side of the money: orders and tickets before a call, settlements after it.

The hot path signs one ticket a call and waits for nothing. Calls gather in their lanes, and a
settlement per lane follows when calls have ended; what fails is tried again, also after a restart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from crdt import (
    Account,
    AccountId,
    Item,
    NetworkId,
    PeerId,
    PublicKey,
    SigningKey,
    open_genesis,
    public_key_of,
    sha3,
)
from inference import Offer, Offered
from node.gateway.ports import Authorised, Measured
from node.ledger.errors import CallTooDear, NotOurLane, OperatorNotAdmitted
from node.ledger.store import KeptLane, LedgerStore, Side
from node.ledger.terms import (
    ACCOUNT_HEADER,
    ORDER_HEADER,
    TICKET_HEADER,
    Most,
    armour,
    call_of,
    most_of,
    prices_of,
)
from node.ledger.wire import Claimed, Settle
from royalties import (
    DAY_S,
    BadReceipt,
    CallMade,
    ClaimReceived,
    ConsumerLane,
    Countersign,
    DisputesReceived,
    Forked,
    KeepCall,
    KeepDisputes,
    Lane,
    Order,
    Ticket,
    Tokens,
    countersign,
    open_agreed,
    open_order,
    open_receipt,
    order_hash,
    sign_order,
    sign_ticket,
    verify_any,
)

ISSUED_COUNT_MAX = 65_536
"""Calls under way whose tickets are remembered; the oldest is forgotten, as if it had failed."""
ORDER_COUNT_MAX = 4096
"""Orders in use; one per offer and load."""
PICOS_PER_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Spending:
    """How much a node signs for.

    Attributes:
        order_micros: Micro-USD that one order covers: the most a lost order can cost.
        call_micros_max: Micro-USD that one call may cost at most.
        order_s: Seconds an order lives.
    """

    order_micros: int = 1_000_000
    call_micros_max: int = 10_000_000
    order_s: int = 3600


@dataclass(slots=True)
class _OpenOrder:
    order: Order
    hash: bytes
    header: str
    committed_picos: int = 0


@dataclass(slots=True)
class _Issued:
    lane: Lane
    peer: PeerId
    order: _OpenOrder
    most: Most


@dataclass(slots=True)
class PayerLane:
    """A lane this node consumes under, and whom to settle it with."""

    book: ConsumerLane
    peer: PeerId
    agreed: Item | None = None
    delivered: bool = True
    """Whether the provider has said that it holds `agreed`."""


class Payer:
    """Signs for what this node consumes. Fits `node.gateway.ports.Payer`.

    Args:
        key, genesis: Root key and first entry of the operator account.
        account_of: Accounts the log knows.
        now_s: Unix seconds.
        nonce: 16 fresh random bytes a call.
        on_used: Called with a lane's id when it has something to settle.
        is_admitted: Whether the network takes `genesis`.
    """

    def __init__(
        self,
        *,
        network: NetworkId,
        key: SigningKey,
        genesis: Item,
        store: LedgerStore,
        spending: Spending,
        account_of: Callable[[AccountId], Account | None],
        now_s: Callable[[], int],
        nonce: Callable[[], bytes],
        on_used: Callable[[bytes], None],
        is_admitted: bool = True,
    ) -> None:
        self._network = network
        self._key = key
        self._genesis = genesis
        self._is_admitted = is_admitted
        self.account = AccountId(genesis.id)
        self._store = store
        self._spending = spending
        self._account_of = account_of
        self._now_s = now_s
        self._nonce = nonce
        self._on_used = on_used
        self._account_header = armour(genesis.raw)
        self._orders: OrderedDict[tuple[object, ...], _OpenOrder] = OrderedDict()
        self._issued: OrderedDict[bytes, _Issued] = OrderedDict()
        self.lanes: dict[bytes, PayerLane] = {}

    def admitted(self, genesis: Item) -> None:
        """Take the genesis that the network admits; from now on there is something to sign for."""
        assert not self._is_admitted, "an admitted account is never another one"
        self._genesis, self._is_admitted = genesis, True
        self.account = AccountId(genesis.id)
        self._account_header = armour(genesis.raw)

    def authorise(self, offered: Offered, path: str, body: bytes) -> Authorised:
        """Return the headers that pay for one call: an order and a ticket.

        Raises:
            CallTooDear, NotOurLane: this node does not sign for that.
            OperatorNotAdmitted: there is no account to sign for yet.
            LedgerBusy: the disk is behind.
        """
        if not self._is_admitted:
            raise OperatorNotAdmitted(
                "this node is still working for the admission of its operator's account, which "
                "pays for calls; `hansa status` says how long that takes"
            )
        self._store.check_room()
        offer, provider = offered.offer, offered.advert.operator
        if provider == self.account:
            raise NotOurLane("the offer is this account's own; nobody orders from themselves")
        most = most_of(offer, body)
        reserve = most.picos
        if reserve > self._spending.call_micros_max * PICOS_PER_MICRO:
            raise CallTooDear(
                f"the call could cost {reserve // PICOS_PER_MICRO} micro-USD; ask for a smaller "
                "context, or raise gateway.call_micros_max"
            )
        now_s = self._now_s()
        used = self._order(offer, provider, reserve, now_s)
        used.committed_picos += reserve
        nonce = self._nonce()
        server: PublicKey = public_key_of(offered.advert.peer)
        ticket = Ticket(self._network, used.hash, server, path, sha3(body), now_s, nonce)
        lane = Lane(
            self._network, self.account, provider, offer.record, offer.version, offer.manifest,
            used.order.prices, now_s // DAY_S,
        )  # fmt: skip
        self._issued[nonce] = _Issued(lane, offered.advert.peer, used, most)
        if len(self._issued) > ISSUED_COUNT_MAX:
            self._issued.popitem(last=False)
        headers = {
            ORDER_HEADER: used.header,
            TICKET_HEADER: armour(sign_ticket(ticket, self._key)),
            ACCOUNT_HEADER: self._account_header,
        }
        return Authorised(offered, headers, nonce, used.hash)

    def received(self, authorised: Authorised, measured: Measured) -> None:
        """Take note of what was received, to be settled soon; never waits.

        A call that brought nothing (refused, or cut before its first token) costs nothing.
        """
        issued = self._issued.pop(authorised.nonce, None)
        if issued is None:
            return
        counts = measured.counts
        # The engine's own usage came from the provider. What it cannot have used is not counted,
        # so that no claim takes an order over its cap; the provider's larger claim is refused.
        tokens = issued.most.clipped(Tokens(counts.input, counts.cached, counts.output))
        issued.order.committed_picos -= issued.most.picos
        if tokens == Tokens():
            return
        issued.order.committed_picos += issued.lane.prices.amount_picos(tokens)
        call = call_of(
            authorised.nonce, authorised.order, measured.request_hash, measured.response_hash,
            tokens=tokens, complete=measured.complete, first_token_ms=measured.first_token_ms,
            duration_ms=measured.duration_ms,
        )  # fmt: skip
        lane = self._lane(issued.lane, issued.peer)
        for effect in lane.book.handle(CallMade(call)):
            assert isinstance(effect, KeepCall)
            self._store.keep_call(Side.CONSUMER, issued.lane, effect.call)
        self._on_used(issued.lane.id)

    def adopt(self, kept: KeptLane) -> None:
        """Go on with a lane from before a restart."""
        agreed = open_agreed(kept.agreed, self._network).receipt if kept.agreed else None
        book = ConsumerLane(
            kept.lane,
            agreed=agreed,
            open_calls=kept.open_calls,
            forked=kept.forked,
            seen=[(receipt.sequence, claim) for receipt, claim, _ in kept.claims],
        )
        delivered = kept.delivered or kept.agreed is None
        self.lanes[kept.lane.id] = PayerLane(book, kept.peer, kept.agreed, delivered)

    def report(self, lane_id: bytes) -> Settle | None:
        """Return what to send to settle a lane; None when nothing is left to settle."""
        lane = self.lanes[lane_id]
        calls = lane.book.report()
        if not calls and lane.delivered:
            return None
        return Settle(lane_id, self._genesis, lane.agreed, calls)

    async def claimed(self, lane_id: bytes, claimed: Claimed) -> Item | None:
        """Judge a provider's answer; return the receipt to send back, already durable.

        Raises:
            RemoteFault: it is not right, or not signed: nothing was countersigned.
        """
        lane = self.lanes[lane_id]
        if claimed.claim is None:
            self._disputed(lane, DisputesReceived(claimed.disputes))
            await self._store.flush()
            return None
        introduced = open_genesis(claimed.genesis, self._network)
        if introduced.id != lane.book.lane.provider:
            raise BadReceipt("the claim is another account's")
        provider = self._account_of(introduced.id) or introduced
        verify_any(sha3(claimed.claim.content), claimed.claim.signature, provider.root_keys)
        receipt = open_receipt(claimed.claim.content, self._network)
        event = ClaimReceived(receipt, claimed.claim, claimed.calls, claimed.disputes)
        agreed: Item | None = None
        for effect in lane.book.handle(event):
            match effect:
                case Countersign(receipt, claim, settled):
                    agreed = countersign(claim, self._key)
                    self._store.keep_claim(Side.CONSUMER, receipt.lane, claim, receipt, ())
                    self._store.keep_agreed(
                        Side.CONSUMER, receipt.lane, agreed, receipt.sequence, settled
                    )
                    lane.agreed, lane.delivered = agreed, False
                case Forked(sequence, first, second):
                    self._store.keep_fork(lane.book.lane, sequence, first, second)
                case KeepDisputes(disputes):
                    self._store.keep_disputes(Side.CONSUMER, lane.book.lane, disputes)
                case KeepCall():
                    raise AssertionError("a claim adds no call")
        await self._store.flush()
        return agreed

    def forget(self, lane_id: bytes) -> None:
        """Drop a lane that has nothing open from memory; the store keeps it."""
        lane = self.lanes.get(lane_id)
        if lane is not None and not lane.book.unsigned_count and lane.delivered:
            del self.lanes[lane_id]

    def _disputed(self, lane: PayerLane, event: DisputesReceived) -> None:
        for effect in lane.book.handle(event):
            assert isinstance(effect, KeepDisputes)
            self._store.keep_disputes(Side.CONSUMER, lane.book.lane, effect.disputes)

    def _lane(self, lane: Lane, peer: PeerId) -> PayerLane:
        known = self.lanes.get(lane.id)
        if known is None:
            kept = self._store.lane(Side.CONSUMER, lane.id)
            if kept is not None:
                self.adopt(kept)
                known = self.lanes[lane.id]
            else:
                known = self.lanes[lane.id] = PayerLane(ConsumerLane(lane), peer)
                self._store.keep_lane(Side.CONSUMER, lane, peer)
        # Whoever signed a claim holds the provider's key; an advert that only names its account
        # must not draw the lane to another node, which would answer that it knows no such call.
        if known.peer != peer and known.agreed is None:
            known.peer = peer
            self._store.keep_lane(Side.CONSUMER, lane, peer)
        return known

    def _order(self, offer: Offer, provider: AccountId, reserve: int, now_s: int) -> _OpenOrder:
        """Return an order with room for one more call, signing a new one when there is none."""
        prices = prices_of(offer)
        key = (provider, offer.record, offer.version, offer.manifest, prices)
        used = self._orders.get(key)
        if used is not None:
            fits = used.committed_picos + reserve <= used.order.cap_picos
            if fits and now_s < used.order.expires_s - self._spending.order_s // 10:
                self._orders.move_to_end(key)
                return used
        order = Order(
            network=self._network,
            consumer=self.account,
            provider=provider,
            record=offer.record,
            version=offer.version,
            manifest=offer.manifest,
            prices=prices,
            cap_picos=max(self._spending.order_micros * PICOS_PER_MICRO, reserve),
            issued_s=now_s,
            expires_s=now_s + self._spending.order_s,
            nonce=self._nonce(),
        )
        raw = sign_order(order, self._key)
        hash_ = order_hash(open_order(raw, self._network)[1])
        used = self._orders[key] = _OpenOrder(order, hash_, armour(raw))
        self._store.keep_order(Side.CONSUMER, hash_, raw, order.expires_s)
        if len(self._orders) > ORDER_COUNT_MAX:
            self._orders.popitem(last=False)
        return used
