"""`hansa account`: the keys a creator signs with, on the creator's own machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import delegates, recovery, rotation
from node.cli.account_screens import account_sheet, public
from node.cli.account_work import complete_accounts
from node.cli.command import KEYS, NODE, command
from node.cli.format import short_id
from node.cli.screen import table
from node.cli.session import Session

if TYPE_CHECKING:
    from node.client import AccountCard, AccountLog, Client

group = typer.Typer(no_args_is_help=True, help="Make, share and mend the accounts you sign with.")
UNLOCK = ("passphrase_file", "key_file")
"""The command makes or opens a key."""


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    delegates.register(group)
    rotation.register(group)
    recovery.register(group)
    app.add_typer(group, name="account", rich_help_panel="Create")


@command(group, "create", uses=KEYS, example="hansa account create anna")
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="What you call the account on this machine.")],
    network: Annotated[
        str,
        typer.Option(
            metavar="NETWORK",
            help="The network the account is for, as `hansa status` shows a node's: main:work=14.",
        ),
    ] = "main",
) -> None:
    """Make an account: a root key, a recovery key, and the signed entry that founds it.

    Nothing is sent: the first record you publish introduces the account to the network.

    Where the network's name ends in `:work=BITS`, founding an account takes work, so that nobody
    floods it with accounts: every core of this machine, for as long as the bar says. Ctrl-C
    leaves nothing behind.
    """
    import secrets
    from functools import partial

    from node.cli.stamps import find_stamp

    folder = session.accounts
    card = folder.create(
        name,
        network,
        random_bytes=secrets.token_bytes,
        lock=session.locker(),
        find_stamp=partial(find_stamp, session.screen),
    )
    session.screen.result(public(card), lambda: account_sheet(card, f"Account {name} is made"))
    session.screen.note(f"Key:          {folder.key_path(name)}")
    session.screen.note(f"Recovery key: {folder.recovery_path(name)}")
    session.screen.note("Move the recovery key to another place: it gets the account back if the")
    session.screen.note("key is lost or stolen. Then publish something: hansa publish model.json")


@command(group, "join", uses=(*NODE, *UNLOCK), example="hansa account join acme 5f3c…e1")
def join(
    session: Session,
    name: Annotated[str, typer.Argument(help="What you call the account on this machine.")],
    account: Annotated[
        str, typer.Argument(metavar="ACCOUNT_ID", help="The account's id in hex: 64 digits.")
    ],
    network: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The network it is on; the node's, if nothing is said."),
    ] = None,
) -> None:
    """Make a key on this machine to write for somebody's account.

    Hand the key that is shown to the account's owner, who grants it a role with `hansa account
    delegate`. From then on you sign with `--account NAME`, as if the account were yours.
    """
    import secrets

    id_ = _account_id(account)
    client = session.client()
    chosen = network or str(client.node()["network"])
    card = session.accounts.join(
        name, id_, chosen, random_bytes=secrets.token_bytes, lock=session.locker()
    )
    log = _newest(session, client, card)
    session.screen.result(public(card, log), lambda: account_sheet(card, "Key made", log))
    session.screen.note("Hand this key to the owner of the account, who runs:")
    session.screen.note(f"  hansa account delegate NAME --key {card.key.hex()} --as maintainer")


@command(group, "show", uses=NODE, example="hansa account show anna")
def show(
    session: Session,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|ACCOUNT_ID]",
            help="An account of yours, or any account's id; the only one you have, if not given.",
            autocompletion=complete_accounts,
        ),
    ] = None,
) -> None:
    """Show an account: its keys, who may write for it, and whether its log is in order.

    The node is asked for the account's entries, and every one is checked here. Without a node,
    what this machine knows is shown.
    """
    from node.client import AccountCard, NodeUnreachable

    client = session.client()
    if name is not None and len(name) == 64 and name not in session.accounts.names():
        id_ = _account_id(name)
        node = client.node()
        network = bytes.fromhex(node["network_id"])
        stranger: Any = AccountCard("", id_, str(node["network"]), network, bytes(32), None)  # type: ignore[arg-type]
        theirs = _fetched(client, stranger)
        session.screen.result(
            public(stranger, theirs), lambda: account_sheet(stranger, "Account", theirs)
        )
        return
    card = session.card(name)
    try:
        log = _newest(session, client, card)
    except NodeUnreachable:
        session.screen.note(f"No node answers at {session.node_url}; this is what is known here")
        log = card.log
    session.screen.result(
        public(card, log), lambda: account_sheet(card, f"Account {card.name}", log)
    )


@command(group, "list", example="hansa account list")
def list_(session: Session) -> None:
    """List the accounts on this machine."""
    cards = [session.accounts.card(name) for name in session.accounts.names()]
    session.screen.result(
        [public(card) for card in cards],
        lambda: table(
            ("name", "account", "network", "this machine"),
            [
                (card.name, short_id(card.account.hex()), card.network_name, card.role)
                for card in cards
            ],
        ),
    )
    if not cards:
        session.screen.note("There is none yet: hansa account create NAME")


def _account_id(text: str) -> Any:
    from crdt import AccountId, RemoteFault, id_from_hex
    from node.cli.errors import BadUsage

    try:
        return AccountId(id_from_hex(text.lower(), "account"))
    except RemoteFault as error:
        raise BadUsage(
            f"{text[:80]!r} is no account's id; give its 64 hex digits, as `hansa account show` "
            "prints them on its owner's machine"
        ) from error


def _newest(session: Session, client: Client, card: AccountCard) -> AccountLog | None:
    """Return what the node and this machine know of an account; a delegate's machine keeps it.

    The owner's machine keeps only what was made or agreed to on it: so it can tell what was not.
    """
    from node.client import fetch_log

    client.check_network(card)
    there = fetch_log(client, card.account, card.network)
    if there is None:
        return card.log
    log = card.log.joined(there.items, card.network) if card.log else there
    if card.log is None or card.role in {"pending", "delegate"}:
        session.accounts.save(card, log)
    return log


def _fetched(client: Client, card: AccountCard) -> AccountLog:
    from node.cli.errors import NoAccount
    from node.client import fetch_log

    found = fetch_log(client, card.account, card.network)
    if found is None:
        raise NoAccount(f"account {card.account.hex()} is not known to the node at {client.url}")
    return found
