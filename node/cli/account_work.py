"""What every command that changes an account does: read, check, list, ask, sign, send, tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.cli import format as show
from node.cli.progress import Meter
from node.cli.screen import stack, styled, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from crdt import (
        Account,
        Capability,
        EntryType,
        Item,
        ItemId,
        OperationId,
        PublicKey,
        RecordId,
        SigningKey,
    )
    from node.cli.session import Session
    from node.client import AccountCard, AccountLog, Client, Move, Refused, SignedRecord


def complete_accounts(incomplete: str) -> list[str]:
    """Return the accounts on this machine whose names begin so, for the shell."""
    from node.cli.session import Options, Session

    return [one for one in Session(Options()).accounts.names() if one.startswith(incomplete)]


@dataclass(frozen=True)
class Work:
    """An account that a command is about to change.

    Attributes:
        log: What this machine and the node know of it together.
        finished: The command was interrupted before, and that was finished just now.
    """

    session: Session
    client: Client
    card: AccountCard
    log: AccountLog
    finished: bool = False

    @property
    def account(self) -> Account:
        """The account as it is known."""
        return self.log.account

    @property
    def elsewhere(self) -> list[ItemId]:
        """The live entries that this machine did not know: signed on another one, or by a thief."""
        known = self.card.log.ids if self.card.log else frozenset[bytes]()
        return [item.id for item in self.log.items if item.id not in known]


def opened(session: Session, name: str, what: str) -> Work:
    """Return an account as it is known here and at the node; what was interrupted is finished.

    Raises:
        WrongNode, BadAnswer, NoRole: the node does not serve for it.
    """
    from node.client import NoRole, fetch_log, pending_change

    client = session.client()
    card = session.accounts.card(name)
    client.check_network(card)
    change = pending_change(session.accounts, name)
    if change is not None:
        session.screen.note(f"Finishing what `hansa account {change.what} {name}` had signed")
        finish(session, client, name)
        card = session.accounts.card(name)
    there = fetch_log(client, card.account, card.network)
    if there is None and card.log is None:
        raise NoRole(
            f"the node at {client.url} does not know account {card.account.hex()[:16]}; name one "
            "that does with --node URL"
        )
    log = card.log.joined(there.items, card.network) if card.log and there else card.log or there
    assert log is not None, "one of the two is there"
    return Work(session, client, card, log, change is not None and change.what == what)


def check_not_frozen(work: Work) -> None:
    """Return if the account's log does not fork.

    Raises:
        AccountFrozen: it does, and that comes first.
    """
    from node.cli.errors import AccountFrozen

    if work.account.fork is not None:
        raise AccountFrozen(
            f"the log of account {work.card.name!r} forks after entry "
            f"{work.account.fork.hex()[:16]}: somebody signed twice with its key; settle it with "
            f"`hansa account recover {work.card.name}`"
        )


def agree_to_elsewhere(work: Work, *, sure: bool) -> None:
    """Ask before something is built on entries that this machine did not sign.

    Raises:
        BadUsage: the answer is no.
    """
    from node.cli.errors import BadUsage

    if not work.elsewhere or work.card.log is None:
        return
    work.session.screen.note("These entries of the account were not made on this machine:")
    tell(work.session, entries_table(work.log, work.elsewhere))
    if not sure and not work.session.confirm("Are they yours, and shall the change stand on them?"):
        raise BadUsage(
            "nothing was changed; say --yes if the entries above are yours, and if they are not, "
            f"run `hansa account recover {work.card.name}`"
        )


def agree(session: Session, question: str, *, sure: bool) -> None:
    """Ask before something is signed.

    Raises:
        BadUsage: the answer is no.
    """
    from node.cli.errors import BadUsage

    if not sure and not session.confirm(question):
        raise BadUsage("nothing was changed; say --yes to go on without being asked")


def tell(session: Session, shown: RenderableType) -> None:
    """Show something beside the result, on standard error; silent with `--json`."""
    if not session.screen.json:
        session.screen.err.print(shown)


def read_records(work: Work, *, only: Sequence[RecordId] = ()) -> list[SignedRecord]:
    """Return the account's records with all of their operations, checked here."""
    from node.client import fetch_record, owned_records

    owned = [
        one for one in owned_records(work.client, work.card.account) if not only or one.id in only
    ]
    found: list[SignedRecord] = []
    with Meter(work.session.screen, "Reading records", unit="records") as meter:
        for number, one in enumerate(owned, 1):
            found.append(fetch_record(work.client, one, work.account, work.card.network))
            meter.at(number, len(owned), note=one.slug)
    return found


def send(
    work: Work,
    log: AccountLog,
    operations: Iterable[Item],
    *,
    what: str,
    key: PublicKey | None = None,
    moves: tuple[Move, ...] = (),
) -> list[Refused]:
    """Write a signed change down, then send it."""
    from node.client import write_change

    write_change(work.session.accounts, work.card, log, operations, what=what, key=key, moves=moves)
    return finish(work.session, work.client, work.card.name)


def finish(session: Session, client: Client, name: str) -> list[Refused]:
    """Send what is written down of a change, with a bar, and tell what was refused."""
    from node.client import finish_change

    with Meter(session.screen, "Sending", unit="items") as meter:
        refused = finish_change(client, session.accounts, name, meter.at)
    for one in refused:
        session.screen.note(f"Not taken: {one.id[:16]} ({one.status}): {one.reason}")
    return refused


