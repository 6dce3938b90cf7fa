"""Folders to pack: small, of every shape that matters, the same bytes each time."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

from crdt import SigningKey
from node.builds import Packed, pack

PUBLISHER = SigningKey(b"\x07" * 32)


def random_bytes(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def safetensors(sizes: dict[str, int], metadata: str = "", seed: int = 1) -> bytes:
    """Return a safetensors file with a tensor of random bytes for each name."""
    header: dict[str, object] = {"__metadata__": {"note": metadata}}
    at = 0
    data = b""
    for number, (name, size) in enumerate(sizes.items()):
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        data += random_bytes(size, seed * 100 + number)
        at += size
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def make_folder(root: Path, *, size: int = 3_500_000) -> Path:
    """Write a model-like folder: weights over a few chunks, small files, an empty one, a script."""
    (root / "nested" / "deep").mkdir(parents=True)
    (root / "model.safetensors").write_bytes(safetensors({"a": size, "b": 100, "c": 2000}))
    (root / "config.json").write_text('{"model_type": "tiny"}')
    (root / "tokenizer.json").write_text('{"version": "1.0"}')
    (root / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    (root / "nested" / "deep" / "empty").write_bytes(b"")
    script = root / "nested" / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    return root


def packed_folder(root: Path, *, size: int = 3_500_000) -> Packed:
    return pack(make_folder(root, size=size), PUBLISHER)


def tree(root: Path) -> dict[str, bytes]:
    """Return every file's bytes by its path."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
