"""Builds on disk: partial until proven, whole by one rename, never over the reserve."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from node.builds import (
    BuildStore,
    BuildStoreBusy,
    BuildStoreFull,
    Packed,
    UnknownBuild,
    UploadRefused,
    WrongBytes,
)
from node.builds.partial import Partial
from registry.builds import BadManifest, ChunkMap
from tests.node.builds.folders import packed_folder, tree


@pytest.fixture
def packed(tmp_path: Path) -> Packed:
    return packed_folder(tmp_path / "source")


@pytest.fixture
def store(tmp_path: Path) -> BuildStore:
    return BuildStore(tmp_path / "store", keep_free_bytes=0)


def chunk(packed: Packed, index: int) -> bytes:
    chunks = ChunkMap(packed.sealed.manifest, packed.tables)
    number, offset = chunks.place(index)
    raw = (packed.root / packed.sealed.manifest.files[number].path).read_bytes()
    return raw[offset : offset + chunks.length(index)]


def begin(store: BuildStore, packed: Packed) -> Partial:
    store.offer(packed.sealed)
    for number, table in enumerate(packed.tables):
        store.put_table(packed.sealed.digest, number, table)
    return store.resume(packed.sealed.digest)


def fill(partial: Partial, packed: Packed) -> None:
    for index in partial.missing():
        partial.write(index, chunk(packed, index))


def test_a_build_appears_whole_and_read_only(store: BuildStore, packed: Packed) -> None:
    digest = packed.sealed.digest
    partial = begin(store, packed)
    assert not store.has(digest)
    assert store.held() == []
    fill(partial, packed)
    path = store.finish(digest)
    assert tree(path) == tree(packed.root)
    assert [held.digest for held in store.held()] == store.digests() == [digest]
    assert not any(p.stat().st_mode & 0o222 for p in path.rglob("*") if p.is_file())
    again = BuildStore(store.folder, keep_free_bytes=0)
    assert again.path(digest) == path


def test_wrong_bytes_are_not_written(store: BuildStore, packed: Packed) -> None:
    partial = begin(store, packed)
    right = chunk(packed, 0)
    for wrong in (bytes([right[0] ^ 1]) + right[1:], right[:-1], right + b"x", b""):
        with pytest.raises(WrongBytes):
            partial.write(0, wrong)
    assert partial.bytes_verified == 0
    number, _offset = partial.chunks.place(0)
    file = partial.folder / "tree" / packed.sealed.manifest.files[number].path
    assert not any(file.read_bytes())
    assert partial.write(0, right)
    assert not partial.write(0, right)


def test_after_a_stop_only_what_hashes_right_is_believed(store: BuildStore, packed: Packed) -> None:
    digest = packed.sealed.digest
    partial = begin(store, packed)
    big = [i for i in range(len(partial.chunks)) if partial.chunks.length(i) > 1_000_000]
    for index in big:
        partial.write(index, chunk(packed, index))
    store.release(digest)
    number, offset = partial.chunks.place(big[0])
    path = partial.folder / "tree" / packed.sealed.manifest.files[number].path
    with path.open("r+b") as file:  # a torn write
        file.seek(offset + 100)
        file.write(b"torn")
    with (partial.folder / "journal").open("ab") as journal:  # garbage and half an entry
        journal.write(b"\xff\xff\xff\xff\x00\x00")
    seen: list[tuple[int, int]] = []
    resumed = BuildStore(store.folder, keep_free_bytes=0).resume(
        digest, lambda done, total: seen.append((done, total))
    )
    assert [resumed.has(index) for index in big] == [False] + [True] * (len(big) - 1)
    assert seen[-1][0] == seen[-1][1] > 0
    fill(resumed, packed)
    assert resumed.bytes_missing == 0
    resumed.close()


def test_gaps_say_where_an_upload_goes_on(store: BuildStore, packed: Packed) -> None:
    partial = begin(store, packed)
    assert partial.gaps(10) == [(0, partial.chunks.size)]
    partial.write(1, chunk(packed, 1))
    start = partial.chunks.start(2)
    assert partial.gaps(10) == [(0, partial.chunks.start(1)), (start, partial.chunks.size - start)]
    assert partial.gaps(1) == partial.gaps(10)[:1]
    partial.close()


def test_two_stores_never_write_one_build_together(store: BuildStore, packed: Packed) -> None:
    begin(store, packed)
    with pytest.raises(BuildStoreBusy, match=packed.sealed.digest.hex()):
        BuildStore(store.folder, keep_free_bytes=0).resume(packed.sealed.digest)
    store.release(packed.sealed.digest)


def test_the_disk_keeps_its_reserve(tmp_path: Path, packed: Packed) -> None:
    store = BuildStore(tmp_path / "full", keep_free_bytes=2**62)
    with pytest.raises(BuildStoreFull, match="keep_free_bytes"):
        store.offer(packed.sealed)
    assert store.manifest(packed.sealed.digest) is None


def test_a_full_disk_in_the_middle_is_said_and_loses_nothing(
    store: BuildStore, packed: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = begin(store, packed)
    partial.write(0, chunk(packed, 0))

    def full(*_arguments: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(BuildStoreFull):
            partial.write(1, chunk(packed, 1))
    assert [partial.has(0), partial.has(1)] == [True, False]
    fill(partial, packed)
    store.finish(packed.sealed.digest)


def test_a_link_in_place_of_a_file_is_not_followed(
    store: BuildStore, packed: Packed, tmp_path: Path
) -> None:
    partial = begin(store, packed)
    store.release(packed.sealed.digest)
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    target = partial.folder / "tree" / "config.json"
    target.unlink()
    target.symlink_to(victim)
    resumed = store.resume(packed.sealed.digest)
    fill(resumed, packed)
    store.finish(packed.sealed.digest)
    assert victim.read_text() == "untouched"
    assert not target.is_symlink()


def test_tables_are_checked_and_named(store: BuildStore, packed: Packed) -> None:
    digest = packed.sealed.digest
    with pytest.raises(UnknownBuild):
        store.put_table(digest, 0, packed.tables[0])
    store.offer(packed.sealed)
    assert store.missing_tables(digest) == [0]
    with pytest.raises(UnknownBuild):
        store.resume(digest)
    with pytest.raises(UploadRefused):
        store.put_table(digest, 1, packed.tables[0])
    with pytest.raises(BadManifest):
        store.put_table(digest, 0, packed.tables[0][:-36])
    store.put_table(digest, 0, packed.tables[0])
    assert store.missing_tables(digest) == []


def test_a_removed_build_leaves_nothing(store: BuildStore, packed: Packed) -> None:
    digest = packed.sealed.digest
    fill(begin(store, packed), packed)
    store.finish(digest)
    store.open(digest)
    assert store.remove(digest)
    assert not store.remove(digest)
    assert [p for p in store.folder.rglob("*") if p.is_file()] == []
    with pytest.raises(UnknownBuild):
        store.open(digest)


def test_what_a_crash_left_half_made_is_swept_at_start(store: BuildStore, packed: Packed) -> None:
    half = store.folder / "partial" / f".{packed.sealed.digest.hex()}"
    (half / "tables").mkdir(parents=True)
    (half / "manifest").write_bytes(b"half")
    BuildStore(store.folder, keep_free_bytes=0)
    assert not half.exists()
