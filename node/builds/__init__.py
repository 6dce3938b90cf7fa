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
from node.builds.exchange import ExchangeLimits
from node.builds.fetching import FetchProgress
from node.builds.packing import Packed, PackProgress, pack
from node.builds.store import BuildStore, Held
from node.builds.transfer import Holder, TlsHolder

__all__ = [
    "UPLOAD_BYTES_MAX", "BuildDamaged", "BuildStatus", "BuildStore", "BuildStoreBusy",
    "BuildStoreFull", "Builds", "CannotPack", "ExchangeLimits", "FetchProgress", "Held", "Holder",
    "HolderHung", "NoHolder", "PackProgress", "Packed", "TlsHolder", "UnknownBuild",
    "UploadRefused", "WrongBytes", "pack",
]  # fmt: skip
