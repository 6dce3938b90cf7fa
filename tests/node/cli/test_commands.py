"""The command line as a whole: every command explained, every example meant, fast to start."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from node.cli import app, run
from node.cli.reference import commands, example_of, reference

ROOT = Path(__file__).parents[3]
TREE: Any = typer.main.get_command(app)
COMMANDS = list(commands(TREE))
NAMES = [" ".join(path) for path, _ in COMMANDS]

EXPECTED = """
run status doctor peers offers serve serving fetch build publish usage storage
account create|account show|account list|config show|engine install|engine doctor
models create|models update|models delete|models validate|models show|models list|models search
models versions|models deps|models conflicts|agents create|agents show|agents search|agents deps
agents conflicts|audit
route explain|sync status|keys create|keys list|keys revoke
royalties statement|royalties verify|templates check|templates render|templates digest
"""


def test_every_command_that_was_promised_is_there() -> None:
    first, *rest = EXPECTED.strip().splitlines()
    wanted = [*first.split(), *(name for line in rest for name in line.split("|"))]
    assert not {f"hansa {name}" for name in wanted} - set(NAMES)


@pytest.mark.parametrize(("path", "one"), COMMANDS, ids=NAMES)
def test_a_commands_example_is_a_call_of_it_that_parses(path: tuple[str, ...], one: Any) -> None:
    words = shlex.split(example_of(one))
    assert tuple(words[: len(path)]) == path
    with one.make_context(path[-1], words[len(path) :], obj=None) as context:
        assert context.args == []


@pytest.mark.parametrize(("path", "one"), COMMANDS, ids=NAMES)
def test_a_command_and_each_of_its_parameters_is_explained(path: tuple[str, ...], one: Any) -> None:
    first = one.help.strip().splitlines()[0]
    assert first.endswith("."), f"{path}: the first line is a sentence"
    for parameter in one.params:
        assert parameter.help, f"{path}: {parameter.name} has no help"
    assert "--json" in [flag for parameter in one.params for flag in parameter.opts]


def test_the_reference_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    assert page == reference(), "run: python -m node.cli.reference docs/cli.md"


def test_a_wrong_option_is_one_line_and_exit_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "list", "--limitt", "3"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hansa: No such option")
    assert "hansa models list --help" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [["nonsense"], ["models", "list", "--limit", "0"], ["fetch"]])
def test_bad_usage_exits_with_2_and_says_where_help_is(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    assert "--help" in capsys.readouterr().err


HEAVY = (  # Parsing a group's own options makes typer import pydantic, so it is held to one page.
    "Crypto aiohttp asyncio base58 crdt inference libp2p msgpack nacl node.app node.client"
    " node.config registry royalties sqlite3 ssl structlog templates trio uvloop"
)


@pytest.mark.parametrize("words", [["--help"], ["models", "--help"], ["run", "--help"]])
def test_help_imports_what_it_shows_with_and_no_more(words: list[str]) -> None:
    heavy = [*HEAVY.split(), *(["pydantic"] if words == ["--help"] else [])]
    program = (
        f"import sys; from node.cli import run; run({words});"
        f"print(sorted(set({heavy}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    assert "Usage: hansa" in done.stdout


def test_what_edits_without_live_is_loaded_without_its_server() -> None:
    program = (
        "import sys; import node.cli.editing, node.client, node.cli.records;"
        "print(sorted({'aiohttp', 'asyncio', 'node.live', 'node.cli.live'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_optimised_interpreter_is_refused() -> None:
    program = "from node.cli import run; raise SystemExit(run(['account', 'list']))"
    done = subprocess.run(
        [sys.executable, "-O", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "start without -O" in done.stderr
