"""The rules of style that no off-the-shelf linter checks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("crdt", "registry", "templates", "royalties", "inference", "node", "bench")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FUNCTION_LINES_MAX = 70
BANNED_NAMES = {"utils", "helpers", "common", "manager", "base"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_says_what_it_is_and_its_functions_are_short(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module starts with a docstring"
    for node in ast.walk(tree):
        if isinstance(node, Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_is_named_for_its_idea(path: Path) -> None:
    assert path.stem not in BANNED_NAMES


def test_a_face_holds_no_logic() -> None:
    for package in PACKAGES[:-1]:
        tree = ast.parse((ROOT / package / "__init__.py").read_text())
        for node in tree.body:
            assert isinstance(node, ast.Expr | ast.Import | ast.ImportFrom | ast.Assign), (
                f"{package}/__init__.py line {node.lineno}: only a docstring, imports and __all__"
            )


def test_only_the_wire_module_speaks_msgpack() -> None:
    for path in SOURCES:
        modules = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert "msgpack" not in modules or name_of(path) == "crdt/wire.py"


def test_no_fixme_is_left() -> None:
    marker = "FIX" + "ME"
    assert not [name_of(path) for path in SOURCES if marker in path.read_text()]
