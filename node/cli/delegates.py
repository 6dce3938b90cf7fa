"""`hansa account delegate` and `revoke`: who else writes for an account, and who does no longer."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import account_work as work_of
from node.cli import format as show
from node.cli.account_work import complete_accounts
from node.cli.command import NODE, command
from node.cli.screen import sheet
from node.cli.session import Session

if TYPE_CHECKING:
    from crdt import (
        Account,
        Capability,
        Item,
        OperationId,
        PublicKey,
        RecordId,
        SigningKey,
    )
    from node.cli.account_work import Work
    from node.client import AccountLog, SignedRecord

DIGITS_MIN = 8
CAPABILITIES = ("maintainer", "editor", "evaluator")
UNLOCK = ("passphrase_file", "key_file")
AccountArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Your account on this machine.", autocompletion=complete_accounts
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def _complete_capabilities(incomplete: str) -> list[str]:
    return [one for one in CAPABILITIES if one.startswith(incomplete)]


def register(group: typer.Typer) -> None:
    """Add the commands to `hansa account`."""
    _register_delegate(group)
    _register_revoke(group)


def _register_delegate(group: typer.Typer) -> None:
    @command(
        group,
        "delegate",
        uses=(*NODE, *UNLOCK),
        example="hansa account delegate anna --key 9f…02 --as editor --scope tiny-chat",
    )
    def delegate(
        session: Session,
        name: AccountArgument,
        key: Annotated[
            str, typer.Option("--key", metavar="HEX", help="The other machine's public key.")
        ],
        roles: Annotated[
            list[str],
            typer.Option(
                "--as",
                metavar="ROLE",
                help="maintainer: facts and card. editor: the card. evaluator: its own evaluations."
                " Repeat for more.",
                autocompletion=_complete_capabilities,
            ),
        ],
        scope: Annotated[
            list[str] | None,
            typer.Option("--scope", metavar="REF", help="Only this record; repeat for more."),
        ] = None,
        sure: Yes = False,
    ) -> None:
        """Let another key write for your account, within what you grant it.

        The key is made on the other machine with `hansa account join`. What was granted cannot be
        changed later: revoke it, and grant another key.
        """
        _delegate(session, name, work_of.key_given(key), roles, scope or (), sure=sure)


def _register_revoke(group: typer.Typer) -> None:
    @command(
        group,
        "revoke",
        uses=(*NODE, *UNLOCK),
        example="hansa account revoke anna --key 9f…02 --keep tiny-chat",
    )
    def revoke(
        session: Session,
        name: AccountArgument,
        key: Annotated[
            str,
            typer.Option("--key", metavar="HEX", help="The delegate's key; 8 digits will do."),
        ],
        keep: Annotated[
            list[str] | None,
            typer.Option(
                "--keep", metavar="REF", help="Keep what it wrote to this record; repeat for more."
            ),
        ] = None,
        keep_all: Annotated[
            bool, typer.Option("--keep-all", help="Keep everything that the key has written.")
        ] = False,
        keep_none: Annotated[
            bool, typer.Option("--keep-none", help="Keep nothing but what you built upon.")
        ] = False,
        sure: Yes = False,
    ) -> None:
        """End a delegate's key: it writes no more, and what it wrote counts only if you keep it.

        Nobody can prove when something was signed. So what a thief signs with the key later, dated
        back, is void everywhere; and what is good must be named now. You are shown what the key has
        written and asked what to keep, unless an option says it. What you have built upon
        stays in any case.
        """
        choice = Choice(tuple(keep or ()), everything=keep_all, nothing=keep_none)
        _revoke(session, name, key, choice, sure=sure)


@dataclass(frozen=True)
class Choice:
    """What of an ended key's operations is kept, as options say it."""

    records: tuple[str, ...]
    everything: bool
    nothing: bool

    @property
    def is_made(self) -> bool:
        """Whether an option says it, so that nobody need be asked."""
        return self.everything or self.nothing or bool(self.records)


