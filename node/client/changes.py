"""A change of an account: signed as a whole, written down, then sent; it can be taken up again.

What is signed stands in `NAME.change.jsonl` before anything is sent: a line that says what it is,
then one item a line, the account's entries first. Sending the same items twice changes nothing, so
whoever is interrupted runs the command again. New keys wait in `.next` files until the entry that
introduces them was taken by a node.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from crdt import Item, PublicKey, id_from_hex
from node.client.accounts import AccountCard, AccountFault, AccountFolder
from node.client.client import Client
from node.client.handing import Refused, hand_in, refusal, texts
from node.client.logs import AccountLog, item_of, open_log
from node.signing import to_header


@dataclass(frozen=True, slots=True)
class Move:
    """A key file that takes another name once the change is known to the network."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Change:
    """What a change file begins with.

    Attributes:
        what: The command that made it.
        key: The key this machine signs with from then on, in hex.
        entry_count: How many of the items are the account's entries.
        item_count: All of them.
        moves: Key files to rename, in order.
    """

    what: str
    key: str
    entry_count: int
    item_count: int
    moves: tuple[Move, ...] = ()


def pending_change(folder: AccountFolder, name: str) -> Change | None:
    """Return the change of an account that is signed and not all sent yet, if there is one.

    Raises:
        AccountFault: its file cannot be read.
    """
    path = folder.change_path(name)
    try:
        with path.open(encoding="ascii") as file:
            return _head(path, file.readline())
    except FileNotFoundError:
        return None


def write_change(
    folder: AccountFolder,
    card: AccountCard,
    log: AccountLog,
    operations: Iterable[Item],
    *,
    what: str,
    key: PublicKey | None = None,
    moves: tuple[Move, ...] = (),
) -> None:
    """Write a change down, whole or not at all; nothing is sent yet.

    Args:
        log: The account's entries with the new one.
        operations: What is signed with it, causes first.
    """
    path = folder.change_path(card.name)
    draft = path.with_suffix(".draft")
    count = len(log.items)
    with draft.open("w", encoding="ascii") as file:
        # The operations may be many: they are counted while they are written.
        file.write(" " * _HEAD_BYTES + "\n")
        for text in texts(log.items):
            file.write(text + "\n")
        for item in operations:
            file.write(to_header(item.raw) + "\n")
            count += 1
        change = Change(what, (key or card.key).hex(), len(log.items), count, moves)
        line = json.dumps(asdict(change))
        assert len(line) <= _HEAD_BYTES
        file.seek(0)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def finish_change(
    client: Client,
    folder: AccountFolder,
    name: str,
    told: Callable[[int, int], None] = lambda _done, _all: None,
) -> list[Refused]:
    """Send what a change holds, take over its keys, and forget it; returns what was refused.

    Raises:
        ApiProblem: the node refused the account's entries: the change is dropped, nothing changed.
        WorldFault: the node does not answer; the change is kept.
    """
    path = folder.change_path(name)
    card = folder.card(name)
    with path.open(encoding="ascii") as file:
        change = _head(path, file.readline())
        lines = (line.strip() for line in file)
        entries = list(islice(lines, change.entry_count))
        refused = hand_in(client, entries)
        if refused:
            _drop(folder, path, change)
            raise refusal(refused[-1])
        _take_over(folder, card, change, entries)
        total = change.item_count
        done = change.entry_count
        told(done, total)
        refused = hand_in(client, lines, lambda sent: told(done + sent, total))
    waiting = [one for one in refused if one.status == "pending"]
    if waiting:
        # Another node has more: there it can be finished.
        raise refusal(waiting[0])
    path.unlink()
    return refused


_HEAD_BYTES = 1024


def _head(path: Path, line: str) -> Change:
    try:
        found: dict[str, Any] = json.loads(line)
        found["moves"] = tuple(Move(**one) for one in found["moves"])
        return Change(**found)
    except (ValueError, KeyError, TypeError) as error:
        raise AccountFault(
            f"{path} does not hold a change of an account ({error}); if nothing else was changed "
            "with it, delete it and run the command again"
        ) from error


def _take_over(
    folder: AccountFolder, card: AccountCard, change: Change, entries: list[str]
) -> None:
    """Rename the key files and write the card; what is done already is left as it is."""
    for move in change.moves:
        source, target = folder.path / move.source, folder.path / move.target
        if source.exists() and not target.exists():
            source.rename(target)
    items = [item_of(text) for text in entries]
    log = open_log(items, card.account, card.network)
    folder.save(card, log, key=PublicKey(id_from_hex(change.key, "key")))


def _drop(folder: AccountFolder, path: Path, change: Change) -> None:
    path.unlink()
    for move in change.moves:
        if move.source.endswith(NEXT):
            (folder.path / move.source).unlink(missing_ok=True)


NEXT = ".next"
"""How a key file ends that waits for its entry to be taken."""


def fresh_next(path: Path) -> Path:
    """Return where a new key waits; what an attempt that was never written down left there goes."""
    waiting = path.with_name(path.name + NEXT)
    waiting.unlink(missing_ok=True)
    return waiting
