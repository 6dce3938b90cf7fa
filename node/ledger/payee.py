"""The provider's side of the money: which calls are covered, what was served, what is signed for.

A call is admitted when its order and ticket are in force, cover it, and its consumer does not have
too much unsigned. What was served is claimed when the consumer settles, and agreed when its
countersignature comes back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from crdt import (
    Account,
    AccountId,
    Item,
    NetworkId,
    PeerId,
    PublicKey,
    RecordId,
    SigningKey,
    open_genesis,
    unpack_item,
)
from inference import Offer
from node.gateway.ports import Admitted, Measured
from node.ledger.errors import LedgerBusy, NotOurLane, TermsChanged
from node.ledger.store import KeptLane, LedgerStore, Side
from node.ledger.terms import (
    ACCOUNT_HEADER,
    ORDER_HEADER,
    TICKET_HEADER,
    UNBOUNDED,
    call_of,
    most_of,
    prices_of,
    unarmour,
)
from node.ledger.wire import Claimed, Settle
from node.peer import ReplayCache
from royalties import (
    Agreed,
    Answer,
    BadOrder,
    CallServed,
    CallsReported,
    ClaimAgreed,
    Dispute,
    ExposureExceeded,
    KeepAgreed,
    KeepCall,
    KeepClaim,
    KeepDisputes,
    Lane,
    Order,
    OrderExhausted,
    ProviderLane,
    Ticket,
    Tokens,
    check_order,
    check_ticket,
    open_agreed,
    open_order,
    open_ticket,
    order_hash,
    sign_receipt,
    verify_agreed,
)

PICOS_PER_MICRO = 1_000_000
ORDER_COUNT_MAX = 8192
"""Orders remembered in memory; one that is pushed out is read again from its next call."""
CONCEDED_COUNT_MAX = 8192
"""Consumers of whom we remember how much less than served they settled for."""
UNDER_WAY_COUNT_MAX = 8192
UNDER_WAY_S_MAX = 6 * 3600
"""A call that never ended by then is forgotten: its reservation must not last for ever."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """How much this node serves before it wants a signature.

    Attributes:
        consumer_micros: Micro-USD served to one consumer and not yet countersigned.
        consumer_calls: Calls of one consumer not yet countersigned, which also bounds free ones.
    """

    consumer_micros: int = 5_000_000
    consumer_calls: int = 4096


@dataclass(slots=True)
class _KnownOrder:
    order: Order
    hash: bytes
    key: PublicKey
    committed_picos: int
    raw: bytes
    kept: bool = False


@dataclass(slots=True)
class _UnderWay:
    lane: Lane
    order: _KnownOrder
    peer: PeerId
    reserved_picos: int
    since_s: int


@dataclass(slots=True)
class _Unsigned:
    picos: int = 0
    calls: int = 0


class Payee:
    """Judges what peers promise to pay, and keeps what they used. Fits `ports.Payee`.

    Args:
        key, genesis: Root key and first entry of the operator account.
        server: This node's own key: tickets are for it alone.
        offer_of: What this node offers of a record now.
        account_of: Accounts the log knows.
        introduces: Whether others may introduce themselves.
    """

    def __init__(
        self,
        *,
        network: NetworkId,
        key: SigningKey,
        genesis: Item,
        server: PublicKey,
        store: LedgerStore,
        exposure: Exposure,
        offer_of: Callable[[RecordId], Offer | None],
        account_of: Callable[[AccountId], Account | None],
        now_s: Callable[[], int],
        introduces: bool = True,
    ) -> None:
        self._introduces = introduces
        self._network = network
        self._key = key
        self._genesis = genesis
        self.account = AccountId(genesis.id)
        self._server = server
        self._store = store
        self._exposure = exposure
        self._offer_of = offer_of
        self._account_of = account_of
        self._now_s = now_s
        self._seen = ReplayCache()
        self._orders: OrderedDict[str, _KnownOrder] = OrderedDict()
        self._under_way: OrderedDict[bytes, _UnderWay] = OrderedDict()
        self._unsigned: dict[AccountId, _Unsigned] = {}
        self._conceded: OrderedDict[AccountId, int] = OrderedDict()
        self._books: dict[bytes, ProviderLane] = {}
        self._peers: dict[bytes, PeerId] = {}
        """Whom each book's calls were served to."""

    def admitted(self, genesis: Item) -> None:
        """Take the genesis that the network admits; there was no offer to order from before."""
        self._genesis = genesis
        self.account = AccountId(genesis.id)

    def admit(self, caller: PeerId, headers: Mapping[str, str], path: str, body: bytes) -> Admitted:
        """Return the admitted call after checking its order and ticket.

        Raises:
            RemoteFault: it is not covered; nothing was served.
            LedgerBusy: the disk is behind.
        """
        self._store.check_room()
        now_s = self._now_s()
        self._forget_lost(now_s)
        known = self._known_order(headers, now_s)
        ticket = self._ticket(headers, known, path, body, now_s)
        offer = self._offer(known.order)
        reserve = most_of(offer, body).picos
        self._check_limits(known, reserve)
        if not self._seen.take(known.order.consumer + ticket.nonce, now_s=now_s):
            raise BadOrder("the ticket was used already; sign a new one for each call")
        known.committed_picos += reserve
        self._count(known.order.consumer, picos=reserve, calls=1)
        lane = lane_of(known.order, ticket.epoch)
        if not known.kept:
            # Only now: an order that covers no call is worth no room on the disk.
            known.kept = True
            self._store.keep_order(Side.PROVIDER, known.hash, known.raw, known.order.expires_s)
        # A nonce is its consumer's choice, so it names a call only together with the order.
        self._under_way[known.hash + ticket.nonce] = _UnderWay(lane, known, caller, reserve, now_s)
        return Admitted(known.order.record, ticket.nonce, known.hash)

    def served(self, admitted: Admitted, measured: Measured) -> None:
        """Take note of what was sent; never waits. A call that delivered nothing costs nothing."""
        under_way = self._release(admitted.order + admitted.nonce)
        counts = measured.counts
        tokens = Tokens(counts.input, counts.cached, counts.output)
        if under_way is None or tokens == Tokens():
            return
        lane = under_way.lane
        picos = lane.prices.amount_picos(tokens)
        under_way.order.committed_picos += picos
        call = call_of(
            admitted.nonce, admitted.order, measured.request_hash, measured.response_hash,
            tokens=tokens, complete=measured.complete, first_token_ms=measured.first_token_ms,
            duration_ms=measured.duration_ms,
        )  # fmt: skip
        book = self._book(lane, under_way.peer)
        for effect in book.handle(CallServed(call)):
            assert isinstance(effect, KeepCall)
            self._count(lane.consumer, picos=picos, calls=1)
            self._store.keep_call(Side.PROVIDER, lane, effect.call)

    def adopt(self, kept: KeptLane) -> None:
        """Go on with a lane from before a restart."""
        agreed = open_agreed(kept.agreed, self._network).receipt if kept.agreed else None
        self._peers[kept.lane.id] = kept.peer
        self._books[kept.lane.id] = ProviderLane(
            kept.lane,
            agreed=agreed,
            open_calls=kept.open_calls,
            claims=[(receipt, calls) for receipt, _, calls in kept.claims],
        )
        for call in kept.open_calls:
            picos = kept.lane.prices.amount_picos(call.tokens)
            self._count(kept.lane.consumer, picos=picos, calls=1)

    async def settle(self, settle: Settle, caller: PeerId) -> Claimed:
        """Return a claim over what the consumer reports and this node served; durable first.

        The receipt that came along is the caller's to `agree` before.

        Raises:
            NotOurLane: the caller is not the node that was served under that lane: raw receipts
                are between the two of them.
        """
        ended = tuple(
            call for call in settle.calls if call.order + call.nonce not in self._under_way
        )
        book = self._known_book(settle.lane)
        if book is not None and self._peers[settle.lane] != caller:
            self._put_away(book)
            raise NotOurLane(f"lane {settle.lane.hex()[:16]} is not settled with {caller}")
        if book is None:
            # Nothing was served under that lane, as far as this disk knows: it costs nothing.
            disputes = tuple(Dispute(call.nonce, call.tokens, None) for call in ended)
            return Claimed(self._genesis, None, (), disputes)
        answer = Answer(None, (), ())
        consumer = book.lane.consumer
        left = self._concedable(consumer)
        for effect in book.handle(CallsReported(ended, self._now_s(), left)):
            match effect:
                case KeepClaim(receipt, calls, conceded):
                    self._concede(consumer, conceded)
                    made = sign_receipt(receipt, self._key)
                    self._store.keep_claim(Side.PROVIDER, book.lane, made, receipt, calls)
                case KeepDisputes(disputes):
                    # Of calls that were served here only: anybody can make up others.
                    known = tuple(one for one in disputes if one.mine is not None)
                    self._store.keep_disputes(Side.PROVIDER, book.lane, known)
                case Answer():
                    answer = effect
                case KeepCall() | KeepAgreed():
                    raise AssertionError("a report adds no call and agrees nothing")
        await self._store.flush()
        claim = sign_receipt(answer.receipt, self._key) if answer.receipt else None
        return Claimed(self._genesis, claim, answer.calls, answer.disputes)

    async def agree(self, item: Item, *, consumer: Item | None = None) -> Agreed | None:
        """Take a countersigned receipt; return it once it is durable, or None if it is not new.

        Args:
            consumer: The consumer's first entry, if it came along.

        Raises:
            RemoteFault: it is not a receipt that this node claimed, or not the consumer's.
        """
        agreed = open_agreed(item, self._network)
        lane = agreed.receipt.lane
        if lane.provider != self.account:
            raise NotOurLane(f"lane {lane.id.hex()[:16]} is another provider's")
        account = self._account(lane.consumer, consumer)
        verify_agreed(agreed, consumer_keys=account.root_keys, provider_keys=(self._key.public,))
        book = self._known_book(lane.id)
        if book is None:
            raise NotOurLane(f"lane {lane.id.hex()[:16]} is not known here")
        before = (book.unsigned_picos, book.unsigned_count)
        effects = book.handle(ClaimAgreed(agreed))
        for effect in effects:
            assert isinstance(effect, KeepAgreed)
            self._store.keep_agreed(
                Side.PROVIDER, lane, item, agreed.receipt.sequence, effect.settled
            )
            self._count(
                lane.consumer,
                picos=book.unsigned_picos - before[0],
                calls=book.unsigned_count - before[1],
            )
        await self._store.flush()
        self._put_away(book)
        return agreed if effects else None

    def _known_order(self, headers: Mapping[str, str], now_s: int) -> _KnownOrder:
        """Return the order a call came with, its signature checked once in its life."""
        header = headers.get(ORDER_HEADER, "")
        known = self._orders.get(header)
        if known is not None:
            self._check_root(known)
            self._orders.move_to_end(header)
            if now_s >= known.order.expires_s:
                raise BadOrder(f"the order ended at {known.order.expires_s}; sign a new one")
            return known
        raw = unarmour(header, ORDER_HEADER)
        order, signed = open_order(raw, self._network)
        if order.provider != self.account:
            raise BadOrder("the order is for another provider's account")
        introduced = headers.get(ACCOUNT_HEADER)
        genesis = unpack_item(unarmour(introduced, ACCOUNT_HEADER)) if introduced else None
        key = self._account(order.consumer, genesis).root_key
        check_order(order, signed, consumer_key=key, now_s=now_s)
        hash_ = order_hash(signed)
        spent = sum(
            order.prices.amount_picos(call.tokens)
            for _, call in self._store.spent_under(Side.PROVIDER, hash_)
        )
        known = self._orders[header] = _KnownOrder(order, hash_, key, spent, raw)
        if len(self._orders) > ORDER_COUNT_MAX:
            self._orders.popitem(last=False)
        return known

    def _check_root(self, known: _KnownOrder) -> None:
        """Return if the key that signed an order is still its consumer's root key.

        Raises:
            BadOrder: it was rotated away; what was served under the order stays owed.
        """
        account = self._account_of(known.order.consumer)
        if account is not None and account.root_key != known.key:
            raise BadOrder("the order was signed by a root key that is over; sign a new one")

    def _ticket(
        self, headers: Mapping[str, str], known: _KnownOrder, path: str, body: bytes, now_s: int
    ) -> Ticket:
        raw = unarmour(headers.get(TICKET_HEADER), TICKET_HEADER)
        ticket, signed = open_ticket(raw, self._network)
        check_ticket(
            ticket, signed, order=known.hash, server=self._server, path=path, body=body,
            consumer_key=known.key, now_s=now_s,
        )  # fmt: skip
        return ticket

    def _offer(self, order: Order) -> Offer:
        """Return what this node offers now, if the order is for that and nothing else."""
        offer = self._offer_of(order.record)
        if offer is None:
            raise TermsChanged(f"record {order.record.hex()[:16]} is not served here now")
        if (offer.version, offer.manifest) != (order.version, order.manifest):
            raise TermsChanged("another version or build of the record is served here now")
        if prices_of(offer) != order.prices:
            raise TermsChanged(
                f"the prices here are {prices_of(offer).wire()} and the order's "
                f"{order.prices.wire()}; sign a new one"
            )
        return offer

    def _check_limits(self, known: _KnownOrder, reserve: int) -> None:
        if known.committed_picos + reserve > known.order.cap_picos:
            left = known.order.cap_picos - known.committed_picos
            raise OrderExhausted(
                f"the call can cost {reserve} pico-USD and {left} are left; sign a new order"
            )
        unsigned = self._unsigned.get(known.order.consumer, _Unsigned())
        if unsigned.picos >= self._exposure.consumer_micros * PICOS_PER_MICRO > 0:
            raise ExposureExceeded(
                f"{unsigned.picos} pico-USD were served and are not signed for; settle first"
            )
        if unsigned.calls >= self._exposure.consumer_calls:
            raise ExposureExceeded(
                f"{unsigned.calls} calls were served and are not signed for; settle first"
            )
        if len(self._under_way) >= UNDER_WAY_COUNT_MAX:
            raise LedgerBusy(f"{len(self._under_way)} calls are under way; try again soon")

    def _concedable(self, consumer: AccountId) -> int:
        """Return how much less than it was served a consumer may still settle for."""
        most = self._exposure.consumer_micros * PICOS_PER_MICRO
        return max(0, most - self._conceded.get(consumer, 0)) if most else UNBOUNDED

    def _concede(self, consumer: AccountId, picos: int) -> None:
        if picos:
            self._conceded[consumer] = self._conceded.pop(consumer, 0) + picos
            if len(self._conceded) > CONCEDED_COUNT_MAX:
                self._conceded.popitem(last=False)

    def _release(self, call: bytes) -> _UnderWay | None:
        under_way = self._under_way.pop(call, None)
        if under_way is not None:
            under_way.order.committed_picos -= under_way.reserved_picos
            consumer = under_way.lane.consumer
            self._count(consumer, picos=-under_way.reserved_picos, calls=-1)
        return under_way

    def _forget_lost(self, now_s: int) -> None:
        """Release calls that never came to an end: each `admit` looks at the oldest only."""
        while self._under_way:
            call, oldest = next(iter(self._under_way.items()))
            if now_s - oldest.since_s < UNDER_WAY_S_MAX:
                return
            self._release(call)

    def _count(self, consumer: AccountId, *, picos: int, calls: int) -> None:
        unsigned = self._unsigned.setdefault(consumer, _Unsigned())
        unsigned.picos += picos
        unsigned.calls += calls
        assert unsigned.picos >= 0
        assert unsigned.calls >= 0
        if not unsigned.calls:
            del self._unsigned[consumer]

    def _account(self, account: AccountId, introduced: Item | None) -> Account:
        known = self._account_of(account)
        if known is not None:
            return known
        if not self._introduces:
            raise BadOrder(
                f"account {account.hex()[:16]} is not in the log here; it comes with the next "
                "catch-up if the network admits it, so try again in half a minute"
            )
        if introduced is None or introduced.id != bytes(account):
            raise BadOrder(f"account {account.hex()[:16]} is not known here; introduce it")
        return open_genesis(introduced, self._network)

    def _book(self, lane: Lane, peer: PeerId) -> ProviderLane:
        book = self._known_book(lane.id)
        if book is None:
            book = self._books[lane.id] = ProviderLane(lane)
        if self._peers.get(lane.id) != peer:
            self._peers[lane.id] = peer
            self._store.keep_lane(Side.PROVIDER, lane, peer)
        return book

    def _known_book(self, lane_id: bytes) -> ProviderLane | None:
        """Return a lane's book, from disk if it was settled whole and put away."""
        if lane_id not in self._books:
            kept = self._store.lane(Side.PROVIDER, lane_id)
            if kept is not None:
                self.adopt(kept)
        return self._books.get(lane_id)

    def _put_away(self, book: ProviderLane) -> None:
        """Drop a lane that has nothing open from memory; the store keeps it."""
        if not book.unsigned_count:
            self._books.pop(book.lane.id, None)
            self._peers.pop(book.lane.id, None)


def lane_of(order: Order, epoch: int) -> Lane:
    """Return the lane that a call under this order counts in."""
    return Lane(
        order.network, order.consumer, order.provider, order.record, order.version,
        order.manifest, order.prices, epoch,
    )  # fmt: skip
