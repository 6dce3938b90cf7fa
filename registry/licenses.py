"""SPDX licence expressions: their grammar, and which identifiers SPDX knows.

The two are apart on purpose. The grammar is fixed, so every node judges a remote record alike. The
list of identifiers grows with each release of the library: it binds who writes (the HTTP
interface, the command line), never the replica, or an older node would refuse for ever what a newer
one accepts.
"""

# license_expression ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any

LICENSE_CHARACTERS_MAX = 256
PARENTHESES_MAX = 16
_TOKEN = re.compile(r"\s*(?:([()])|(AND|OR|WITH)(?=[\s()]|$)|([A-Za-z0-9][A-Za-z0-9.:-]*\+?))")


@lru_cache(maxsize=4096)
def grammar_fault(text: str) -> str | None:
    """Return why `text` is no SPDX licence expression; None when it is one."""
    depth, at, operand = 0, 0, True
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            return f"{text[at : at + 20]!r} at character {at + 1} is not part of an SPDX expression"
        parenthesis, operator, _name = match.groups()
        wants_operand = parenthesis == "(" or (parenthesis is None and operator is None)
        if wants_operand != operand:
            wanted = "a licence" if operand else "AND, OR or WITH"
            return f"{match.group().strip()!r} at character {at + 1} where {wanted} is expected"
        if parenthesis == "(":
            depth += 1
        elif parenthesis == ")":
            depth -= 1
        else:
            operand = operator is not None
        if not 0 <= depth <= PARENTHESES_MAX:
            return "parentheses do not match, or are nested too deep"
        at = match.end()
    if operand or depth:
        return "the expression ends too early"
    return None


@lru_cache(maxsize=4096)
def identifier_fault(text: str) -> str | None:
    """Return what is not an identifier of SPDX's list in a well-formed expression, and a hint."""
    from license_expression import ExpressionError, ExpressionParseError

    try:
        unknown = _spdx().unknown_license_keys(text)
        spelt = str(_spdx().parse(text, strict=True).render()) if not unknown else text
    except (ExpressionError, ExpressionParseError) as error:
        return f"not an SPDX expression: {str(error)[:120]}"
    missing = [key for key in unknown if not key.startswith(("LicenseRef-", "DocumentRef-"))]
    if missing:
        return (
            f"{missing[0]!r} is not an SPDX licence identifier; see https://spdx.org/licenses, "
            "or write LicenseRef-NAME for one of your own"
        )
    names, wanted = re.findall(r"[^\s()]+", text), re.findall(r"[^\s()]+", spelt)
    for name, canonical in zip(names, wanted, strict=False):
        if name != canonical and name.lower() == canonical.lower():
            return f"{name!r} is spelt {canonical!r}"
    return None


@cache
def _spdx() -> Any:
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()
