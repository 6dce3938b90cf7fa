"""What a person reads when a node is ready names commands that work, and addresses that dial."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from node.api.node_views import NodeView
from node.banner import banner, dialable
from node.cli import app
from node.cli.reference import commands

COMMANDS = dict(commands(typer.main.get_command(app)))
HERE = Path("/home/ada/.local/share/hansa")


def view(**changes: Any) -> NodeView:
    return NodeView.model_validate(
        {
            "peer_id": "12D3KooWA", "public_key": "00" * 32, "operator_account": "00" * 32,
            "network": "main", "network_id": "00" * 32, "version": "0.1.0", "started_at": 1,
            "addresses": ["/ip4/10.1.2.3/tcp/4001/p2p/12D3KooWA"], "peer_endpoints": [],
            "api_url": "http://127.0.0.1:8420", "docs_url": "http://127.0.0.1:8420/docs",
            "peers": 0, "counts": {}, **changes,
        }
    )  # fmt: skip


@pytest.mark.parametrize("url", ["http://127.0.0.1:8420", "http://127.0.0.1:9000"])
def test_every_command_in_the_banner_is_a_call_that_parses(url: str) -> None:
    text = banner(view(api_url=url), data_dir=Path("/tmp/a"), data_default=HERE, activate=None)
    lines = [line.strip() for line in text.splitlines() if line.startswith("  hansa ")]
    assert len(lines) == 6
    for line in lines:
        words = shlex.split(line)
        path = next(one for one in COMMANDS if tuple(words[: len(one)]) == one)
        with COMMANDS[path].make_context(path[-1], words[len(path) :], obj=None):
            assert ("--node" in words) == (url != "http://127.0.0.1:8420" and _asks(words))


def _asks(words: list[str]) -> bool:
    return words[1] not in ("run", "account")


def test_the_banner_says_where_the_token_is_only_when_commands_would_not_find_it() -> None:
    usual = banner(view(), data_dir=HERE, data_default=HERE, activate=Path("/x/activate"))
    assert "--data-dir" not in usual
    assert "  . /x/activate\n" in usual
    moved = banner(view(), data_dir=Path("/tmp/a"), data_default=HERE, activate=None)
    assert "--data-dir /tmp/a" in moved
    assert "activate" not in moved


def test_a_node_on_loopback_only_does_not_invite_other_machines() -> None:
    alone = view(addresses=["/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWA"])
    assert "bootstrap" not in banner(alone, data_dir=HERE, data_default=HERE, activate=None)


@pytest.mark.parametrize(
    ("listens", "hosts", "expected"),
    [
        ("/ip4/127.0.0.1/tcp/1/p2p/A", ["10.0.0.1"], ["/ip4/127.0.0.1/tcp/1/p2p/A"]),
        ("/ip4/0.0.0.0/tcp/1/p2p/A", ["10.0.0.1", "h.example"], ["/ip4/10.0.0.1/tcp/1/p2p/A"]),
        ("/ip6/::/tcp/1/p2p/A", ["10.0.0.1", "2001:db8::2"], ["/ip6/2001:db8::2/tcp/1/p2p/A"]),
        ("/ip6/::/tcp/1/p2p/A", ["10.0.0.1"], ["/ip6/::/tcp/1/p2p/A"]),
    ],
)  # fmt: skip
def test_an_unspecified_address_becomes_those_that_can_be_dialled(
    listens: str, hosts: list[str], expected: list[str]
) -> None:
    assert dialable([listens], hosts) == expected


def test_a_node_on_a_network_of_its_own_says_so_in_what_to_type() -> None:
    ruled = view(network="main:work=14", operator_account=None)
    lines = banner(ruled, data_dir=HERE, data_default=HERE, activate=None).splitlines()
    assert "  hansa account create me --network main:work=14" in lines
    address = "/ip4/10.1.2.3/tcp/4001/p2p/12D3KooWA"
    assert f"  hansa run --set node.network=main:work=14 --set p2p.bootstrap={address}" in lines
    assert any("being worked for" in line for line in lines)
    usual = banner(view(), data_dir=HERE, data_default=HERE, activate=None)
    assert "worked for" not in usual
    assert "network=" not in usual
