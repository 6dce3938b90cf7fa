"""Statements: what one account earned and owes in one epoch, with all the evidence inside.

A statement carries the agreed receipts, the record versions they name and the logs of the accounts
that signed any of these. `verify_bytes` recomputes it from that evidence alone, and compares every
byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from crdt import (
    Account,
    AccountId,
    HansaError,
    Item,
    MalformedBytes,
    NetworkId,
    Operation,
    OperationId,
    OperationType,
    RecordId,
    array,
    check_authority,
    decode,
    encode,
    fixed_bytes,
    has_head,
    natural,
    open_account,
    open_checkpoint,
    open_operation,
    parse_entry,
    unpack_item,
)
from crdt import field as typed
from royalties.errors import BadStatement, MissingEvidence
from royalties.money import PICOS_PER_MICRO
from royalties.receipts import EPOCH_MAX, Agreed, Receipt, open_agreed, verify_agreed
from royalties.splits import Base, Share, Terms, shares_of
from royalties.terms import terms_of

DOMAIN = "hansa/statement"
VERSION = 0
STATEMENT_BYTES_MAX = 64 * 1024 * 1024
LANE_COUNT_MAX = 50_000


class Evidence(Protocol):
    """Where the facts behind receipts are found: a catalogue, or a statement itself."""

    def version(self, version: OperationId) -> Item | None:
        """Return the put with this id."""
        ...

    def base(self, base: Base) -> Item | None:
        """Return a base record's first put, the one with the lowest id if there are two.

        A base is named without a version, so its part goes by the terms it first came with:
        everybody finds the same ones, and they cannot change under those who built on it.
        """
        ...

    def entries(self, account: AccountId) -> Sequence[Item]:
        """Return every known entry of an account, each after what it stands on; none: unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Line:
    """What one lane means to the account.

    Attributes:
        shares: Its parts of the amount, by role and record; empty when it only consumed.
        owed_picos: The whole amount when the account is the consumer, else 0.
    """

    receipt: Receipt
    shares: tuple[Share, ...]
    owed_picos: int

    @property
    def earned_picos(self) -> int:
        """The sum of its shares."""
        return sum(share.amount_picos for share in self.shares)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A receipt that could not be counted, and why; it is not part of the statement."""

    lane: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Statement:
    """Lines in order of lane, their sums, and the bytes that prove them."""

    network: NetworkId
    account: AccountId
    epoch: int
    lines: tuple[Line, ...]
    raw: bytes = field(repr=False)
    skipped: tuple[Skipped, ...] = field(default=(), compare=False)

    @property
    def earned_picos(self) -> int:
        """What the account is owed, exactly."""
        return sum(line.earned_picos for line in self.lines)

    @property
    def owed_picos(self) -> int:
        """What the account owes as a consumer, exactly."""
        return sum(line.owed_picos for line in self.lines)

    @property
    def payable_micros(self) -> int:
        """What is owed in whole micro-USD: the one rounding there is, downwards."""
        return self.earned_picos // PICOS_PER_MICRO


def statement(
    network: NetworkId,
    account: AccountId,
    epoch: int,
    receipts: Iterable[Item],
    evidence: Evidence,
) -> Statement:
    """Return an account's statement for one UTC day.

    A receipt whose evidence is missing or wrong is skipped and named: somebody else's bad record
    must not keep an account from its statement. Of one lane only the highest receipt counts.

    Args:
        receipts: Agreed receipts, in any order, repeated or not, of any day and anybody.
    """
    book = _Book(network, evidence)
    highest: dict[bytes, Agreed] = {}
    skipped: list[Skipped] = []
    for item in receipts:
        agreed = open_agreed(item, network)
        lane = agreed.receipt.lane
        if lane.epoch != epoch:
            continue
        standing = highest.get(lane.id)
        if standing is None or _rank(agreed) > _rank(standing):
            highest[lane.id] = agreed
    lines: list[tuple[Line, Agreed]] = []
    for lane_id, agreed in sorted(highest.items()):
        try:
            line = book.line(agreed, account)
        except HansaError as error:
            skipped.append(Skipped(lane_id, str(error)))
            continue
        if line is not None:
            lines.append((line, agreed))
    raw = _encode(network, account, epoch, lines, book)
    return Statement(network, account, epoch, tuple(line for line, _ in lines), raw, tuple(skipped))


def verify_bytes(raw: bytes) -> Statement:
    """Return the statement in `raw` after recomputing it from the evidence it carries.

    Raises:
        BadStatement: any byte of it does not follow from the evidence.
    """
    try:
        parts = decode(raw, bytes_max=STATEMENT_BYTES_MAX)
        if not has_head(parts, 10, DOMAIN, VERSION):
            raise MalformedBytes(f"a statement is 10 fields that start with {DOMAIN!r}, {VERSION}")
        network = NetworkId(fixed_bytes(parts[2], 32, "network"))
        account = AccountId(fixed_bytes(parts[3], 32, "account"))
        epoch = natural(parts[4], "epoch", maximum=EPOCH_MAX)
        receipts = _items(parts[5], "receipts")
        carried = _Carried(network, *(_items(part, "evidence") for part in parts[6:9]))
        again = statement(network, account, epoch, receipts, carried)
    except HansaError as error:
        raise BadStatement(f"the statement is not in order: {error}") from error
    if again.skipped:
        raise BadStatement(f"a line is not borne out: {again.skipped[0].reason}")
    if again.raw != raw:
        raise BadStatement(
            "the statement does not follow from its evidence: "
            f"recomputed, {account.hex()[:16]} earned {again.earned_picos} pico-USD"
        )
    return again


def _rank(agreed: Agreed) -> tuple[int, bytes]:
    return agreed.receipt.sequence, agreed.item.id


class _Book:
    """Computes lines, and remembers which evidence they rest on."""

    def __init__(self, network: NetworkId, evidence: Evidence) -> None:
        self._network = network
        self._evidence = evidence
        self._accounts: dict[AccountId, Account] = {}
        self._terms: dict[bytes, Terms] = {}
        self._base_terms: dict[bytes, Terms] = {}
        self._found: dict[bytes, Item] = {}
        self._versions: dict[bytes, Item] = {}
        self._bases: dict[bytes, Item] = {}
        self._logs: dict[AccountId, tuple[Item, ...]] = {}
        self._parties: set[AccountId] = set()

    def line(self, agreed: Agreed, account: AccountId) -> Line | None:
        """Return what a receipt means to an account, or None when it means nothing."""
        receipt = agreed.receipt
        lane = receipt.lane
        terms = self._version_terms(lane.version, lane.record)
        lineage: dict[bytes, Terms] = {}

        def base_terms(base: Base) -> Terms:
            return lineage.setdefault(base.record, self._base(base))

        shares = shares_of(receipt.amount_picos, lane.provider, terms, base_terms)
        own = tuple(share for share in shares if share.account == account)
        if not own and account not in {lane.consumer, lane.provider, terms.owner}:
            return None
        verify_agreed(
            agreed,
            consumer_keys=self._account(lane.consumer).root_keys,
            provider_keys=self._account(lane.provider).root_keys,
        )
        self._use(self._versions, lane.version)
        self._parties |= {lane.consumer, lane.provider, terms.owner}
        for record, known in lineage.items():
            self._use(self._bases, record)
            self._parties.add(known.owner)
        return Line(receipt, own, receipt.amount_picos if account == lane.consumer else 0)

    def used(self) -> list[list[bytes]]:
        """Return the versions, base puts and account entries that the lines so far rest on."""
        operations = [
            [item.raw for item in sorted(items.values(), key=lambda item: item.id)]
            for items in (self._versions, self._bases)
        ]
        entries = [item.raw for one in sorted(self._parties) for item in self._log(one)]
        return [*operations, entries]

    def _log(self, account: AccountId) -> list[Item]:
        """Return an account's entries by length of their path, then id: one order for all."""
        states = self._accounts[account].states
        return sorted(self._logs[account], key=lambda item: (states[item.id].length, item.id))

    def _use(self, place: dict[bytes, Item], id_: bytes) -> None:
        place[id_] = self._found[id_]

    def _version_terms(self, version: OperationId, record: RecordId) -> Terms:
        if version not in self._terms:
            item = self._evidence.version(version)
            if item is None or item.id != bytes(version):
                raise MissingEvidence(f"record version {version.hex()[:16]} is not known here")
            self._terms[version] = self._read(item)
            self._found[version] = item
        terms = self._terms[version]
        if terms.record != record:
            raise MissingEvidence(
                f"version {version.hex()[:16]} is not one of record {record.hex()[:16]}"
            )
        return terms

    def _base(self, base: Base) -> Terms:
        if base.record not in self._base_terms:
            item = self._evidence.base(base)
            if item is None:
                raise MissingEvidence(f"base record {base.record.hex()[:16]} is not known here")
            terms = self._read(item)
            if terms.record != base.record or open_operation(item, self._network).depth != 1:
                raise MissingEvidence(f"not the first put of base {base.record.hex()[:16]}")
            self._base_terms[base.record] = terms
            self._found[base.record] = item
        return self._base_terms[base.record]

    def _read(self, item: Item) -> Terms:
        operation = open_operation(item, self._network)
        owner = self._account(operation.account)
        if operation.account_head not in owner.states:
            raise MissingEvidence(f"operation {item.id.hex()[:16]} cites an unknown account entry")
        check_authority(operation, owner)
        return terms_of(operation, _facts(operation, item.body))

    def _account(self, account: AccountId) -> Account:
        if account not in self._accounts:
            items = tuple(self._evidence.entries(account))
            if not items or items[0].id != bytes(account):
                raise MissingEvidence(f"account {account.hex()[:16]} is not known here")
            self._accounts[account] = open_account(items, self._network)
            self._logs[account] = items
        return self._accounts[account]


