"""From the validator's errors to ours: one line for each bad field, in the field's own words."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from registry.errors import Problem, shown
from registry.fields import TAG_KNOWN, TAG_OTHER
from registry.semver import SEMVER_PATTERN
from registry.shared import PROBLEMS

PROBLEM_COUNT_MAX = 100
_PATTERNS = {
    SEMVER_PATTERN: "is not a semantic version; write MAJOR.MINOR.PATCH, as 0.1.0",
    r"^[0-9a-f]{64}$": "is not 64 lower-case hex digits",
    r"^[a-z0-9]+(?:-[a-z0-9]+)*$": "is not a region; lower-case letters, digits, dashes: eu-west",
}


def problems_of(error: ValidationError) -> list[Problem]:
    """Return every problem in a validation error, in the order of the fields."""
    found: list[Problem] = []
    for one in error.errors(include_url=False):
        if one["type"] == PROBLEMS:
            found += one.get("ctx", {})["problems"]
        else:
            value = shown(one["input"]) if one["type"] != "missing" else "nothing"
            found.append(Problem(_path(one["loc"]) or "record", value, _message(one)))
    unique = {(p.field, p.message): p for p in found}
    return list(unique.values())[:PROBLEM_COUNT_MAX]


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        if part in {TAG_KNOWN, TAG_OTHER}:
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path[:200]


def _message(error: Any) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "is not a field of this record; remove it"
        case "value_error":
            return str(context["error"])
        case "string_pattern_mismatch":
            pattern = context["pattern"]
            return _PATTERNS.get(
                pattern, "has control characters or spaces at an end, or is no URL"
            )
        case "literal_error":
            return f"is none of {context['expected']}" + (
                '; for one of your own write {"Other": "NAME"}' if TAG_KNOWN in error["loc"] else ""
            )
        case "tuple_type":
            return "should be a list"
        case "model_type" | "dict_type" | "model_attributes_type":
            return "should be an object"
        case "string_unicode":
            return "is not valid Unicode text"
        case _:
            return str(error["msg"]).replace("Input should", "should")
