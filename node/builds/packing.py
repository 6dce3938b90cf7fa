"""Making a build of a folder: the same files give the same digest, wherever and whenever.

Runs on the creator's side too (`hansa build`), where the publisher's key is. Blocking: call it in
a thread.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from blake3 import blake3

from crdt import SigningKey
from node.builds.cuts import HEAD_BYTES_MAX, chunk_lengths
from node.builds.errors import CannotPack
from registry.builds import (
    FILE_COUNT_MAX,
    SEGMENT_BYTES_MAX,
    SEGMENT_CHUNK_COUNT_MAX,
    BadManifest,
    BuildFile,
    Manifest,
    SealedManifest,
    Segment,
    check_path,
    encode_table,
    seal_manifest,
)

MODEL_TYPE = "application/vnd.hansa.model"
PACKAGE_TYPE = "application/vnd.hansa.package"
PICKLE_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt")
"""Formats that run code when they are read; a build never carries one."""
_PICKLE_STARTS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")


@dataclass(frozen=True, slots=True)
class PackProgress:
    """How far packing is, and in which file."""

    bytes_done: int
    bytes_total: int
    path: str


@dataclass(frozen=True, slots=True)
class Packed:
    """A signed manifest, its tables, and the folder whose files they describe.

    Attributes:
        root: Folder that the manifest's paths are relative to.
    """

    sealed: SealedManifest
    tables: tuple[bytes, ...]
    root: Path


def pack(
    path: Path,
    publisher: SigningKey,
    progress: Callable[[PackProgress], None] = lambda _progress: None,
    *,
    media_type: str | None = None,
) -> Packed:
    """Read a folder, or one file, and return its signed manifest. Copies and changes nothing.

    Raises:
        CannotPack: links, devices, pickles, names some systems cannot create, nothing at all, or
            a file that changed while it was read.
    """
    root, names = _names(path)
    sizes = {name: (root / name).stat().st_size for name in names}
    total = sum(sizes.values())
    done = 0
    files: list[BuildFile] = []
    chunks: list[tuple[int, bytes]] = []
    for name in names:
        entry = _File(root / name, name, sizes[name])
        for length, digest in entry.read():
            chunks.append((length, digest))
            done += length
            progress(PackProgress(done, total, name))
        files.append(entry.described())
    segments, tables = _segments(chunks)
    manifest = Manifest(
        publisher=publisher.public,
        media_type=media_type or _media_type(names),
        files=tuple(files),
        segments=segments,
        tokenizer_sha256=next((f.sha256 for f in files if f.path == "tokenizer.json"), b""),
        chat_template_sha256=_chat_template(root, names),
    )
    try:
        sealed = seal_manifest(manifest, publisher)
    except BadManifest as error:
        raise CannotPack(f"{path} cannot be a build: {error}") from error
    return Packed(sealed, tables, root)


class _File:
    """Reads one file once: its chunks' hashes as it goes, its description at the end."""

    def __init__(self, path: Path, name: str, size: int) -> None:
        self._path = path
        self._name = name
        self._size = size
        self._sha256 = hashlib.sha256()
        self._mode = 0o644

    def read(self) -> Iterator[tuple[int, bytes]]:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb", buffering=0) as raw:
            file = cast("BinaryIO", raw)
            if os.fstat(descriptor).st_mode & stat.S_IXUSR:
                self._mode = 0o755
            for length in chunk_lengths(self._name, self._head(descriptor), self._size):
                chunk = _read_exactly(file, length)
                if len(chunk) != length:
                    raise CannotPack(f"{self._path} changed while it was read; pack again")
                self._sha256.update(chunk)
                yield length, blake3(chunk).digest()
            if file.read(1):
                raise CannotPack(f"{self._path} grew while it was read; pack again")

    def described(self) -> BuildFile:
        return BuildFile(self._name, self._size, self._mode, self._sha256.digest())

    def _head(self, descriptor: int) -> bytes:
        head = os.pread(descriptor, 4096, 0)
        if self._name.endswith(".bin") and head.startswith(_PICKLE_STARTS):
            raise CannotPack(_pickle(self._path))
        if not self._name.endswith((".safetensors", ".gguf")):
            return b""
        return os.pread(descriptor, min(self._size, HEAD_BYTES_MAX), 0)


def _read_exactly(file: BinaryIO, length: int) -> bytes:
    chunk = file.read(length)
    while len(chunk) < length:
        more = file.read(length - len(chunk))
        if not more:
            break
        chunk += more
    return chunk


def _names(path: Path) -> tuple[Path, list[str]]:
    if path.is_file() and not path.is_symlink():
        root, found = path.parent, [path]
    elif path.is_dir():
        root, found = path, list(_walk(path))
    else:
        raise CannotPack(f"{path} is neither a folder nor a file")
    names = sorted(item.relative_to(root).as_posix() for item in found)
    if not names:
        raise CannotPack(f"{path} holds no files")
    for name in names:
        _check_name(root, name)
    return root, names


def _walk(root: Path) -> Iterator[Path]:
    count = 0
    for folder, folders, files in os.walk(root, followlinks=False):
        for name in [*folders, *files]:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                raise CannotPack(f"{path} is a link; copy the folder with `cp -rL` and pack that")
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise CannotPack(f"{path} is neither a file nor a folder; remove it")
        for name in files:
            count += 1
            if count > FILE_COUNT_MAX:
                raise CannotPack(f"{root} has over {FILE_COUNT_MAX} files; put them in an archive")
            yield Path(folder, name)


def _check_name(root: Path, name: str) -> None:
    if unicodedata.normalize("NFC", name) != name:
        raise CannotPack(f"{root / name}: rename it to Unicode form NFC")
    try:
        check_path(name)
    except BadManifest as error:
        raise CannotPack(f"{root}: {error}") from error
    if name.lower().endswith(PICKLE_SUFFIXES):
        raise CannotPack(_pickle(root / name))


def _pickle(path: Path) -> str:
    return f"{path} is a pickle, which runs code when it is read; convert it to safetensors"


def _segments(chunks: list[tuple[int, bytes]]) -> tuple[tuple[Segment, ...], tuple[bytes, ...]]:
    segments: list[Segment] = []
    tables: list[bytes] = []
    run: list[tuple[int, bytes]] = []
    size = 0

    def close() -> None:
        table = encode_table(run)
        segments.append(Segment(size, len(run), blake3(table).digest()))
        tables.append(table)

    for length, digest in chunks:
        if size + length > SEGMENT_BYTES_MAX or len(run) == SEGMENT_CHUNK_COUNT_MAX:
            close()
            run, size = [], 0
        run.append((length, digest))
        size += length
    if run:
        close()
    return tuple(segments), tuple(tables)


def _media_type(names: list[str]) -> str:
    weights = any(name.endswith((".safetensors", ".gguf")) for name in names)
    return MODEL_TYPE if weights else PACKAGE_TYPE


def _chat_template(root: Path, names: list[str]) -> bytes:
    """SHA-256 of the chat template's text, from either place that tokenizers keep it."""
    if "chat_template.jinja" in names:
        return hashlib.sha256((root / "chat_template.jinja").read_bytes()).digest()
    if "tokenizer_config.json" not in names:
        return b""
    try:
        settings: Any = json.loads((root / "tokenizer_config.json").read_bytes())
        template: object = settings.get("chat_template")
    except (ValueError, AttributeError):
        return b""
    return hashlib.sha256(template.encode()).digest() if isinstance(template, str) else b""
