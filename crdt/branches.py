"""The tree of an account's entries, numbered so that questions about paths cost no walk.

Entries are numbered as a walk through the tree meets them, so what is behind an entry is a range of
numbers, and an entry is on a path if its range holds the path's end. Memory is linear in the
entries, whatever tree a thief makes of them; a state or a path for each would be the square.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from crdt.entries import Entry, EntryType
from crdt.ids import ItemId, PublicKey


class EntryTree:
    """Answers about valid entries of one account, each given after what it stands on."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.root_keys: dict[ItemId, PublicKey] = {}
        """The root key at every entry."""
        self.recovery_keys: dict[ItemId, PublicKey] = {}
        """The recovery key at every entry."""
        self.epochs: dict[ItemId, int] = {}
        """Rotations on the path to every entry."""
        self._successors = _successors(entries)
        self._order = self._walked(entries[0])
        self._first = {entry.id: number for number, entry in enumerate(self._order)}
        self._last = self._ends()
        self._begun = self._spans({EntryType.GENESIS, EntryType.ADD_KEY, EntryType.ROTATE_ROOT})
        self._revoked = self._spans({EntryType.REVOKE})
        self._rotated: dict[PublicKey, list[tuple[int, int]]] = {}
        self._signed: dict[PublicKey, list[int]] = {}
        for number, entry in enumerate(self._order):
            self._signed.setdefault(entry.signer, []).append(number)
            if entry.type is EntryType.ROTATE_ROOT and entry.predecessor is not None:
                before = self.root_keys[entry.predecessor]
                self._rotated.setdefault(before, []).append((number, self._last[number]))

    def successors(self, entry: ItemId) -> Sequence[Entry]:
        """Return the entries that stand on one, by id."""
        return self._successors.get(entry, ())

    def behind(self, entry: ItemId) -> list[ItemId]:
        """Return every entry behind one."""
        first = self._first[entry]
        return [one.id for one in self._order[first + 1 : self._last[first] + 1]]

    def is_on_path(self, entry: ItemId, end: ItemId) -> bool:
        """Whether an entry is on the path from the genesis to `end`, which is known."""
        first = self._first.get(entry)
        return first is not None and first <= self._first[end] <= self._last[first]

    def has_role(self, key: PublicKey, at: ItemId) -> bool:
        """Whether a key is the root or a delegate at an entry."""
        number = self._first[at]
        return (
            _holds(self._begun.get(key), number)
            and not _holds(self._revoked.get(key), number)
            and not _holds(self._rotated.get(key), number)
        )

    def is_signed(self, branch: ItemId, signer: PublicKey) -> bool:
        """Whether an entry, or one behind it, carries a key's signature."""
        numbers, first = self._signed.get(signer, []), self._first[branch]
        at = bisect_left(numbers, first)
        return at < len(numbers) and numbers[at] <= self._last[first]

    def _walked(self, genesis: Entry) -> list[Entry]:
        order: list[Entry] = []
        stack = [genesis]
        while stack:
            entry = stack.pop()
            order.append(entry)
            self._note_keys(entry)
            stack.extend(self.successors(entry.id))
        return order

    def _note_keys(self, entry: Entry) -> None:
        before = entry.predecessor
        if before is None:
            assert entry.recovery_key is not None
            root, recovery, epoch = entry.key, entry.recovery_key, 0
        else:
            root, recovery, epoch = (
                self.root_keys[before],
                self.recovery_keys[before],
                self.epochs[before],
            )
            if entry.type is EntryType.ROTATE_ROOT:
                root, epoch = entry.key, epoch + 1
            elif entry.type is EntryType.SET_RECOVERY:
                recovery = entry.key
        self.root_keys[entry.id] = root
        self.recovery_keys[entry.id] = recovery
        self.epochs[entry.id] = epoch

    def _ends(self) -> list[int]:
        """Return the last number behind each entry, by its own number."""
        last = list(range(len(self._order)))
        for number in range(len(self._order) - 1, 0, -1):
            before = self._order[number].predecessor
            assert before is not None
            at = self._first[before]
            last[at] = max(last[at], last[number])
        return last

    def _spans(self, types: set[EntryType]) -> dict[PublicKey, list[tuple[int, int]]]:
        """Return the ranges behind entries of some types, by the key they are about."""
        found: dict[PublicKey, list[tuple[int, int]]] = {}
        for number, entry in enumerate(self._order):
            if entry.type in types:
                found.setdefault(entry.key, []).append((number, self._last[number]))
        return found


class Path:
    """The entries from the genesis to one."""

    __slots__ = ("_end", "_tree")

    def __init__(self, tree: EntryTree, end: ItemId) -> None:
        self._tree = tree
        self._end = end

    def __contains__(self, entry: object) -> bool:
        return isinstance(entry, bytes) and self._tree.is_on_path(ItemId(entry), self._end)


class Roles:
    """The keys that write for an account at one of its entries."""

    __slots__ = ("_at", "_tree")

    def __init__(self, tree: EntryTree, at: ItemId) -> None:
        self._tree = tree
        self._at = at

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and self._tree.has_role(PublicKey(key), self._at)


def _successors(entries: Sequence[Entry]) -> dict[ItemId, list[Entry]]:
    found: dict[ItemId, list[Entry]] = {}
    for entry in sorted(entries[1:], key=lambda entry: entry.id):
        assert entry.predecessor is not None
        found.setdefault(entry.predecessor, []).append(entry)
    return found


def _holds(spans: list[tuple[int, int]] | None, number: int) -> bool:
    """Whether one of some ranges holds a number.

    They ascend and do not touch: no path introduces a key twice, or ends it twice.
    """
    if not spans:
        return False
    at = bisect_right(spans, number, key=lambda span: span[0]) - 1
    return at >= 0 and number <= spans[at][1]
