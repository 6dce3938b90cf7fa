"""The bytes of records on this node: packing, keeping, fetching from holders, serving to peers."""

from node.builds.builds import UPLOAD_BYTES_MAX, Builds, BuildStatus
from node.builds.errors import (
    BuildDamaged,
    BuildStoreBusy,
    BuildStoreFull,
    CannotPack,
    HolderHung,
    NoHolder,
    UnknownBuild,
    UploadRefused,
    WrongBytes,
)
from node.builds.fetching import FetchProgress
from node.builds.packing import Packed, PackProgress, pack
from node.builds.store import BuildStore, Held

__all__ = [
    "UPLOAD_BYTES_MAX", "BuildDamaged", "BuildStatus", "BuildStore", "BuildStoreBusy",
    "BuildStoreFull", "Builds", "CannotPack", "FetchProgress", "Held", "HolderHung", "NoHolder",
    "PackProgress", "Packed", "UnknownBuild", "UploadRefused", "WrongBytes", "pack",
]  # fmt: skip
