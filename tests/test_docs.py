"""What the documents say is what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.docs import DOCS, PAGES, TABLES

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name](), "run `make docs` and commit what it writes"


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_table_of_the_readme_is_what_was_last_recorded(name: str) -> None:
    written = f"<!-- {name} -->\n{TABLES[name]()}\n<!-- /{name} -->"
    assert written in (ROOT / "README.md").read_text(), "run `make docs` and commit what it writes"


@pytest.mark.parametrize("page", [*sorted(p.name for p in ROOT.glob("*.md")), "docs"])
def test_links_lead_somewhere(page: str) -> None:
    pages = sorted(DOCS.rglob("*.md")) if page == "docs" else [ROOT / page]
    for path in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        named = re.findall(r"`make ([a-z0-9-]+)", path.read_text())
        assert set(named) <= targets, f"{path.name}: {set(named) - targets}"


def test_every_package_has_its_design_page() -> None:
    for package in ("crdt", "registry", "templates", "royalties", "inference", "node"):
        assert (ROOT / package / "DESIGN.md").exists(), package
