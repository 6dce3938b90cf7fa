"""The peers file: written whole, private, and never a reason not to start."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from crdt import NetworkId
from node.network.addressbook import Known
from node.network.bookfile import FILE_BYTES_MAX, load, pack, save
from tests.node.network.books import public
from tests.node.network.swarms import NETWORK

ENTRIES = [
    Known(public(n), "exchange", 1.0, ["x"], tried_s=float(n), anchor=n == 1) for n in (1, 2)
]


def test_what_is_saved_is_loaded_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "peers.book"
    assert load(path, NETWORK) == []
    for entries in (ENTRIES[:1], ENTRIES):
        save(path, pack(NETWORK, entries))
        assert load(path, NETWORK) == entries
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["peers.book"]


BROKEN = {
    "empty": b"",
    "garbage": b"garbage",
    "torn": pack(NETWORK, ENTRIES)[:-1],
    "another network's": pack(NetworkId(bytes(32)), ENTRIES),
    "too long": b"x" * (FILE_BYTES_MAX + 9),
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_put_aside_with_a_line_and_the_node_starts_without(
    tmp_path: Path, raw: bytes
) -> None:
    path = tmp_path / "peers.book"
    path.write_bytes(raw)
    with capture_logs() as lines:
        assert load(path, NETWORK) == []
    assert [line["log_level"] for line in lines] == ["warning"]
    assert lines[0]["path"] == str(path)
    assert not path.exists()
    assert (tmp_path / "peers.book.broken").read_bytes() == raw
    assert load(path, NETWORK) == []


def test_a_folder_in_its_place_is_said_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "peers.book").mkdir()
    with capture_logs() as lines:
        assert load(tmp_path / "peers.book", NETWORK) == []
    assert [line["log_level"] for line in lines] == ["warning"]


def test_a_disk_that_refuses_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "peers.book").mkdir()
    with pytest.raises(OSError, match=r"peers\.book"):
        save(tmp_path / "peers.book", b"x")
