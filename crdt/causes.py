"""Check B: an item against what it cites. It holds for ever, or fails for everybody and for ever.

`DESIGN.md`, sections 1, 2 and 4. Nothing here looks at what is *not* cited: not at the clock, not
at who sent it, not at what else is known of the account or of the record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Protocol

from crdt.accounts import Account
from crdt.cards.bodies import CardBody, open_card
from crdt.cards.layouts import Layout, check_card
from crdt.cards.parts import CARD_DEPTH_MAX
from crdt.entries import Capability, Entry
from crdt.errors import CausalFault, HansaError, MissingAccount, MissingItems, NotAuthorised
from crdt.ids import AccountId, ItemId, OperationId
from crdt.operations import ERA_FIRST, Operation, OperationType
from crdt.resolution import era_of

WANTED: Mapping[OperationType, Capability] = {
    OperationType.PUT: Capability.MAINTAINER,
    OperationType.DELETE: Capability.MAINTAINER,
    OperationType.CARD: Capability.MAINTAINER | Capability.EDITOR | Capability.EVALUATOR,
    OperationType.CHECKPOINT: Capability(0),
    OperationType.UNKNOWN: Capability.MAINTAINER | Capability.EDITOR | Capability.EVALUATOR,
}
"""Any one of these will do, and what needs none is the root's. A card is looked into as well."""
EDITING = Capability.MAINTAINER | Capability.EDITOR


class Declined(HansaError):
    """An item cannot be judged any more, because this node has dropped what it cites (check C)."""

    code = "declined"


class Link(NamedTuple):
    """All that a walk through the past needs of an operation."""

    depth: int
    predecessors: tuple[OperationId, ...]


class Known(Protocol):
    """What of the set is known where an item is judged."""

    def account(self, account: AccountId) -> Account | None:
        """Return an account with its entries."""
        ...

    def operations(self, ids: Collection[OperationId]) -> Mapping[OperationId, Operation]:
        """Return those of `ids` that are operations."""
        ...

    def link(self, id_: OperationId) -> Link | None:
        """Return what a known operation cites."""
        ...

    def seen(self, ids: Collection[ItemId]) -> set[ItemId]:
        """Return those of `ids` that are known, as whatever they are."""
        ...

    def pruned(self, ids: Collection[ItemId]) -> set[ItemId]:
        """Return those of `ids` that were known and were dropped."""
        ...

    def layout(self, operation: Operation) -> Layout:
        """Return the places of a known operation that a card can refer to."""
        ...


def check_entry(entry: Entry, known: Known) -> Account:
    """Return the account that a valid entry joins, or founds.

    Raises:
        MissingItems: the account or the predecessor is not known here yet.
        CausalFault, NotAuthorised: it is not valid.
    """
    if entry.predecessor is None:
        return Account((entry,))
    account = _account(entry.account, known)
    if entry.predecessor not in account.states:
        _check_unknown(entry.predecessor, known, "the entry it stands on is of another account")
    account.check(entry)
    return account.joined(entry)


def check_operation(operation: Operation, body: bytes, known: Known) -> None:
    """Return if an operation is valid.

    Raises:
        MissingItems: something it cites is not known here yet.
        Declined: something it cites was dropped here.
        CausalFault, NotAuthorised: it is not valid.
    """
    account = _account(operation.account, known)
    if operation.account_head not in account.states:
        _check_unknown(operation.account_head, known, "it cites an entry of another account")
    check_authority(operation, account)
    if operation.is_opaque:
        return
    predecessors = _predecessors(operation, known) if operation.predecessors else []
    _check_place(operation, predecessors)
    if operation.type is OperationType.CARD:
        card = open_card(body)
        _check_card(operation, card, account, known)


def check_authority(operation: Operation, account: Account) -> None:
    """Return if the state at the cited entry lets the key write this.

    Raises:
        NotAuthorised: it does not.
    """
    state = account.states[operation.account_head]
    wanted = WANTED[operation.type]
    if not state.may(operation.key, wanted, operation.record):
        raise NotAuthorised(
            f"key {operation.key.hex()[:16]} may not {operation.type.name.lower()} record "
            f"{operation.record.hex()[:16]} of account {operation.account.hex()[:16]}"
        )


def _check_place(operation: Operation, predecessors: Collection[Operation]) -> None:
    """Check era and depth against the predecessors."""
    depth = 1
    if predecessors:
        if any(era_of(one) != operation.era for one in predecessors):
            raise CausalFault("a predecessor is of another era")
        depth += max(one.depth for one in predecessors)
    if operation.depth != depth:
        raise CausalFault(f"depth {operation.depth} where its predecessors give {depth}")
    if operation.type is OperationType.CHECKPOINT:
        if predecessors:
            raise CausalFault("a checkpoint has no predecessors: it holds the whole state")
    elif not predecessors and (operation.type is not OperationType.PUT or operation.era):
        raise CausalFault(f"a {operation.type.name.lower()} cites what it is about")


