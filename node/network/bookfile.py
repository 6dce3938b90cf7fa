"""The address book on disk: one small file, written whole or not at all, and never fatal.

A canonical array: `["hansa/peers", 0, network, [entry ...]]`; docs/storage.md explains an entry.
The file is this node's own, yet checked like a stranger's: a bit may flip, a human may edit.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import cast, get_args

import structlog

from crdt import HansaError, MalformedBytes, NetworkId, array, decode, encode, field, natural
from crdt.wire import Value
from node.network.addressbook import (
    NAMED_COUNT_MAX,
    TRIED_COUNT_MAX,
    UNTRIED_COUNT_MAX,
    Found,
    Known,
)
from node.network.addresses import parse_address
from node.network.errors import BadAddress

DOMAIN = "hansa/peers"
VERSION = 0
FILE_BYTES_MAX = 4 * 1024 * 1024
"""Every entry with the longest address and eight informants."""
INFORMANT_CHARACTERS_MAX = 64
FAILURES_MAX = 1_000_000
_FOUND = frozenset(get_args(Found))

logger = structlog.stdlib.get_logger(__name__)


def save(path: Path, raw: bytes) -> None:
    """Write the bytes that `pack` made, for their owner only: they say whom this node talks to.

    A kill leaves the file as it was, and at most one partial one beside it, which the next takes.

    Raises:
        OSError: the disk.
    """
    partial = path.with_name(f"{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load(path: Path, network: NetworkId) -> list[Known]:
    """Return what the file holds; a broken one is put aside, with a line in the log."""
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
        return unpack(raw, network)
    except FileNotFoundError:
        return []
    except OSError as error:
        logger.warning("peers file not read", path=str(path), reason=str(error))
        return []
    except HansaError as error:
        aside = path.with_name(f"{path.name}.broken")
        logger.warning(
            "peers file is broken; starting without it", path=str(path), put_aside=str(aside),
            reason=str(error)[:300],
        )  # fmt: skip
        try:
            path.replace(aside)
        except OSError as fault:
            logger.warning("peers file not put aside", path=str(path), reason=str(fault))
        return []


def pack(network: NetworkId, entries: Iterable[Known]) -> bytes:
    """Return the file's bytes."""
    rows: list[Value] = [
        [
            str(one.address), one.found, one.informants, int(one.heard_s), int(one.met_s),
            int(one.tried_s), min(one.failures, FAILURES_MAX), one.anchor,
        ]
        for one in entries
    ]  # fmt: skip
    return encode([DOMAIN, VERSION, network, rows])


def unpack(raw: bytes, network: NetworkId) -> list[Known]:
    """Return the entries of a file's bytes.

    Raises:
        HansaError: they are not such a file, or another network's.
    """
    parts = decode(raw, bytes_max=FILE_BYTES_MAX)
    if len(parts) != 4 or parts[0] != DOMAIN or natural(parts[1], "version") != VERSION:
        raise MalformedBytes("it is not a peers file of this version")
    if parts[2] != network:
        raise MalformedBytes("it belongs to another network; keep one data folder for each")
    rows = array(parts[3], "entries")
    if len(rows) > TRIED_COUNT_MAX + UNTRIED_COUNT_MAX:
        raise MalformedBytes(f"it has {len(rows)} entries")
    return [_entry(array(row, "an entry")) for row in rows]


def _entry(row: tuple[object, ...]) -> Known:
    if len(row) != 8:
        raise MalformedBytes(f"an entry of {len(row)} fields, not 8")
    try:
        address = parse_address(field(row[0], str, "address"))
    except BadAddress as error:
        raise MalformedBytes(str(error)) from error
    found = field(row[1], str, "found")
    informants = [field(one, str, "informant") for one in array(row[2], "informants")]
    too_long = any(len(one) > INFORMANT_CHARACTERS_MAX for one in informants)
    if found not in _FOUND or len(informants) > NAMED_COUNT_MAX or too_long:
        raise MalformedBytes(f"the entry of {address} says oddly how it was found")
    return Known(
        address,
        cast("Found", found),
        natural(row[3], "heard"),
        informants,
        natural(row[4], "met"),
        natural(row[5], "tried"),
        natural(row[6], "failures", maximum=FAILURES_MAX),
        anchor=field(row[7], bool, "anchor"),
    )
