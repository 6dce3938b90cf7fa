"""How numbers, sizes, moments and ids look to a person. Pure: the clock is passed in."""

from __future__ import annotations

from typing import cast

PICOS_PER_DOLLAR = 10**12
MICROS_PER_DOLLAR = 10**6
_SIZES = ("KiB", "MiB", "GiB", "TiB", "PiB")
_COUNTS = ("k", "M", "B", "T")

TERM_WORDS = {
    "epoch": "what is signed after a later root key outranks it",
    "is_root": "the root key outranks a delegate's",
    "is_delete": "a delete outranks a version",
    "depth": "the other one knew of more",
    "id": "the greater id, as good as by lot",
}
"""What each term of the rank means to whom it decides against (crdt.RANK_TERMS)."""


def size(byte_count: int) -> str:
    """Return a byte count in binary units with three digits that matter: `1.50 MiB`."""
    if byte_count < 1024:
        return f"{byte_count} B"
    value = float(byte_count)
    for unit in _SIZES:
        value /= 1024
        if value < 999.5 or unit == _SIZES[-1]:
            return f"{_three_digits(value)} {unit}"
    raise AssertionError("the last unit takes every value")


def count(number: int) -> str:
    """Return a big count in thousands, millions or billions: `7.62B` parameters, `812`."""
    if number < 1000:
        return str(number)
    value = float(number)
    for unit in _COUNTS:
        value /= 1000
        if value < 999.5 or unit == _COUNTS[-1]:
            return f"{_three_digits(value)}{unit}"
    raise AssertionError("the last unit takes every value")


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: `3.2 s`, `4 min 10 s`, `2 d 3 h`."""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit_s, unit, part_s, part in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= unit_s:
            rest = whole % unit_s // part_s
            return f"{whole // unit_s} {unit}" + (f" {rest} {part}" if rest else "")
    raise AssertionError("a minute or more was handled above")


def ago(moment_s: int, *, now_s: int) -> str:
    """Return how long ago a unix second was, or `never` for zero, or how far ahead it lies."""
    if moment_s <= 0:
        return "never"
    if moment_s > now_s:
        return f"in {duration(moment_s - now_s)}"
    return "now" if moment_s == now_s else f"{duration(now_s - moment_s)} ago"


def price(micros_per_million: int) -> str:
    """Return a price per million tokens in dollars, exactly: `$0.25`."""
    return dollars(micros_per_million, unit=MICROS_PER_DOLLAR)


def dollars(amount: int, *, unit: int = PICOS_PER_DOLLAR) -> str:
    """Return an integer amount (pico-USD unless `unit` says otherwise) exactly, in dollars.

    At least two decimals, and as many more as the amount has: an amount is never rounded.
    """
    assert unit in (PICOS_PER_DOLLAR, MICROS_PER_DOLLAR)
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), unit)
    decimals = str(rest).zfill(len(str(unit)) - 1).rstrip("0").ljust(2, "0")
    return f"{sign}${whole:,}.{decimals}"


def whole(number: int) -> str:
    """Return a number in full, with its thousands apart: `131,072`."""
    return f"{number:,}"


def counted(number: int, noun: str) -> str:
    """Return a number of things: `1 model`, `3 models`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def percent(bps: int) -> str:
    """Return hundredths of a percent as percent, exactly: `2.5 %`."""
    whole_part, rest = divmod(bps, 100)
    return f"{whole_part}.{rest:02d}".rstrip("0").rstrip(".") + " %"


def lost_words(term: str) -> str:
    """Return by which term a write lost, and what that means."""
    return f"by {term}: {TERM_WORDS.get(term, 'a term this program does not know')}"


def cut(text: str, width: int) -> str:
    """Return text that fits a width, with an ellipsis where something is left out."""
    return text if len(text) <= width else text[: width - 1] + "…"


def short_id(hex_id: str) -> str:
    """Return the first ten digits of a hex id, as logs and tables show it."""
    return hex_id[:10]


def short_peer(peer: str) -> str:
    """Return the last eight characters of a peer id: the part that differs between peers."""
    return peer[-8:]


def choice(value: object) -> str:
    """Return an enumerated field as one word: `LLM`, or what stands inside `{"Other": ...}`."""
    if isinstance(value, dict):
        inner = cast("dict[str, object]", value)
        return ", ".join(str(inside) for inside in inner.values())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
