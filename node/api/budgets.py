"""What callers without a name may cost: a bucket for each address, in items to judge.

Pure: the clock is passed in. An address proves nothing; it only says which bucket a caller drains,
so that one of them who sends rubbish does not keep the others out.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from node.api.errors import TooMany

ITEMS_PER_S = 2_000
"""A fifth of what one core verifies and stores; an owner's rotation sends as much in a row."""
ITEMS_BURST = 8_192
FAULT_COST = 64
"""What a rejected item costs beside itself: an honest caller sends next to none."""
ADDRESS_COUNT_MAX = 4_096
IPV6_PREFIX_BITS = 64
"""What one subscriber usually has."""


@dataclass(slots=True)
class _Bucket:
    left: int
    at_s: int


class ItemBudget:
    """Counts what each address had judged of late."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, address: str | None, count: int, *, now_s: int) -> None:
        """Spend `count` items of an address.

        Raises:
            TooMany: it has not so many left now; the message says when it will.
        """
        bucket = self._bucket(address, now_s)
        if bucket.left < count:
            wait_s = -(-(count - bucket.left) // ITEMS_PER_S)
            raise TooMany(
                f"{ITEMS_PER_S} items a second are taken from one address, fewer when some are "
                f"rejected; send these {count} again in {wait_s} s"
            )
        bucket.left -= count

    def charge_faults(self, address: str | None, count: int, *, now_s: int) -> None:
        """Make an address pay for items that were rejected; it may have to wait for that."""
        bucket = self._bucket(address, now_s)
        bucket.left = max(bucket.left - FAULT_COST * count, -ITEMS_BURST)

    def _bucket(self, address: str | None, now_s: int) -> _Bucket:
        key = _group(address)
        bucket = self._buckets.setdefault(key, _Bucket(ITEMS_BURST, now_s))
        self._buckets.move_to_end(key)
        while len(self._buckets) > ADDRESS_COUNT_MAX:
            self._buckets.popitem(last=False)
        passed_s = max(now_s - bucket.at_s, 0)
        bucket.left = min(bucket.left + passed_s * ITEMS_PER_S, ITEMS_BURST)
        bucket.at_s = now_s
        return bucket


def _group(address: str | None) -> str:
    """Return what shares a bucket: an IPv4 address, or an IPv6 network."""
    try:
        found = ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(int(found) >> (128 - IPV6_PREFIX_BITS))
