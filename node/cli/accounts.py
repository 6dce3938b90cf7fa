"""`hansa account`: the keys a creator signs with, on the creator's own machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from node.cli.command import KEYS, command
from node.cli.format import short_id
from node.cli.screen import sheet, table
from node.cli.session import Session

if TYPE_CHECKING:
    from rich.console import RenderableType

    from node.client import AccountCard

group = typer.Typer(no_args_is_help=True, help="Make and list the accounts you sign with.")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(group, name="account", rich_help_panel="Create")


@command(group, "create", uses=KEYS, example="hansa account create anna")
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="What you call the account on this machine.")],
    network: Annotated[
        str, typer.Option(metavar="NAME", help="The network the account is for.")
    ] = "main",
) -> None:
    """Make an account: a root key, a recovery key, and the signed entry that founds it.

    Nothing is sent: the first record you publish introduces the account to the network.
    """
    import secrets

    folder = session.accounts
    card = folder.create(name, network, random_bytes=secrets.token_bytes, lock=session.locker())
    session.screen.result(_public(card), lambda: _sheet(card, title=f"Account {name} is made"))
    session.screen.note(f"Key:          {folder.key_path(name)}")
    session.screen.note(f"Recovery key: {folder.recovery_path(name)}")
    session.screen.note("Move the recovery key to another place: it gets the account back if the")
    session.screen.note("key is lost or stolen. Then publish something: hansa publish model.json")


@command(group, "show", example="hansa account show anna")
def show(
    session: Session,
    name: Annotated[
        str | None, typer.Argument(help="The account; the only one there is, if not given.")
    ] = None,
) -> None:
    """Show what is public of an account."""
    card = session.card(name)
    session.screen.result(_public(card), lambda: _sheet(card, title=f"Account {card.name}"))


@command(group, "list", example="hansa account list")
def list_(session: Session) -> None:
    """List the accounts on this machine."""
    cards = [session.accounts.card(name) for name in session.accounts.names()]
    session.screen.result(
        [_public(card) for card in cards],
        lambda: table(
            ("name", "account", "network"),
            [(card.name, short_id(card.account.hex()), card.network_name) for card in cards],
        ),
    )
    if not cards:
        session.screen.note("There is none yet: hansa account create NAME")


def _public(card: AccountCard) -> dict[str, str]:
    return {
        "name": card.name,
        "account": card.account.hex(),
        "network": card.network_name,
        "root_key": card.root_key.hex(),
        "recovery_key": card.recovery_key.hex(),
    }


def _sheet(card: AccountCard, *, title: str) -> RenderableType:
    shown = {name.replace("_", " "): value for name, value in _public(card).items()}
    return sheet(shown, title=title)
