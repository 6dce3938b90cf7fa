"""Whether a store is the one that its epoch names, or a copy of it, or an older state of it.

A peer's cursor says "read to arrival n of epoch E". A database that was put back from a backup
gives numbers again that it had given before, so under its old epoch such a cursor would pass by
what is new. So a small file beside the database, the mark, is written anew at each stop, and the
database notes it: its random token, inode and time of change, which no copy keeps. Whoever finds
another mark than the one noted has a copy, or a state from before the last stop: a new epoch.

In doubt it is a new epoch, which costs each peer a comparison: when the mark was lost, for example.
What no mark shows (a machine put back with its file system; the database alone, put back in place
after a kill in the very run that it was copied in), the proofs of `crdt/reconcile` find within 10
minutes.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

EPOCH_BYTES = 16
TOKEN_BYTES = 16
MARK_SUFFIX = ".mark"


def settled(epoch: bytes, *, noted: bytes, found: bytes, fresh: bytes) -> bytes:
    """Return the epoch under which a store goes on.

    Args:
        epoch: Its own; empty for a store that has just been made.
        noted: The mark that the database says it had; empty if it never had one.
        found: The mark beside it; empty when there is none.
        fresh: The epoch if it needs another one.
    """
    return epoch if epoch and noted == found else fresh


def find_mark(database: Path | str) -> bytes:
    """Return what identifies the mark beside a database, or nothing when there is none."""
    path = mark_path(database)
    with suppress(OSError):
        token, there = path.read_bytes()[:TOKEN_BYTES], path.stat()
        return b"%s %d %d" % (token.hex().encode(), there.st_ino, there.st_ctime_ns)
    return b""


def renew_mark(database: Path | str) -> bytes:
    """Write the mark anew and return what identifies it now.

    Raises:
        OSError: it could not be written.
    """
    path = mark_path(database)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(secrets.token_bytes(TOKEN_BYTES))
    os.replace(partial, path)
    return find_mark(database)


def mark_path(database: Path | str) -> Path:
    """Return where the mark of a database is."""
    path = Path(database)
    return path.with_name(path.name + MARK_SUFFIX)
