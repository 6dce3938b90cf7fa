"""What is wrong with a record, a query or a reference."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import cast

from crdt import RemoteFault, UserFault

VALUE_CHARACTERS_MAX = 120


@dataclass(frozen=True, slots=True)
class Problem:
    """One bad field.

    Attributes:
        field: Its path, as `resource_requirements.min_vcpus` or `tags[3]`.
        value: What was given, shortened, as Python shows it.
        message: What is wrong, and the bound that it breaks.
    """

    field: str
    value: str
    message: str


class InvalidRecord(UserFault):
    """A record that breaks its schema; `problems` has every bad field at once."""

    code = "invalid-record"

    def __init__(self, problems: Sequence[Problem]) -> None:
        assert problems
        self.problems = tuple(problems)
        lines = "; ".join(f"{p.field} = {p.value}: {p.message}" for p in self.problems[:20])
        more = f"; and {len(problems) - 20} more" if len(problems) > 20 else ""
        super().__init__(f"{len(problems)} bad field(s): {lines}{more}")


class BadRecord(RemoteFault):
    """A signed put whose body is no record of ours: never effective, for anybody."""

    code = "bad-record"


class BadQuery(UserFault):
    """A search with a parameter that does not exist or a value out of its bounds."""

    code = "bad-query"


class BadReference(UserFault):
    """Text that does not name a record."""

    code = "bad-reference"


def shown(value: object) -> str:
    """Return a value as a message shows it: short, and printable whatever it is."""
    if isinstance(value, dict | list | tuple | set):  # never walked: it may be deep
        what = "an object" if isinstance(value, dict) else "a list"
        return f"{what} of {len(cast('Sized', value))}"
    text = ascii(value[: VALUE_CHARACTERS_MAX + 1] if isinstance(value, str) else value)
    if len(text) <= VALUE_CHARACTERS_MAX:
        return text
    return text[: VALUE_CHARACTERS_MAX - 1] + "\N{HORIZONTAL ELLIPSIS}"
