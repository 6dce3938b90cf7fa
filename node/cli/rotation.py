"""`hansa account rotate`, `recover`, `set-recovery`: what takes the recovery key."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from node.cli import account_work as work_of
from node.cli import format as show
from node.cli.command import NODE, command
from node.cli.delegates import UNLOCK, AccountArgument, Yes, now_s
from node.cli.progress import Meter
from node.cli.screen import sheet, stack, styled
from node.cli.session import Session

if TYPE_CHECKING:
    from crdt import (
        Account,
        Endorsement,
        Item,
        ItemId,
        OperationId,
        SigningKey,
    )
    from node.cli.account_work import Work
    from node.client import AccountLog, Move, SignedRecord

Row: TypeAlias = "tuple[SignedRecord, OperationId]"
LISTED_COUNT_MAX = 40
"""Operations listed before the question; `--json` and `hansa audit` have them all."""
RecoveryKey = Annotated[
    Path | None,
    typer.Option(
        "--recovery-key",
        metavar="FILE",
        help="Where the recovery key is; NAME.recovery.key beside the account, if not given.",
    ),
]


def register(group: typer.Typer) -> None:
    """Add the commands to `hansa account`."""
    _register_planned(group)
    _register_recover(group)


def _register_planned(group: typer.Typer) -> None:
    @command(group, "rotate", uses=(*NODE, *UNLOCK), example="hansa account rotate anna")
    def rotate(
        session: Session,
        name: AccountArgument,
        recovery_key: RecoveryKey = None,
        sure: Yes = False,
    ) -> None:
        """Replace the root key by a new one, and sign every record anew with it.

        The recovery key signs it. Your account keeps its id, its records and its delegates. The
        old key file stays beside the new one as NAME.key.epoch-N. If you are interrupted, run the
        command again: it goes on where it was.
        """
        _rotate(session, name, recovery_key, sure=sure)

    @command(
        group, "set-recovery", uses=(*NODE, *UNLOCK), example="hansa account set-recovery anna"
    )
    def set_recovery(
        session: Session,
        name: AccountArgument,
        recovery_key: RecoveryKey = None,
        sure: Yes = False,
    ) -> None:
        """Replace the recovery key by a new one; a planned change, not for one that leaked.

        Whoever has a retired recovery key can still fork the log before its end, and freeze the
        account for good. If yours was stolen, found another account and publish with `supersedes`.
        """
        _set_recovery(session, name, recovery_key, sure=sure)


def _register_recover(group: typer.Typer) -> None:
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
        sure: Yes = False,
    ) -> None:
        """Get an account back whose root key is lost or stolen, or whose log forks.

        The recovery key chooses the branch that is yours and puts a new root key on it. Then
        everything that is listed is signed anew with that: what you leave out is void. A machine
        that never had the account begins with `hansa account join NAME ACCOUNT_ID`.
        """  # fmt: skip
        wanted = _Wanted(branch, adopt, since, tuple(exclude or ()))
        _recover(session, name, recovery_key, wanted, sure=sure)


@dataclass(frozen=True)
class _Wanted:
    """What a recovery is asked for, as options say it."""

    branch: str | None
    adopt: bool
    since: int | None
    exclude: tuple[str, ...]


@dataclass
class _Endorsing:
    """The writes that a new root signs, and what becomes of the rest.

    Attributes:
        shown: What the plans save or stand on.
        foreign: Effective heads signed by a key that has no role now.
        void: Operations that are effective now and will not be.
    """

    plans: list[Endorsement] = field(default_factory=list["Endorsement"])
    foreign: list[Row] = field(default_factory=list["Row"])
    shown: list[Row] = field(default_factory=list["Row"])
    void: list[Row] = field(default_factory=list["Row"])


def _rotate(session: Session, name: str, file: Path | None, *, sure: bool) -> None:
    from crdt import EntryType, SigningKey

    work = work_of.opened(session, name, "rotate")
    if work.finished:
        session.screen.success(f"The root key of {name} is rotated; everything is sent")
        return
    work_of.check_not_frozen(work)
    work_of.agree_to_elsewhere(work, sure=sure)
    before = work.account
    recovery = work_of.recovery_key_of(session, work, file, before.recovery_key)
    seed = secrets.token_bytes(32)
    root = SigningKey(seed)
    entry = work_of.entry_on(
        work, before.trunk[-1].id, recovery, EntryType.ROTATE_ROOT, key=root.public
    )
    log = work.log.joined([entry], work.card.network)
    found = _endorsing(work_of.read_records(work), before, before, log.account)
    if found.foreign:
        session.screen.note("Signed by keys that have no role now, and endorsed with the rest:")
        work_of.tell(session, work_of.operations_table(found.foreign, before, now_s=now_s()))
    count = show.counted(len(found.plans), "record")
    work_of.agree(session, f"Rotate the root key of {name} and endorse {count}?", sure=sure)
    refused = _send_rotation(work, log, entry, seed, found.plans, what="rotate")
    result = _result(work, entry, found, root.public, refused)
    session.screen.result(result, lambda: _sheet(work, log, found, "The root key is rotated"))


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
    excluded = _excluded(records, wanted)
    found = _endorsing(records, work.account, chosen, log.account, excluded)
    _show_endorsing(work, found)
    lost = f", void {show.counted(len(found.void), 'operation')}" if found.void else ""
    count = show.counted(len(found.plans), "record")
    work_of.agree(session, f"New root key for {name}, endorse {count}{lost}?", sure=sure)
    refused = _send_rotation(work, log, entry, seed, found.plans, what="recover")
    result = _result(work, entry, found, root.public, refused)
    session.screen.result(result, lambda: _sheet(work, log, found, "The account is recovered"))


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


def _set_recovery(session: Session, name: str, file: Path | None, *, sure: bool) -> None:
    from crdt import EntryType, SigningKey
    from node.client import Move, fresh_next

    work = work_of.opened(session, name, "set-recovery")
    folder = session.accounts
    if work.finished:
        session.screen.success(f"The recovery key of {name} is {folder.recovery_path(name)}")
        return
    work_of.check_not_frozen(work)
    work_of.agree_to_elsewhere(work, sure=sure)
    work_of.agree(session, f"Make a new recovery key for {name}?", sure=sure)
    old = work_of.recovery_key_of(session, work, file, work.account.recovery_key)
    seed = secrets.token_bytes(32)
    new = SigningKey(seed).public
    entry = work_of.entry_on(work, work.account.trunk[-1].id, old, EntryType.SET_RECOVERY, key=new)
    path = folder.recovery_path(name)
    waiting = fresh_next(path)
    session.locker()(waiting, seed)
    retired = f"{path.name}.retired-{show.short_id(old.public.hex())}"
    moves = (Move(path.name, retired), Move(waiting.name, path.name))
    log = work.log.joined([entry], work.card.network)
    work_of.send(work, log, [], what="set-recovery", moves=moves)
    found = {"account": work.card.account.hex(), "entry": entry.id.hex(), "recovery_key": new.hex()}
    session.screen.result(found, lambda: sheet(found, title="The recovery key is replaced"))
    session.screen.note(f"Recovery key: {path}")
    session.screen.note("Move it to another place. The old one can still freeze your account:")
    session.screen.note("destroy every copy of it.")


def _endorsing(
    records: Sequence[SignedRecord],
    now: Account,
    before: Account,
    after: Account,
    excluded: Collection[OperationId] = frozenset(),
) -> _Endorsing:
    """Return what the new root signs so that every record stays as it was before.

    Args:
        now: The account as it is; what is effective by it and will not be is void.
        before: The account on the branch that is the owner's.
        after: The account as it is known then.
    """
    from crdt import era_of, plan_endorsement, resolved

    found = _Endorsing()
    for record in records:
        was = resolved(record.operations, before)
        wanted = {
            id_
            for id_ in was.effective
            if era_of(record.operations[id_]) == was.register.era and id_ not in excluded
        }
        plan = plan_endorsement(record.operations, record.bodies.__getitem__, after, wanted)
        left = resolved(record.operations, after).effective
        if plan is not None:
            found.plans.append(plan)
            left |= plan.saved
            found.shown += [(record, id_) for id_ in sorted({*plan.cited, *plan.saved})]
        found.foreign += [
            (record, id_)
            for id_ in was.register.heads
            if record.operations[id_].key not in before.now.roles
        ]
        then = resolved(record.operations, now)
        found.void += [
            (record, id_)
            for id_ in sorted(then.effective - left)
            if era_of(record.operations[id_]) == then.register.era
        ]
    return found


def _send_rotation(
    work: Work,
    log: AccountLog,
    entry: Item,
    seed: bytes,
    plans: Sequence[Endorsement],
    *,
    what: str,
) -> list[Any]:
    """Sign every plan with the new root key, keep the key, and send it all."""
    from crdt import SigningKey, sign_endorsement
    from node.client import Move, fresh_next

    root = SigningKey(seed)
    signed: list[Item] = []
    with Meter(work.session.screen, "Signing", unit="records") as meter:
        for number, plan in enumerate(plans, 1):
            signed += sign_endorsement(
                plan, network=work.card.network, account=work.card.account, head=entry.id,
                key=root, timestamp_s=now_s(),
            )  # fmt: skip
            meter.at(number, len(plans), note=plan.slug)
    path = work.session.accounts.key_path(work.card.name)
    waiting = fresh_next(path)
    work.session.locker()(waiting, seed)
    epoch = log.account.states[entry.id].epoch - 1
    moves: tuple[Move, ...] = (
        Move(path.name, f"{path.name}.epoch-{epoch}"),
        Move(waiting.name, path.name),
    )
    return list(work_of.send(work, log, signed, what=what, key=root.public, moves=moves))


def _result(
    work: Work, entry: Item, found: _Endorsing, root: bytes, refused: Sequence[Any]
) -> dict[str, Any]:
    return {
        "account": work.card.account.hex(),
        "entry": entry.id.hex(),
        "root_key": root.hex(),
        "endorsed": [one.record.hex() for one in found.plans],
        "void": [id_.hex() for _, id_ in found.void],
        "refused": [one.id for one in refused],
    }


def _sheet(work: Work, log: AccountLog, found: _Endorsing, title: str) -> Any:
    return sheet(
        {
            "root key": log.account.root_key.hex(),
            "epoch": str(log.account.now.epoch),
            "endorsed": show.counted(len(found.plans), "record"),
            "void": show.counted(len(found.void), "operation") if found.void else None,
            "key file": work.session.accounts.key_path(work.card.name),
        },
        title=title,
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
                styled(f"Branch {number}, {mine}; its last entry is {ids[-1].hex()}", "bold"),
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
        if len(fits) != 1 or len(given) < 8:
            raise BadUsage(
                f"--branch {given[:80]} names {len(fits)} entries of the account; give at least 8 "
                "digits of one that is listed above or by `hansa account show --json`"
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
    """Return the operations that options leave out.

    Raises:
        BadUsage: one that was named is not there, or not the only one.
    """
    from node.cli.errors import BadUsage

    every = [(id_, record.numbers[id_]) for record in records for id_ in record.operations]
    found = {id_ for id_, n in every if wanted.since is not None and n >= wanted.since}
    for given in wanted.exclude:
        fits = [id_ for id_, _ in every if id_.hex().startswith(given.lower())]
        if len(fits) != 1 or len(given) < 8:
            raise BadUsage(
                f"--exclude {given[:80]} names {len(fits)} operations of the account; give at "
                "least 8 digits of one that is listed"
            )
        found.add(fits[0])
    return frozenset(found)


def _show_endorsing(work: Work, found: _Endorsing) -> None:
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
