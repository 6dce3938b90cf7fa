"""What reaches standard output and standard error, for machines and for people."""

from __future__ import annotations

import json

import pytest

from node.cli.progress import Meter
from node.cli.screen import Screen, sheet, table

ROWS = [("llama [bold]x[/]", 7), ("mistral", None)]


def test_json_is_the_only_thing_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(json=True)
    screen.note("a note")
    screen.success("done")
    screen.result([{"name": "ä"}], lambda: table(("name",), []))
    with Meter(screen, "Fetch") as meter:
        meter.at(1, 2)
    out, err = capsys.readouterr()
    assert json.loads(out) == [{"name": "ä"}]
    assert err == ""


def test_a_table_shows_text_as_it_is_and_never_as_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Screen(json=False).result(None, lambda: table(("model", "slots"), ROWS, right=("slots",)))
    out, err = capsys.readouterr()
    assert "llama [bold]x[/]      7" in out
    assert "mistral               –" in out
    assert err == ""


def test_a_sheet_leaves_out_what_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = {"name": "a", "none": None, "empty": [], "tags": ["x", "y"], "gpu": False}
    Screen(json=False).result(None, lambda: sheet(pairs))
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines()] == [
        ["name", "a"], ["tags", "x,", "y"], ["gpu", "no"],
    ]  # fmt: skip


def test_lines_that_are_piped_end_where_their_text_ends(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(json=False).result(None, lambda: table(("model", "kind"), [("a", "x"), ("b", "longer")]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["a      x", "b      longer"]


def test_a_failure_is_one_line_and_lists_bad_fields_under_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    problems = [{"field": "name", "value": 3, "message": "must be text"}]
    Screen(json=False).failure(
        code="x", message="two\nlines; do this", exit_status=4, problems=problems
    )
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "hansa: two lines; do this\n  name: must be text\n"


def test_a_failure_as_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(json=True).failure(code="x", message="no; do this", exit_status=4)
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {"code": "x", "message": "no; do this", "exit_status": 4}


def test_progress_off_a_terminal_is_a_few_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Meter(Screen(json=False), "Fetch") as meter:
        for done in range(101):
            meter.at(done << 20, 100 << 20, stage="chunks", note="1 source")
        meter.at(None, None, stage="checking")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Fetch: chunks, 0 B of 100 MiB (0 %), 1 source"
    assert lines[1] == "Fetch: checking"
    assert lines[2].startswith("Fetch: done in ")
    assert len(lines) == 3


def test_progress_says_nothing_more_when_the_work_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), Meter(Screen(json=False), "Fetch"):
        raise ValueError("broken")
    assert capsys.readouterr().err == ""
