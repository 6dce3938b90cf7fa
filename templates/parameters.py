"""What a deployer sets: values for a template's parameters, checked all at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches

from templates.errors import BadParameters
from templates.parser import substitute
from templates.tree import Formfile, Param
from templates.values import TEXT_CHARACTERS_MAX, read_size
from templates.writer import write_formfile

MATCHED_CHARACTERS_MAX = 512
"""Two repetitions over so many characters are matched in milliseconds, whatever the pattern."""


def parameter_values(formfile: Formfile, given: Mapping[str, str | int | bool]) -> dict[str, str]:
    """Return the text of every parameter: what is given, else its default.

    Raises:
        BadParameters: unknown, missing, or out of bounds; all of them at once.
    """
    faults: list[str] = []
    values: dict[str, str] = {}
    known = {param.name: param for param in formfile.params}
    for name in given:
        if name not in known:
            near = get_close_matches(name, list(known), n=1)
            hint = (
                f"; did you mean {near[0]}?" if near else f"; it has {', '.join(known) or 'none'}"
            )
            faults.append(f"parameter {name[:60]!r} is unknown{hint}")
    for param in formfile.params:
        value = given.get(param.name, param.default)
        if value is None:
            faults.append(f"parameter {param.name} must be set ({param.type})")
            continue
        text = str(value).lower() if isinstance(value, bool) else str(value)
        fault = _fault(param, text)
        if fault is not None:
            faults.append(f"parameter {param.name} = {text[:80]!r} {fault}")
        values[param.name] = text
    if faults:
        raise BadParameters(tuple(faults))
    return values


def bind(formfile: Formfile, given: Mapping[str, str | int | bool]) -> Formfile:
    """Return the template with its parameters filled in and none left.

    Raises:
        BadParameters: a value that the template does not take.
        FormfileError: a value makes something that its directive does not take.
    """
    return substitute(write_formfile(formfile), parameter_values(formfile, given))


def preset(formfile: Formfile, given: Mapping[str, str | int | bool]) -> Formfile:
    """Return the template with other defaults; every parameter stays the deployer's to set.

    What a creator puts in a record: a deployer still gives the folder of the weights, say.

    Raises:
        BadParameters: a value that the template does not take.
    """
    chosen = tuple(param for param in formfile.params if param.name in given)
    # With a name that is unknown, the whole template is asked, so that the message can help.
    asked = formfile if len(chosen) < len(given) else replace(formfile, params=chosen)
    values = parameter_values(asked, given)
    params = tuple(
        replace(param, default=values[param.name]) if param.name in given else param
        for param in formfile.params
    )
    return replace(formfile, params=params)


def _fault(param: Param, text: str) -> str | None:
    if len(text) > TEXT_CHARACTERS_MAX or not (text.isprintable() or text == ""):
        return f"is longer than {TEXT_CHARACTERS_MAX} characters, or has control characters"
    number: int | None = None
    if param.type == "int":
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            return "is not an integer"
        number = int(text)
    elif param.type == "size":
        try:
            number = read_size(text)
        except ValueError as error:
            return str(error)
    elif param.type == "bool" and text not in {"true", "false"}:
        return "is not true or false"
    measured = len(text) if number is None else number
    if param.minimum is not None and measured < param.minimum:
        return f"is below the minimum {param.minimum}"
    if param.maximum is not None and measured > param.maximum:
        return f"is above the maximum {param.maximum}"
    if param.enum is not None and text not in param.enum:
        return f"is none of {', '.join(param.enum)}"
    if param.pattern is not None and (
        len(text) > MATCHED_CHARACTERS_MAX or re.fullmatch(param.pattern, text) is None
    ):
        return f"does not match {param.pattern}"
    return None
