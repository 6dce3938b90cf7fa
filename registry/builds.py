"""What a build is: a signed manifest of files, and tables of the hashes of their chunks.

A build's bytes are its files, one after another in the order of their paths: the *stream*. The
stream is cut into chunks of at most 1 MiB that never cross a file's end, and consecutive chunks
form segments whose tables of chunk hashes are content-addressed. So the manifest's digest names
every byte, and any chunk can be checked alone: digest -> manifest -> table -> chunk.
"""

from __future__ import annotations

import re
import unicodedata
from array import array as Numbers  # noqa: N812 - not `crdt.array`
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from blake3 import blake3

from crdt import (
    ManifestDigest,
    PublicKey,
    RemoteFault,
    Signed,
    SigningKey,
    array,
    decode,
    encode,
    field,
    fixed_bytes,
    has_head,
    natural,
    seal,
    verify,
)

DOMAIN = "hansa/build"
VERSION = 0
CHUNK_BYTES_MAX = 1024 * 1024
SEGMENT_BYTES_MAX = 1024 * 1024 * 1024
SEGMENT_CHUNK_COUNT_MAX = 4096
"""A full segment has 1024 chunks; small files and tensors make it shorter ones."""
BUILD_BYTES_MAX = 1024**4
FILE_COUNT_MAX = 10_000
SEGMENT_COUNT_MAX = 4096
MANIFEST_BYTES_MAX = 4 * 1024 * 1024
"""10 000 files of 240-byte paths are 3 MB."""
PATH_BYTES_MAX = 240
PATH_DEPTH_MAX = 16
TABLE_ENTRY_BYTES = 36
TABLE_BYTES_MAX = SEGMENT_CHUNK_COUNT_MAX * TABLE_ENTRY_BYTES
FILE_MODES = (0o644, 0o755)
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}/[a-z0-9][a-z0-9.+-]{0,63}")
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in range(1, 10))]
)


class BadManifest(RemoteFault):
    """A manifest, a table or a path in it that no build of ours has."""

    code = "bad-manifest"


@dataclass(frozen=True, slots=True)
class BuildFile:
    """One file of a build.

    Attributes:
        path: Relative, with `/`, safe to create under any folder (`check_path`).
        mode: 0o644, or 0o755 for what can be run.
        sha256: The publisher's word, for other tools; our own check is by chunks.
    """

    path: str
    size: int
    mode: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of chunks, and the BLAKE3 of the table that holds their lengths and hashes."""

    size: int
    chunk_count: int
    table_digest: bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a build holds, in the publisher's words.

    Attributes:
        publisher: The key that signs it; part of what the digest names.
        files: Sorted by path; no path is another's folder.
        tokenizer_sha256: Of a model's tokenizer file, else empty.
        chat_template_sha256: Of a model's chat template text, else empty.
    """

    publisher: PublicKey
    media_type: str
    files: tuple[BuildFile, ...]
    segments: tuple[Segment, ...]
    tokenizer_sha256: bytes = b""
    chat_template_sha256: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    @property
    def chunk_count(self) -> int:
        """Chunks of all segments together."""
        return sum(segment.chunk_count for segment in self.segments)


@dataclass(frozen=True, slots=True)
class SealedManifest:
    """A manifest whose signature was checked (or just made), and the bytes it travels in."""

    digest: ManifestDigest
    manifest: Manifest
    raw: bytes


def seal_manifest(manifest: Manifest, key: SigningKey) -> SealedManifest:
    """Return the manifest signed by its publisher.

    Raises:
        BadManifest: it breaks a rule; the message says which.
    """
    assert key.public == manifest.publisher
    content = encode_manifest(manifest)
    _parse(content)
    signed = seal(content, key)
    raw = encode([signed.content, signed.signature])
    return SealedManifest(digest_of(content), manifest, raw)


def open_manifest(raw: bytes, expected: ManifestDigest | None = None) -> SealedManifest:
    """Return the manifest in `raw` after checking size, digest, shape, signature and every rule.

    Raises:
        BadManifest: a rule is broken, or it is not the build that `expected` names.
        MalformedBytes, BadSignature: not canonical, or not signed by the publisher it names.
    """
    parts = decode(raw, bytes_max=MANIFEST_BYTES_MAX)
    if len(parts) != 2:
        raise BadManifest(f"a sealed manifest is 2 fields, not {len(parts)}")
    content = field(parts[0], bytes, "manifest content")
    signature = fixed_bytes(parts[1], 64, "manifest signature")
    digest = digest_of(content)
    if expected is not None and digest != expected:
        raise BadManifest(
            f"manifest has digest {digest.hex()[:16]}, not {expected.hex()[:16]}: another build"
        )
    manifest = _parse(content)
    verify(Signed(content, signature), manifest.publisher)
    return SealedManifest(digest, manifest, raw)


