"""A card in the user's editor: what is opened, what is read back, and what is not lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from crdt import Card, PublicKey
from node.cli.editing import Changes, Page, changed, check_page, page_of, read, written
from node.cli.editor import edited, kept
from node.cli.errors import BadUsage
from registry import InvalidRecord

OWN = PublicKey(b"\x01" * 32)
PAGE = Page("Reads maps.\n+++ in the text +++\n", ["maps", "tiny"], {"mmlu": 0.5, "name": "x"})


def test_what_is_opened_is_read_back_as_it_was() -> None:
    assert read(written(PAGE)) == PAGE
    assert read(written(Page("", [], {}))) == Page("", [], {})


def test_a_page_shows_ones_own_evaluations_only() -> None:
    card = Card("text", ("a",), {OWN.hex(): {"mmlu": 1}, "ee" * 32: {"mmlu": 9}})
    assert page_of(card, OWN) == Page("text", ["a"], {"mmlu": 1})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no front matter", "has to begin"),
        ("+++\ntags = [\n+++\n", "not TOML"),
        ("+++\ntags = 'a'\n+++\n", "list of texts"),
        ("+++\nname = 'a'\n+++\n", "no part of a card"),
        ("+++\nevaluations = 1\n+++\n", "table"),
    ],
)
def test_what_cannot_be_read_back_is_told(text: str, said: str) -> None:
    with pytest.raises(BadUsage, match=said):
        read(text)


def test_options_change_a_page() -> None:
    changes = Changes("new", ["b", "a"], ["maps"], ["mmlu=0.75", "note=good"], ["name"])
    assert changed(PAGE, changes) == Page("new", ["a", "b", "tiny"], {"mmlu": 0.75, "note": "good"})
    assert Changes().is_empty
    assert not Changes(text="").is_empty


def test_a_page_that_no_version_could_say_is_told() -> None:
    check_page("models", PAGE)
    with pytest.raises(InvalidRecord):
        check_page("models", Page("x" * 60_000, [], {}))
    with pytest.raises(InvalidRecord):
        check_page("agents", Page("", ["a\tb"], {}))


def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = tmp_path / "my editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"'{path}' --wait")


def test_the_users_editor_is_opened_with_its_own_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(tmp_path, monkeypatch, 'test "$1" = --wait && echo more >> "$2"')
    assert edited("text\n") == "text\nmore\n"


@pytest.mark.parametrize(
    ("script", "said"),
    [("exit 3", "status 3"), ('printf "\\377" > "$2"', "cannot be read")],
)
def test_an_editor_that_fails_is_told(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(tmp_path, monkeypatch, script)
    with pytest.raises(BadUsage, match=said):
        edited("text")


@pytest.mark.parametrize(("command", "said"), [("/no/such", "does not start"), ("'", "no")])
def test_an_editor_that_is_not_there_is_told(
    command: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUAL", command)
    with pytest.raises(BadUsage, match=said):
        edited("text")


def test_what_cannot_be_sent_is_kept() -> None:
    path = kept("précieux\n")
    try:
        assert path.read_text(encoding="utf-8") == "précieux\n"
        assert path.stat().st_mode & 0o077 == 0
    finally:
        path.unlink()