def _delegate(
    session: Session,
    name: str,
    key: PublicKey,
    roles: Sequence[str],
    scope: Sequence[str],
    *,
    sure: bool,
) -> None:
    from crdt import SCOPE_COUNT_MAX, EntryType
    from node.api.account_views import capability_names
    from node.cli.errors import BadUsage

    capabilities = _capabilities(roles)
    work = work_of.opened(session, name, "delegate")
    granted = work.account.now.delegates.get(key)
    if work.finished and granted is not None:
        session.screen.success(f"Key {show.short_id(key.hex())} is a delegate of {name}")
        return
    work_of.check_not_frozen(work)
    _check_root(work)
    if key in work.account.now.used:
        raise BadUsage(
            f"key {key.hex()[:16]} has or had a role in account {name!r} already; a key has one "
            "role for ever: make another with `hansa account join`"
        )
    records = tuple(work_of.record_given(session, work.client, one) for one in scope)
    if len(records) > SCOPE_COUNT_MAX:
        raise BadUsage(f"{len(records)} records in --scope; at most {SCOPE_COUNT_MAX}")
    work_of.agree_to_elsewhere(work, sure=sure)
    root = session.creator(name).key
    entry = work_of.entry_on(
        work, work.account.trunk[-1].id, root, EntryType.ADD_KEY, key=key,
        capabilities=capabilities, scope=records,
    )  # fmt: skip
    work_of.send(work, work.log.joined([entry], work.card.network), [], what="delegate")
    found = {
        "account": work.card.account.hex(),
        "key": key.hex(),
        "capabilities": capability_names(capabilities),
        "scope": [one.hex() for one in sorted(records)],
        "entry": entry.id.hex(),
    }
    shown = {**found, "scope": ", ".join(scope) or "every record"}
    session.screen.result(found, lambda: sheet(shown, title=f"{name} has a new delegate"))


def _revoke(session: Session, name: str, text: str, choice: Choice, *, sure: bool) -> None:
    work = work_of.opened(session, name, "revoke")
    key = _known_key(work.account, text)
    if work.finished and key in work.account.now.ended:
        session.screen.success(f"Key {show.short_id(key.hex())} was revoked; everything is sent")
        return
    work_of.check_not_frozen(work)
    _check_root(work)
    _check_delegate(work, key)
    work_of.agree_to_elsewhere(work, sure=sure)
    lost = _lost(work, key)
    kept = _chosen(session, work, lost, choice)
    if not kept and not choice.is_made:
        work_of.agree(session, f"Revoke {show.short_id(key.hex())} of {name}?", sure=sure)
    root = session.creator(name).key
    revocation = _signed(work, root, key, lost, kept)
    refused = work_of.send(work, revocation.log, revocation.operations, what="revoke")
    more = len(revocation.saved) - len(kept)
    if more > 0:
        session.screen.note(
            f"Kept too, because what you keep was built on it: {show.counted(more, 'operation')}"
        )
    kept = revocation.saved
    left = sorted({id_ for _, ids in lost.values() for id_ in ids} - kept)
    found = {
        "account": work.card.account.hex(),
        "key": key.hex(),
        "entry": revocation.entry.id.hex(),
        "kept": [one.hex() for one in sorted(kept)],
        "left_out": [one.hex() for one in left],
        "endorsed": [one.id.hex() for one in revocation.operations],
        "refused": [one.id for one in refused],
    }
    shown = {
        "key": key.hex(),
        "kept": show.counted(len(kept), "operation"),
        "void from now on": show.counted(len(left), "operation"),
        "endorsed by new versions": len(revocation.operations) or None,
    }
    session.screen.result(found, lambda: sheet(shown, title="The key is ended"))


def _check_root(work: Work) -> None:
    """Return if this machine signs with the account's root key.

    Raises:
        NoRole: it does not, as far as is known.
    """
    from node.client import NoRole

    if work.card.key != work.account.root_key:
        raise NoRole(
            f"this takes the root key of account {work.card.name!r}, and this machine has another "
            "key; run it on the owner's machine"
        )


@dataclass(frozen=True)
class _Revocation:
    """A signed revocation.

    Attributes:
        log: The account with it.
        operations: Writes that save what the entry has no room to name.
        saved: What stays effective of what was at stake: what was chosen, and what that stands on.
    """

    entry: Item
    log: AccountLog
    operations: list[Item]
    saved: frozenset[OperationId]


def _signed(
    work: Work,
    root: SigningKey,
    key: PublicKey,
    lost: Mapping[RecordId, tuple[SignedRecord, frozenset[OperationId]]],
    kept: Collection[OperationId],
) -> _Revocation:
    from crdt import (
        EntryType,
        maximal,
        plan_endorsement,
        resolved,
        sign_endorsement,
        split_keep,
    )

    wanted = {record: ids & frozenset(kept) for record, (_, ids) in lost.items()}
    heads = {
        record: maximal(ids, lost[record][0].operations) for record, ids in wanted.items() if ids
    }
    keep, left = split_keep(heads)
    entry = work_of.entry_on(
        work, work.account.trunk[-1].id, root, EntryType.REVOKE, key=key, keep=keep
    )
    log = work.log.joined([entry], work.card.network)
    operations: list[Item] = []
    saved: set[OperationId] = set()
    for record, ids in lost.values():
        saved |= ids & resolved(record.operations, log.account).effective
    for id_ in left:
        record, ids = lost[id_]
        plan = plan_endorsement(
            record.operations, record.bodies.__getitem__, log.account, wanted[id_]
        )
        if plan is None:
            work.session.screen.note(
                f"{record.owned.slug} shows nothing without the key; nothing is kept of it"
            )
            continue
        saved |= ids & plan.saved
        operations += sign_endorsement(
            plan, network=work.card.network, account=work.card.account, head=entry.id, key=root,
            timestamp_s=now_s(),
        )  # fmt: skip
    return _Revocation(entry, log, operations, frozenset(saved))


