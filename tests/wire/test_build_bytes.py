"""Golden bytes of manifests, chunk tables, grants and certificates."""

from __future__ import annotations

import base64
import hashlib

from blake3 import blake3

from crdt import NetworkId, SigningKey
from node.peer import NodeKey, make_grant, open_grant
from registry.builds import (
    BuildFile,
    ChunkMap,
    Manifest,
    Segment,
    encode_manifest,
    encode_table,
    open_manifest,
    seal_manifest,
)
from tests.wire.hexdump import hexdump

KEY = SigningKey(b"\x01" * 32)

TABLE = hexdump("""
    00 00 00 05  # length of the chunk, big-endian
    ea 8f 16 3d b3 86 82 92 5e 44 91 c5 e5 8d 4b b3 50 6e f8 c1 4e b7 8a 86  # BLAKE3 of "hello"
    e9 08 c5 62 4a 67 20 0f
""")

MANIFEST = hexdump("""
    98  # array of 8
    ab 68 61 6e 73 61 2f 62 75 69 6c 64  # domain
    00  # version
    c4 20 8a 88 e3 dd 74 09 f1 95 fd 52 db 2d 3c ba 5d 72 ca 67 09 bf 1d 94  # publisher
    12 1b f3 74 88 01 b4 0f 6f 5c
    b2 61 70 70 6c 69 63 61 74 69 6f 6e 2f 78 2d 74 65 73 74  # media type
    92  # files
    94 a3 61 2f 62 05 cd 01 a4 c4 20 11 11 11 11 11 11 11 11 11 11 11 11 11  # path size mode hash
    11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11
    94 a1 63 00 cd 01 ed c4 20 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22
    22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22
    91  # segments
    93 05 01 c4 20 4c 8c f3 f5 5d 56 cc 8c 95 65 e0 42 62 45 e0 b7 aa 5f 92  # size, chunks, table
    05 8d f0 6c 85 7f eb bc 54 8d f1 b7 f1
    c4 20 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22  # SHA-256 of tokenizer
    22 22 22 22 22 22 22 22 22 22
    c4 00  # no chat template
""")

SEALED_TAIL = hexdump("""
    c4 40 1a 97 d5 27 5b 75 f4 a9 e1 eb e9 a5 4c ae 88 ad 0d 5a ce 4b 50 f7  # signature
    8f f4 9c 6f 2f 99 89 bd 92 ec 3a 2a af a5 2b fb a1 c4 75 4b e0 f7 b0 35
    ab a8 87 90 51 bb a8 d5 16 f2 41 e1 df 04 8a 8f b0 02
""")

DIGEST = "c8a565b6d8491727e5d7e7681ea78bdcaeecc56279a4ec31c7fd5e74159903c8"

GRANT = hexdump("""
    92  # array of 2
    c4 ba  # content
    99  # array of 9
    ab 68 61 6e 73 61 2f 67 72 61 6e 74  # domain
    00  # version
    c4 20 aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa  # network
    aa aa aa aa aa aa aa aa aa aa
    c4 20 8a 88 e3 dd 74 09 f1 95 fd 52 db 2d 3c ba 5d 72 ca 67 09 bf 1d 94  # caller
    12 1b f3 74 88 01 b4 0f 6f 5c
    c4 20 81 39 77 0e a8 7d 17 5f 56 a3 54 66 c3 4c 7e cc cb 8d 8a 91 b4 ee  # server
    37 a2 5d f6 0f 5b 8f c9 b3 94
    ae 47 45 54 20 2f 70 65 65 72 2f 76 31 2f 78  # purpose: "GET /peer/v1/x"
    c4 20 b3 9c 14 c8 da 3b 23 81 1f 64 15 b7 e0 b3 35 26 d7 e0 7a 46 f2 cf  # SHA3-256 of the body
    04 84 17 94 35 76 7e 4a 88 04
    cd 04 24  # expires at 1060 s
    c4 10 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e  # nonce
    c4 40 84 2d 28 7c ab 58 6d 5b c3 2f c3 58 f7 d3 2b d2 7c d2 be a4 e4 0a  # signature
    a3 70 b0 49 90 23 7c 28 42 28 35 7e 1b bd ec d1 cc 5e c5 fb a8 72 c7 27
    24 f7 ff 98 42 d6 71 3e d3 f4 91 59 9d f1 78 92 7b 05
""")

CERTIFICATE_SHA256 = "8ad2a00094de0baa1984916f6d61070439430f450d56ac8514b2db3f78d7487e"


def manifest() -> Manifest:
    return Manifest(
        publisher=KEY.public,
        media_type="application/x-test",
        files=(
            BuildFile("a/b", 5, 0o644, b"\x11" * 32),
            BuildFile("c", 0, 0o755, b"\x22" * 32),
        ),
        segments=(Segment(5, 1, blake3(TABLE).digest()),),
        tokenizer_sha256=b"\x22" * 32,
    )


def test_a_manifest_and_its_table_have_these_bytes() -> None:
    assert encode_table([(5, blake3(b"hello").digest())]) == TABLE
    assert encode_manifest(manifest()) == MANIFEST
    sealed = seal_manifest(manifest(), KEY)
    assert sealed.raw == b"\x92\xc4" + bytes([len(MANIFEST)]) + MANIFEST + SEALED_TAIL
    assert sealed.digest.hex() == DIGEST


def test_the_golden_manifest_still_opens() -> None:
    raw = b"\x92\xc4" + bytes([len(MANIFEST)]) + MANIFEST + SEALED_TAIL
    sealed = open_manifest(raw)
    assert sealed.manifest == manifest()
    assert ChunkMap(sealed.manifest, [TABLE]).verify(0, b"hello")


def test_a_grant_has_these_bytes() -> None:
    network, server = NetworkId(b"\xaa" * 32), SigningKey(b"\x02" * 32).public
    made = make_grant(KEY, network, server, "GET /peer/v1/x", b"hi", now_s=1000, nonce=b"n" * 16)
    assert base64.urlsafe_b64decode(made + "=" * (-len(made) % 4)) == GRANT
    grant = open_grant(base64.urlsafe_b64encode(GRANT).rstrip(b"=").decode())
    assert (grant.caller, grant.server, grant.expires_s) == (KEY.public, server, 1060)


def test_a_certificate_has_these_bytes() -> None:
    der = NodeKey(b"\x01" * 32).certificate_der
    assert hashlib.sha256(der).hexdigest() == CERTIFICATE_SHA256
