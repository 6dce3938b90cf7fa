"""How numbers look to a person."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.cli import format as show


@pytest.mark.parametrize(
    ("byte_count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1536 * 1024, "1.50 MiB"),
        (1024**3 - 1, "1.00 GiB"),
        (100 * 1024**2, "100 MiB"),
        (5 * 1024**6, "5120 PiB"),
    ],
)
def test_sizes(byte_count: int, text: str) -> None:
    assert show.size(byte_count) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (1000, "1.00k"), (7_620_000_000, "7.62B")]
)
def test_counts(number: int, text: str) -> None:
    assert show.count(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 ms"),
        (0.0042, "4 ms"),
        (3.21, "3.2 s"),
        (60, "1 min"),
        (250, "4 min 10 s"),
        (7_200, "2 h"),
        (97_200, "1 d 3 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert show.duration(seconds) == text


@pytest.mark.parametrize(
    ("moment_s", "text"), [(0, "never"), (100, "now"), (40, "1 min ago"), (160, "in 1 min")]
)
def test_moments(moment_s: int, text: str) -> None:
    assert show.ago(moment_s, now_s=100) == text


@pytest.mark.parametrize(
    ("picos", "text"),
    [
        (0, "$0.00"),
        (1, "$0.000000000001"),
        (1_500_000_000_000, "$1.50"),
        (-250_000_000_000, "-$0.25"),
        (1_234_567_000_000_000_000, "$1,234,567.00"),
    ],
)
def test_amounts_are_exact(picos: int, text: str) -> None:
    assert show.dollars(picos) == text


@given(st.integers(-(10**20), 10**20))
def test_no_amount_is_rounded(picos: int) -> None:
    shown = show.dollars(picos).replace("$", "").replace(",", "")
    sign = -1 if shown.startswith("-") else 1
    whole, _, part = shown.lstrip("-").partition(".")
    assert sign * (int(whole) * 10**12 + int(part.ljust(12, "0"))) == picos


def test_a_price_is_in_micros() -> None:
    assert show.price(250_000) == "$0.25"


@pytest.mark.parametrize(
    ("value", "text"), [("LLM", "LLM"), ({"Other": "Speech"}, "Speech"), (None, "")]
)
def test_enumerated_fields_are_one_word(value: object, text: str) -> None:
    assert show.choice(value) == text


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (show.whole(131_072), "131,072"),
        (show.counted(1, "model"), "1 model"),
        (show.counted(1_200, "model"), "1,200 models"),
        (show.percent(2000), "20 %"),
        (show.percent(250), "2.5 %"),
        (show.percent(1), "0.01 %"),
        (show.percent(0), "0 %"),
        (show.cut("starting", 8), "starting"),
        (show.cut("starting it", 8), "startin…"),
    ],
)
def test_numbers_as_people_write_them(shown: str, expected: str) -> None:
    assert shown == expected