def entry_on(
    work: Work,
    on: ItemId,
    signer: SigningKey,
    type_: EntryType,
    *,
    key: PublicKey | None = None,
    capabilities: Capability | None = None,
    scope: tuple[RecordId, ...] = (),
    keep: tuple[OperationId, ...] = (),
) -> Item:
    """Return a signed entry that stands on another."""
    from crdt import Capability, make_entry

    return make_entry(
        network=work.card.network,
        type=type_,
        account=work.card.account,
        predecessor=on,
        signer=signer,
        key=key,
        capabilities=capabilities if capabilities is not None else Capability(0),
        scope=scope,
        keep=keep,
    )


def key_given(text: str) -> PublicKey:
    """Return a public key that a person typed.

    Raises:
        BadUsage: it is not 64 hex digits.
    """
    from crdt import PublicKey, RemoteFault, id_from_hex
    from node.cli.errors import BadUsage

    try:
        return PublicKey(id_from_hex(text.lower(), "key"))
    except RemoteFault as error:
        raise BadUsage(
            f"{text[:80]!r} is no public key; give its 64 hex digits, as `hansa account join` shows"
        ) from error


def record_given(session: Session, client: Client, text: str) -> RecordId:
    """Return the id of a record that a person named, by id or by name."""
    from crdt import RecordId
    from node.cli.errors import BadUsage
    from node.client import ApiProblem, quoted

    reference = session.reference(text)
    if len(reference) == 64:
        return RecordId(bytes.fromhex(reference))
    for plural in ("models", "agents"):
        try:
            shown: dict[str, Any] = client.get(f"/v1/{plural}/{quoted(reference)}")
        except ApiProblem as error:
            if error.status != 404:
                raise
        else:
            return RecordId(bytes.fromhex(str(shown.get("model_id") or shown["agent_id"])))
    raise BadUsage(f"the node knows no record {text!r}; give its id in hex if it is new")


def named(account: Account, key: PublicKey) -> str:
    """Return what a key is to an account, for a table: its role and its first digits."""
    if key == account.root_key:
        role = "root"
    elif key == account.recovery_key:
        role = "recovery"
    elif key in account.now.delegates:
        role = "delegate"
    elif key in account.now.ended:
        role = "ended key"
    else:
        role = "key"
    return role if role in {"root", "recovery"} else f"{role} {show.short_id(key.hex())}"


def entries_table(log: AccountLog, ids: Iterable[ItemId]) -> RenderableType:
    """Return entries with what each says."""
    wanted = set(ids)
    rows = [
        (
            show.short_id(entry.id.hex()),
            entry.type.name.lower().replace("_", " "),
            show.short_id(entry.key.hex()),
            named(log.account, entry.signer),
            "trunk" if entry in log.account.trunk else "live" if entry.id in log.account.live
            else "void",
        )
        for entry in log.account.entries
        if entry.id in wanted
    ]  # fmt: skip
    return table(("entry", "says", "about key", "signed by", ""), rows, fold=("signed by",))


def operations_table(
    rows: Iterable[tuple[SignedRecord, OperationId]],
    account: Account,
    *,
    now_s: int,
    numbered: bool = False,
) -> RenderableType:
    """Return operations with the record each is of, what it says, when, and whose it is.

    When it was written is its writer's clock; when it arrived is the node's counting.
    """
    found: list[tuple[object, ...]] = []
    for number, (record, id_) in enumerate(rows, 1):
        operation = record.operations[id_]
        found.append((
            *((number,) if numbered else ()),
            record.owned.slug,
            show.short_id(id_.hex()),
            what_it_says(record, id_),
            show.ago(operation.timestamp_s, now_s=now_s),
            record.numbers[id_],
            named(account, operation.key),
        ))  # fmt: skip
    first = ("#",) if numbered else ()
    return table(
        (*first, "record", "operation", "what", "written", "arrival", "by"),
        found,
        right=("#", "arrival"),
        fold=("record", "what", "by"),
    )


def what_it_says(record: SignedRecord, id_: OperationId) -> str:
    """Return what an operation does, for a table."""
    from crdt import OperationType, RemoteFault
    from registry import decode_record

    operation = record.operations[id_]
    if operation.type is OperationType.PUT:
        try:
            return f"version {decode_record(operation.kind, record.bodies[id_]).version}"
        except RemoteFault:
            return "version that cannot be read"
    return {
        OperationType.DELETE: "delete",
        OperationType.CARD: "edit of the card",
        OperationType.CHECKPOINT: f"checkpoint {operation.number}",
    }.get(operation.type, "of a newer program")


def frozen_warning(account: Account, name: str) -> RenderableType:
    """Return in red that the log forks and what to do about it."""
    assert account.fork is not None
    return stack(
        styled(
            f"FROZEN: the log forks after entry {show.short_id(account.fork.hex())}:\n"
            "somebody signed twice with the same key.",
            "bold red",
        ),
        styled(f"→ hansa account recover {name}", "bold"),
    )


def recovery_key_of(
    session: Session, work: Work, file: Path | None, wanted: PublicKey
) -> SigningKey:
    """Return the unlocked recovery key, from the file that was named or where it was made.

    Raises:
        AccountFault: it is not there, or another key is.
    """
    from node.client import AccountFault

    name = work.card.name
    path = file or session.accounts.recovery_path(name)
    if not path.exists():
        raise AccountFault(
            f"the recovery key of account {name!r} is not at {path}; bring it back and say where "
            "with --recovery-key FILE"
        )
    return session.unlock_file(path, wanted, name=name, what=f"the recovery key of {name}")
