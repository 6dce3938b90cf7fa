"""Semantic versions and ranges of them: which version of a record is meant."""

# semantic_version ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

VERSION_CHARACTERS_MAX = 64
RANGE_CHARACTERS_MAX = 64
_NUMBER = r"(?:0|[1-9][0-9]{0,9})"
_LABEL = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
SEMVER_PATTERN = (
    rf"^{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_LABEL}(?:\.{_LABEL})*)?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?$"
)
"""semver.org's own expression, with numbers of at most ten digits."""
_SEMVER = re.compile(SEMVER_PATTERN)
_TERM = (
    rf"(?:\^|~|>=|<=|>|<|=)?{_NUMBER}(?:\.{_NUMBER}(?:\.{_NUMBER}(?:-{_LABEL}(?:\.{_LABEL})*)?)?)?"
)
_RANGE = re.compile(rf"\*|{_TERM}(?: {_TERM}){{0,3}}")


def is_version(text: str) -> bool:
    """Whether `text` is a semantic version."""
    return len(text) <= VERSION_CHARACTERS_MAX and _SEMVER.fullmatch(text) is not None


def is_range(text: str) -> bool:
    """Whether `text` is a range: `*`, or 1..4 of `^1.2`, `~1.2.3`, `>=1`, `<2`, `1.2.3`."""
    return len(text) <= RANGE_CHARACTERS_MAX and _RANGE.fullmatch(text) is not None


def in_range(version: str, range_: str) -> bool:
    """Whether a version is in a range (npm's meaning of `^` and `~`; `*` is any)."""
    assert is_version(version)
    assert is_range(range_)
    return range_ == "*" or bool(_spec(range_).match(_parsed(version)))


def version_key(version: str) -> tuple[Any, ...]:
    """Return a key that sorts versions by precedence, equal ones by their build label."""
    parsed = _parsed(version)
    return (parsed.precedence_key, version)


def best_version(versions: Iterable[str], range_: str) -> str | None:
    """Return the greatest of the versions in a range, or None."""
    fits = [v for v in versions if is_version(v) and in_range(v, range_)]
    return max(fits, key=version_key, default=None)


@lru_cache(maxsize=1024)
def _spec(range_: str) -> Any:
    from semantic_version import NpmSpec  # type: ignore[attr-defined]

    return NpmSpec(range_)


@lru_cache(maxsize=4096)
def _parsed(version: str) -> Any:
    from semantic_version import Version  # type: ignore[attr-defined]

    return Version(version)
