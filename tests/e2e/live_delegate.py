"""`hansa models edit RECORD --live --json` with a delegate's key that no account folder holds."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import typer

from node.cli.endings import ended
from node.cli.live import edit_live
from node.cli.session import Options, Session
from tests.writers import NETWORK, key_of


class DelegateSession(Session):
    """A session whose key is made from a name."""

    def __init__(self, options: Options, key_name: str) -> None:
        super().__init__(options)
        self._key = key_of(key_name)

    def creator(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(card=SimpleNamespace(network=NETWORK), key=self._key)


def main(url: str, record: str, key_name: str) -> None:
    options = Options(as_json=True, node_url=url)
    with DelegateSession(options, key_name) as session:
        try:
            edit_live(session, "models", record, port=0, origins=())
        except Exception as error:
            status = ended(session, error)
            if status is None:
                raise
            raise typer.Exit(status) from error


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
