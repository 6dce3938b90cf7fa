"""From words to the typed tree, strictly: what is wrong first is named, with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from templates.errors import FormfileError
from templates.grammar import BY_WORD, FORMAT, Directive, Slot
from templates.lexer import Token, is_mark, lex
from templates.tree import Formfile

DIRECTIVE_COUNT_MAX = 512
_OPENING = re.compile(r"(?<!\$)\$\{([^}]*)(\}?)")
_OPENING_OR_ESCAPED = re.compile(r"\$\$\{|\$\{([^}]*)\}")


def parse_formfile(text: str) -> Formfile:
    """Return the tree of a Formfile of version 2.

    Raises:
        FormfileError: with the line and column of what is wrong.
    """
    lines = lex(text)
    _check_format(lines)
    declared = frozenset(line[1].text for line in lines if line[0].text == "PARAM" and line[1:])
    for line in lines[1:]:
        for token in line[1:]:
            _check_placeholders(token, declared, is_param=line[0].text == "PARAM")
    return tree_of(lines[1:])


def substitute(text: str, values: Mapping[str, str]) -> Formfile:
    """Return the tree of a Formfile with every `${name}` replaced; words stay words.

    Raises:
        FormfileError: what a value makes is not what its directive takes.
    """
    lines = [
        [line[0], *(_substituted(token, values) for token in line[1:])]
        for line in lex(text)
        if line[0].text not in {"FORMAT", "PARAM"}
    ]
    return tree_of(lines)


def is_version_2(text: str) -> bool:
    """Whether the first instruction is `FORMAT`: without one a file is of version 1."""
    lines = lex(text)
    return bool(lines) and lines[0][0].text == "FORMAT"


def tree_of(lines: list[list[Token]]) -> Formfile:
    """Return the tree that instructions make."""
    if len(lines) > DIRECTIVE_COUNT_MAX:
        raise lines[DIRECTIVE_COUNT_MAX][0].fault(f"more than {DIRECTIVE_COUNT_MAX} directives")
    values: dict[str, Any] = {}
    for line in lines:
        directive = _directive(line[0])
        value = _array(line) if directive.array else _value(directive, line)
        if directive.many:
            values.setdefault(directive.attribute, []).append(value)
        elif directive.attribute in values:
            raise line[0].fault(f"{directive.word} is there a second time; it may be there once")
        else:
            values[directive.attribute] = value
    last = lines[-1][-1] if lines else Token("", 1, 1)
    for needed in ("kind", "name"):
        if needed not in values:
            raise last.fault(f"the file has no {needed.upper()}")
    _check_names(values, lines)
    for directive in BY_WORD.values():
        if directive.many and directive.attribute in values:
            values[directive.attribute] = tuple(values[directive.attribute])
    return Formfile(**values)


def _check_format(lines: list[list[Token]]) -> None:
    if not lines or lines[0][0].text != "FORMAT":
        at = lines[0][0] if lines else Token("", 1, 1)
        raise at.fault("the first instruction of a Formfile is FORMAT 2")
    words = [token.text for token in lines[0][1:]]
    if words != [FORMAT]:
        raise lines[0][-1].fault(f"FORMAT {' '.join(words)[:40]} is unknown; this reads FORMAT 2")


def _directive(token: Token) -> Directive:
    directive = BY_WORD.get(token.text)
    if directive is None or token.quoted:
        raise token.fault(
            f"unknown directive {token.text[:40]!r}{_hint(token.text.upper(), BY_WORD)}"
        )
    return directive


def _hint(text: str, known: Any) -> str:
    near = get_close_matches(text[:40], list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _value(directive: Directive, line: list[Token]) -> Any:
    words = line[1:]
    found: dict[str, Any] = {}
    places = [slot for slot in directive.slots if not slot.keyword]
    for slot in places:
        if slot.rest:
            found[slot.attribute] = _rest(slot, words, line[0])
            words = []
        elif words and (slot.required or not _option(directive, words[0])):
            found[slot.attribute] = _read(slot, words[0], words[0].text)
            words = words[1:]
        elif slot.required:
            raise line[-1].fault(f"{directive.word} needs {slot.attribute}: {slot.type.name}")
    for token in words:
        option = _option(directive, token)
        if option is None:
            raise token.fault(_surplus(directive, token))
        if option.attribute in found:
            raise token.fault(f"{option.keyword} is there a second time")
        text = token.text[len(option.keyword) :]
        found[option.attribute] = _read(option, token, text)
    for slot in directive.options:
        if slot.required and slot.attribute not in found:
            raise line[-1].fault(f"{directive.word} needs {slot.keyword}")
    if directive.make is None:
        return found[directive.slots[0].attribute]
    return directive.make(**found)


def _surplus(directive: Directive, token: Token) -> str:
    known = [slot.keyword for slot in directive.options]
    if not known:
        return f"{token.text[:40]!r} is left over after {directive.word}"
    hint = _hint(token.text.partition("=")[0] + "=", known)
    return f"{token.text[:40]!r} is not of {directive.word} (it takes {', '.join(known)}){hint}"


def _option(directive: Directive, token: Token) -> Slot | None:
    return next((s for s in directive.options if token.text.startswith(s.keyword)), None)


def _rest(slot: Slot, words: list[Token], at: Token) -> Any:
    if not words:
        raise at.fault(f"{at.text} needs {slot.attribute}")
    if slot.rest == "join":
        return _read(slot, words[0], " ".join(token.text for token in words))
    return tuple(_read(slot, token, token.text) for token in words)


def _read(slot: Slot, token: Token, text: str) -> Any:
    try:
        return slot.type.read(text)
    except ValueError as error:
        raise token.fault(f"{slot.keyword or slot.attribute} {error}") from None


def _array(line: list[Token]) -> tuple[str, ...]:
    """Return the words of `["a", "b"]`, whose quotes may be left out of a plain word."""
    words = line[1:]
    shape = f'{line[0].text} takes ["program", "argument", ...]'
    if len(words) < 2 or not is_mark(words[0], "[") or not is_mark(words[-1], "]"):
        raise (words or line)[0].fault(shape)
    inner = words[1:-1]
    for at, token in enumerate(inner):
        mark = not token.quoted and token.text in {"[", "]", ","}
        if (at % 2 == 0) == mark or (at % 2 == 1 and token.text != ","):
            raise token.fault(f"{token.text[:20]!r} is not expected here; {shape}")
    if len(inner) % 2 == 0:
        raise words[-1].fault(f"a word is missing here; {shape}")
    return tuple(token.text for token in inner[::2])


def _check_placeholders(token: Token, declared: frozenset[str], *, is_param: bool) -> None:
    for match in _OPENING.finditer(token.text):
        name, closing = match.groups()
        if not closing:
            raise token.fault("${ without its }; write $${ for the text itself")
        if is_param:
            raise token.fault("a PARAM cannot refer to another one")
        if name not in declared:
            raise token.fault(f"${{{name[:40]}}} is not a declared PARAM{_hint(name, declared)}")


def _substituted(token: Token, values: Mapping[str, str]) -> Token:
    if "${" not in token.text:
        return token
    # In one pass: what a value brings in is never looked at again, whatever it looks like.
    text = _OPENING_OR_ESCAPED.sub(
        lambda match: "${" if match.group(1) is None else values[match.group(1)], token.text
    )
    return replace(token, text=text, quoted=True)


_UNIQUE = {"params": "name", "secrets": "name", "env": "name", "custom": "name", "models": "slot",
           "connects": "name", "tools": "name", "caps": "name"}  # fmt: skip


def _check_names(values: Mapping[str, Any], lines: list[list[Token]]) -> None:
    for attribute, key in _UNIQUE.items():
        seen: set[str] = set()
        for number, node in enumerate(values.get(attribute, ())):
            name = getattr(node, key)
            if name in seen:
                word = next(w for w, d in BY_WORD.items() if d.attribute == attribute)
                at = [line[0] for line in lines if line[0].text == word][number]
                raise at.fault(f"{word} {name} is there a second time")
            seen.add(name)


__all__ = ["FormfileError", "is_version_2", "parse_formfile", "substitute", "tree_of"]
