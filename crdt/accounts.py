"""Accounts: what the entries of a log say together, whatever order they came in.

The formal rules, with every case and why, are in `DESIGN.md`, section 1. Two things are computed:
the *state* at an entry (from its path to the genesis alone, so it never changes), and the *trunk*
(from all entries known, so it may change when a fork shows or is settled).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from crdt.branches import EntryTree, Path, Roles
from crdt.entries import Capability, Entry, EntryType, open_entry
from crdt.errors import CausalFault, MalformedBytes, NotAuthorised
from crdt.ids import AccountId, ItemId, NetworkId, OperationId, PublicKey, RecordId
from crdt.items import Item

PATH_LENGTH_MAX = 1024
"""Entries from the genesis to any entry; an account that needs more founds another one."""
STATE_COUNT_MAX = 16
"""States an account keeps; the largest possible one takes some 130 KB, and half a millisecond."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a delegate may write, and where.

    Attributes:
        scope: Records it is limited to; none means every record of the account.
    """

    capabilities: Capability
    scope: frozenset[RecordId]

    def allows(self, wanted: Capability, record: RecordId) -> bool:
        """Whether one of the `wanted` capabilities is granted for a record."""
        return bool(self.capabilities & wanted) and (not self.scope or record in self.scope)


@dataclass(frozen=True, slots=True)
class AccountState:
    """What the path from the genesis to one entry says.

    Attributes:
        epoch: Rotations of the root on the path.
        length: Entries on the path.
        delegates: Those granted and not revoked.
        ended: Keys that were revoked, and roots that were rotated away, with what was kept.
        used: Every key the path has introduced: none can be introduced again.
    """

    root_key: PublicKey
    recovery_key: PublicKey
    epoch: int
    length: int
    delegates: Mapping[PublicKey, Grant]
    ended: Mapping[PublicKey, tuple[OperationId, ...]]
    used: frozenset[PublicKey]

    @property
    def roles(self) -> frozenset[PublicKey]:
        """The keys that write for the account here: its root and its delegates."""
        return frozenset((self.root_key, *self.delegates))

    def may(self, key: PublicKey, wanted: Capability, record: RecordId) -> bool:
        """Whether `key` is the root, or a delegate with one of the capabilities for a record."""
        if key == self.root_key:
            return True
        grant = self.delegates.get(key)
        return grant is not None and grant.allows(wanted, record)


@dataclass(frozen=True, slots=True)
class Standing:
    """How much the account stands behind a key that cites one of its entries, as it is now.

    Attributes:
        epoch: Rotations on the trunk, up to the entry's anchor.
        is_root: The key is the root at the entry, or at its anchor if the entry is not live.
        live: The entry is not on a branch that lost.
        current: Nothing on the trunk has ended the key.
        endorses: It is the root's, current and live: what it vouches for is effective.
        was_root: The key is the root at the entry, whether it is live or not.
        keep: What was kept when the key ended; None while it has not.
        named: Operations that any keep list of the trunk names.
        roles: Keys that have a role at the entry.
        path: Entries from the genesis to the entry.
    """

    epoch: int
    is_root: bool
    live: bool
    current: bool
    endorses: bool
    was_root: bool
    keep: tuple[OperationId, ...] | None
    named: frozenset[OperationId]
    roles: Container[PublicKey]
    path: Container[ItemId]

    def knows(self, key: PublicKey, head: ItemId) -> bool:
        """Whether what a key wrote citing the entry `head` was written with the entry's consent."""
        return key in self.roles and head in self.path


class AccountStates(Mapping[ItemId, AccountState]):
    """The state at every entry, worked out when asked for; a few are kept.

    A state may hold a thousand keys, so one for each entry would be the square of a log's length.
    """

    def __init__(self, entries: Mapping[ItemId, Entry]) -> None:
        self._entries = entries
        self._kept: OrderedDict[ItemId, AccountState] = OrderedDict()

    def __contains__(self, entry: object) -> bool:
        return entry in self._entries

    def __iter__(self) -> Iterator[ItemId]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, entry: ItemId) -> AccountState:
        kept = self._kept.get(entry)
        if kept is not None:
            self._kept.move_to_end(entry)
            return kept
        path: list[Entry] = []
        at: ItemId | None = entry
        while at is not None and at not in self._kept:
            path.append(self._entries[at])
            at = path[-1].predecessor
        if at is not None:
            self._kept.move_to_end(at)
        before = None if at is None else self._kept[at]
        found = self._kept[entry] = _state_along(before, path[::-1])
        if len(self._kept) > STATE_COUNT_MAX:
            self._kept.popitem(last=False)
        return found

    def entry(self, id_: ItemId) -> Entry:
        """Return an entry."""
        return self._entries[id_]

    def joined(self, entry: Entry) -> AccountStates:
        """Return these states and that of one more entry."""
        found = AccountStates({**self._entries, entry.id: entry})
        found._kept.update(self._kept)
        return found


