"""One build while its bytes arrive: sparse files, and a journal of the chunks that were checked.

The journal is a hint and never a proof: after any stop, what it names is hashed again. So chunks
need no flush of their own, and a torn write costs one chunk.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

from node.builds.errors import BuildStoreBusy, BuildStoreFull, WrongBytes
from registry.builds import ChunkMap, SealedManifest

_ENTRY_BYTES = 4


class Partial:
    """Writes the chunks of one build. `write` may be called from several threads at once."""

    def __init__(self, folder: Path, sealed: SealedManifest, chunks: ChunkMap) -> None:
        self.folder = folder
        self.sealed = sealed
        self.chunks = chunks
        self._tree = folder / "tree"
        self._lock = threading.Lock()
        self._have = bytearray(len(chunks))
        self._bytes_verified = 0
        self._journal = os.open(
            folder / "journal", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._journal)
            raise BuildStoreBusy(
                f"another process is writing build {sealed.digest.hex()}; wait for it"
            ) from error
        self._make_files()

    @property
    def bytes_verified(self) -> int:
        """Bytes that were checked and written."""
        return self._bytes_verified

    @property
    def bytes_missing(self) -> int:
        """Bytes that are still to come."""
        return self.chunks.size - self._bytes_verified

    def has(self, index: int) -> bool:
        """Whether a chunk was checked and written."""
        return bool(self._have[index])

    def missing(self) -> list[int]:
        """Return the chunks that are still to come, in order."""
        return [index for index, have in enumerate(self._have) if not have]

    def gaps(self, count_max: int) -> list[tuple[int, int]]:
        """Return the first missing ranges of the stream as (offset, length)."""
        found: list[tuple[int, int]] = []
        for index in self.missing():
            start, length = self.chunks.start(index), self.chunks.length(index)
            if found and found[-1][0] + found[-1][1] == start:
                found[-1] = (found[-1][0], found[-1][1] + length)
            elif len(found) == count_max:
                break
            else:
                found.append((start, length))
        return found

    def write(self, index: int, chunk: bytes | bytearray | memoryview) -> bool:
        """Check one chunk and write it; False if it was here already.

        Raises:
            WrongBytes: these bytes are not that chunk; nothing was written.
            BuildStoreFull: the disk is full.
        """
        if self._have[index]:
            return False
        if not self.chunks.verify(index, chunk):
            raise WrongBytes(index)
        number, offset = self.chunks.place(index)
        self._write_at(self._path(number), offset, memoryview(chunk))
        with self._lock:
            if self._have[index]:
                return False
            self._have[index] = 1
            self._bytes_verified += len(chunk)
            os.write(self._journal, index.to_bytes(_ENTRY_BYTES, "big"))
        return True

    def check_journal(self, progress: Callable[[int, int], None]) -> None:
        """Hash again what the journal names, believe what is right, and rewrite the journal."""
        named = sorted(self._journalled())
        total = sum(self.chunks.length(index) for index in named)
        done = 0
        buffer = memoryview(bytearray(max((self.chunks.length(i) for i in named), default=0)))
        good: list[int] = []
        for index in named:
            length = self.chunks.length(index)
            if self._read(index, buffer[:length]) and self.chunks.verify(index, buffer[:length]):
                good.append(index)
            done += length
            progress(done, total)
        for index in good:
            self._have[index] = 1
            self._bytes_verified += self.chunks.length(index)
        os.ftruncate(self._journal, 0)
        os.write(self._journal, b"".join(i.to_bytes(_ENTRY_BYTES, "big") for i in good))

    def settle(self) -> None:
        """Flush every file, take away the right to write them, and close."""
        assert not self.bytes_missing
        for number, file in enumerate(self.sealed.manifest.files):
            path = self._path(number)
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fchmod(descriptor, file.mode & 0o555)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        for folder, _folders, _files in os.walk(self._tree):
            flush_folder(Path(folder))
        self.close()

    def close(self) -> None:
        """Let go of the journal and its lock."""
        with self._lock:
            if self._journal >= 0:
                os.close(self._journal)
                self._journal = -1

    @staticmethod
    def reopen(folder: Path, chunk_count: int) -> None:
        """Make a complete build's folder a partial one again that names all its chunks."""
        (folder / "stamp").unlink(missing_ok=True)
        for path in (folder / "tree").rglob("*"):
            if path.is_file() and not path.is_symlink():
                path.chmod(0o600)
        entries = (index.to_bytes(_ENTRY_BYTES, "big") for index in range(chunk_count))
        write_file(folder / "journal", b"".join(entries))

    def _make_files(self) -> None:
        for number, file in enumerate(self.sealed.manifest.files):
            path = self._path(number)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.is_symlink() or (path.exists() and not path.is_file()):
                path.unlink()
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            if path.exists():
                path.chmod(0o600)
            descriptor = os.open(path, flags, 0o600)
            try:
                os.ftruncate(descriptor, file.size)  # sparse: the reserve was checked by the store
            finally:
                os.close(descriptor)

    def _path(self, number: int) -> Path:
        return self._tree / self.sealed.manifest.files[number].path

    def _write_at(self, path: Path, offset: int, chunk: memoryview) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            written = 0
            while written < len(chunk):
                written += os.pwrite(descriptor, chunk[written:], offset + written)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise BuildStoreFull(
                    self.folder, needed=self.bytes_missing, free=0, keep_free=0
                ) from error
            raise
        finally:
            os.close(descriptor)

    def _read(self, index: int, buffer: memoryview) -> bool:
        number, offset = self.chunks.place(index)
        descriptor = os.open(self._path(number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return os.preadv(descriptor, [buffer], offset) == len(buffer)
        finally:
            os.close(descriptor)

    def _journalled(self) -> set[int]:
        size = min(os.fstat(self._journal).st_size, 16 * _ENTRY_BYTES * (len(self.chunks) + 1))
        raw = os.pread(self._journal, size, 0)
        whole = len(raw) - len(raw) % _ENTRY_BYTES
        named = (int.from_bytes(raw[at : at + _ENTRY_BYTES], "big") for at in range(0, whole, 4))
        return {index for index in named if index < len(self.chunks)}


def write_file(path: Path, raw: bytes) -> None:
    """Write a small file so that it is there whole, or not at all, after a crash."""
    making = path.with_name(path.name + ".new")
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(descriptor)
    making.replace(path)
    flush_folder(path.parent)


def flush_folder(path: Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
