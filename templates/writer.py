"""From the tree back to text, and to the canonical bytes whose hash records pin."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, cast

from crdt import encode, sha3
from templates.grammar import DIRECTIVES, Directive
from templates.lexer import quote
from templates.tree import Formfile

DOMAIN = "hansa/template"
FORMAT_NUMBER = 2


def write_formfile(formfile: Formfile) -> str:
    """Return the text of a Formfile; parsing it gives an equal tree."""
    lines = ["FORMAT 2"]
    for directive in DIRECTIVES:
        value = getattr(formfile, directive.attribute)
        if value is None or value == ():
            continue
        nodes = cast("tuple[Any, ...]", value) if directive.many else (value,)
        lines += [_line(directive, node) for node in nodes]
    return "\n".join(lines) + "\n"


def canonical_bytes(formfile: Formfile) -> bytes:
    """Return `["hansa/template", 2, field, ...]`: the same for every spelling of one tree."""
    return encode([DOMAIN, FORMAT_NUMBER, *_plain(formfile)])


def template_digest(formfile: Formfile) -> bytes:
    """Return the SHA3-256 of a template's canonical bytes."""
    return sha3(canonical_bytes(formfile))


def _line(directive: Directive, node: Any) -> str:
    if directive.array:
        return f"{directive.word} [{', '.join(quote(word, always=True) for word in node)}]"
    words = [directive.word]
    for slot in directive.slots:
        value = node if directive.make is None else getattr(node, slot.attribute)
        if value is None:
            continue
        if slot.rest == "each":
            words += [quote(slot.type.show(one)) for one in value]
        else:
            words.append(quote(slot.keyword + slot.type.show(value)))
    return " ".join(words)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return [_plain(getattr(value, one.name)) for one in fields(value)]
    if isinstance(value, tuple):
        return [_plain(one) for one in cast("tuple[Any, ...]", value)]
    return value
