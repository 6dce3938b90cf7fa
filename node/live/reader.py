"""Reads lib0's encoding, which Yjs and its protocols use: never past the end, never too much."""

from __future__ import annotations

from node.live.errors import UpdateRefused

INTEGER_MAX = (1 << 53) - 1
"""JavaScript's largest safe integer: lib0 writes nothing above it."""

LENGTH_MAX = 1 << 30
"""yrs counts clocks in 32 bits; a session ends long before this."""


class Reader:
    """Reads one message or update from its start; every method raises `UpdateRefused`."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.offset = 0

    def byte(self) -> int:
        """Return the next byte."""
        if self.offset >= len(self._raw):
            raise UpdateRefused(f"a message ends early, after {len(self._raw)} bytes")
        self.offset += 1
        return self._raw[self.offset - 1]

    def integer(self) -> int:
        """Return a variable length integer."""
        value, shift = 0, 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > 49:
                break
        if byte >= 128 or value > INTEGER_MAX:
            raise UpdateRefused(f"a message holds a number above {INTEGER_MAX}")
        return value

    def length(self) -> int:
        """Return the length of a run, which is at least 1."""
        value = self.integer()
        if not 0 < value <= LENGTH_MAX:
            raise UpdateRefused(f"a message holds a run of {value}; allowed are 1 to {LENGTH_MAX}")
        return value

    def count(self, what: str, most: int | None = None) -> int:
        """Return a count; each counted thing takes at least a byte of what is left."""
        value = self.integer()
        most = min(len(self._raw) - self.offset, INTEGER_MAX if most is None else most)
        if value > most:
            raise UpdateRefused(f"a message announces {value} {what}; at most {most} can be")
        return value

    def string(self) -> str:
        """Return a string with its length before it."""
        raw = self.take(self.integer())
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise UpdateRefused("a message holds text that is not UTF-8") from None

    def blob(self) -> bytes:
        """Return bytes with their length before them."""
        return self.take(self.integer())

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes."""
        end = self.offset + length
        if end > len(self._raw):
            raise UpdateRefused(f"a message ends early, after {len(self._raw)} bytes")
        taken = self._raw[self.offset : end]
        self.offset = end
        return taken

    def end(self) -> None:
        """Check that nothing is left."""
        if self.offset != len(self._raw):
            raise UpdateRefused(
                f"a message goes on after its end, by {len(self._raw) - self.offset} bytes"
            )
