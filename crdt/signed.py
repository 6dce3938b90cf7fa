"""Keys and signatures: one way to sign, one strict way to verify, for everything that is signed.

A signed thing is canonical `content` (an array that starts with a domain tag and a version, so no
signature can be moved to another purpose) and an Ed25519 signature over its SHA3-256. PyNaCl
(libsodium) on both sides: accept and reject at the edges must be the same on every replica.
"""

from __future__ import annotations

from typing import NamedTuple

import nacl.bindings as sodium
from nacl.exceptions import CryptoError

from crdt.errors import BadSignature
from crdt.ids import PublicKey
from crdt.wire import sha3

SIGNATURE_BYTES = 64
SEED_BYTES = 32
_PREFIX = b"hansa-signature-v0:"


class SigningKey:
    """An Ed25519 key pair made from a 32-byte seed. Its secret is in no repr, log or pickle."""

    __slots__ = ("_secret", "public")

    def __init__(self, seed: bytes) -> None:
        assert len(seed) == SEED_BYTES
        public, self._secret = sodium.crypto_sign_seed_keypair(seed)
        self.public = PublicKey(public)

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()})"

    def __reduce__(self) -> str:
        raise TypeError("a SigningKey is never serialised")

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of `message`."""
        signed: bytes = sodium.crypto_sign(message, self._secret)
        return signed[:SIGNATURE_BYTES]


class Signed(NamedTuple):
    """Content and the signature over it. Nothing is known to be true before `verify` returned."""

    content: bytes
    signature: bytes

    @property
    def id(self) -> bytes:
        """SHA3-256 of the content, computed anew: keep it if you need it twice."""
        return sha3(self.content)


def seal(content: bytes, key: SigningKey) -> Signed:
    """Return `content` signed with `key`."""
    return Signed(content, key.sign(_PREFIX + sha3(content)))


def verify(signed: Signed, public: PublicKey) -> bytes:
    """Return the id of the content after checking its signature.

    Raises:
        BadSignature: the signature is not `public`'s over this content.
    """
    digest = sha3(signed.content)
    verify_digest(digest, signed.signature, public)
    return digest


def verify_digest(digest: bytes, signature: bytes, public: PublicKey) -> None:
    """Check a signature over a content whose SHA3-256 the caller has already computed.

    Raises:
        BadSignature: it does not verify, or is not 64 bytes under a 32-byte key.
    """
    if len(signature) != SIGNATURE_BYTES or len(public) != SEED_BYTES:
        raise BadSignature("a signature is 64 bytes and a key 32")
    try:
        sodium.crypto_sign_open(signature + _PREFIX + digest, public)
    except (CryptoError, ValueError) as error:
        raise BadSignature(f"signature does not verify under key {public.hex()[:16]}") from error
