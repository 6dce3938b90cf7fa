"""What can go wrong with the bytes of builds."""

from __future__ import annotations

from pathlib import Path

from crdt import ManifestDigest, RemoteFault, UserFault, WorldFault


class CannotPack(UserFault):
    """A folder or file holds something that a build cannot carry."""

    code = "cannot-pack"


class UnknownBuild(UserFault):
    """A build that is not on this node."""

    code = "unknown-build"

    def __init__(self, digest: ManifestDigest) -> None:
        super().__init__(
            f"build {digest.hex()} is not on this node; fetch it with `hansa fetch`, or upload it"
        )


class UploadRefused(UserFault):
    """An upload that does not fit the build it names."""

    code = "upload-refused"


class WrongBytes(RemoteFault):
    """A holder sent bytes that are not the chunk that was asked for."""

    code = "wrong-bytes"

    def __init__(self, index: int) -> None:
        self.index = index
        super().__init__(f"chunk {index} does not have the hash that the manifest names")


class HolderHung(WorldFault):
    """A holder accepted a request and then sent nothing, or next to nothing."""

    code = "holder-hung"


class NoHolder(WorldFault):
    """Nobody who can be reached has the build, or all that do failed."""

    code = "no-holder"


class BuildStoreFull(WorldFault):
    """There is no room for a build that leaves the disk its reserve."""

    code = "storage-full"

    def __init__(self, folder: Path, *, needed: int, free: int, keep_free: int) -> None:
        super().__init__(
            f"{needed} bytes are needed in {folder}, {free} are free and {keep_free} stay free; "
            "make room, or set builds.folder or builds.keep_free_bytes"
        )


class BuildStoreBusy(WorldFault):
    """Another process is writing the same build."""

    code = "build-busy"


class BuildDamaged(WorldFault):
    """Files of a stored build changed under us; what is still right was kept for a new fetch."""

    code = "build-damaged"
