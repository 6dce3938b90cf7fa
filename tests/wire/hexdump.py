"""Commented hex: golden bytes that a person can read."""


def hexdump(text: str) -> bytes:
    """Return the bytes of a dump; what follows a # on a line is a comment."""
    return bytes.fromhex("".join(line.split("#")[0] for line in text.splitlines()))
