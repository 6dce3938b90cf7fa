"""What is kept of a peer's words about itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.network.identified import (
    PROTOCOL_COUNT_MAX,
    SOFTWARE_CHARACTERS_MAX,
    identified,
    newer_than,
)

PREFIX = "/hansa/00ff/"


def test_protocols_of_this_network_are_told_without_their_prefix() -> None:
    said = identified(
        "hansa/0.1.0",
        [f"{PREFIX}sync/0", f"{PREFIX}peers/1", "/hansa/1111/sync/0", "/ipfs/ping/1.0.0"],
        "/ip4/8.1.2.3/tcp/5000",
        prefix=PREFIX,
    )
    assert said.software == "hansa/0.1.0"
    assert said.protocols == ("peers/1", "sync/0")
    assert said.observed == "8.1.2.3"


def test_what_could_mislead_a_terminal_or_a_reader_is_left_out() -> None:
    said = identified(
        "ok\x1b[31m\nred\u202e" + "x" * 900, [f"{PREFIX}sync/0\n", f"{PREFIX}../0", f"{PREFIX}a/b"],
        "/dns4/evil.example/tcp/1", prefix=PREFIX,
    )  # fmt: skip
    assert said.software.startswith("ok[31mred")
    assert said.protocols == ()
    assert said.observed == ""


@given(st.text(), st.lists(st.text()), st.text())
def test_everything_kept_is_bounded_and_printable(
    agent: str, names: list[str], observed: str
) -> None:
    many = [PREFIX + name for name in names] + [f"{PREFIX}many/{n}" for n in range(40)]
    said = identified(agent, many, observed, prefix=PREFIX)
    assert len(said.software) <= SOFTWARE_CHARACTERS_MAX
    assert said.software.isascii()
    assert said.software.isprintable()
    assert len(said.protocols) == PROTOCOL_COUNT_MAX
    assert newer_than(said.protocols, said.protocols) == ()


def test_newer_are_later_numbers_and_unknown_names_and_nothing_else() -> None:
    ours = ("peers/0", "sync/1")
    assert newer_than(("sync/0", "peers/0"), ours) == ()
    assert newer_than(("sync/2", "peers/0", "swap/0"), ours) == ("swap/0", "sync/2")
