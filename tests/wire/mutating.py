"""Valid bytes with something about them changed: as bytes, field by field, or written afresh.

What is changed inside an item is hashed and signed again by whoever it names, where that key is at
hand, so that most of it gets past the signature and is judged by what it says.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from typing import Any

from crdt import (
    Item,
    ItemId,
    ItemKind,
    PublicKey,
    RemoteFault,
    Signed,
    SigningKey,
    decode_loosely,
    encode,
    pack_item,
    seal,
    sha3,
)
from tests.crdt.cards.fuzzing import scrambled
from tests.writers import NETWORK, key_of

BYTES_MAX = 1 << 20
SIZE_MAX = 1 << 17
"""What many copies of something may come to, in bytes and elements."""
INTEGERS = (
    0, 1, 2, 3, 4, 5, 6, 7, 15, 16, 17, 127, 128, 255, 256, 1023, 1024, 1025, 65535, 65536,
    2**21 - 2, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1,
    -1, -2, -128, -(2**31), -(2**63),
)  # fmt: skip
TEXTS = (
    "", "a", "\x00", "\x7f", "text", "tags", "evals", "😀", "é" * 64, "a" * 129, "../x", "active",
    "general", "LLM", "1.0.0", "ab" * 32, "0" * 64, "\u202e", "a" * 5000,
)  # fmt: skip
BYTES = (
    b"",
    b"\x00",
    b"\x00" * 32,
    b"\xff" * 32,
    b"\x00" * 31,
    b"\x01" * 33,
    b"\x00" * 64,
    b"\x90",
)
OTHERS = (None, True, False, 0.0, 1.5, float("nan"), float("inf"))


class Mutator:
    """Changes things by a seeded source; `ids` are what exists somewhere, to be put elsewhere."""

    def __init__(self, rng: random.Random, ids: Sequence[bytes]) -> None:
        self._rng = rng
        self._ids = ids

    def raw(self, raw: bytes) -> bytes:
        """Return bytes that were changed without looking at what they say, or as arrays."""
        if self._rng.random() < 0.4:
            return scrambled(self._rng, raw)
        changed = self._inside(raw)
        return scrambled(self._rng, raw) if changed is None else changed

    def value(self, value: Any) -> Any:
        """Return another value in its place."""
        rng = self._rng
        if rng.random() < 0.08:
            return self._foreign()
        if isinstance(value, tuple):
            return self._array(value)
        if isinstance(value, bytes):
            return self._bytes(value)
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, bool) or not isinstance(value, int):
            return self._foreign()
        near = value + rng.choice((-1, 1))
        # What msgpack cannot say is not for us to say.
        return near if rng.random() < 0.4 and -(2**63) <= near < 2**64 else rng.choice(INTEGERS)

    def _array(self, value: tuple[Any, ...]) -> Any:
        rng = self._rng
        draw = rng.random()
        at = rng.randrange(len(value)) if value else 0
        if value and draw < 0.7:
            return (*value[:at], self.value(value[at]), *value[at + 1 :])
        if draw < 0.76:
            return value[:at]
        if draw < 0.82:
            return (*value[:at], *value[at + 1 :])
        if draw < 0.88:
            count = rng.choice((1, 16, 300))
            count = min(count, SIZE_MAX // (1 + _size(value[at : at + 1])))
            return (*value[: at + 1], *value[at : at + 1] * count, *value[at:])
        if draw < 0.92:
            return tuple(rng.sample(value, len(value)))
        if draw < 0.96:
            return (*value, self._foreign())
        for _ in range(rng.choice((1, 15, 40))):
            value = (value,)
        return value

    def _bytes(self, value: bytes) -> bytes:
        rng = self._rng
        draw = rng.random()
        if len(value) in {0, 32} and draw < 0.6:
            return rng.choice(self._ids)
        if len(value) > 40 and draw < 0.7:
            return self._inside(value) or scrambled(rng, value)
        if draw < 0.8:
            return scrambled(rng, value)
        return rng.choice((*BYTES, value * 2, value[: rng.randint(0, len(value))]))

    def _text(self, value: str) -> str:
        rng = self._rng
        at = rng.randint(0, len(value))
        if rng.random() < 0.4:
            return rng.choice(TEXTS)
        return value[:at] + rng.choice(("", "a", "A", "-", " ", "😀", "\n")) + value[at + 1 :]

    def _foreign(self) -> Any:
        rng = self._rng
        return rng.choice((
            rng.choice(OTHERS), rng.choice(INTEGERS), rng.choice(TEXTS), rng.choice(BYTES),
            rng.choice(self._ids), (), (rng.choice(self._ids),), ((((),),),),
        ))  # fmt: skip

    def _inside(self, raw: bytes) -> bytes | None:
        """Return bytes whose arrays were changed, canonical again; None if they hold no array."""
        with contextlib.suppress(RemoteFault, ValueError, OverflowError):
            parts = decode_loosely(raw, bytes_max=BYTES_MAX)
            for _ in range(self._rng.choice((1, 1, 1, 2, 3))):
                changed = self._array(parts)
                parts = changed if isinstance(changed, tuple) else (changed,)
            return encode(parts)
        return None


class Forger:
    """Changes signed items, and signs them again."""

    def __init__(
        self, rng: random.Random, mutator: Mutator, keys: dict[PublicKey, SigningKey]
    ) -> None:
        self._rng = rng
        self._mutator = mutator
        self._keys = keys
        self._names = sorted(keys)
        self._stranger = key_of("a stranger")

    def item(self, item: Item) -> Item:
        """Return an item with its content, its body or both changed, hashed and signed anew."""
        with contextlib.suppress(ValueError, RemoteFault):  # nested deeper than msgpack can say
            return self._changed(item)
        return item

    def _changed(self, item: Item) -> Item:
        rng = self._rng
        content, body = list(decode_loosely(item.signed.content, bytes_max=BYTES_MAX)), item.body
        draw = rng.random()
        if item.kind is ItemKind.OPERATION and draw < 0.45:
            body = self._mutator.raw(body)
        if not body or draw > 0.35:
            for _ in range(rng.choice((1, 1, 2))):
                at = rng.randrange(3 if rng.random() < 0.9 else 0, len(content))
                content[at] = self._mutator.value(content[at])
            if rng.random() < 0.05:
                content.insert(rng.randrange(len(content)), content.pop())
        if item.kind is ItemKind.OPERATION and rng.random() < 0.9:
            self._mend(content, body)
        return self.signed(item.kind, content, body)

    def signed(self, kind: ItemKind, content: list[Any], body: bytes) -> Item:
        """Return content signed by whom it names; now and then by somebody else, or by nobody."""
        rng = self._rng
        draw = rng.random()
        raw = encode(content)
        if draw < 0.03:
            return _packed(kind, Signed(raw, rng.randbytes(64)), body)
        key = self._signer(kind, content)
        if key is None or draw < 0.06:
            key = self._keys[rng.choice(self._names)] if draw < 0.05 else self._stranger
        return _packed(kind, seal(raw, key), body)

    def _mend(self, content: list[Any], body: bytes) -> None:
        """Make the record's id and the body's hash and length right, as far as they can be."""
        if len(content) < 13:
            return
        content[-3:-1] = [sha3(body), len(body)]
        if self._rng.random() < 0.9:
            with contextlib.suppress(ValueError, OverflowError, TypeError):
                content[4] = sha3(encode(["hansa/record", 0, NETWORK, *content[3:8:4], content[5]]))

    def _signer(self, kind: ItemKind, content: list[Any]) -> SigningKey | None:
        if kind is ItemKind.RECEIPT:
            return None if self._rng.random() < 0.2 else self._keys[key_of("ann").public]
        at = 8 if kind is ItemKind.OPERATION else 4 if len(content) > 3 and content[3] == 1 else 6
        named = content[at] if len(content) > at else None
        return self._keys.get(PublicKey(named)) if isinstance(named, bytes) else None


def _size(value: Any) -> int:
    """Return about how large a value is."""
    if isinstance(value, tuple):
        return 1 + sum(map(_size, value))
    return len(value) if isinstance(value, bytes | str) else 1


def _packed(kind: ItemKind, signed: Signed, body: bytes) -> Item:
    """Return the item, over its bounds too: those are for who opens it to say."""
    with contextlib.suppress(AssertionError):
        return pack_item(kind, signed, body)
    raw = encode([0, int(kind), signed.content, signed.signature, body])
    return Item(kind, ItemId(sha3(signed.content)), signed, body, raw)
