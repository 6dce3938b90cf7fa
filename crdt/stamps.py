"""Admission stamps: the memory-hard work that founding an account takes on a network with a rule.

A stamp is a number. It is good for one network, root key and recovery key: scrypt over these and
the number must begin with as many zero bits as the rule asks for. Finding one takes 2**bits tries
in the mean, and judging one takes one try, which is the dearest check there is of an item. So
it is the last one, and what false stamps can cost is bounded here.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from crdt.budgets import TokenBucket
from crdt.causes import Declined
from crdt.entries import Entry, EntryType
from crdt.errors import NotAdmitted
from crdt.ids import ItemId, NetworkId, PeerId, PublicKey
from crdt.items import CONTENT_BYTES_MAX, Item
from crdt.ports import LOCAL
from crdt.wire import decode, encode, sha3

DOMAIN = "hansa/stamp"
VERSION = 0
STAMP_BYTES = 8
"""A number of 64 bits, big-endian: exactly one spelling."""
BITS_MAX = 32
"""Two years of one core: whoever sets more has mistyped."""
SCRYPT_N, SCRYPT_R, SCRYPT_P = 8192, 8, 1
"""8 MiB; 14 ms of the machine of `bench/results`. Half of what a judge may be made to spend, so
that a machine of half the speed is within it too (docs/decisions/0014)."""
FALSE_PER_S, FALSE_BURST = 1, 16
"""False stamps worked out for gossip, and as many for local callers: 1.4 % of a core."""
GOOD_COUNT_MAX = 4096
"""Geneses that are remembered to be good until the batch that brings them is judged."""
_MEMORY_BYTES_MAX = 16 * 1024 * 1024
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class WorkRule:
    """What a network asks of a genesis.

    Attributes:
        bits: Leading zero bits of a stamp's work, 1..`BITS_MAX`.
    """

    bits: int

    def __post_init__(self) -> None:
        """Assert what the text of a network's name was checked for."""
        assert 1 <= self.bits <= BITS_MAX

    @property
    def tries(self) -> int:
        """How many tries a stamp takes in the mean."""
        return 1 << self.bits


class StampOrigin(Enum):
    """How a batch of items came, which says who answers for a false stamp in it."""

    LOCAL = "local"
    """From a caller of this node."""
    GOSSIP = "gossip"
    """From an author who may be nobody's peer: nobody may be there to pay."""
    ANSWER = "answer"
    """From a peer that was asked, and that has judged what it sends."""


def origin_of(source: PeerId, author: PeerId | None) -> StampOrigin:
    """Return how a batch came that a replica is given with these."""
    if source == LOCAL:
        return StampOrigin.LOCAL
    return StampOrigin.ANSWER if author is None else StampOrigin.GOSSIP


def stamp_challenge(network: NetworkId, root: PublicKey, recovery: PublicKey) -> bytes:
    """Return what a stamp for these keys is worked out over; another's stamp is none for them."""
    return sha3(encode([DOMAIN, VERSION, network, root, recovery]))


def stamp_bytes(number: int) -> bytes:
    """Return the stamp that is this number."""
    return number.to_bytes(STAMP_BYTES, "big")


def is_good_stamp(challenge: bytes, stamp: bytes, bits: int) -> bool:
    """Whether a stamp does the work: one scrypt, during which other threads run."""
    found = hashlib.scrypt(
        challenge,
        salt=stamp,
        n=SCRYPT_N,
        r=SCRYPT_R,
        p=SCRYPT_P,
        maxmem=_MEMORY_BYTES_MAX,
        dklen=_DIGEST_BYTES,
    )
    return int.from_bytes(found, "big") >> (8 * _DIGEST_BYTES - bits) == 0


def stamp_of(genesis: Item) -> bytes:
    """Return the stamp in a genesis that was opened before."""
    stamp: bytes = decode(genesis.signed.content, bytes_max=CONTENT_BYTES_MAX)[6]
    assert type(stamp) is bytes, "open_entry has looked"
    return stamp


