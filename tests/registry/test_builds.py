"""Manifests: what is made is accepted, and every way to be wrong is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from crdt import BadSignature, ManifestDigest, RemoteFault, SigningKey, decode, encode, seal
from registry.builds import (
    BUILD_BYTES_MAX,
    CHUNK_BYTES_MAX,
    SEGMENT_CHUNK_COUNT_MAX,
    BadManifest,
    BuildFile,
    ChunkMap,
    Manifest,
    Segment,
    check_path,
    check_table,
    digest_of,
    encode_manifest,
    encode_table,
    open_manifest,
    seal_manifest,
)

KEY = SigningKey(b"\x07" * 32)
SHA = b"\x11" * 32
CHUNKS = [(5, blake3(b"hello").digest()), (6, blake3(b"world!").digest())]
TABLE = encode_table(CHUNKS)
MANIFEST = Manifest(
    publisher=KEY.public,
    media_type="application/vnd.hansa.package",
    files=(
        BuildFile("a/one", 5, 0o644, SHA),
        BuildFile("b", 6, 0o755, b"\x22" * 32),
        BuildFile("c", 0, 0o644, SHA),
    ),
    segments=(Segment(11, 2, blake3(TABLE).digest()),),
    tokenizer_sha256=SHA,
)


def sealed_anyway(content: bytes) -> bytes:
    """Sign content as a publisher would that does not check what it signs."""
    return encode([content, seal(content, KEY).signature])


def test_a_sealed_manifest_opens_as_it_was() -> None:
    sealed = seal_manifest(MANIFEST, KEY)
    assert open_manifest(sealed.raw, sealed.digest) == sealed
    assert sealed.manifest.size == 11
    assert sealed.manifest.chunk_count == 2
    assert sealed.digest == blake3(encode_manifest(MANIFEST)).digest()


def files(*paths: str) -> tuple[BuildFile, ...]:
    """Return files of 11 bytes in all, so that only the paths are in question."""
    sizes = [11] + [0] * (len(paths) - 1)
    return tuple(BuildFile(path, size, 0o644, SHA) for path, size in zip(paths, sizes, strict=True))


def with_first(**changes: Any) -> Manifest:
    return replace(MANIFEST, files=(replace(MANIFEST.files[0], **changes),))


def with_segment(size: int, chunk_count: int) -> Manifest:
    return replace(MANIFEST, segments=(Segment(size, chunk_count, SHA),))


WRONG: list[tuple[str, Manifest, str]] = [
    ("no files", replace(MANIFEST, files=()), "0 files"),
    ("unsorted", replace(MANIFEST, files=files("b", "a")), "not sorted"),
    ("twice", replace(MANIFEST, files=files("a", "a")), "named twice"),
    ("case only", replace(MANIFEST, files=files("A", "a")), "case only"),
    ("folder case only", replace(MANIFEST, files=files("A/x", "a/y")), "case only"),
    ("file is folder", replace(MANIFEST, files=files("a", "a/b")), "both a file and a folder"),
    ("file is deep folder", replace(MANIFEST, files=files("a", "a/b/c")), "both a file"),
    ("size differs", replace(MANIFEST, files=MANIFEST.files[:1]), "another size"),
    ("setuid", with_first(mode=0o4755), "mode 4755"),
    ("device", with_first(mode=0o20644), "mode"),
    ("link", with_first(mode=0o120777), "mode"),
    ("bomb", with_first(size=BUILD_BYTES_MAX + 1), "size"),
    ("negative", with_first(size=-1), "size"),
    ("short sha", with_first(sha256=b"x"), "SHA-256"),
    ("media type", replace(MANIFEST, media_type="Application/<script>"), "media type"),
    ("tokenizer of nobody", replace(MANIFEST, tokenizer_sha256=b"\x99" * 32), "tokenizer"),
    ("short tokenizer", replace(MANIFEST, tokenizer_sha256=b"\x99"), "tokenizer"),
    ("empty segment", with_segment(0, 0), "no chunks"),
    ("thin chunks", with_segment(11, 12), "cannot be"),
    ("fat chunks", with_segment(CHUNK_BYTES_MAX + 1, 1), "cannot be"),
    ("many chunks", with_segment(11, SEGMENT_CHUNK_COUNT_MAX + 1), "count"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("manifest", "message"), [row[1:] for row in WRONG], ids=[r[0] for r in WRONG]
)
def test_a_manifest_that_breaks_a_rule_is_refused(manifest: Manifest, message: str) -> None:
    with pytest.raises(RemoteFault, match=message):
        open_manifest(sealed_anyway(encode_manifest(manifest)))


BAD_PATHS = [
    "", ".", "..", "../x", "a/../b", "a/..", "/etc/passwd", "a//b", "a/", "./a", "a/./b",
    "a\\b", "C:x", "c:/x", "a\x00b", "a\nb", "a\x1bb", "a\u202eb", "a\u200bb", "e\u0301",
    "CON", "nul.txt", "x/LPT1.log", "a./b", "a ", " a", "x" * 241, "/".join("a" * 17), "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("path", BAD_PATHS, ids=[ascii(path)[:20] for path in BAD_PATHS])
def test_an_unsafe_path_is_refused(path: str) -> None:
    with pytest.raises(BadManifest):
        check_path(path)


@pytest.mark.parametrize(
    "path", ["a", "model-00001-of-2.safetensors", "a/b/c.json", ".hidden", "é", "日本", "a b"]
)
def test_an_ordinary_path_is_accepted(path: str) -> None:
    check_path(path)


@given(st.text(max_size=40))
def test_a_path_that_is_accepted_stays_in_its_folder(path: str) -> None:
    try:
        check_path(path)
    except BadManifest:
        return
    parts = path.split("/")
    assert not path.startswith("/")
    assert all(part and part not in {".", ".."} and "\x00" not in part for part in parts)


def test_a_path_out_of_the_tree_cannot_be_sealed_either() -> None:
    with pytest.raises(BadManifest, match=r"\.\."):
        seal_manifest(replace(MANIFEST, files=files("../x")), KEY)


def _changed(change: Callable[[list[Any]], None]) -> bytes:
    parts: list[Any] = [
        list(p) if isinstance(p, tuple) else p
        for p in decode(encode_manifest(MANIFEST), bytes_max=9999)
    ]
    change(parts)
    return sealed_anyway(encode(parts))


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\x00", b"\x90", b"\xc1", encode([]), encode([b"", b""]), encode([b"x", b"y" * 64]),
        encode([encode_manifest(MANIFEST)]),
        _changed(lambda parts: parts.__setitem__(0, "hansa/other")),
        _changed(lambda parts: parts.__setitem__(1, 1)),
        _changed(lambda parts: parts.__setitem__(2, b"short")),
        _changed(lambda parts: parts.__setitem__(4, "files")),
        _changed(lambda parts: parts[4].__setitem__(0, ["a"])),
        _changed(lambda parts: parts[4].__setitem__(0, ["a", True, 0o644, SHA])),
        _changed(lambda parts: parts[5].__setitem__(0, [1, 2])),
        _changed(lambda parts: parts.append(None)),
        b"\x92" + b"\xc6\x7f\xff\xff\xff",
    ],
)  # fmt: skip
def test_what_is_not_a_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(RemoteFault):
        open_manifest(raw)


def test_another_build_or_signature_is_refused() -> None:
    sealed = seal_manifest(MANIFEST, KEY)
    with pytest.raises(BadManifest, match="another build"):
        open_manifest(sealed.raw, ManifestDigest(b"\x01" * 32))
    content = encode_manifest(MANIFEST)
    stranger = encode([content, seal(content, SigningKey(b"\x08" * 32)).signature])
    with pytest.raises(BadSignature):
        open_manifest(stranger, digest_of(content))


@given(st.binary(max_size=300))
def test_garbage_raises_nothing_but_our_faults(raw: bytes) -> None:
    with pytest.raises(RemoteFault):
        open_manifest(raw)


@given(st.integers(0, 400), st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_noticed(at: int, bit: int) -> None:
    sealed = seal_manifest(MANIFEST, KEY)
    raw = bytearray(sealed.raw)
    raw[at % len(raw)] ^= 1 << bit
    with pytest.raises(RemoteFault):
        open_manifest(bytes(raw), sealed.digest)


@pytest.mark.parametrize(
    "table",
    [
        b"", TABLE[:-1], TABLE + b"x", TABLE[36:] + TABLE[:36],
        encode_table([(6, CHUNKS[0][1]), (5, CHUNKS[1][1])]), bytes([TABLE[0] ^ 1]) + TABLE[1:],
    ],
)  # fmt: skip
def test_another_table_is_refused(table: bytes) -> None:
    with pytest.raises(BadManifest):
        ChunkMap(MANIFEST, [table])


@pytest.mark.parametrize("lengths", [(0, 11), (11,), (10, 1), (4, 7)])
def test_a_table_whose_chunks_do_not_fit_the_files_is_refused(lengths: tuple[int, ...]) -> None:
    """The digest is right, so only the sums and the files' ends can tell."""
    table = encode_table([(length, SHA) for length in lengths])
    segment = Segment(11, len(lengths), blake3(table).digest())
    with pytest.raises(BadManifest, match=r"crosses the end|chunk of 0 bytes"):
        ChunkMap(replace(MANIFEST, segments=(segment,)), [table])


def test_a_table_that_adds_up_wrongly_is_refused() -> None:
    table = encode_table([(5, SHA), (7, SHA)])
    with pytest.raises(BadManifest, match="adds up to 12"):
        check_table(Segment(11, 2, blake3(table).digest()), table, 0)


def test_the_chunk_map_knows_where_everything_is() -> None:
    chunks = ChunkMap(MANIFEST, [TABLE])
    assert (len(chunks), chunks.size) == (2, 11)
    assert [chunks.place(0), chunks.place(1)] == [(0, 0), (1, 0)]
    assert chunks.locate(7) == (1, 2)
    assert [chunks.chunk_at(offset) for offset in (0, 1, 5, 11)] == [0, None, 1, None]
    assert chunks.verify(0, b"hello")
    assert not chunks.verify(0, b"hellp")
    assert not chunks.verify(0, b"hell")
    assert not chunks.verify(1, b"hello")