@dataclass(frozen=True)
class Account:
    """One account: its valid entries, each after the one it stands on, the genesis first."""

    entries: tuple[Entry, ...]

    @property
    def id(self) -> AccountId:
        """The id of its genesis."""
        return self.entries[0].account

    @property
    def root_key(self) -> PublicKey:
        """The root key now."""
        return self.now.root_key

    @property
    def recovery_key(self) -> PublicKey:
        """The recovery key now."""
        return self.now.recovery_key

    @property
    def frozen(self) -> bool:
        """Whether the trunk ends at a fork that is not settled."""
        return self.fork is not None

    @property
    def heads(self) -> tuple[ItemId, ...]:
        """Live entries that nothing live stands on, sorted: what operations cite."""
        inner = {entry.predecessor for entry in self.entries if entry.id in self.live}
        return tuple(sorted(id_ for id_ in self.live if id_ not in inner))

    @cached_property
    def root_keys(self) -> tuple[PublicKey, ...]:
        """Every root key the account ever had, on any branch, the first one first."""
        types = {EntryType.GENESIS, EntryType.ROTATE_ROOT}
        return tuple(dict.fromkeys(entry.key for entry in self.entries if entry.type in types))

    @cached_property
    def weight(self) -> int:
        """What it takes to keep, in ids of 80 bytes."""
        return sum(map(_weight, self.entries))

    @cached_property
    def states(self) -> AccountStates:
        """The state at every entry."""
        return AccountStates({entry.id: entry for entry in self.entries})

    @cached_property
    def trunk(self) -> tuple[Entry, ...]:
        """The entries that hold, the genesis first (DESIGN.md, 1)."""
        trunk = [self.entries[0]]
        while True:
            branches = self._tree.successors(trunk[-1].id)
            if len(branches) > 1:
                key = self._tree.recovery_keys[trunk[-1].id]
                branches = [one for one in branches if self._tree.is_signed(one.id, key)]
            if len(branches) != 1:
                return tuple(trunk)
            trunk.append(branches[0])

    @cached_property
    def fork(self) -> ItemId | None:
        """The entry the log is frozen at, if it is."""
        end = self.trunk[-1].id
        return end if self._tree.successors(end) else None

    @cached_property
    def now(self) -> AccountState:
        """The state at the trunk's end."""
        return self.states[self.trunk[-1].id]

    @cached_property
    def live(self) -> frozenset[ItemId]:
        """The trunk; and while it is frozen, everything behind the fork."""
        found = {entry.id for entry in self.trunk}
        if self.fork is not None:
            found.update(self._tree.behind(self.fork))
        return frozenset(found)

    def has_role(self, key: PublicKey) -> bool:
        """Whether a key is the root or a delegate now, or is left alone by a fork."""
        if key in self.now.ended:
            return False
        where = self.live if self.frozen else [self.trunk[-1].id]
        return any(self._tree.has_role(key, id_) for id_ in where)

    def standing(self, head: ItemId, key: PublicKey) -> Standing:
        """Return how much the account stands behind `key` citing the known entry `head`."""
        found = self._standings.get((head, key))
        if found is None:
            found = self._standings[head, key] = self._stand(head, key)
        return found

    def check(self, entry: Entry) -> None:
        """Check B of an entry that is about to join; its predecessor is among the entries.

        Raises:
            CausalFault, NotAuthorised: it is not valid, for anybody and for ever.
        """
        assert entry.predecessor is not None
        _check(self.states[entry.predecessor], entry)

    def joined(self, entry: Entry) -> Account:
        """Return the account with one more valid entry."""
        account = Account((*self.entries, entry))
        account.__dict__["states"] = self.states.joined(entry)
        account.__dict__["weight"] = self.weight + _weight(entry)
        self._hand_on(entry, account)
        return account

    def _hand_on(self, entry: Entry, account: Account) -> None:
        """Let the next account have what an entry leaves as it is, where that is plain to see.

        What the root signs adopts nothing, because a key has one role for ever. So it only matters
        if it extends the trunk, or stands beside its next entry; the latter is for the tree.
        """
        before = entry.predecessor
        assert before is not None
        if entry.signer != self.states[before].root_key:
            return
        is_end = before == self.trunk[-1].id
        if before in self._trunk_ids and not is_end:
            return
        is_longer = is_end and not self.frozen
        account.__dict__.update(
            trunk=(*self.trunk, entry) if is_longer else self.trunk,
            fork=self.fork,
            live=self.live | {entry.id} if before in self.live else self.live,
        )

    @cached_property
    def _standings(self) -> dict[tuple[ItemId, PublicKey], Standing]:
        return {}

    @cached_property
    def _tree(self) -> EntryTree:
        return EntryTree(self.entries)

    @cached_property
    def _trunk_ids(self) -> frozenset[ItemId]:
        return frozenset(entry.id for entry in self.trunk)

    def _stand(self, head: ItemId, key: PublicKey) -> Standing:
        tree, anchor = self._tree, self._anchor(head)
        live = head in self.live
        is_root = key == tree.root_keys[head if live else anchor]
        current = key not in self.now.ended
        return Standing(
            epoch=tree.epochs[anchor],
            is_root=is_root,
            live=live,
            current=current,
            endorses=is_root and live and current,
            was_root=key == tree.root_keys[head],
            keep=self.now.ended.get(key),
            named=self._named,
            roles=Roles(tree, head),
            path=Path(tree, head),
        )

    @cached_property
    def _named(self) -> frozenset[OperationId]:
        return frozenset(id_ for entry in self.trunk for id_ in entry.keep)

    def _anchor(self, head: ItemId) -> ItemId:
        while head not in self._trunk_ids:
            predecessor = self.states.entry(head).predecessor
            assert predecessor is not None, "the genesis is on the trunk"
            head = predecessor
        return head


