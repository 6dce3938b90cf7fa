"""What is shipped is what is meant: the six packages by name, and no one else's."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"node", "crdt", "registry", "templates", "inference", "royalties"}


def test_the_wheel_lists_the_packages_by_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == PACKAGES


def test_no_other_distribution_ships_our_names() -> None:
    owners = importlib.metadata.packages_distributions()
    for package in PACKAGES:
        others = set(owners.get(package, [])) - {"hansa"}
        assert not others, f"{package} is also shipped by {sorted(others)}"


def test_every_dependency_is_bounded_above() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"] + project["optional-dependencies"]["dev"]:
        assert "<" in requirement or "==" in requirement, f"{requirement} has no upper bound"


def test_the_container_installs_the_same_versions() -> None:
    def pins(name: str) -> set[str]:
        lines = (ROOT / name).read_text().splitlines()
        return {line.split()[0] for line in lines if "==" in line and not line.startswith("#")}

    assert pins("requirements.run.lock") <= pins("requirements.lock")
    assert "pytest" not in (ROOT / "requirements.run.lock").read_text()


def test_the_lock_holds_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text()
    for requirement in project["dependencies"] + project["optional-dependencies"]["dev"]:
        name = requirement.split(">")[0].split("=")[0].strip()
        assert f"\n{name}==" in lock, f"{name} is not in requirements.lock; see CONTRIBUTING.md"
