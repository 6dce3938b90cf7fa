"""Where to cut a file into chunks: from each tensor's start where the format shows them.

So a metadata edit, which moves every tensor, leaves the chunks of all tensors as they were. A file
whose header we cannot read is cut each 1 MiB; nothing here is an error. Pure.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, cast

from registry.builds import CHUNK_BYTES_MAX

HEAD_BYTES_MAX = 32 * 1024 * 1024
"""What is read of a file to find its tensors; GGUF keeps the vocabulary before them."""
TENSOR_COUNT_MAX = 100_000
_GGUF_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a GGUF metadata value by type (ggml's gguf.md); 8 is a string, 9 an array."""
_GGUF_DEPTH_MAX = 4


def chunk_lengths(path: str, head: bytes, size: int) -> list[int]:
    """Return the lengths of the chunks of a file, in order; they add up to `size`.

    Args:
        head: The file's first bytes, up to `HEAD_BYTES_MAX`.
    """
    starts: list[int] = []
    try:
        if path.endswith(".safetensors"):
            starts = safetensors_starts(head)
        elif path.endswith(".gguf"):
            starts = gguf_starts(head)
    except (ValueError, LookupError, TypeError, struct.error, RecursionError, OverflowError):
        starts = []
    return _cut(size, sorted({start for start in starts if 0 < start < size}))


def safetensors_starts(head: bytes) -> list[int]:
    """Return where the tensors of a safetensors file start (its documented layout).

    Raises:
        ValueError, LookupError, TypeError, struct.error: the header is not readable.
    """
    (length,) = struct.unpack_from("<Q", head)
    if length > len(head) - 8:
        raise ValueError("the header is longer than what was read")
    parsed: object = json.loads(head[8 : 8 + length])
    if not isinstance(parsed, dict):
        raise TypeError("the header is not an object")
    entries = cast("dict[str, Any]", parsed)
    tensors = [entry for name, entry in entries.items() if name != "__metadata__"]
    if len(tensors) > TENSOR_COUNT_MAX:
        raise ValueError("too many tensors")
    return [8 + length + int(entry["data_offsets"][0]) for entry in tensors]


def gguf_starts(head: bytes) -> list[int]:
    """Return where the tensors of a GGUF file (version 2 or 3) start.

    Raises:
        ValueError, LookupError, struct.error: the header is not readable.
    """
    magic, version, tensor_count, pair_count = struct.unpack_from("<4sIQQ", head)
    if magic != b"GGUF" or version not in {2, 3}:
        raise ValueError("not GGUF 2 or 3")
    if tensor_count > TENSOR_COUNT_MAX or pair_count > TENSOR_COUNT_MAX:
        raise ValueError("too many entries")
    at = struct.calcsize("<4sIQQ")
    alignment = 32
    for _ in range(pair_count):
        key, at = _gguf_string(head, at)
        (kind,) = struct.unpack_from("<I", head, at)
        if key == b"general.alignment" and kind == 4:
            (alignment,) = struct.unpack_from("<I", head, at + 4)
        at = _gguf_skip(head, at + 4, kind, 0)
    offsets: list[int] = []
    for _ in range(tensor_count):
        _name, at = _gguf_string(head, at)
        (dimensions,) = struct.unpack_from("<I", head, at)
        at += 4 + 8 * dimensions + 4
        offsets += struct.unpack_from("<Q", head, at)
        at += 8
    if alignment <= 0 or at > len(head):
        raise ValueError("the header is longer than what was read")
    data = math.ceil(at / alignment) * alignment
    return [data + offset for offset in offsets]


def _gguf_string(head: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("<Q", head, at)
    if length > len(head) - at - 8:
        raise ValueError("a string leaves what was read")
    return head[at + 8 : at + 8 + length], at + 8 + length


def _gguf_skip(head: bytes, at: int, kind: int, depth: int) -> int:
    if kind == 8:
        return _gguf_string(head, at)[1]
    if kind != 9:
        return at + _GGUF_SCALARS[kind]
    if depth == _GGUF_DEPTH_MAX:
        raise ValueError("arrays nested too deep")
    inner: int
    count: int
    inner, count = struct.unpack_from("<IQ", head, at)
    at += 12
    if count > len(head):
        raise ValueError("an array leaves what was read")
    if inner in _GGUF_SCALARS:
        return at + count * _GGUF_SCALARS[inner]
    for _ in range(count):
        at = _gguf_skip(head, at, inner, depth + 1)
    return at


def _cut(size: int, starts: Sequence[int]) -> list[int]:
    """Cut at the starts of what is large; what is small is put together up to a chunk."""
    lengths: list[int] = []
    packed = 0
    for piece in _pieces(size, starts):
        if packed and packed + piece > CHUNK_BYTES_MAX:
            lengths.append(packed)
            packed = 0
        if piece < CHUNK_BYTES_MAX:
            packed += piece
            continue
        whole, rest = divmod(piece, CHUNK_BYTES_MAX)
        lengths += [CHUNK_BYTES_MAX] * whole
        if rest:
            lengths.append(rest)
    if packed:
        lengths.append(packed)
    assert sum(lengths) == size
    return lengths


def _pieces(size: int, starts: Sequence[int]) -> Iterable[int]:
    edges = [0, *starts, size]
    return (end - start for start, end in pairwise(edges) if end > start)