def _known_key(account: Account, text: str) -> PublicKey:
    """Return the key that a person names, by all of its digits or by the first of a known one's."""
    known = [*account.now.delegates, *account.now.ended, account.root_key]
    fits = [one for one in known if one.hex().startswith(text.lower())]
    return fits[0] if len(fits) == 1 and len(text) >= DIGITS_MIN else work_of.key_given(text)


def _check_delegate(work: Work, key: PublicKey) -> None:
    from node.cli.errors import BadUsage

    name, now = work.card.name, work.account.now
    if key in now.delegates:
        return
    if key in now.ended:
        raise BadUsage(f"key {key.hex()[:16]} was ended already; see `hansa account show {name}`")
    if key == now.root_key:
        raise BadUsage(f"that is the root key; change it with `hansa account rotate {name}`")
    raise BadUsage(
        f"key {key.hex()[:16]} is no delegate of {name!r}; `hansa account show {name}` lists them"
    )


def _lost(
    work: Work, key: PublicKey
) -> dict[RecordId, tuple[SignedRecord, frozenset[OperationId]]]:
    """Return what would be void in each record if nothing were kept."""
    from crdt import Entry, EntryType, ItemId, taken_away

    trunk = work.account.trunk[-1].id
    root = work.account.root_key
    bare = Entry(ItemId(bytes(32)), EntryType.REVOKE, work.account.id, trunk, root, key)
    after = work.account.joined(bare)
    found: dict[RecordId, tuple[SignedRecord, frozenset[OperationId]]] = {}
    scope = sorted(work.account.now.delegates[key].scope)
    for record in work_of.read_records(work, only=scope):
        if any(one.key == key for one in record.operations.values()):
            ids = taken_away(record.operations, work.account, after)
            if ids:
                found[record.owned.id] = (record, ids)
    return found


def _chosen(
    session: Session,
    work: Work,
    lost: Mapping[RecordId, tuple[SignedRecord, frozenset[OperationId]]],
    choice: Choice,
) -> frozenset[OperationId]:
    """Return what is kept, as options or the person say.

    Raises:
        BadUsage: nobody says it.
    """
    from node.cli.errors import BadUsage

    rows = [
        (record, id_)
        for record, ids in sorted(lost.values(), key=lambda one: one[0].owned.slug)
        for id_ in sorted(ids, key=lambda one: (record.operations[one].depth, one))
    ]
    if not rows:
        return frozenset()
    session.screen.note("What the key has written, and you have not built upon:")
    work_of.tell(
        session, work_of.operations_table(rows, work.account, now_s=now_s(), numbered=True)
    )
    if choice.everything:
        return frozenset(id_ for _, id_ in rows)
    if choice.records:
        wanted = {work_of.record_given(session, work.client, one) for one in choice.records}
        return frozenset(id_ for record, id_ in rows if record.owned.id in wanted)
    if choice.nothing:
        return frozenset()
    said = session.ask("Keep which? all, none, or numbers such as 1,3-5")
    if said is None:
        raise BadUsage(
            f"the key has {show.counted(len(rows), 'operation')} that would be void; say which to "
            "keep with --keep-all, --keep-none or --keep RECORD"
        )
    return frozenset(rows[number - 1][1] for number in numbers_in(said, len(rows)))


def numbers_in(text: str, count: int) -> list[int]:
    """Return the numbers that `all`, `none`, or a list such as `1,3-5` names, of 1 to `count`.

    Raises:
        BadUsage: it names none of these, or one that is not there.
    """
    from node.cli.errors import BadUsage

    said = text.strip().lower()
    if said in {"all", "none"}:
        return list(range(1, count + 1)) if said == "all" else []
    found: set[int] = set()
    for part in re.split(r"[,\s]+", said):
        fits = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part)
        if fits is None:
            raise BadUsage(f"{part!r} is no number; say all, none, or numbers such as 1,3-5")
        first, last = int(fits[1]), int(fits[2] or fits[1])
        if not 1 <= first <= last <= count:
            raise BadUsage(f"{part} is not within 1 to {count}; nothing was changed")
        found.update(range(first, last + 1))
    return sorted(found)


def _capabilities(roles: Sequence[str]) -> Capability:
    from crdt import Capability
    from node.cli.errors import BadUsage

    found = Capability(0)
    for role in roles:
        if role.lower() not in CAPABILITIES:
            raise BadUsage(f"{role!r} is no role; choose of {', '.join(CAPABILITIES)}")
        found |= Capability[role.upper()]
    return found


def now_s() -> int:
    """Return the clock's unix seconds."""
    return int(time.time())  # noqa: TID251 - the command line is an edge
