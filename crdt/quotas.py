"""Quotas: how much of an account this node stores, and takes at once. Local, and never a verdict.

What is over a quota is as valid as before: the node does not take it, or not yet, and passes it
over (docs/decisions/0015). Nothing here decides what anybody's state is.

Two kinds. What an account has *stored* is bounded whatever way it comes. What it adds a *day* is
bounded for callers and gossip only: catch-up brings what is the past of others, as fast as it can.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

from crdt.accounts import Account
from crdt.budgets import TokenBucket
from crdt.entries import Entry
from crdt.errors import OverQuota
from crdt.ids import AccountId, ItemId
from crdt.items import Item
from crdt.operations import Operation

ROOT_PERCENT = 125
"""What an account's root may fill beyond others' 100: whoever took a delegate's key and used up
the quota does not shut out the owner, who revokes it, puts, or sets a checkpoint to prune by."""
RECOVERY_FACTOR = 2
"""Entries that the recovery key may add when a stolen root has used up the quota on them."""
PASSED_COUNT_MAX = 65_536
"""Ids of what was passed over, remembered so that it is not fetched again: 8 MB."""
ACCOUNT_COUNT_MAX = 16_384
"""Accounts whose use is kept in memory; whoever comes back later starts a new day."""
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """What one account may have here; each default with its reason.

    Attributes:
        operation_count_max: Operations stored: ten times the largest catalogue that was measured.
        bytes_max: Bytes stored: those operations at 4 KiB each, which is a large record.
        entry_count_max: Entries of its own log: each is judged beside all the others.
        operations_per_day: Taken from callers and gossip; as many may come at once.
        bytes_per_day: The same in bytes.
    """

    operation_count_max: int = 1_000_000
    bytes_max: int = 4 << 30
    entry_count_max: int = 4_096
    operations_per_day: int = 200_000
    bytes_per_day: int = 1 << 30


class Usage(NamedTuple):
    """What a store holds of an account: its operations and their bytes.

    Attributes:
        passed_over: Something of it came and was not taken, because a quota was used up.
    """

    operations: int = 0
    bytes: int = 0
    passed_over: bool = False

    def plus(self, operations: int, size: int) -> Usage:
        """Return it with so much more, or less."""
        return Usage(self.operations + operations, self.bytes + size, self.passed_over)


class Quotas:
    """The quotas of one node, and what it remembers of those who use them."""

    def __init__(self, limits: QuotaLimits | None = None) -> None:
        self.limits = limits or QuotaLimits()
        self.refused: dict[str, int] = {"stored": 0, "day": 0}
        """Items that were not taken since the start, by the kind of quota."""
        self._days: OrderedDict[AccountId, tuple[TokenBucket, TokenBucket]] = OrderedDict()
        self._passed: OrderedDict[ItemId, None] = OrderedDict()

    def has_room(self, usage: Usage, entry_count: int) -> bool:
        """Whether an account may have more of every kind stored."""
        limits = self.limits
        return (
            usage.operations < limits.operation_count_max
            and usage.bytes < limits.bytes_max
            and entry_count < limits.entry_count_max
        )

    def pass_over(self, id_: ItemId) -> None:
        """Remember an item that is not taken, so that it is not fetched again soon."""
        self._passed[id_] = None
        if len(self._passed) > PASSED_COUNT_MAX:
            self._passed.popitem(last=False)

    def passed(self, ids: Collection[ItemId]) -> set[ItemId]:
        """Return which of `ids` were passed over, as far as that is remembered."""
        return {id_ for id_ in ids if id_ in self._passed} if self._passed else set()

    def forget_passed(self) -> None:
        """Let what was passed over be fetched again."""
        self._passed.clear()

    def day_of(self, account: AccountId, now_ms: int) -> tuple[TokenBucket, TokenBucket]:
        """Return what is left of an account's day: operations and bytes."""
        day = self._days.pop(account, None)
        if day is None:
            if len(self._days) >= ACCOUNT_COUNT_MAX:
                self._days.popitem(last=False)
            day = (
                _bucket(self.limits.operations_per_day, now_ms),
                _bucket(self.limits.bytes_per_day, now_ms),
            )
        self._days[account] = day
        return day


@dataclass(slots=True)
class _Counted:
    """A usage while a batch adds to it."""

    operations: int
    bytes: int
    passed_over: bool

    @property
    def usage(self) -> Usage:
        return Usage(self.operations, self.bytes, self.passed_over)


