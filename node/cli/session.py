"""What one run of the command line works with: options, screen, client, and the creator's key."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

from node.cli.documents import parse_document
from node.cli.screen import Screen

if TYPE_CHECKING:
    from crdt import PublicKey, SigningKey
    from node.client import AccountCard, AccountFolder, Client, CreatorAccount
    from node.config import Loaded
    from node.keystore import Unlock

NODE_URL_DEFAULT = "http://127.0.0.1:8420"
"""Where a node started with nothing configured serves its API."""
FILE_BYTES_MAX = 1 << 20
"""Anything a person types into a file for us is far below; it keeps a wrong path harmless."""


@dataclass(frozen=True, slots=True)
class Options:
    """The shared options, as given before or after the command's name."""

    as_json: bool = False
    node_url: str | None = None
    data_dir: Path | None = None
    account: str | None = None
    passphrase_file: Path | None = None
    key_file: Path | None = None


class Session:
    """One run of one command. A context manager: connections close at the end.

    Attributes:
        token_file: Where the operator's token was read, once it was.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.screen = Screen(json=options.as_json)
        self._client: Client | None = None
        self._unlocked: Unlock | None = None
        self.token_file: Path | None = None

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._client is not None:
            self._client.close()

    @property
    def accounts(self) -> AccountFolder:
        """The accounts on this machine."""
        from node.client import AccountFolder

        chosen = os.environ.get("HANSA_ACCOUNTS_DIR")
        if chosen:
            return AccountFolder(Path(chosen))
        import platformdirs

        return AccountFolder(platformdirs.user_config_path("hansa") / "accounts")

    def account_name(self, name: str | None = None) -> str:
        """Return the account that was named, or the only one there is.

        Raises:
            NoAccount: none was named and there is not exactly one.
        """
        from node.cli.errors import NoAccount

        chosen = name or self.options.account
        if chosen:
            return chosen
        names = self.accounts.names()
        if len(names) == 1:
            return names[0]
        if not names:
            raise NoAccount("you have no account yet; make one with `hansa account create NAME`")
        raise NoAccount(f"you have the accounts {', '.join(names)}; choose one with --account NAME")

    def account_names(self) -> dict[str, str]:
        """Return the name of each account here by its id in hex; damaged ones are left out."""
        from node.client import AccountFault

        found: dict[str, str] = {}
        for name in self.accounts.names():
            with contextlib.suppress(AccountFault):
                found[self.card(name).account.hex()] = name
        return found

    def card(self, name: str | None = None) -> AccountCard:
        """Return the public side of an account."""
        return self.accounts.card(self.account_name(name))

    def creator(self, name: str | None = None) -> CreatorAccount:
        """Return the account to sign as, unlocked; may ask for its passphrase.

        Raises:
            ChangePending: a change of the account is signed and not all sent yet.
        """
        from node.cli.errors import ChangePending
        from node.client import pending_change
        from node.keystore import read_secret

        name = self.account_name(name)
        change = pending_change(self.accounts, name)
        if change is not None:
            raise ChangePending(
                f"a change of account {name!r} is signed and not all sent; finish it with "
                f"`hansa account {change.what} {name}`, then try again"
            )
        return self.accounts.unlock(name, lambda path: read_secret(path, self._unlock(name)))

    def unlock_file(self, path: Path, wanted: PublicKey, *, name: str, what: str) -> SigningKey:
        """Return the key in an encrypted file after checking that it is the one that is wanted."""
        from node.client import unlocked
        from node.keystore import read_secret

        return unlocked(path, wanted, lambda one: read_secret(one, self._unlock(what)), name=name)

    def client(self, *, creator: CreatorAccount | None = None) -> Client:
        """Return the client for the node, asking as anybody or as a creator."""
        return self._connected(None, creator)

    def operator(self) -> Client:
        """Return the client for the node, asking as its operator."""
        return self._connected(self._operator_token(), None)

    def account_id(self, text: str | None = None) -> str:
        """Return an account's id in hex: given so, or by the name of one on this machine."""
        if text is not None and len(text) == 64 and text not in self.accounts.names():
            return text
        return self.card(text).account.hex()

    def reference(self, text: str) -> str:
        """Return a reference as the node takes it; accounts' names become ids."""
        from node.client import spelled_out

        return spelled_out(
            text,
            accounts=self.accounts.names(),
            account_of=lambda name: self.card(name).account,
        )

    def path_of(self, text: str) -> str:
        """Return a reference as one segment of an API path."""
        from node.client import quoted

        return quoted(self.reference(text))

    def read_file(self, path: Path, *, bytes_max: int = FILE_BYTES_MAX) -> bytes:
        """Return a small file a person named; `-` is standard input.

        Raises:
            UnreadableFile: it cannot be read, or is too big to be what it should.
        """
        from node.cli.errors import UnreadableFile

        try:
            if str(path) == "-":
                raw = sys.stdin.buffer.read(bytes_max + 1)
            else:
                with path.open("rb") as file:
                    raw = file.read(bytes_max + 1)
        except OSError as error:
            raise UnreadableFile(f"{path} cannot be read: {error.strerror}") from error
        if len(raw) > bytes_max:
            raise UnreadableFile(f"{path} is over {bytes_max} bytes; is it the right file?")
        return raw

    @property
    def node_url(self) -> str:
        """The URL of the node to talk to."""
        return (self.options.node_url or NODE_URL_DEFAULT).rstrip("/")

    def confirm(self, question: str) -> bool:
        """Ask a yes-or-no question; without a person at a terminal the answer is no."""
        if self.options.as_json or not sys.stdin.isatty():
            return False
        return typer.confirm(question, err=True)

    def ask(self, question: str) -> str | None:
        """Ask for a line of text; without a person at a terminal there is none."""
        if self.options.as_json or not sys.stdin.isatty():
            return None
        return str(typer.prompt(question, err=True))

    def locker(self) -> Callable[[Path, bytes], None]:
        """Return what seals new secrets under the person's passphrase or key file."""
        from node.keystore import write_secret

        # A command that has unlocked a key seals the one that takes its place in the same way.
        unlock = self._unlocked or self._unlock("the new account", confirm=True)
        return lambda path, secret: write_secret(path, secret, unlock)

    def _unlock(self, what: str, *, confirm: bool = False) -> Unlock:
        self._unlocked = found = self._asked_unlock(what, confirm=confirm)
        return found

    def _asked_unlock(self, what: str, *, confirm: bool) -> Unlock:
        from node.cli.errors import BadUsage
        from node.keystore import KeyFile, Passphrase, passphrase_from_file

        if self.options.key_file is not None:
            return KeyFile(self.options.key_file)
        if self.options.passphrase_file is not None:
            return passphrase_from_file(self.options.passphrase_file)
        if not sys.stdin.isatty():
            raise BadUsage(
                f"{what} needs a passphrase and nobody is there to type it;"
                " give --passphrase-file FILE or --key-file FILE"
            )
        import getpass

        text = getpass.getpass(f"Passphrase of {what}: ")
        if confirm and getpass.getpass("The same again: ") != text:
            raise BadUsage("the two passphrases differ; nothing was made, try again")
        return Passphrase(text)

    def read_text(self, path: Path) -> str:
        """Return a small text file a person named.

        Raises:
            UnreadableFile: it cannot be read, or is not UTF-8.
        """
        from node.cli.errors import UnreadableFile

        try:
            return self.read_file(path).decode("utf-8")
        except UnicodeDecodeError as error:
            raise UnreadableFile(f"{path} is not UTF-8 text (byte {error.start})") from error

    def read_document(self, path: Path) -> dict[str, Any]:
        """Return the object in a JSON or TOML file a person named."""
        return parse_document(self.read_file(path), str(path))

    def settings(self, config: Path | None = None, flags: Sequence[str] = ()) -> Loaded:
        """Return the settings a node on this machine would run with.

        Raises:
            BadSettings: naming every bad one and where it came from.
        """
        from node.config import load_settings

        chosen = self.options.data_dir
        if chosen is not None and os.environ.get("HANSA_NODE__DATA_DIR") == str(chosen):
            # It came from the environment, which the settings read by themselves, and say so.
            chosen = None
        said = [*flags] if chosen is None else [f"node.data_dir={chosen}", *flags]
        return load_settings(config, said, os.environ)

    def _operator_token(self) -> str:
        from node.client import NoOperatorToken

        path = self.token_file = self.settings().settings.operator_token_file
        try:
            with path.open(encoding="ascii", errors="replace") as file:
                return file.read(1024).strip()
        except OSError as error:
            raise NoOperatorToken(
                f"this needs the operator's token, and {path} cannot be read"
                f" ({error.strerror}); give the node's folder with --data-dir DIR"
            ) from error

    def _connected(self, token: str | None, creator: CreatorAccount | None) -> Client:
        from node.client import Client

        assert self._client is None, "one command asks one node in one role"
        self._client = Client(self.node_url, operator_token=token, creator=creator)
        return self._client
