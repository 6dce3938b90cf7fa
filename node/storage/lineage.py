"""Whether a store's file is the one that peers' cursors are about, or a copy, or an older one.

A cursor is a number in one file's order of arrival. A backup that is put back, or a copied folder,
gives those numbers to other items, and whoever asks for what came after his cursor would miss some.
So beside the file stands a line of text that no backup of the file can take with it: which inode it
has itself, the epoch, and the newest number. A store that does not agree with it has a new epoch.

What this cannot see is a folder that is put back over itself in place, with this line, or a whole
disk that is. For these there is the comparison of stores, which no cursor can deceive.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

EPOCH_BYTES = 16
_LINE = "hansa-lineage 0 {epoch} {inode:020} {n:020}\n"


class Lineage:
    """The line beside one store's file."""

    def __init__(self, store: Path | str) -> None:
        """Open it, or make it empty.

        Raises:
            OSError: it can be neither.
        """
        self._file = os.open(f"{store}.lineage", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._inode = os.fstat(self._file).st_ino

    def goes_on(self, epoch: bytes, last_n: int) -> bool:
        """Whether a store with this epoch and newest number is the one that was here last.

        A newer one than was noted is: the note is not synced, and may be lost with the power.
        """
        expected = _LINE.format(epoch=epoch.hex(), inode=self._inode, n=last_n)
        found = os.pread(self._file, len(expected), 0).decode(errors="replace")
        head = len(expected) - 21
        digits = found[head:-1]
        same = len(found) == len(expected) and found[:head] == expected[:head]
        return same and digits.isdecimal() and int(digits) <= last_n

    def note(self, epoch: bytes, last_n: int) -> None:
        """Write down how far the store is. Not synced, and a full disk is no fault: see above."""
        line = _LINE.format(epoch=epoch.hex(), inode=self._inode, n=last_n)
        with suppress(OSError):
            os.pwrite(self._file, line.encode(), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def new_epoch() -> bytes:
    """Return a new one."""
    return secrets.token_bytes(EPOCH_BYTES)