class Meter:
    """The quotas as one batch sees them: what is stored, and what the batch adds to it.

    Attributes:
        passed_over: Accounts of which the batch has passed something over.
        counts: What will be stored of the accounts that are in it.
    """

    def __init__(
        self,
        quotas: Quotas,
        usage_of: Callable[[AccountId], Usage],
        now_ms: int,
        *,
        is_by_day: bool,
    ) -> None:
        """Measure a batch; `is_by_day`: of a caller or of gossip, so the quotas of a day count."""
        self._quotas = quotas
        self._usage_of = usage_of
        self._now_ms = now_ms
        self._is_by_day = is_by_day
        self.counts: dict[AccountId, _Counted] = {}
        self.passed_over: set[AccountId] = set()

    def check_operation(
        self, item: Item, operation: Operation, account_of: Callable[[AccountId], Account | None]
    ) -> None:
        """Return if an operation is within its account's quotas.

        An account that is not known has nothing stored; whoever waits for it is judged later.

        Raises:
            OverQuota: it is not taken.
        """
        counted, limits = self._counted(operation.account), self._quotas.limits
        if counted.operations >= limits.operation_count_max or counted.bytes >= limits.bytes_max:
            account = account_of(operation.account)
            is_root = account is not None and operation.key == account.root_key
            percent = ROOT_PERCENT if is_root else 100
            if (
                counted.operations * 100 >= limits.operation_count_max * percent
                or counted.bytes * 100 >= limits.bytes_max * percent
            ):
                raise self._full(item, operation.account, counted.usage)
        if self._is_by_day:
            self._check_day(operation.account, len(item.raw))

    def check_entry(self, item: Item, entry: Entry, account: Account | None) -> None:
        """Return if there is room for one more entry in an account's log.

        Raises:
            OverQuota: it is not taken.
        """
        if account is None or len(account.entries) < self._quotas.limits.entry_count_max:
            return
        count, count_max = len(account.entries), self._quotas.limits.entry_count_max
        is_recovery = entry.signer == account.now.recovery_key
        if is_recovery and count < count_max * RECOVERY_FACTOR:
            return
        self._pass_over(item.id, entry.account)
        raise OverQuota(
            f"account {entry.account.hex()[:16]} has {count} entries in its log, and this node "
            f"keeps {count_max}; its operator can raise quota.entry_count_max"
        )

    def admit(self, item: Item, operation: Operation) -> None:
        """Count an operation that the batch adds; it has been checked."""
        size = len(item.raw)
        counted = self.counts[operation.account]
        counted.operations += 1
        counted.bytes += size
        if self._is_by_day:
            operations, bytes_ = self._quotas.day_of(operation.account, self._now_ms)
            operations.owe(1, self._now_ms)
            bytes_.owe(size, self._now_ms)

    def is_behind(self, item: ItemId, missing: Collection[ItemId]) -> bool:
        """Whether an item waits for what was passed over; then it is passed over with it."""
        if not self._quotas.passed(missing):
            return False
        self._quotas.pass_over(item)
        return True

    def _counted(self, account: AccountId) -> _Counted:
        found = self.counts.get(account)
        if found is None:
            found = self.counts[account] = _Counted(*self._usage_of(account))
        return found

    def _full(self, item: Item, account: AccountId, usage: Usage) -> OverQuota:
        self._pass_over(item.id, account)
        limits = self._quotas.limits
        return OverQuota(
            f"account {account.hex()[:16]} has {usage.operations} operations of {usage.bytes} "
            f"bytes stored here, and its quota is {limits.operation_count_max} of "
            f"{limits.bytes_max}; write at another node, have this one's operator raise "
            "quota.operation_count_max or quota.bytes_max, or set a checkpoint and let it be pruned"
        )

    def _pass_over(self, item: ItemId, account: AccountId) -> None:
        self._quotas.refused["stored"] += 1
        self._quotas.pass_over(item)
        self.passed_over.add(account)

    def _check_day(self, account: AccountId, size: int) -> None:
        limits = self._quotas.limits
        operations, bytes_ = self._quotas.day_of(account, self._now_ms)
        wait_ms = max(operations.wait_ms(1, self._now_ms), bytes_.wait_ms(size, self._now_ms))
        if not wait_ms:
            return
        self._quotas.refused["day"] += 1
        raise OverQuota(
            f"account {account.hex()[:16]} has used up what this node takes of it in a day, "
            f"{limits.operations_per_day} operations and {limits.bytes_per_day} bytes; try again "
            f"in {-(-wait_ms // 1000)} s, write at another node, or have this one's operator raise "
            "quota.operations_per_day or quota.bytes_per_day"
        )


def _bucket(amount: int, now_ms: int) -> TokenBucket:
    """Return a bucket that holds a day's amount and fills within a day."""
    return TokenBucket(rate_per_s=amount * 1000 / DAY_MS, burst=amount, now_ms=now_ms)
