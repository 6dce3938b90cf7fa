"""lib0's unsigned integers, the alphabet of Yjs updates: read strictly, written minimally."""

from __future__ import annotations

from crdt.errors import MalformedBytes

VARUINT_MAX = 2**53 - 1
"""What a client id may be in Yjs; clocks and lengths are far below it."""
_SHORT = tuple(bytes([number]) for number in range(128))


def varuint(number: int) -> bytes:
    """Return `number`, zero or more, seven bits a byte, least significant first."""
    if number < 128:
        return _SHORT[number]
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


class Reader:
    """A cursor over bytes from outside. Everything it returns was there and in minimal form."""

    __slots__ = ("at", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0

    def byte(self) -> int:
        """Return the next byte."""
        at = self.at
        if at >= len(self.raw):
            raise MalformedBytes(f"the update ends at byte {at}, in the middle of something")
        self.at = at + 1
        return self.raw[at]

    def varuint(self) -> int:
        """Return the next integer, 0..VARUINT_MAX."""
        number = self.byte()
        if number < 128:
            return number
        number &= 127
        shift = 7
        while True:
            byte = self.byte()
            number |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > 49:
                raise MalformedBytes(f"an integer before byte {self.at} is over {VARUINT_MAX}")
        if byte == 0 or number > VARUINT_MAX:
            raise MalformedBytes(f"the integer {number} is not minimal, or over {VARUINT_MAX}")
        return number

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        end = self.at + count
        if end > len(self.raw):
            raise MalformedBytes(
                f"{count} bytes announced at {self.at} where {len(self.raw) - self.at} remain"
            )
        taken = self.raw[self.at : end]
        self.at = end
        return taken

    def text(self) -> str:
        """Return the next string: its length in bytes, then UTF-8 without surrogates."""
        raw = self.take(self.varuint())
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise MalformedBytes(f"a string before byte {self.at} is not UTF-8") from error

    def end(self) -> None:
        """Check that nothing follows."""
        if self.at != len(self.raw):
            raise MalformedBytes(f"{len(self.raw) - self.at} bytes follow the update")
