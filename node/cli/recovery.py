"""`hansa account recover`: an account whose root key is lost or stolen, or whose log forks."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import account_work as work_of
from node.cli import format as show
from node.cli.command import NODE, command
from node.cli.delegates import UNLOCK, AccountArgument, Yes, now_s
from node.cli.rotation import (
    Endorsing,
    RecoveryKey,
    endorsing,
    result_of,
    send_rotation,
    sheet_of,
)
from node.cli.screen import sheet, stack, styled
from node.cli.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from crdt import Account, Item, ItemId, OperationId, SigningKey
    from node.cli.account_work import Work
    from node.client import AccountLog, SignedRecord

DIGITS_MIN = 8
"""Of an id that a person types; fewer name too much."""
LISTED_COUNT_MAX = 40
"""Operations listed before the question, the newest; with `--json` all that is void is told."""


def register(group: typer.Typer) -> None:
    """Add the command to `hansa account`."""

    @command(
        group, "recover", uses=(*NODE, *UNLOCK),
        example="hansa account recover anna --recovery-key /media/usb/anna.recovery.key",
    )  # fmt: skip
    def recover(
        session: Session,
        name: AccountArgument,
        recovery_key: RecoveryKey = None,
        branch: Annotated[
            str | None,
            typer.Option(
                "--branch",
                metavar="ENTRY_ID",
                help="The last entry that is yours; the last one made on this machine, if not "
                "given. What stands on another is void.",
            ),
        ] = None,
        adopt: Annotated[
            bool,
            typer.Option("--adopt", help="Keep the root key: only settle the fork on this branch."),
        ] = False,
        since: Annotated[
            int | None,
            typer.Option(
                "--since",
                metavar="ARRIVAL",
                help="Leave out what reached the node with this arrival number or later.",
            ),
        ] = None,
        exclude: Annotated[
            list[str] | None,
            typer.Option(
                "--exclude", metavar="OPERATION", help="Leave this operation out; repeat for more."
            ),
        ] = None,
        include: Annotated[
            list[str] | None,
            typer.Option(
                "--include",
                metavar="OPERATION",
                help="Keep this operation, which would be void otherwise; repeat for more.",
            ),
        ] = None,
        sure: Yes = False,
    ) -> None:
        """Get an account back whose root key is lost or stolen, or whose log forks.

        The recovery key chooses the branch that is yours and puts a new root key on it. Then
        everything that is listed is signed anew with that: what you leave out is void. A machine
        that never had the account begins with `hansa account join NAME ACCOUNT_ID`.
        """  # fmt: skip
        wanted = _Wanted(branch, adopt, since, tuple(exclude or ()), tuple(include or ()))
        _recover(session, name, recovery_key, wanted, sure=sure)


@dataclass(frozen=True)
class _Wanted:
    """What a recovery is asked for, as options say it."""

    branch: str | None
    adopt: bool
    since: int | None
    exclude: tuple[str, ...]
    include: tuple[str, ...]


def _recover(
    session: Session, name: str, file: Path | None, wanted: _Wanted, *, sure: bool
) -> None:
    from crdt import EntryType, SigningKey

    work = work_of.opened(session, name, "recover")
    if work.finished:
        session.screen.success(f"Account {name} is recovered; everything is sent")
        return
    _show_branches(work)
    on = _chosen_entry(work, wanted.branch)
    chosen = _path_account(work.account, on)
    _show_undone(work, chosen)
    recovery = work_of.recovery_key_of(session, work, file, chosen.recovery_key)
    if wanted.adopt:
        _adopt(work, on, recovery, sure=sure)
        return
    seed = secrets.token_bytes(32)
    root = SigningKey(seed)
    entry = work_of.entry_on(work, on, recovery, EntryType.ROTATE_ROOT, key=root.public)
    log = work.log.joined([entry], work.card.network)
    _check_settled(work, log, entry)
    records = work_of.read_records(work)
    excluded, included = _excluded(records, wanted), _named(records, wanted.include, "--include")
    found = endorsing(records, work.account, chosen, log.account, excluded, included)
    _show_endorsing(work, found)
    lost = f", void {show.counted(len(found.void), 'operation')}" if found.void else ""
    count = show.counted(len(found.plans), "record")
    work_of.agree(session, f"New root key for {name}, endorse {count}{lost}?", sure=sure)
    refused = send_rotation(work, log, entry, seed, found.plans, what="recover")
    result = result_of(work, entry, found, root.public, refused)
    session.screen.result(result, lambda: sheet_of(work, log, found, "The account is recovered"))


def _adopt(work: Work, on: ItemId, recovery: SigningKey, *, sure: bool) -> None:
    from crdt import EntryType, taken_away

    entry = work_of.entry_on(work, on, recovery, EntryType.ADOPT)
    log = work.log.joined([entry], work.card.network)
    _check_settled(work, log, entry)
    lost = [
        (record, id_)
        for record in work_of.read_records(work)
        for id_ in sorted(taken_away(record.operations, work.account, log.account))
    ]
    if lost:
        work.session.screen.note("Void from then on, because it was granted on another branch:")
        work_of.tell(work.session, work_of.operations_table(lost, work.account, now_s=now_s()))
    name = work.card.name
    work_of.agree(work.session, f"Settle the fork of {name} on this branch?", sure=sure)
    work_of.send(work, log, [], what="recover")
    result = {
        "account": work.card.account.hex(), "entry": entry.id.hex(),
        "void": [id_.hex() for _, id_ in lost],
    }  # fmt: skip
    work.session.screen.result(
        result, lambda: sheet({"entry": entry.id.hex()}, title=f"The log of {name} is whole again")
    )


def _show_branches(work: Work) -> None:
    """Show the entries behind the fork, or the whole trunk's end if there is none."""
    account = work.account
    if account.fork is None:
        return
    work_of.tell(work.session, work_of.frozen_warning(account, work.card.name))
    successors = [one for one in account.entries if one.predecessor == account.fork]
    for number, first in enumerate(successors, 1):
        ids = _branch(account, first.id)
        known = work.card.log.ids if work.card.log else frozenset[Any]()
        mine = "made on this machine" if known & set(ids) else "not made on this machine"
        work_of.tell(
            work.session,
            stack(
                "",
                styled(f"Branch {number}, {mine}", "bold"),
                f"last entry {ids[-1].hex()}",
                work_of.entries_table(work.log, ids),
            ),
        )