def _facts(operation: Operation, body: bytes) -> bytes:
    """Return the record that a version states: a put's body, or a checkpoint's facts."""
    if operation.type is OperationType.CHECKPOINT and not operation.is_tombstone:
        return open_checkpoint(body).facts
    if operation.type is not OperationType.PUT:
        raise MissingEvidence(f"operation {operation.id.hex()[:16]} states no version of a record")
    return body


class _Carried:
    """A statement's own evidence."""

    def __init__(
        self,
        network: NetworkId,
        versions: tuple[Item, ...],
        bases: tuple[Item, ...],
        entries: tuple[Item, ...],
    ) -> None:
        self._versions: dict[bytes, Item] = {item.id: item for item in versions}
        self._bases = {open_operation(item, network).record: item for item in bases}
        self._entries: dict[AccountId, list[Item]] = {}
        for item in entries:
            self._entries.setdefault(parse_entry(item, network).account, []).append(item)

    def version(self, version: OperationId) -> Item | None:
        return self._versions.get(version)

    def base(self, base: Base) -> Item | None:
        return self._bases.get(base.record)

    def entries(self, account: AccountId) -> Sequence[Item]:
        return self._entries.get(account, ())


def _encode(
    network: NetworkId,
    account: AccountId,
    epoch: int,
    lines: list[tuple[Line, Agreed]],
    book: _Book,
) -> bytes:
    return encode([
        DOMAIN, VERSION, network, account, epoch,
        [agreed.item.raw for _, agreed in lines],
        *book.used(),
        [_line_fields(line) for line, _ in lines],
    ])  # fmt: skip


def _line_fields(line: Line) -> list[Any]:
    shares = [[s.role.value, s.record, s.amount_picos] for s in line.shares]
    receipt = line.receipt
    return [receipt.lane.id, receipt.amount_picos, shares, line.owed_picos]


def _items(value: object, what: str) -> tuple[Item, ...]:
    raw = array(value, what)
    if len(raw) > LANE_COUNT_MAX:
        raise MalformedBytes(f"{len(raw)} {what}; at most {LANE_COUNT_MAX}")
    return tuple(unpack_item(typed(one, bytes, what)) for one in raw)
