"""The values that directives take: how each is read from a word, and shown as one again."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from registry import BadReference, is_version, parse_record_reference
from registry.licenses import grammar_fault

NATURAL_MAX = 2**63 - 1
WORDS_COUNT_MAX = 64
TEXT_CHARACTERS_MAX = 8192
PATTERN_CHARACTERS_MAX = 256
PATTERN_LOOP_COUNT_MAX = 2
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
_REF = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_-]{0,63})\}")
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "KB": 10**3, "MB": 10**6,
          "GB": 10**9, "TB": 10**12, "B": 1}  # fmt: skip
_SIZE = re.compile(r"(\d{1,19})(" + "|".join(_UNITS) + r")")
_DURATIONS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_DURATION = re.compile(r"(\d{1,12})(ms|s|m|h)")
_COUNT = re.compile(r"(\d{1,19})([KMBT]?)")
_COUNTS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9._/:-]{0,254}@sha256:[0-9a-f]{64}")
_PACKAGE = re.compile(
    r"@?[A-Za-z0-9][A-Za-z0-9._/@+\[\],-]*(?:==|=|@)[A-Za-z0-9][A-Za-z0-9._+~:!-]*"
)


@dataclass(frozen=True, slots=True)
class Ref:
    """A number that a parameter gives: `${name}`."""

    name: str


@dataclass(frozen=True, slots=True)
class Span:
    """From the minimum to what is recommended; both are the same when one is given."""

    low: int | Ref
    high: int | Ref


@dataclass(frozen=True, slots=True)
class ValueType:
    """How one kind of value is read and shown.

    Attributes:
        read: Raises ValueError with what is wrong.
    """

    name: str
    read: Callable[[str], Any]
    show: Callable[[Any], str]


def _read_text(text: str) -> str:
    if len(text) > TEXT_CHARACTERS_MAX:
        raise ValueError(f"{len(text)} characters; at most {TEXT_CHARACTERS_MAX}")
    return text


def _matching(pattern: re.Pattern[str], what: str, text: str) -> str:
    if len(text) > TEXT_CHARACTERS_MAX or pattern.fullmatch(text) is None:
        raise ValueError(f"{text[:80]!r} is not {what}")
    return text


def matching(pattern: str, what: str) -> ValueType:
    """Return the type of text that matches a pattern."""
    return ValueType(what, partial(_matching, re.compile(pattern), what), str)


def _or_ref(read: Callable[[str], int], text: str) -> int | Ref:
    match = _REF.fullmatch(text)
    return Ref(match.group(1)) if match else read(text)


def _show_number(show: Callable[[int], str], value: int | Ref) -> str:
    return f"${{{value.name}}}" if isinstance(value, Ref) else show(value)


def _read_natural(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19) or int(text) > NATURAL_MAX:
        raise ValueError(f"{text[:40]!r} is not an integer in 0..{NATURAL_MAX}")
    return int(text)


def _read_integer(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    return sign * _read_natural(text.removeprefix("-"))


def _read_positive(text: str) -> int:
    value = _read_natural(text)
    if value == 0:
        raise ValueError("0 is not 1 or more")
    return value


def _read_count(text: str) -> int:
    match = _COUNT.fullmatch(text)
    if match is None or int(match.group(1)) * _COUNTS[match.group(2)] > NATURAL_MAX:
        raise ValueError(f"{text[:40]!r} is not a count; write 8000000000, or 8B, 500M, 32K")
    return int(match.group(1)) * _COUNTS[match.group(2)]


def read_size(text: str) -> int:
    """Return the bytes of a size as `16GiB`; a bare number has no unit and is refused."""
    match = _SIZE.fullmatch(text)
    if match is None or int(match.group(1)) * _UNITS[match.group(2)] > NATURAL_MAX:
        raise ValueError(f"{text[:40]!r} is not a size with its unit; write 16GiB, 512MiB, 2GB")
    return int(match.group(1)) * _UNITS[match.group(2)]


def show_size(value: int) -> str:
    """Return a size with the greatest binary unit that shows it exactly."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if value and value % _UNITS[unit] == 0:
            return f"{value // _UNITS[unit]}{unit}"
    return f"{value}B"


def _read_duration(text: str) -> int:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a time with its unit; write 500ms, 10s, 5m")
    return int(match.group(1)) * _DURATIONS[match.group(2)]


def _show_duration(value: int) -> str:
    for unit in ("h", "m", "s"):
        if value and value % _DURATIONS[unit] == 0:
            return f"{value // _DURATIONS[unit]}{unit}"
    return f"{value}ms"


def _read_span(read: Callable[[str], int], text: str) -> Span:
    low, dots, high = text.partition("..")
    span = Span(_or_ref(read, low), _or_ref(read, high if dots else low))
    if isinstance(span.low, int) and isinstance(span.high, int) and span.low > span.high:
        raise ValueError(f"{text[:60]!r}: what is recommended is below the minimum")
    return span


def _show_span(show: Callable[[int], str], value: Span) -> str:
    low = _show_number(show, value.low)
    return low if value.low == value.high else f"{low}..{_show_number(show, value.high)}"


def span_of(name: str, read: Callable[[str], int], show: Callable[[int], str]) -> ValueType:
    """Return the type of `low..high`, or of one value for both."""
    return ValueType(name, partial(_read_span, read), partial(_show_span, show))


