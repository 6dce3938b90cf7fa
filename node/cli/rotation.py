"""`hansa account rotate` and `set-recovery`: planned changes of the two keys that are above all."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from node.cli import account_work as work_of
from node.cli import format as show
from node.cli.command import NODE, command
from node.cli.delegates import UNLOCK, AccountArgument, Yes, now_s
from node.cli.progress import Meter
from node.cli.screen import sheet
from node.cli.session import Session

if TYPE_CHECKING:
    from crdt import (
        Account,
        Endorsement,
        Item,
        OperationId,
    )
    from node.cli.account_work import Work
    from node.client import AccountLog, Move, SignedRecord

Row: TypeAlias = "tuple[SignedRecord, OperationId]"
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


@dataclass
class Endorsing:
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
    found = endorsing(work_of.read_records(work), before, before, log.account)
    if found.foreign:
        session.screen.note("Signed by keys that have no role now, and endorsed with the rest:")
        work_of.tell(session, work_of.operations_table(found.foreign, before, now_s=now_s()))
    count = show.counted(len(found.plans), "record")
    work_of.agree(session, f"Rotate the root key of {name} and endorse {count}?", sure=sure)
    refused = send_rotation(work, log, entry, seed, found.plans, what="rotate")
    result = result_of(work, entry, found, root.public, refused)
    session.screen.result(result, lambda: sheet_of(work, log, found, "The root key is rotated"))


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


def endorsing(
    records: Sequence[SignedRecord],
    now: Account,
    before: Account,
    after: Account,
    excluded: frozenset[OperationId] = frozenset(),
    included: frozenset[OperationId] = frozenset(),
) -> Endorsing:
    """Return what the new root signs so that every record stays as it was before.

    What a delegate of the owner's wrote is taken along even if it cites an entry that is undone: a
    delegate cannot tell a thief's entry. What the root key wrote so could be the thief's.

    Args:
        now: The account as it is; what is effective by it and will not be is void.
        before: The account on the branch that is the owner's.
        after: The account as it is known then.
    """
    from crdt import era_of, plan_endorsement, resolved

    found = Endorsing()
    for record in records:
        was = resolved(record.operations, before)
        then = resolved(record.operations, now)
        wanted = {
            id_
            for id_ in was.effective
            if era_of(record.operations[id_]) == was.register.era and id_ not in excluded
        }
        wanted |= {
            id_
            for id_ in then.effective - excluded
            if id_ in included or record.operations[id_].key in before.now.delegates
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
        found.void += [
            (record, id_)
            for id_ in sorted(then.effective - left)
            if era_of(record.operations[id_]) == then.register.era
        ]
    return found


def send_rotation(
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


def result_of(
    work: Work, entry: Item, found: Endorsing, root: bytes, refused: Sequence[Any]
) -> dict[str, Any]:
    """Return what was done, as JSON."""
    return {
        "account": work.card.account.hex(),
        "entry": entry.id.hex(),
        "root_key": root.hex(),
        "endorsed": [one.record.hex() for one in found.plans],
        "void": [id_.hex() for _, id_ in found.void],
        "refused": [one.id for one in refused],
    }


def sheet_of(work: Work, log: AccountLog, found: Endorsing, title: str) -> Any:
    """Return what was done, for a person."""
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
