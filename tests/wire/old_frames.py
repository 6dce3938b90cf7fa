"""Frames of the version before, byte for byte, from `old_frames.hex`.

They were written by the code of commit c412e87 itself, run on a history of its own: an account
with delegates, one that rotated its root, one that forked and adopted; puts, a card edit by a
delegate, a delete, a checkpoint and a put of its era; an agreed receipt. Nothing is ever made anew.
"""

from __future__ import annotations

from pathlib import Path

from tests.wire.hexdump import hexdump

EPOCH = b"old " * 4
"""The old store's numbering, in which its newest arrival is `LAST_N`."""
LAST_N = 21
ABSENT = b"\x11" * 32
"""The id that its `fetch` asks for and nobody has."""
ADVERT_S = 1_700_000_000
"""When its advert was signed."""


def _frames() -> dict[str, bytes]:
    text = (Path(__file__).parent / "old_frames.hex").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("["):
            name = line[1:].partition("]")[0]
            found[name] = []
        elif name:
            found[name].append(line)
    return {name: hexdump("\n".join(lines)) for name, lines in found.items()}


OLD = _frames()
