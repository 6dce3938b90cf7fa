"""Log lines: no secret gets through, whatever field it stands in."""

import io
import json
import logging

import pytest
import structlog

from node.logs import HIDDEN, hide_secrets, set_up_logs

KEY = "hsk_" + "a" * 43


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("passphrase", "x"), ("operator_token", "x"), ("Authorization", "x"), ("node_seed", "x"),
        ("detail", f"the key {KEY} is wrong"), ("header", "Bearer " + "b" * 43),
        ("error", ValueError(f"bad {KEY}")), ("raw", KEY.encode()),
    ],
)  # fmt: skip
def test_secrets_are_hidden(name, value):
    line = hide_secrets(None, "info", {name: value, "event": "something"})
    assert HIDDEN in str(line[name])
    assert KEY not in str(line)


def test_an_exception_with_a_key_is_logged_without_it():
    root, handlers, level = logging.getLogger(), logging.getLogger().handlers[:], logging.root.level
    out = io.StringIO()
    try:
        set_up_logs(level="info", style="json", stream=out)
        logger = structlog.stdlib.get_logger("test.secrets")
        try:
            raise ValueError(f"cannot use {KEY}")
        except ValueError:
            logger.exception("failed")
        lines = [json.loads(line) for line in out.getvalue().splitlines()]
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
    assert lines[0]["event"] == "failed"
    assert KEY not in out.getvalue()
