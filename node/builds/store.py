"""Builds on disk: a folder each, partial until every byte was checked, then renamed into place.

`complete/<digest>/tree` holds the files themselves, ready to be handed to an engine and served to
peers; `partial/<digest>` is the same with sparse files and a journal. A build appears in
`complete` by one rename after everything under it was checked and flushed. Blocking: call it in
threads.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from crdt import HansaError, ManifestDigest, encode
from node.builds.errors import BuildDamaged, BuildStoreFull, UnknownBuild, UploadRefused
from node.builds.partial import Partial, flush_folder, write_file
from registry.builds import (
    MANIFEST_BYTES_MAX,
    TABLE_BYTES_MAX,
    ChunkMap,
    SealedManifest,
    check_table,
    open_manifest,
)

KEEP_FREE_BYTES = 2 * 1024**3
KEEP_FREE_SHARE = 20
"""One twentieth, 5 %; the smaller of the two stays free (builds.md)."""
PARTIAL_COUNT_MAX = 64
_OPEN_COUNT_MAX = 32
_NAME = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Held:
    """One complete build."""

    digest: ManifestDigest
    size: int
    file_count: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Holding:
    """A build that is open for reading."""

    sealed: SealedManifest
    tables: tuple[bytes, ...]
    chunks: ChunkMap
    root: Path

    def pieces(self, offset: int, length: int) -> Iterator[tuple[Path, int, int]]:
        """Yield (file, offset in it, bytes) that together are this range of the stream."""
        files = self.sealed.manifest.files
        end = offset + length
        assert 0 <= offset <= end <= self.chunks.size
        while offset < end:
            number, within = self.chunks.locate(offset)
            size = min(files[number].size - within, end - offset)
            yield self.root / files[number].path, within, size
            offset += size


class BuildStore:
    """The builds of one node. Safe to use from several threads.

    Args:
        folder: Made if it is missing.
        keep_free_bytes: What stays free on the disk; None for the smaller of 2 GiB and 5 %.
    """

    def __init__(self, folder: Path, *, keep_free_bytes: int | None = None) -> None:
        self._complete = folder / "complete"
        self._partial = folder / "partial"
        for path in (folder, self._complete, self._partial):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._partial.glob(".*"):  # what a crash left half made or half deleted
            _delete(path)
        self.folder = folder
        self._keep_free = keep_free_bytes
        self._lock = threading.RLock()
        self._finishing = threading.Lock()  # apart, because flushing a large build takes long
        self._open: OrderedDict[ManifestDigest, Holding] = OrderedDict()
        self._working: dict[ManifestDigest, Partial] = {}

    def held(self) -> list[Held]:
        """Return the complete builds, by digest; one whose manifest is unreadable is left out."""
        found: list[Held] = []
        for digest in self.digests():
            with contextlib.suppress(OSError, HansaError):
                manifest = _read_manifest(self._complete / digest.hex()).manifest
                found.append(Held(digest, manifest.size, len(manifest.files), manifest.media_type))
        return found

    def digests(self) -> list[ManifestDigest]:
        """Return the digests of the complete builds without opening them."""
        names = sorted(path.name for path in self._complete.iterdir())
        return [ManifestDigest(bytes.fromhex(name)) for name in names if _NAME.fullmatch(name)]

    def has(self, digest: ManifestDigest) -> bool:
        """Whether the build is complete here."""
        return (self._complete / digest.hex()).is_dir()

    def path(self, digest: ManifestDigest) -> Path:
        """Return the folder of a complete build's files, unchanged since they were checked.

        Raises:
            UnknownBuild: it is not complete here.
            BuildDamaged: a file changed and is wrong; the build is partial again, fetch mends it.
        """
        if not self.has(digest):
            raise UnknownBuild(digest)
        folder = self._complete / digest.hex()
        try:
            unchanged = _stamp(folder, _read_manifest(folder)) == (folder / "stamp").read_bytes()
        except FileNotFoundError:
            unchanged = False
        if not unchanged:
            self._check_again(digest)
        return folder / "tree"

    def open(self, digest: ManifestDigest) -> Holding:
        """Return a complete build opened for reading; the last few stay open.

        Raises:
            UnknownBuild: it is not complete here.
        """
        with self._lock:
            holding = self._open.get(digest)
            if holding is None:
                holding = self._load(digest)
                self._open[digest] = holding
                if len(self._open) > _OPEN_COUNT_MAX:
                    self._open.popitem(last=False)
            self._open.move_to_end(digest)
            return holding

    def manifest(self, digest: ManifestDigest) -> SealedManifest | None:
        """Return the manifest of a build that is complete or partial here."""
        for parent in (self._complete, self._partial):
            with contextlib.suppress(FileNotFoundError):
                return _read_manifest(parent / digest.hex())
        return None

    def offer(self, sealed: SealedManifest) -> None:
        """Start a partial build: keep its manifest, if it is new and there is room for it.

        Raises:
            BuildStoreFull: its bytes would not leave the disk its reserve.
            UploadRefused: too many builds are partial already.
        """
        with self._lock:
            folder = self._partial / sealed.digest.hex()
            if folder.is_dir() or self.has(sealed.digest):
                return
            if sum(1 for _ in self._partial.iterdir()) >= PARTIAL_COUNT_MAX:
                raise UploadRefused(
                    f"{PARTIAL_COUNT_MAX} builds are partial here; finish or remove one first"
                )
            self._reserve(sealed.manifest.size)
            making = self._partial / f".{sealed.digest.hex()}"
            (making / "tables").mkdir(parents=True, exist_ok=True)
            write_file(making / "manifest", sealed.raw)
            making.rename(folder)
            flush_folder(self._partial)

    def put_table(self, digest: ManifestDigest, number: int, table: bytes) -> None:
        """Keep one chunk table of a partial build.

        Raises:
            UnknownBuild, UploadRefused, BadManifest: no such build or table, or not that table.
        """
        sealed = self.manifest(digest)
        if sealed is None:
            raise UnknownBuild(digest)
        segments = sealed.manifest.segments
        if not 0 <= number < len(segments):
            raise UploadRefused(f"table {number} does not exist; the build has {len(segments)}")
        check_table(segments[number], table, number)
        folder = self._partial / digest.hex()
        if folder.is_dir():
            write_file(folder / "tables" / str(number), table)

    def missing_tables(self, digest: ManifestDigest) -> list[int]:
        """Return the numbers of the tables that a partial build still lacks."""
        sealed = self.manifest(digest)
        if sealed is None:
            raise UnknownBuild(digest)
        if self.has(digest):
            return []
        tables = self._partial / digest.hex() / "tables"
        count = len(sealed.manifest.segments)
        return [number for number in range(count) if not (tables / str(number)).is_file()]

    def resume(
        self, digest: ManifestDigest, progress: Callable[[int, int], None] = lambda _d, _t: None
    ) -> Partial:
        """Open a partial build for writing, after hashing again what its journal names.

        Args:
            progress: Called with bytes hashed and bytes to hash.

        Raises:
            UnknownBuild: it is not partial here, or lacks tables.
            BuildStoreFull: what is missing would not leave the disk its reserve.
            BuildStoreBusy: another process writes it.
        """
        with self._lock:
            working = self._working.get(digest)
            if working is not None:
                return working
            folder = self._partial / digest.hex()
            if not folder.is_dir() or self.missing_tables(digest):
                raise UnknownBuild(digest)
            sealed = _read_manifest(folder)
            chunks = ChunkMap(sealed.manifest, _read_tables(folder, sealed))
            partial = Partial(folder, sealed, chunks)
            try:
                partial.check_journal(progress)
                self._reserve(partial.bytes_missing)
            except BaseException:
                partial.close()
                raise
            self._working[digest] = partial
            return partial

    def working(self, digest: ManifestDigest) -> Partial | None:
        """Return the partial build that is open for writing now, if it is."""
        return self._working.get(digest)

    def release(self, digest: ManifestDigest) -> None:
        """Stop writing a partial build; it stays for the next `resume`."""
        with self._lock:
            partial = self._working.pop(digest, None)
            if partial is not None:
                partial.close()

    def finish(self, digest: ManifestDigest) -> Path:
        """Turn a partial build that lacks nothing into a complete one.

        Returns:
            The folder of its files.
        """
        with self._finishing:
            if self.has(digest):
                return self._complete / digest.hex() / "tree"
            partial = self._working[digest]
            partial.settle()
            folder = partial.folder
            write_file(folder / "stamp", _stamp(folder, partial.sealed))
            (folder / "journal").unlink(missing_ok=True)
            flush_folder(folder)
            with self._lock:
                del self._working[digest]
                target = self._complete / digest.hex()
                folder.rename(target)
            flush_folder(self._complete)
            flush_folder(self._partial)
            return target / "tree"

    def remove(self, digest: ManifestDigest) -> bool:
        """Delete a build, complete or partial; False if it was not here."""
        with self._lock:
            self.release(digest)
            self._open.pop(digest, None)
            gone = False
            for parent in (self._complete, self._partial):
                folder = parent / digest.hex()
                if folder.is_dir():
                    doomed = self._partial / f".gone-{digest.hex()}"
                    folder.rename(doomed)
                    _delete(doomed)
                    gone = True
            return gone

    def _reserve(self, needed: int) -> None:
        usage = shutil.disk_usage(self.folder)
        keep = self._keep_free
        if keep is None:
            keep = min(KEEP_FREE_BYTES, usage.total // KEEP_FREE_SHARE)
        promised = sum(partial.bytes_missing for partial in self._working.values())
        if usage.free - promised - keep < needed:
            raise BuildStoreFull(
                self.folder, needed=needed, free=usage.free - promised, keep_free=keep
            )

    def _load(self, digest: ManifestDigest) -> Holding:
        if not self.has(digest):
            raise UnknownBuild(digest)
        folder = self._complete / digest.hex()
        sealed = _read_manifest(folder)
        tables = _read_tables(folder, sealed)
        return Holding(sealed, tables, ChunkMap(sealed.manifest, tables), folder / "tree")

    def _check_again(self, digest: ManifestDigest) -> None:
        """Hash a build whose files look changed; if they are, make it partial again."""
        with self._lock:
            self._open.pop(digest, None)
            holding = self._load(digest)
            folder = self._complete / digest.hex()
            if all(_chunk_is_right(holding, index) for index in range(len(holding.chunks))):
                write_file(folder / "stamp", _stamp(folder, holding.sealed))
                return
            target = self._partial / digest.hex()
            folder.rename(target)
            Partial.reopen(target, len(holding.chunks))
        raise BuildDamaged(
            f"files of build {digest.hex()} changed on the disk; fetch it again: "
            "only what is wrong will be fetched"
        )


def _chunk_is_right(holding: Holding, index: int) -> bool:
    number, offset = holding.chunks.place(index)
    path = holding.root / holding.sealed.manifest.files[number].path
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return holding.chunks.verify(
            index, os.pread(descriptor, holding.chunks.length(index), offset)
        )
    finally:
        os.close(descriptor)


def _read_manifest(folder: Path) -> SealedManifest:
    raw = (folder / "manifest").read_bytes()
    assert len(raw) <= MANIFEST_BYTES_MAX
    return open_manifest(raw, ManifestDigest(bytes.fromhex(folder.name)))


def _read_tables(folder: Path, sealed: SealedManifest) -> tuple[bytes, ...]:
    tables = folder / "tables"
    count = len(sealed.manifest.segments)
    return tuple((tables / str(number)).read_bytes()[:TABLE_BYTES_MAX] for number in range(count))


def _stamp(folder: Path, sealed: SealedManifest) -> bytes:
    """Return what the files look like from outside: the same later means nobody wrote to them."""
    entries: list[tuple[int, int, int]] = []
    for file in sealed.manifest.files:
        status = (folder / "tree" / file.path).lstat()
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(file.path)
        entries.append((status.st_size, status.st_mtime_ns, status.st_ino))
    return encode(entries)


def _delete(folder: Path) -> None:
    for path, folders, _files in os.walk(folder):
        for name in folders:
            Path(path, name).chmod(0o700)
    shutil.rmtree(folder)