def _weight(entry: Entry) -> int:
    return 16 + len(entry.keep) + len(entry.scope)


def open_genesis(item: Item, network: NetworkId) -> Account:
    """Return the account that the genesis in `item` founds, with its signature checked.

    Raises:
        MalformedBytes, WrongNetwork, BadSignature: it is not a valid genesis for this network.
    """
    entry = open_entry(item, network)
    if entry.type is not EntryType.GENESIS:
        raise MalformedBytes(f"{entry.type.name} founds no account; a genesis does")
    return Account((entry,))


def open_account(items: Iterable[Item], network: NetworkId) -> Account:
    """Return the account that the entries in `items` make, the genesis first, all of it checked.

    Raises:
        RemoteFault: an entry is not valid, of another account, or before what it stands on.
    """
    account: Account | None = None
    for item in items:
        if account is None:
            account = open_genesis(item, network)
            continue
        entry = open_entry(item, network)
        if entry.account != account.id or entry.predecessor not in account.states:
            raise CausalFault(f"entry {entry.id.hex()[:16]} stands on none of those before it")
        account.check(entry)
        account = account.joined(entry)
    if account is None:
        raise MalformedBytes("an account has at least its genesis")
    return account


def account_of(entries: Iterable[Entry]) -> Account:
    """Return the account that valid entries make, each after what it stands on."""
    return Account(tuple(entries))


_RECOVERY_ONLY = frozenset({EntryType.ROTATE_ROOT, EntryType.SET_RECOVERY, EntryType.ADOPT})
"""Each key is replaced by the one above it: a retired root's forks then lose at once."""


def _check(state: AccountState, entry: Entry) -> None:
    if state.length >= PATH_LENGTH_MAX:
        raise CausalFault(f"the account's log has {PATH_LENGTH_MAX} entries; it takes no more")
    by_recovery = entry.signer == state.recovery_key
    by_root = entry.signer == state.root_key
    if entry.type in _RECOVERY_ONLY and not by_recovery:
        raise NotAuthorised(f"{entry.type.name} is signed by the recovery key, and this is not")
    if not (by_recovery or by_root):
        raise NotAuthorised(
            f"{entry.type.name} is signed by {entry.signer.hex()[:16]}, which is neither the "
            "root key nor the recovery key there"
        )
    if entry.type is EntryType.REVOKE:
        if entry.key not in state.delegates:
            raise CausalFault(f"key {entry.key.hex()[:16]} is no delegate there to be revoked")
    elif entry.type is not EntryType.ADOPT and entry.key in state.used:
        raise CausalFault(f"key {entry.key.hex()[:16]} had a role before; make a new key")


def _state_along(before: AccountState | None, path: Sequence[Entry]) -> AccountState:
    """Return the state at the end of some entries that follow each other."""
    if before is None:
        genesis, *path = path
        assert genesis.recovery_key is not None
        used = frozenset({genesis.key, genesis.recovery_key})
        before = AccountState(genesis.key, genesis.recovery_key, 0, 1, {}, {}, used)
    root, recovery, epoch = before.root_key, before.recovery_key, before.epoch
    delegates, ended = dict(before.delegates), dict(before.ended)
    for entry in path:
        match entry.type:
            case EntryType.ADD_KEY:
                delegates[entry.key] = Grant(entry.capabilities, frozenset(entry.scope))
            case EntryType.REVOKE:
                del delegates[entry.key]
                ended[entry.key] = entry.keep
            case EntryType.ROTATE_ROOT:
                ended[root] = entry.keep
                root, epoch = entry.key, epoch + 1
            case EntryType.SET_RECOVERY:
                recovery = entry.key
            case _:
                pass
    used = before.used.union(entry.key for entry in path)
    length = before.length + len(path)
    return AccountState(root, recovery, epoch, length, delegates, ended, used)
