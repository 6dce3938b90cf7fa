"""Packing: same files, same digest; tensors keep their chunks; the unsafe is refused."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from node.builds import CannotPack, PackProgress, pack
from node.builds.cuts import chunk_lengths, gguf_starts, safetensors_starts
from registry.builds import CHUNK_BYTES_MAX, ChunkMap, open_manifest
from tests.node.builds.folders import PUBLISHER, make_folder, random_bytes, safetensors

MIB = 1024 * 1024


def digests(path: Path) -> set[bytes]:
    packed = pack(path, PUBLISHER)
    chunks = ChunkMap(packed.sealed.manifest, packed.tables)
    return {chunks.digest(index) for index in range(len(chunks))}


def test_the_digest_depends_on_the_bytes_and_names_only(tmp_path: Path) -> None:
    one = make_folder(tmp_path / "one", size=10_000)
    two = make_folder(tmp_path / "two", size=10_000)
    os.utime(two / "config.json", (1, 1))
    first, second = pack(one, PUBLISHER), pack(two, PUBLISHER)
    assert first.sealed == second.sealed
    assert open_manifest(first.sealed.raw) == first.sealed
    (two / "config.json").write_text("{}")
    assert pack(two, PUBLISHER).sealed.digest != first.sealed.digest


def test_the_manifest_says_what_the_files_are(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "one", size=10_000)
    seen: list[PackProgress] = []
    manifest = pack(root, PUBLISHER, seen.append).sealed.manifest
    by_path = {file.path: file for file in manifest.files}
    assert list(by_path) == sorted(by_path)
    assert by_path["nested/run.sh"].mode == 0o755
    assert by_path["nested/deep/empty"].size == 0
    assert manifest.media_type == "application/vnd.hansa.model"
    tokenizer = hashlib.sha256((root / "tokenizer.json").read_bytes()).digest()
    assert by_path["tokenizer.json"].sha256 == manifest.tokenizer_sha256 == tokenizer
    assert manifest.chat_template_sha256 == hashlib.sha256(b"{{ messages }}").digest()
    assert seen[-1].bytes_done == seen[-1].bytes_total == manifest.size


def test_every_chunk_of_a_folder_is_at_its_place(tmp_path: Path) -> None:
    packed = pack(make_folder(tmp_path / "one"), PUBLISHER)
    chunks = ChunkMap(packed.sealed.manifest, packed.tables)
    for index in range(len(chunks)):
        number, offset = chunks.place(index)
        raw = (packed.root / packed.sealed.manifest.files[number].path).read_bytes()
        assert chunks.verify(index, raw[offset : offset + chunks.length(index)])


def test_a_metadata_edit_changes_the_chunk_of_the_header_only(tmp_path: Path) -> None:
    sizes = {"embed": 3 * MIB + 17, "bias": 100, "head": 2 * MIB + 5}
    for name, note in (("one", "x"), ("two", "a longer note")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(safetensors(sizes, note))
    one, two = digests(tmp_path / "one"), digests(tmp_path / "two")
    assert len(one - two) == 1
    assert len(one & two) >= 7


def gguf(sizes: list[int]) -> bytes:
    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    words = b"".join(text(word) for word in (b"a", b"bc"))
    pairs = text(b"general.alignment") + struct.pack("<II", 4, 64)
    pairs += text(b"words") + struct.pack("<IIQ", 9, 8, 2) + words
    pairs += text(b"scores") + struct.pack("<IIQ", 9, 6, 3) + b"\0" * 12
    infos, at = b"", 0
    for number, size in enumerate(sizes):
        infos += text(b"t%d" % number) + struct.pack("<IQIQ", 1, size, 24, at)
        at += -(-size // 64) * 64
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(sizes), 3) + pairs + infos
    head += b"\0" * (-len(head) % 64)
    return head + b"".join(random_bytes(size) + b"\0" * (-size % 64) for size in sizes)


def test_tensors_are_found_in_both_formats() -> None:
    raw = gguf([100, 2000])
    start = raw.index(random_bytes(100))
    assert gguf_starts(raw) == [start, start + 128]
    raw = safetensors({"a": 10, "b": 20})
    start = raw.index(random_bytes(10, 100))
    assert safetensors_starts(raw) == [start, start + 10]


@given(st.binary(max_size=300), st.sampled_from(["x.safetensors", "x.gguf", "x"]))
def test_any_head_gives_cuts_that_add_up(head: bytes, name: str) -> None:
    for raw in (head, b"GGUF\x03\0\0\0" + head, struct.pack("<Q", len(head)) + head):
        lengths = chunk_lengths(name, raw, len(raw) + 3 * MIB)
        assert sum(lengths) == len(raw) + 3 * MIB
        assert all(0 < length <= CHUNK_BYTES_MAX for length in lengths)


@pytest.mark.parametrize(
    "header",
    [b"0", b"[]", b'{"a": 1}', *(b'{"a": {"data_offsets": %s}}' % v for v in (
        b"[]", b"[null]", b"[1e999]", b"{}", b"7"))],
)  # fmt: skip
def test_a_header_of_another_shape_gives_plain_cuts(header: bytes) -> None:
    raw = struct.pack("<Q", len(header)) + header
    assert chunk_lengths("x.safetensors", raw, 3 * MIB) == [MIB] * 3


def test_a_header_that_lies_about_its_tensors_gives_cuts_that_add_up() -> None:
    raw = safetensors({"a": 10}).replace(b"[0, 10]", b"[-99999999999999999999, 1]")
    assert sum(chunk_lengths("x.safetensors", raw, len(raw))) == len(raw)
    nested = struct.pack("<Q", 100_000) + b"[" * 100_000
    assert sum(chunk_lengths("x.safetensors", nested, len(nested))) == len(nested)


def test_a_single_file_is_a_build_of_one(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text("print(1)")
    (tmp_path / "other").write_text("not this")
    packed = pack(tmp_path / "agent.py", PUBLISHER)
    assert [file.path for file in packed.sealed.manifest.files] == ["agent.py"]
    assert packed.sealed.manifest.media_type == "application/vnd.hansa.package"


def link(root: Path) -> None:
    (root / "link").symlink_to("/etc/passwd")


def link_inside(root: Path) -> None:
    (root / "link").symlink_to(root / "a")


def folder_link(root: Path) -> None:
    (root / "link").symlink_to(root.parent)


def pipe(root: Path) -> None:
    os.mkfifo(root / "pipe")


def pickle(root: Path) -> None:
    (root / "model.pt").write_bytes(b"PK")


def hidden_pickle(root: Path) -> None:
    (root / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")


def backslash(root: Path) -> None:
    (root / "a\\b").write_text("x")


def not_text(root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/\xff")).write_text("x")


def not_normal(root: Path) -> None:
    (root / "e\u0301").write_text("x")


def case_only(root: Path) -> None:
    (root / "A").write_text("x")


@pytest.mark.parametrize(
    "spoil",
    [
        link,
        link_inside,
        folder_link,
        pipe,
        pickle,
        hidden_pickle,
        backslash,
        not_text,
        not_normal,
        case_only,
    ],
)
def test_what_a_build_cannot_carry_is_named(tmp_path: Path, spoil: object) -> None:
    root = tmp_path / "folder"
    root.mkdir()
    (root / "a").write_text("fine")
    spoil(root)  # type: ignore[operator]
    with pytest.raises(CannotPack, match=r"folder|'A'|'a'"):
        pack(root, PUBLISHER)


def test_nothing_to_pack_is_said(tmp_path: Path) -> None:
    with pytest.raises(CannotPack, match="no files"):
        pack(tmp_path, PUBLISHER)
    with pytest.raises(CannotPack, match="neither"):
        pack(tmp_path / "missing", PUBLISHER)


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 3 * MIB)

    def grow(progress: PackProgress) -> None:
        with path.open("ab") as file:
            file.write(b"y")

    with pytest.raises(CannotPack, match="grew"):
        pack(path, PUBLISHER, grow)


def test_chunks_are_hashed_with_blake3(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    packed = pack(tmp_path / "a", PUBLISHER)
    assert packed.tables[0] == (5).to_bytes(4, "big") + blake3(b"hello").digest()