def digest_of(content: bytes) -> ManifestDigest:
    """Return the name of the build whose canonical manifest is `content`."""
    return ManifestDigest(blake3(content).digest())


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the canonical bytes that the digest names and the publisher signs."""
    return encode(
        [
            DOMAIN,
            VERSION,
            manifest.publisher,
            manifest.media_type,
            [[file.path, file.size, file.mode, file.sha256] for file in manifest.files],
            [[part.size, part.chunk_count, part.table_digest] for part in manifest.segments],
            manifest.tokenizer_sha256,
            manifest.chat_template_sha256,
        ]
    )


def encode_table(chunks: Sequence[tuple[int, bytes]]) -> bytes:
    """Return the table of (length, BLAKE3) pairs: 4 bytes big-endian and 32 bytes each."""
    return b"".join(length.to_bytes(4, "big") + digest for length, digest in chunks)


def check_path(path: str) -> None:
    """Check that a path can be created under a folder of ours and nowhere else, on any system.

    Raises:
        BadManifest: absolute, climbing, too long or deep, or made of unsafe characters.
    """
    shown = repr(path[:100])
    try:
        size = len(path.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise BadManifest(f"path {shown} is not Unicode text; rename the file") from error
    if not 0 < size <= PATH_BYTES_MAX:
        raise BadManifest(f"path {shown} has {size} bytes; 1 to {PATH_BYTES_MAX} are allowed")
    if not path.isprintable() or unicodedata.normalize("NFC", path) != path:
        raise BadManifest(f"path {shown} has control characters or is not in Unicode form NFC")
    if "\\" in path or ":" in path:
        raise BadManifest(f"path {shown} has a backslash or a colon; rename the file")
    parts = path.split("/")
    if len(parts) > PATH_DEPTH_MAX:
        raise BadManifest(f"path {shown} is {len(parts)} deep; at most {PATH_DEPTH_MAX}")
    for part in parts:
        if part in {"", ".", ".."}:
            raise BadManifest(f"path {shown} is absolute, or has an empty, `.` or `..` part")
        if part[-1] in " ." or part[0] == " " or part.split(".")[0].lower() in _RESERVED:
            raise BadManifest(f"path {shown} has a part {part!r} that some systems cannot create")


class ChunkMap:
    """Where every chunk of a build is and what it must hash to, from manifest and tables.

    Raises:
        BadManifest: the tables are not the ones the manifest names, or they do not fit its files.
    """

    def __init__(self, manifest: Manifest, tables: Sequence[bytes]) -> None:
        if len(tables) != len(manifest.segments):
            raise BadManifest(f"{len(tables)} tables for {len(manifest.segments)} segments")
        lengths = Numbers("L")
        for number, (segment, table) in enumerate(zip(manifest.segments, tables, strict=True)):
            check_table(segment, table, number)
            lengths.extend(
                int.from_bytes(table[at : at + 4], "big")
                for at in range(0, len(table), TABLE_ENTRY_BYTES)
            )
        self.manifest = manifest
        self._lengths = lengths
        self._starts = Numbers("Q", accumulate(lengths, initial=0))
        self._tables = b"".join(tables)
        self._file_starts = Numbers("Q", accumulate((f.size for f in manifest.files), initial=0))
        self._check_files()

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def size(self) -> int:
        """Bytes of the whole stream."""
        return self._starts[-1]

    def length(self, index: int) -> int:
        """Bytes of one chunk."""
        return self._lengths[index]

    def start(self, index: int) -> int:
        """Where a chunk starts in the stream; `start(len(map))` is where the stream ends."""
        return self._starts[index]

    def digest(self, index: int) -> bytes:
        """BLAKE3 that the bytes of a chunk must have."""
        at = index * TABLE_ENTRY_BYTES
        return self._tables[at + 4 : at + TABLE_ENTRY_BYTES]

    def verify(self, index: int, chunk: bytes | bytearray | memoryview) -> bool:
        """Whether these bytes are that chunk."""
        return len(chunk) == self._lengths[index] and blake3(chunk).digest() == self.digest(index)

    def place(self, index: int) -> tuple[int, int]:
        """Return the number of the file a chunk is in, and its offset within that file."""
        return self.locate(self._starts[index])

    def locate(self, offset: int) -> tuple[int, int]:
        """Return the file and the offset within it of a byte of the stream."""
        number = bisect_right(self._file_starts, offset) - 1
        return number, offset - self._file_starts[number]

    def chunk_at(self, offset: int) -> int | None:
        """Return the chunk that starts exactly at `offset` of the stream, if one does."""
        index = bisect_right(self._starts, offset) - 1
        return index if index < len(self) and self._starts[index] == offset else None

    def _check_files(self) -> None:
        """Every file's end must be a chunk's end: then no chunk crosses from file to file."""
        ends = set(self._starts)
        for file, end in zip(self.manifest.files, self._file_starts[1:], strict=True):
            if end not in ends:
                raise BadManifest(f"a chunk crosses the end of file {file.path!r}")


def check_table(segment: Segment, table: bytes, number: int) -> None:
    """Check that `table` is the one that `segment` names, and adds up.

    Raises:
        BadManifest: it is not.
    """
    if len(table) != segment.chunk_count * TABLE_ENTRY_BYTES:
        raise BadManifest(f"table {number} has {len(table)} bytes for {segment.chunk_count} chunks")
    if blake3(table).digest() != segment.table_digest:
        raise BadManifest(f"table {number} does not have the digest that the manifest names")
    total = 0
    for at in range(0, len(table), TABLE_ENTRY_BYTES):
        length = int.from_bytes(table[at : at + 4], "big")
        if not 0 < length <= CHUNK_BYTES_MAX:
            raise BadManifest(f"table {number} has a chunk of {length} bytes")
        total += length
    if total != segment.size:
        raise BadManifest(f"table {number} adds up to {total} bytes, not {segment.size}")


def _parse(content: bytes) -> Manifest:
    parts = decode(content, bytes_max=MANIFEST_BYTES_MAX)
    if not has_head(parts, 8, DOMAIN, VERSION):
        raise BadManifest(f"a manifest is 8 fields that start with {DOMAIN!r}, {VERSION}")
    media_type = field(parts[3], str, "media type")
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise BadManifest(f"media type {media_type[:80]!r} is not like application/x-name")
    files = array(parts[4], "files")
    segments = array(parts[5], "segments")
    if not 0 < len(files) <= FILE_COUNT_MAX:
        raise BadManifest(f"{len(files)} files; a build has 1 to {FILE_COUNT_MAX}")
    if len(segments) > SEGMENT_COUNT_MAX:
        raise BadManifest(f"{len(segments)} segments; a build has at most {SEGMENT_COUNT_MAX}")
    manifest = Manifest(
        publisher=PublicKey(fixed_bytes(parts[2], 32, "publisher")),
        media_type=media_type,
        files=tuple(_parse_file(item) for item in files),
        segments=tuple(_parse_segment(item) for item in segments),
        tokenizer_sha256=_maybe_sha256(parts[6], "tokenizer digest"),
        chat_template_sha256=_maybe_sha256(parts[7], "chat template digest"),
    )
    _check_manifest(manifest)
    return manifest


def _parse_file(item: object) -> BuildFile:
    parts = array(item, "file entry")
    if len(parts) != 4:
        raise BadManifest(f"a file entry is 4 fields, not {len(parts)}")
    path = field(parts[0], str, "file path")
    check_path(path)
    mode = natural(parts[2], "file mode")
    if mode not in FILE_MODES:
        raise BadManifest(f"mode {mode:o} of {path!r} is not one of 644 and 755")
    size = natural(parts[1], "file size", maximum=BUILD_BYTES_MAX)
    return BuildFile(path, size, mode, fixed_bytes(parts[3], 32, "file SHA-256"))


def _parse_segment(item: object) -> Segment:
    parts = array(item, "segment entry")
    if len(parts) != 3:
        raise BadManifest(f"a segment entry is 3 fields, not {len(parts)}")
    segment = Segment(
        natural(parts[0], "segment size", maximum=SEGMENT_BYTES_MAX),
        natural(parts[1], "segment chunk count", maximum=SEGMENT_CHUNK_COUNT_MAX),
        fixed_bytes(parts[2], 32, "table digest"),
    )
    if not segment.chunk_count <= segment.size <= segment.chunk_count * CHUNK_BYTES_MAX:
        raise BadManifest(f"{segment.size} bytes cannot be {segment.chunk_count} chunks")
    if not segment.chunk_count:
        raise BadManifest("a segment has no chunks")
    return segment


def _maybe_sha256(value: object, what: str) -> bytes:
    return b"" if value == b"" else fixed_bytes(value, 32, what)


def _check_manifest(manifest: Manifest) -> None:
    paths = [file.path for file in manifest.files]
    if any(left >= right for left, right in pairwise(paths)):
        raise BadManifest("files are not sorted by path, or one is named twice")
    _check_names(paths)
    total = manifest.size
    if total > BUILD_BYTES_MAX:
        raise BadManifest(f"{total} bytes; a build has at most {BUILD_BYTES_MAX}")
    if total != sum(segment.size for segment in manifest.segments):
        raise BadManifest(f"files of {total} bytes and segments of another size")
    tokenizer = manifest.tokenizer_sha256
    if tokenizer and all(file.sha256 != tokenizer for file in manifest.files):
        raise BadManifest("the tokenizer digest is of no file in the build")


def _check_names(paths: Sequence[str]) -> None:
    """No two names may meet on a file system that ignores case, nor a file be a folder."""
    files: set[str] = set()
    folders: dict[str, str] = {}
    for path in paths:
        folded = path.casefold()
        if folded in files:
            raise BadManifest(f"path {path!r} differs from another by case only")
        files.add(folded)
        at = path.rfind("/")
        while at > 0:
            folder = path[:at]
            if folders.setdefault(folder.casefold(), folder) != folder:
                raise BadManifest(f"folder {folder!r} differs from another by case only")
            at = folder.rfind("/")
    for name in files & set(folders):
        raise BadManifest(f"{name!r} is both a file and a folder")
