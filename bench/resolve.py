"""Resolving a record: what shows, from all of its operations, for records of 1, 10 and 1 000.

Three ways, because they cost differently: `us` applies the whole rule to every operation;
`voided_us` does so with a revoked delegate's operations among them; `follow_us` is the shortcut,
for each operation that joins a record whose operations are all effective.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from crdt import (
    Account,
    Capability,
    EntryType,
    Operation,
    OperationId,
    OperationType,
    RecordKind,
    SigningKey,
    Standing,
    account_of,
    make_entry,
    make_genesis,
    make_operation,
    network_id,
    open_entry,
    parse_operation,
    resolve,
)
from crdt.registers import Heads, follow

NETWORK = network_id("bench")
SIZES = (1, 10, 1000)
ROOT, RECOVERY, DELEGATE = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3))


def run(repeats: int = 15) -> dict[str, Any]:
    """Return microseconds a record, medians of `repeats`, by the number of its operations."""
    plain, revoked = accounts()
    measured = {size: costs(history(size, plain), plain, revoked, repeats) for size in SIZES}
    figures: dict[str, Any] = {
        name: {size: measured[size][name] for size in SIZES} for name in measured[1]
    }
    return {**figures, "repeats": repeats}


def costs(
    operations: list[Operation], plain: Account, revoked: Account, repeats: int
) -> dict[str, float]:
    """Return the microseconds of one record, each way."""
    joining = microseconds(lambda: followed(operations, plain), repeats)
    return {
        "us": microseconds(lambda: resolve(operations, standing(plain)), repeats),
        "voided_us": microseconds(lambda: resolve(operations, standing(revoked)), repeats),
        "follow_us": round(joining / len(operations), 2),
    }


def accounts() -> tuple[Account, Account]:
    """Return an account with a delegate, and the same one after the delegate was revoked."""
    genesis = make_genesis(NETWORK, ROOT, RECOVERY.public)
    id_ = open_entry(genesis, NETWORK).account
    grant = make_entry(
        network=NETWORK, type=EntryType.ADD_KEY, account=id_, predecessor=genesis.id, signer=ROOT,
        key=DELEGATE.public, capabilities=Capability.MAINTAINER,
    )  # fmt: skip
    revocation = make_entry(
        network=NETWORK, type=EntryType.REVOKE, account=id_, predecessor=grant.id, signer=ROOT,
        key=DELEGATE.public,
    )  # fmt: skip
    entries = [open_entry(item, NETWORK) for item in (genesis, grant, revocation)]
    return account_of(entries[:2]), account_of(entries)


def history(size: int, account: Account) -> list[Operation]:
    """Return puts by the root, then by the delegate, with a fork at every tenth."""
    found: list[Operation] = []
    heads: list[Operation] = []
    for number in range(size):
        cited = heads[-1:] if number % 10 == 9 else heads
        item = make_operation(
            network=NETWORK, kind=RecordKind.MODEL, slug="bench", type=OperationType.PUT,
            account=account.id, key=ROOT if number <= size // 2 else DELEGATE,
            account_heads=account.heads,
            predecessors=tuple(OperationId(one.id) for one in cited),
            depth=1 + max((one.depth for one in cited), default=0), body=b"x",
            timestamp_s=number,
        )  # fmt: skip
        one = parse_operation(item, NETWORK)
        heads = [one, *(head for head in heads if head not in cited)]
        found.append(one)
    return found


def standing(account: Account) -> Callable[[Operation], Standing]:
    """Return how much an account stands behind an operation."""
    return lambda one: account.standing(one.account_head, one.key)


def followed(operations: list[Operation], account: Account) -> Heads:
    """Return the heads once all have joined one by one."""
    heads = Heads()
    for one in operations:
        after = follow(heads, one, account.standing(one.account_head, one.key))
        assert after is not None
        heads = after
    return heads


def microseconds(action: Callable[[], object], repeats: int) -> float:
    """Return the median time of an action; short ones are run many times over."""
    started = time.perf_counter()
    action()
    count = max(1, int(0.005 / max(1e-7, time.perf_counter() - started)))
    times: list[float] = []
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(count):
            action()
        times.append((time.perf_counter() - started) / count)
    return round(statistics.median(times) * 1e6, 2)
