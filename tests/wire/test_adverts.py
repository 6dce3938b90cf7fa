"""Golden bytes of an advert, byte by byte; a change here is a new wire version."""

from __future__ import annotations

from crdt import decode
from inference import check_advert, sign_advert
from inference.adverts import ADVERT_BYTES_MAX
from tests.inference.adverts import NETWORK, NOW_S, an_advert, key_of, raw_advert
from tests.wire.hexdump import hexdump

CONTENT = hexdump("""
    99  # array of 9
    ac 68 61 6e 73 61 2f 61 64 76 65 72 74  # domain
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    c4 20 4c b5 ab f6 ad 79 fb f5 ab bc ca fc c2 69 d8 5c d2 65 1e d4 b8 85  # node key
    b5 86 9f 24 1a ed f0 a5 ba 29
    c4 20 09 09 09 09 09 09 09 09 09 09 09 09 09 09 09 09 09 09 09 09 09 09  # operator account
    09 09 09 09 09 09 09 09 09 09
    cf 00 00 01 8b cf e5 68 00  # sequence: unix ms
    91  # 1 endpoint
    93  # of 3 fields
    a9 31 32 37 2e 30 2e 30 2e 31  # host
    cd 20 e5  # port
    c4 20 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07  # certificate SHA-256
    07 07 07 07 07 07 07 07 07 07
    91  # 1 build
    c4 20 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03  # manifest digest
    03 03 03 03 03 03 03 03 03 03
    91  # 1 offer
    dc 00 12  # of 18 fields
    c4 20 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01  # record id
    01 01 01 01 01 01 01 01 01 01
    c4 20 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02  # record version
    02 02 02 02 02 02 02 02 02 02
    c4 20 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03  # manifest digest
    03 03 03 03 03 03 03 03 03 03
    a9 61 6e 6e 61 2f 74 69 6e 79  # served name
    a4 76 6c 6c 6d  # engine
    a3 63 70 75  # device
    a4 42 46 31 36  # quantization
    cd 04 00  # context
    64  # input price
    cc c8  # output price
    32  # cached input price
    a2 65 75  # region
    01  # running
    00  # waiting
    10  # slots
    cd c3 50  # tokens/s in thousandths
    28  # time to first token, ms
    03  # tasks: chat 1, completions 2, embeddings 4
""")


def test_the_content_of_an_advert_is_these_bytes():
    content, signature = decode(raw_advert(), bytes_max=ADVERT_BYTES_MAX)
    assert content == CONTENT
    assert len(signature) == 64


def test_these_bytes_are_that_advert():
    raw = sign_advert(an_advert(), NETWORK, key_of(1))
    assert check_advert(raw, NETWORK, NOW_S) == an_advert()