def check_stamp(genesis: Item, entry: Entry, network: NetworkId, rule: WorkRule) -> None:
    """Return if a genesis whose signature was checked may found its account.

    Raises:
        NotAdmitted: it has no stamp, or one that does not do the work for its keys.
    """
    assert entry.type is EntryType.GENESIS
    assert entry.recovery_key is not None
    stamp = _stamp_in_form(genesis, rule)
    if not is_good_stamp(stamp_challenge(network, entry.key, entry.recovery_key), stamp, rule.bits):
        raise NotAdmitted(
            f"the stamp of account {entry.id.hex()[:16]} does not do {rule.bits} bits of work for "
            "its keys on this network; make one for them, with `hansa account create`"
        )


class StampJudge:
    """Judges the stamps of a network's geneses, and spends little on false ones.

    Validity is the stamp's alone. What is not looked at for the sake of the budgets is declined,
    not refused: gossip may lose it, because who is asked for it by id answers for it.
    """

    def __init__(self, network: NetworkId, rule: WorkRule | None) -> None:
        self._network = network
        self.rule = rule
        self._good: OrderedDict[ItemId, None] = OrderedDict()
        self._buckets: dict[StampOrigin, TokenBucket] = {}

    def learn(self, geneses: Iterable[ItemId]) -> None:
        """Take note of geneses whose stamps were found good elsewhere, in another thread."""
        for id_ in geneses:
            self._good[id_] = None
            if len(self._good) > GOOD_COUNT_MAX:
                self._good.popitem(last=False)

    def batch(self, origin: StampOrigin, now_ms: int) -> StampBatch:
        """Return the judge of one batch."""
        return StampBatch(self, origin, now_ms)

    def check(self, genesis: Item, entry: Entry) -> None:
        """Judge one stamp; raises `NotAdmitted` as `check_stamp` does."""
        if self.rule is not None and self._good.pop(genesis.id, self) is self:
            check_stamp(genesis, entry, self._network, self.rule)

    def may_fail(self, origin: StampOrigin, now_ms: int) -> bool:
        """Whether one more false stamp of this origin is affordable now."""
        return origin is StampOrigin.ANSWER or self._bucket(origin, now_ms).wait_ms(1, now_ms) == 0

    def failed(self, origin: StampOrigin, now_ms: int) -> None:
        """Count a false stamp."""
        if origin is not StampOrigin.ANSWER:
            self._bucket(origin, now_ms).owe(1, now_ms)

    def _bucket(self, origin: StampOrigin, now_ms: int) -> TokenBucket:
        return self._buckets.setdefault(
            origin, TokenBucket(rate_per_s=FALSE_PER_S, burst=FALSE_BURST, now_ms=now_ms)
        )


class StampBatch:
    """The stamps of one batch: whoever sent a false one has none of the others worked out."""

    def __init__(self, judge: StampJudge, origin: StampOrigin, now_ms: int) -> None:
        self._judge = judge
        self._origin = origin
        self._now_ms = now_ms
        self._is_false = False

    def check(self, genesis: Item, entry: Entry) -> None:
        """Return if a genesis that is otherwise valid may found its account.

        Raises:
            NotAdmitted: its stamp is false, for everybody and for ever.
            Declined: its stamp was not worked out, because of false ones before it.
        """
        if self._judge.rule is None:
            return
        _stamp_in_form(genesis, self._judge.rule)
        # Local callers share batches: one's false stamp is not the others' fault.
        if self._is_false and self._origin is not StampOrigin.LOCAL:
            raise Declined("a stamp of the same batch was false")
        if not self._judge.may_fail(self._origin, self._now_ms):
            raise Declined("too many false stamps came of late")
        try:
            self._judge.check(genesis, entry)
        except NotAdmitted:
            self._is_false = True
            self._judge.failed(self._origin, self._now_ms)
            raise


def _stamp_in_form(genesis: Item, rule: WorkRule) -> bytes:
    stamp = stamp_of(genesis)
    if len(stamp) != STAMP_BYTES:
        raise NotAdmitted(
            f"account {genesis.id.hex()[:16]} has "
            + (f"a stamp of {len(stamp)} bytes" if stamp else "no admission stamp")
            + f", and this network asks for one of {STAMP_BYTES} bytes that does {rule.bits} bits "
            "of work; make the account for this network, with `hansa account create`"
        )
    return stamp
