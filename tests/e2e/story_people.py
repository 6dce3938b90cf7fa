"""People of a story: machines with accounts of their own, real nodes, and a thief with a key."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crdt import CardDraft, NetworkId, RecordId, SigningKey
from node.client import AccountFolder, Client, RecordCopy
from node.keystore import KeyFile, read_secret
from tests.e2e.crash_nodes import Member, member
from tests.node.cli.terminal import hansa

PATIENCE_S = 30


@dataclass
class Person:
    """Somebody at a machine of their own, who types commands."""

    name: str
    account: str
    folder: Path

    @property
    def env(self) -> dict[str, str]:
        return {
            "HANSA_ACCOUNTS_DIR": str(self.folder / self.name),
            "HANSA_KEY_FILE": str(self.folder / "unlock"),
        }

    def run(self, *words: object, status: int = 0) -> Any:
        """Run a command with `--json` and return its result, or its error if `status` says so."""
        out, err = self._run(*words, "--json", status=status)
        return json.loads(err if status else out)

    def read(self, *words: object) -> str:
        """Run a command as a person does and return what it shows."""
        return self._run(*words, status=0)[0]

    def _run(self, *words: object, status: int) -> tuple[str, str]:
        ended = subprocess.run(
            [sys.executable, "-m", "node", *map(str, words)], capture_output=True, text=True,
            env={**os.environ, **self.env, "COLUMNS": "100"}, check=False, timeout=60,
        )  # fmt: skip
        assert ended.returncode == status, (words, ended.returncode, ended.stderr, ended.stdout)
        return ended.stdout, ended.stderr

    def at_terminal(self, *words: str, typed: tuple[str, str] | None = None, **env: str) -> str:
        """Run a command on a terminal, answer its question if there is one; return what it shows.

        Args:
            typed: What to wait for, and then to type.
        """
        with hansa(*words, env={**self.env, **env}) as terminal:
            if typed is not None:
                terminal.wait_for(typed[0])
                terminal.type(typed[1])
            assert terminal.end() == 0, terminal.seen
            return terminal.seen

    def key(self, file: str = "") -> SigningKey:
        """Return the secret key on this machine, or one in another file beside it."""
        path = self.folder / self.name / (file or f"{self.account}.key")
        return SigningKey(read_secret(path, KeyFile(self.folder / "unlock")))

    def second_machine(self) -> Person:
        """Return a machine with a copy of the account, but not of the recovery key."""
        other = Person(f"{self.name}2", self.account, self.folder)
        shutil.copytree(
            self.folder / self.name, self.folder / other.name,
            ignore=shutil.ignore_patterns("*.recovery.*"),
        )  # fmt: skip
        return other

    @property
    def card(self) -> Any:
        """The public side of the account, as this machine keeps it."""
        return AccountFolder(self.folder / self.name).card(self.account)


@dataclass
class World:
    """Nodes that may be parted, and the people who write to them."""

    folder: Path
    rng: random.Random
    nodes: dict[str, Member] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        (self.folder / "unlock").write_bytes(b"0123456789abcdef")
        (self.folder / "unlock").chmod(0o600)

    def person(self, name: str, account: str) -> Person:
        return Person(name, account, self.folder)

    def start(self, *names: str, bootstrap: str = "") -> None:
        """Start nodes at once and return when all are ready."""
        for name in names:
            one = self.nodes.setdefault(name, member(name, self.folder / f"node-{name}", self.rng))
            one.bootstrap = bootstrap
            # Who is connected to whom is the story's to say: nobody remembers or finds others.
            one.flags = ["p2p.outbound_count=0"]
        begun = [self.nodes[name].spawn() for name in names]
        for name, begun_s in zip(names, begun, strict=True):
            self.nodes[name].await_ready(begun_s)

    def stop_all(self) -> None:
        """End what still runs."""
        self._open.close()
        for one in self.nodes.values():
            if one.process is not None and one.node.process.poll() is None:
                one.node.kill()

    def part(self, name: str, others: str) -> None:
        """Start a node again that was told of no other: it knows nobody, and nobody dials it."""
        self.nodes[name].stop()
        self.start(name)
        identity = self.nodes[name].identity
        assert identity is not None
        until(
            lambda: (
                not self.peers(name)
                and not any(identity[0] in self.peers(other) for other in others)
            ),
            f"node {name} is parted from {others}",
        )

    def meet(self, who: Person, name: str, other: str) -> None:
        """Let one node dial another, as an operator does, and return once it is connected."""
        one = self.nodes[name]
        address = self.nodes[other].node.ask("GET", "/v1/node")[1]["addresses"][0]
        who.run("peers", "--dial", address, "--node", one.url, "--data-dir", one.folder)

    def peers(self, name: str) -> set[str]:
        return {one["peer"] for one in self.get(name, "/v1/peers")["items"]}

    def get(self, name: str, path: str, status: int = 200) -> Any:
        found, said = self.nodes[name].node.ask("GET", path)
        assert found == status, (name, path, found, said)
        return said

    def shown(self, name: str, record: str) -> dict[str, Any]:
        """Return what a node shows of a record, without what is its own; empty if nothing."""
        status, found = self.nodes[name].node.ask("GET", f"/v1/models/{record}")
        return found if status == 200 else {}

    def agreed(
        self, names: str, record: str, holds: Callable[[dict[str, Any]], bool] = bool
    ) -> dict[str, Any]:
        """Wait until nodes show the same, for which something holds, and return that."""
        seen: list[dict[str, Any]] = []

        def same() -> bool:
            seen[:] = [self.shown(name, record) for name in names]
            return all(one == seen[0] for one in seen) and holds(seen[0])

        until(same, lambda: f"nodes {names} agree on {record[:8]}: {seen}")
        return seen[0]

    def copy(self, name: str, network: NetworkId, record: str) -> RecordCopy:
        """Return a verified copy of a record, as anybody can make one."""
        client = self._open.enter_context(Client(self.nodes[name].url))
        found = RecordCopy(client, "models", RecordId(bytes.fromhex(record)), network)
        found.refresh()
        return found


def haunted(draft: CardDraft) -> None:
    """Leave traces in a card that nobody can miss."""
    draft.replace_text(f"GHOST {draft.text}")
    draft.add_tag("ghost")


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Run several people's work at the same time and return what each made."""
    with ThreadPoolExecutor(len(works)) as pool:
        return [one.result() for one in [pool.submit(work) for work in works]]


def until(holds: Callable[[], bool], what: str | Callable[[], str]) -> None:
    """Wait until nodes, which are other processes, show that something is so."""
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        said = what if isinstance(what, str) else what()
        assert time.monotonic() < end_s, f"not in {PATIENCE_S} s: {said}"
        time.sleep(0.05)  # another process: there is no event to wait for