def number_of(name: str, read: Callable[[str], int], show: Callable[[int], str]) -> ValueType:
    """Return the type of a number that a parameter may give."""
    return ValueType(name, partial(_or_ref, read), partial(_show_number, show))


def _choose(choices: Sequence[str], text: str) -> str:
    if text not in choices:
        raise ValueError(f"{text[:40]!r} is none of {', '.join(choices)}")
    return text


def choice(*choices: str) -> ValueType:
    """Return the type of one of some words."""
    return ValueType("|".join(choices), partial(_choose, choices), str)


def _read_words(text: str) -> tuple[str, ...]:
    words = tuple(text.split(","))
    if not all(words) or len(words) > WORDS_COUNT_MAX:
        raise ValueError(f"{text[:60]!r} is not 1..{WORDS_COUNT_MAX} words with commas between")
    return words


def _read_path(text: str) -> str:
    parts = text.split("/")
    if not text or len(text) > 1024 or ".." in parts or "\0" in text:
        raise ValueError(f"{text[:80]!r} is not a path without '..', of 1..1024 characters")
    return text


def _read_image(text: str) -> str:
    return _matching(_IMAGE, "an image by its digest: name@sha256:<64 hex digits>", text)


def _read_package(text: str) -> str:
    return _matching(_PACKAGE, "a package with its exact version: name==1.2.3", text)


def _read_version(text: str) -> str:
    if not is_version(text):
        raise ValueError(f"{text[:80]!r} is not a semantic version; write 0.1.0")
    return text


def _read_license(text: str) -> str:
    fault = grammar_fault(text)
    if fault is not None:
        raise ValueError(fault)
    return text


def _read_reference(text: str) -> str:
    try:
        parse_record_reference(text)
    except BadReference as error:
        raise ValueError(str(error)) from error
    return text


def _read_pattern(text: str) -> str:
    """Take only patterns whose matching cannot blow up: a Formfile comes from strangers."""
    loops = sum(text.count(mark) for mark in "*+{")
    if len(text) > PATTERN_CHARACTERS_MAX or "(" in text or loops > PATTERN_LOOP_COUNT_MAX:
        raise ValueError(
            f"{text[:60]!r} is not a pattern of at most {PATTERN_CHARACTERS_MAX} characters, "
            f"{PATTERN_LOOP_COUNT_MAX} repetitions and no groups"
        )
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text[:60]!r} is not a pattern: {error}") from None
    return text


def _read_egress(text: str) -> tuple[str, ...]:
    if text == "none":
        return ()
    if not (text.startswith("allowlist(") and text.endswith(")")):
        raise ValueError(f"{text[:60]!r} is not none or allowlist(host,host:port,...)")
    hosts = _read_words(text.removeprefix("allowlist(").removesuffix(")"))
    for host in hosts:
        _matching(_HOST, "a host, *.host or host:port", host)
    return hosts


def _show_egress(value: tuple[str, ...]) -> str:
    return f"allowlist({','.join(value)})" if value else "none"


_HOST = re.compile(r"(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})(?::\d{1,5})?")

PATTERN = ValueType("pattern", _read_pattern, str)
TEXT = ValueType("text", _read_text, str)
IDENTIFIER = ValueType("name", partial(_matching, NAME, "a name: letters, digits, _ and -"), str)
VARIABLE = matching(r"[A-Z_][A-Z0-9_]{0,63}", "an environment variable: A-Z, 0-9 and _")
DIGEST = matching(r"[0-9a-f]{64}|\$\{[A-Za-z_][A-Za-z0-9_-]*\}", "64 hex digits of a digest")
PATH = ValueType("path", _read_path, str)
IMAGE = ValueType("image@digest", _read_image, str)
PACKAGE = ValueType("package==version", _read_package, str)
VERSION = ValueType("version", _read_version, str)
LICENSE = ValueType("SPDX licence", _read_license, str)
REFERENCE = ValueType("record", _read_reference, str)
WORDS = ValueType("words", _read_words, ",".join)
EGRESS = ValueType("egress", _read_egress, _show_egress)
PLAIN = ValueType("integer", _read_natural, str)
INTEGER = ValueType("integer", _read_integer, str)
NATURAL = number_of("integer", _read_natural, str)
POSITIVE = number_of("integer", _read_positive, str)
COUNT = number_of("count", _read_count, str)
DURATION = ValueType("time", _read_duration, _show_duration)
SIZE = number_of("size", read_size, show_size)
SPAN = span_of("low..high", _read_natural, str)
SPAN_POSITIVE = span_of("low..high", _read_positive, str)
SIZE_SPAN = span_of("low..high", read_size, show_size)
PORT = matching(
    r"(?:[1-9]\d{0,4}|\$\{[A-Za-z_][A-Za-z0-9_-]*\})/(?:http|https|tcp|grpc)", "PORT/http"
)
ENDPOINT = matching(
    r":(?:[1-9]\d{0,4}|\$\{[A-Za-z_][A-Za-z0-9_-]*\})/[^\s]{0,255}", "an endpoint: :8000/health"
)
ROUTE = matching(r"/[^\s]{0,255}", "a path from /")
CUSTOM = matching(r"x-[a-z0-9]+\.[a-z0-9][a-z0-9_.-]{0,62}", "x-vendor.thing")
