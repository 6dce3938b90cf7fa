"""Formfiles of version 1, which have no FORMAT line: read into the same tree, with warnings.

Their shell lines stay shell lines (`RUN` and `INSTALL` become `sh -c`), and what version 2 has no
place for becomes a custom value `x-hansa.v1-...`. A keyword that is not known is a warning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from templates import tree
from templates.errors import FormfileError
from templates.lexer import Token, lex
from templates.parser import is_version_2, parse_formfile
from templates.tree import Formfile, Pair, Resources
from templates.values import PATH, TEXT, VARIABLE, Span

MB = 10**6
GB = 10**9
_SYNONYMS = {"CPU": "VCPU", "CORES": "VCPU", "MEMORY": "MEM", "MBS": "MEM", "STORAGE": "DISK"}
_BOUNDS = {"VCPU": (1, 128, "vCPU"), "MEM": (512, 256_000, "MB"), "DISK": (5, 65_535, "GB")}
_SINGLE = frozenset(
    ["NAME", "DESCRIPTION", "MODEL", "USER", "VCPU", "MEM", "DISK", "GPU", "WORKDIR", "ENTRYPOINT"]
)
_KNOWN = _SINGLE | {"RUN", "COPY", "INSTALL", "ENV"}
_GPU = re.compile(r"(RTX5090|H100|H200|B200)(?::([1-8]))?")


@dataclass(frozen=True, slots=True)
class Warned:
    """A keyword of a version 1 file that is not known, and where it stands."""

    line: int
    column: int
    message: str


def read_formfile(text: str) -> tuple[Formfile, tuple[Warned, ...]]:
    """Return the tree of a Formfile of either version, and what a version 1 file warns of.

    Raises:
        FormfileError: with the line and column of what is wrong.
    """
    if is_version_2(text):
        return parse_formfile(text), ()
    reading = _Reading()
    for line in lex(text):
        reading.take(line)
    return reading.formfile(), tuple(reading.warnings)


class _Reading:
    """A version 1 file while it is read."""

    def __init__(self) -> None:
        self.warnings: list[Warned] = []
        self.one: dict[str, Token] = {}
        self.runs: list[tuple[str, ...]] = []
        self.copies: list[tree.Copy] = []
        self.env: list[Pair] = []

    def take(self, line: list[Token]) -> None:
        """Take one instruction."""
        keyword = line[0].text.upper()
        keyword = _SYNONYMS.get(keyword, keyword)
        if keyword not in _KNOWN:
            message = f"keyword {line[0].text[:40]!r} is unknown in version 1 and has no effect"
            self.warnings.append(Warned(line[0].line, line[0].column, message))
            return
        if len(line) < 2:
            raise line[0].fault(f"{keyword} needs a value")
        value = Token(" ".join(token.text for token in line[1:]), line[1].line, line[1].column)
        try:
            self._take(keyword, line, value)
        except ValueError as error:
            raise value.fault(f"{keyword} {error}") from None

    def _take(self, keyword: str, line: list[Token], value: Token) -> None:
        match keyword:
            case "RUN":
                self.runs.append(("/bin/sh", "-c", TEXT.read(value.text)))
            case "INSTALL":
                self.runs.append(("/bin/sh", "-c", TEXT.read(f"install {value.text}")))
            case "COPY":
                if len(line) != 3:
                    raise ValueError("needs a source and a destination")
                self.copies.append(tree.Copy(PATH.read(line[1].text), PATH.read(line[2].text)))
            case "ENV":
                name, equals, rest = value.text.partition("=" if "=" in value.text else " ")
                if not equals:
                    raise ValueError("is not NAME=value")
                self.env.append(Pair(VARIABLE.read(name), TEXT.read(rest)))
            case _:
                if keyword in self.one:
                    raise line[0].fault(f"{keyword} is there a second time; it may be there once")
                self.one[keyword] = value

    def formfile(self) -> Formfile:
        """Return the tree of what was taken.

        Raises:
            FormfileError: there is no name, or a resource is out of its bounds.
        """
        name = self._text("NAME")
        if not name:
            raise FormfileError(1, 1, "a version 1 Formfile needs a NAME")
        cpu, mem, disk = (self._amount(keyword) for keyword in ("VCPU", "MEM", "DISK"))
        gpu = self._gpu()
        model = self._text("MODEL")
        custom = [Pair("x-hansa.v1-model", model)] if model else []
        if gpu is not None:
            custom.append(Pair("x-hansa.v1-gpu", gpu[0]))
        entry = self._text("ENTRYPOINT")
        return Formfile(
            kind="agent",
            name=name,
            version="1.0.0",
            description=self._text("DESCRIPTION") or "",
            copies=tuple(self.copies),
            runs=tuple(self.runs),
            resources=Resources(
                cpu=Span(cpu, cpu) if cpu else None,
                mem=Span(mem * MB, mem * MB) if mem else None,
                disk=Span(disk * GB, disk * GB) if disk else None,
                gpu=Span(gpu[1], gpu[1]) if gpu else None,
            ),
            env=tuple(self.env),
            custom=tuple(custom),
            workdir=self._text("WORKDIR"),
            user=self._text("USER"),
            entrypoint=("/bin/sh", "-c", entry) if entry else (),
        )

    def _text(self, keyword: str) -> str | None:
        return self.one[keyword].text if keyword in self.one else None

    def _amount(self, keyword: str) -> int | None:
        token = self.one.get(keyword)
        if token is None:
            return None
        low, high, unit = _BOUNDS[keyword]
        digits = token.text
        plain = digits.isascii() and digits.isdigit() and len(digits) < 10
        if not plain or not low <= int(digits) <= high:
            raise token.fault(f"{keyword} {digits[:20]!r} is not a number in {low}..{high} {unit}")
        return int(digits)

    def _gpu(self) -> tuple[str, int] | None:
        token = self.one.get("GPU")
        if token is None:
            return None
        match = _GPU.fullmatch(token.text)
        if match is None:
            raise token.fault(f"GPU {token.text[:30]!r} is not RTX5090|H100|H200|B200[:1-8]")
        return match.group(1), int(match.group(2) or 1)
