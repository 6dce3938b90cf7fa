"""A node, and a person with an account, for the tests that type commands."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.node.cli.api_node import ApiNode, api_node
from tests.node.cli.shell import Shell


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiNode]:
    # Unconfigured, structlog writes to standard output, which is what is tested here.
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet)
    with api_node(tmp_path_factory.mktemp("node")) as found:
        yield found
    structlog.reset_defaults()


@pytest.fixture
def shell(
    node: ApiNode,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Shell:
    """A person with one account that is protected by a key file."""
    key = tmp_path / "unlock"
    key.write_bytes(b"0123456789abcdef")
    key.chmod(0o600)
    monkeypatch.setenv("HANSA_ACCOUNTS_DIR", str(tmp_path / "accounts"))
    monkeypatch.setenv("HANSA_KEY_FILE", str(key))
    monkeypatch.setenv("HANSA_NODE__DATA_DIR", str(node.data_dir))
    monkeypatch.setenv("COLUMNS", "200")
    found = Shell(node, tmp_path, capsys)
    found("account", "create", "anna", "--network", "test")
    return found