def _check_card(
    operation: Operation,
    card: CardBody,
    account: Account,
    known: Known,
) -> None:
    if operation.depth > CARD_DEPTH_MAX:
        raise CausalFault(f"depth {operation.depth} of a card; at most {CARD_DEPTH_MAX}")
    cited = known.operations(card.table)
    absent = [ItemId(id_) for id_ in card.table if id_ not in cited]
    if known.pruned(absent):
        raise Declined("it refers to an operation that this node has dropped")
    if absent:
        # What is in its past is known, because its predecessors are.
        raise CausalFault("it refers to an operation that is not in its past")
    for one in cited.values():
        _check_reference(operation, one)
    _check_past(
        cited, operation.predecessors, known.link, lambda id_: known.layout(cited[id_]).table
    )
    state = account.states[operation.account_head]
    check_card(
        card,
        key=operation.key,
        may_edit=state.may(operation.key, EDITING, operation.record),
        layout_of=lambda id_: known.layout(cited[id_]),
    )


def _check_reference(operation: Operation, one: Operation) -> None:
    if one.record != operation.record or era_of(one) != operation.era:
        raise CausalFault("it refers to an operation of another record or era")
    is_seed = one.type is OperationType.PUT and one.era == ERA_FIRST
    if not (is_seed or one.type in {OperationType.CARD, OperationType.CHECKPOINT}):
        raise CausalFault(f"it refers to a {one.type.name.lower()}, which has no card")


def _check_past(
    wanted: Mapping[OperationId, Operation],
    predecessors: Collection[OperationId],
    link: Callable[[OperationId], Link | None],
    table_of: Callable[[OperationId], Collection[OperationId]],
) -> None:
    """Check that all of `wanted` are in the past that the predecessors begin.

    The walk spreads from there, and goes no deeper than what is wanted. What is found brings along
    what it refers to itself, which was found to be in its past when it came: every card names its
    seed, at the bottom of the history, and what it was typed behind, right at the top. The
    checkpoint of an era is not looked for: it is in the past of everything there, because nothing
    else in that era has no predecessors.
    """
    left = {id_ for id_, one in wanted.items() if one.type is not OperationType.CHECKPOINT}
    lowest = min((wanted[id_].depth for id_ in left), default=0)
    seen: set[OperationId] = set()
    queue = deque(predecessors)
    while left and queue:
        id_ = queue.popleft()
        if id_ in seen:
            continue
        seen.add(id_)
        if id_ in left:
            left.discard(id_)
            _bring_along(id_, left, table_of)
            lowest = min((wanted[one].depth for one in left), default=0)
        found = link(id_)
        if found is not None and found.depth > lowest:
            queue += found.predecessors
    if left:
        raise CausalFault("it refers to an operation that is not in its past")


def _bring_along(
    found: OperationId,
    left: set[OperationId],
    table_of: Callable[[OperationId], Collection[OperationId]],
) -> None:
    """Take what a card in the past refers to out of what is left to be found, and so on."""
    stack = [found]
    while stack and left:
        brought = left.intersection(table_of(stack.pop()))
        left -= brought
        stack += sorted(brought)


def _predecessors(operation: Operation, known: Known) -> list[Operation]:
    found = known.operations(operation.predecessors)
    missing = [ItemId(id_) for id_ in operation.predecessors if id_ not in found]
    for one in found.values():
        if one.record != operation.record:
            raise CausalFault("a predecessor is of another record")
        if one.is_opaque:
            raise CausalFault("a predecessor is of a later version than what cites it")
    if missing and known.pruned(missing):
        raise Declined("it cites an operation that this node has dropped")
    if missing and known.seen(missing):
        raise CausalFault("a predecessor is not an operation")
    if missing:
        raise MissingItems(tuple(missing))
    return [found[id_] for id_ in operation.predecessors]


def _account(id_: AccountId, known: Known) -> Account:
    account = known.account(id_)
    if account is None:
        raise MissingAccount((id_,))
    return account


def _check_unknown(entry: ItemId, known: Known, fault: str) -> None:
    """Wait for a cited account entry, unless it is known to be something else.

    Raises:
        MissingItems, CausalFault: one of the two.
    """
    if known.seen([entry]):
        raise CausalFault(fault)
    raise MissingItems((entry,))
