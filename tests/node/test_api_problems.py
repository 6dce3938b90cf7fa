"""The table of errors: every code that the program can raise has its row."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from crdt import UserFault, WorldFault
from node.api.errors import BadFields
from node.api.problems import EXIT_MEANINGS, TABLE, Exit, exit_status, problem_document

ROOT = Path(__file__).parents[2]
PACKAGES = ("crdt", "registry", "templates", "royalties", "inference", "node")


def codes():
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    for line in node.body:
                        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "code":
                            yield ast.literal_eval(line.value)


def test_every_code_has_a_row():
    assert set(codes()) - set(TABLE) == set()


def test_every_exit_status_has_a_meaning():
    assert set(EXIT_MEANINGS) == set(Exit)


def test_a_bug_does_not_tell_its_text():
    status, document = problem_document(RuntimeError("secret"), request_id="r", instance="/")
    assert (status, document["code"]) == (500, "bug")
    assert "secret" not in str(document)


def test_bad_fields_are_all_there():
    error = BadFields("the body", [{"field": "a", "value": 1, "message": "m"}])
    _, document = problem_document(error, request_id="r", instance="/")
    assert document["problems"] == [{"field": "a", "value": 1, "message": "m"}]


class NewerFault(WorldFault):
    code = "of-a-newer-program"


class NewerMistake(UserFault):
    code = "of-a-newer-program"


@pytest.mark.parametrize(
    ("error", "status"),
    [(NewerFault("x"), Exit.BUSY), (NewerMistake("x"), Exit.INVALID), (KeyError("x"), Exit.BUG)],
)
def test_an_unknown_error_ends_by_its_kind(error, status):
    assert exit_status(error) == status
