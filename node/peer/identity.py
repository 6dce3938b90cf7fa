"""A node's TLS identity: a self-signed certificate whose key is the node's own Ed25519 key.

The handshake proves that the server holds the certificate's key, so comparing that key with the
one inside the peer id is the whole of the check: no authority, name or date decides anything.
The certificate is the same bytes each time it is made, so adverts survive a restart.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import secrets
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

from crdt import PeerId, PublicKey, SigningKey, peer_id_of, public_key_of
from node.peer.errors import WrongPeerKey

CERTIFICATE_BYTES_MAX = 4096
"""Ours are about 350 bytes; a longer one is not read."""
_FROM = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_UNTIL = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
"""RFC 5280's "no well-defined expiration date": trust comes from the key and never from dates."""


class NodeKey:
    """The node's Ed25519 key: signs grants and adverts, and answers TLS handshakes.

    Its secret is in no repr, log or pickle. Made from the same 32-byte seed as the libp2p identity.
    """

    __slots__ = ("_tls", "certificate_der", "peer", "public", "signing")

    def __init__(self, seed: bytes) -> None:
        self.signing = SigningKey(seed)
        self.public: PublicKey = self.signing.public
        self.peer: PeerId = peer_id_of(self.public)
        self._tls = Ed25519PrivateKey.from_private_bytes(seed)
        self.certificate_der = _certificate(self._tls, self.peer)

    def __repr__(self) -> str:
        return f"NodeKey(peer={self.peer})"

    def __reduce__(self) -> str:
        raise TypeError("a NodeKey is never serialised")

    @property
    def certificate_sha256(self) -> bytes:
        """SHA-256 of the certificate, as adverts carry it."""
        return hashlib.sha256(self.certificate_der).digest()

    def server_context(self) -> ssl.SSLContext:
        """Return a TLS 1.3 server context with this identity.

        OpenSSL loads keys from files only, so the key visits the disk for an instant: encrypted
        under a password that was never anywhere else, in a file of mode 0600.
        """
        password = secrets.token_bytes(32)
        pem = self._tls.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        )
        chain = x509.load_der_x509_certificate(self.certificate_der).public_bytes(
            serialization.Encoding.PEM
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        handle, name = tempfile.mkstemp(prefix="hansa-tls-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(chain + pem)
            context.load_cert_chain(name, password=password)
        finally:
            Path(name).unlink()
        return context


@dataclass(frozen=True, slots=True)
class PeerEndpoint:
    """Where a peer's HTTPS port is, and who must answer there.

    Attributes:
        certificate_sha256: SHA-256 of its certificate, from its signed advert.
    """

    peer: PeerId
    host: str
    port: int
    certificate_sha256: bytes

    def url(self, path: str) -> str:
        """Return the address of `path` there, with an IPv6 host in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}{path}"


def client_context() -> ssl.SSLContext:
    """Return a TLS 1.3 client context that leaves the judgement to `check_certificate`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # a self-signed certificate: the key in it is checked
    return context


def check_certificate(der: bytes | None, endpoint: PeerEndpoint) -> None:
    """Check that the certificate a server proved to hold is the expected peer's.

    Raises:
        WrongPeerKey: no certificate, another key, or not the one the peer's advert names.
    """
    where = f"{endpoint.host}:{endpoint.port}"
    if not der or len(der) > CERTIFICATE_BYTES_MAX:
        raise WrongPeerKey(f"{where} showed no usable certificate; expected {endpoint.peer}")
    if peer_of_certificate(der) != endpoint.peer:
        raise WrongPeerKey(f"{where} is not {endpoint.peer}: its certificate has another key")
    if hashlib.sha256(der).digest() != endpoint.certificate_sha256:
        raise WrongPeerKey(f"{where} shows another certificate than {endpoint.peer} advertised")


def peer_of_certificate(der: bytes) -> PeerId:
    """Return the peer whose Ed25519 key a certificate carries.

    Raises:
        WrongPeerKey: it is not a certificate, or its key is of another kind.
    """
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except Exception as error:  # the parser's errors are of many types and all mean the same
        raise WrongPeerKey(f"not a readable certificate: {type(error).__name__}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise WrongPeerKey(f"certificate key is {type(key).__name__}, not Ed25519")
    return peer_id_of(PublicKey(key.public_bytes_raw()))


def _certificate(key: Ed25519PrivateKey, peer: PeerId) -> bytes:
    """Return the one certificate of a key: fixed fields and Ed25519 make it reproducible."""
    assert public_key_of(peer) == key.public_key().public_bytes_raw()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, peer)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, None)
    )
    return certificate.public_bytes(serialization.Encoding.DER)