def _branch(account: Account, first: ItemId) -> list[ItemId]:
    """Return an entry and all that stands on it, each after what it stands on."""
    found = [first]
    for entry in account.entries:
        if entry.predecessor in found:
            found.append(entry.id)
    return found


def _chosen_entry(work: Work, given: str | None) -> ItemId:
    """Return the entry that the recovery stands on.

    Raises:
        BadUsage: what was given names no entry, or nothing was and this machine cannot tell.
    """
    from node.cli.errors import BadUsage

    account = work.account
    if given is not None:
        fits = [one.id for one in account.entries if one.id.hex().startswith(given.lower())]
        if len(fits) != 1 or len(given) < DIGITS_MIN:
            raise BadUsage(
                f"--branch {given[:80]} names {len(fits)} entries of the account; give at least "
                f"{DIGITS_MIN} digits of one that is listed above or by `hansa account show --json`"
            )
        return fits[0]
    known = work.card.log.ids if work.card.log else frozenset[Any]()
    live = [one.id for one in account.entries if one.id in account.live and one.id in known]
    tips = [
        id_
        for id_ in live
        if not any(one.predecessor == id_ and one.id in live for one in account.entries)
    ]
    if len(tips) == 1 and (account.fork is None or tips[0] != account.fork):
        return tips[0]
    if not tips and account.fork is None:
        return account.trunk[-1].id
    raise BadUsage(
        "this machine has made no entry behind the fork, or on two branches; name the last entry "
        "that is yours with --branch ENTRY_ID"
    )


def _path_account(account: Account, on: ItemId) -> Account:
    """Return the account as the path to one entry says, and nothing else."""
    from crdt import account_of

    by_id = {one.id: one for one in account.entries}
    path = [by_id[on]]
    while path[0].predecessor is not None:
        path.insert(0, by_id[path[0].predecessor])
    return account_of(path)


def _show_undone(work: Work, chosen: Account) -> None:
    kept = set(chosen.states)
    undone = [one.id for one in work.account.entries if one.id in work.account.live - kept]
    if undone:
        work.session.screen.note("These entries are void once the account is recovered:")
        work_of.tell(work.session, work_of.entries_table(work.log, undone))


def _check_settled(work: Work, log: AccountLog, entry: Item) -> None:
    """Return if the new entry is where the account then stands.

    Raises:
        AccountFrozen: the recovery key signed on another branch already: nobody can tell which.
    """
    from node.cli.errors import AccountFrozen

    if log.account.trunk[-1].id != entry.id:
        raise AccountFrozen(
            f"the recovery key of account {work.card.name!r} has signed on another branch too; no "
            "key is above it, so nothing settles that: found a new account and publish with "
            "`supersedes`. If that branch is yours, stand on it with --branch ENTRY_ID"
        )


def _excluded(records: Sequence[SignedRecord], wanted: _Wanted) -> frozenset[OperationId]:
    """Return the operations that options leave out."""
    late = {
        id_
        for record in records
        for id_, n in record.numbers.items()
        if wanted.since is not None and n >= wanted.since
    }
    left_out = _named(records, wanted.exclude, "--exclude") | late
    return left_out - _named(records, wanted.include, "--include")


def _named(
    records: Sequence[SignedRecord], given: Sequence[str], option: str
) -> frozenset[OperationId]:
    """Return the operations that were named by their first digits.

    Raises:
        BadUsage: one of them is not there, or not the only one.
    """
    from node.cli.errors import BadUsage

    found: set[OperationId] = set()
    for text in given:
        start = text.lower()
        fits = [
            one for record in records for one in record.operations if one.hex().startswith(start)
        ]
        if len(fits) != 1 or len(text) < DIGITS_MIN:
            raise BadUsage(
                f"{option} {text[:80]} names {len(fits)} operations of the account; give at least "
                f"{DIGITS_MIN} digits of one that is listed"
            )
        found.add(fits[0])
    return frozenset(found)


def _show_endorsing(work: Work, found: Endorsing) -> None:
    """List what will be endorsed, newest arrival first, and what will be void."""
    for title, rows in (
        ("Endorsed by the new root key, with all that they stand on:", found.shown),
        ("Void from then on:", found.void),
    ):
        if not rows:
            continue
        newest = sorted(rows, key=lambda row: -row[0].numbers[row[1]])
        work.session.screen.note(title)
        work_of.tell(
            work.session,
            work_of.operations_table(newest[:LISTED_COUNT_MAX], work.account, now_s=now_s()),
        )
        if len(rows) > LISTED_COUNT_MAX:
            work.session.screen.note(f"… and {len(rows) - LISTED_COUNT_MAX} that arrived before")
