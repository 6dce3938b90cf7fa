"""Golden bytes of orders, tickets, receipts and calls; a change here is a new wire version."""

from __future__ import annotations

from crdt import (
    AccountId,
    ManifestDigest,
    OperationId,
    PublicKey,
    RecordId,
    Signed,
    SigningKey,
    decode,
    encode,
    network_id,
)
from royalties import (
    Call,
    Lane,
    Order,
    Prices,
    Receipt,
    Ticket,
    Tokens,
    claim_bytes,
    countersign,
    open_agreed,
    open_call,
    open_claim,
    open_order,
    open_receipt,
    open_ticket,
    sign_order,
    sign_receipt,
    sign_ticket,
)
from tests.wire.hexdump import hexdump

NETWORK = network_id("test")
KEY = SigningKey(bytes(32))

ORDER = hexdump("""
    9d  # array of 13
    ab 68 61 6e 73 61 2f 6f 72 64 65 72  # domain
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    c4 20 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01  # consumer
    01 01 01 01 01 01 01 01 01 01
    c4 20 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02  # provider
    02 02 02 02 02 02 02 02 02 02
    c4 20 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03  # record
    03 03 03 03 03 03 03 03 03 03
    c4 20 04 04 04 04 04 04 04 04 04 04 04 04 04 04 04 04 04 04 04 04 04 04  # record version
    04 04 04 04 04 04 04 04 04 04
    c4 20 05 05 05 05 05 05 05 05 05 05 05 05 05 05 05 05 05 05 05 05 05 05  # manifest
    05 05 05 05 05 05 05 05 05 05
    93 ce 00 02 49 f0 cd 3a 98 ce 00 09 27 c0  # prices: input, cached, output
    cf 00 00 00 e8 d4 a5 10 00  # cap in pico-USD
    ce 6b 49 d2 00  # issued
    ce 6b 49 e0 10  # expires
    c4 10 06 06 06 06 06 06 06 06 06 06 06 06 06 06 06 06  # nonce
""")

TICKET = hexdump("""
    99  # array of 9
    ac 68 61 6e 73 61 2f 74 69 63 6b 65 74  # domain
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    c4 20 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07  # order hash
    07 07 07 07 07 07 07 07 07 07
    c4 20 08 08 08 08 08 08 08 08 08 08 08 08 08 08 08 08 08 08 08 08 08 08  # server's node key
    08 08 08 08 08 08 08 08 08 08
    a2 2f 70  # path
    c4 20 0a 0a 0a 0a 0a 0a 0a 0a 0a 0a 0a 0a 0a 0a 0a 0a 0a 0a 0a 0a 0a 0a  # body hash
    0a 0a 0a 0a 0a 0a 0a 0a 0a 0a
    ce 6b 49 d2 00  # time
    c4 10 06 06 06 06 06 06 06 06 06 06 06 06 06 06 06 06  # nonce
""")

RECEIPT = hexdump("""
    dc 00 10  # array of 16
    ad 68 61 6e 73 61 2f 72 65 63 65 69 70 74  # domain
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    c4 20 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01  # consumer
    01 01 01 01 01 01 01 01 01 01
    c4 20 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02 02  # provider
    02 02 02 02 02 02 02 02 02 02
    c4 20 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 03  # record
    03 03 03 03 03 03 03 03 03 03
    c4 20 04 04 04 04 04 04 04 04 04 04 04 04 04 04 04 04 04 04 04 04 04 04  # record version
    04 04 04 04 04 04 04 04 04 04
    c4 20 05 05 05 05 05 05 05 05 05 05 05 05 05 05 05 05 05 05 05 05 05 05  # manifest
    05 05 05 05 05 05 05 05 05 05
    93 ce 00 02 49 f0 cd 3a 98 ce 00 09 27 c0  # prices
    cd 51 61  # epoch: UTC day
    c4 20 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07  # order hash
    07 07 07 07 07 07 07 07 07 07
    02  # sequence
    03  # calls
    93 1e 04 cd 01 f4  # tokens: input, cached, output
    c4 20 0b 0b 0b 0b 0b 0b 0b 0b 0b 0b 0b 0b 0b 0b 0b 0b 0b 0b 0b 0b 0b 0b  # calls digest
    0b 0b 0b 0b 0b 0b 0b 0b 0b 0b
    ce 6b 49 d2 64  # issued
""")

CALL = hexdump("""
    98  # array of 8
    c4 10 06 06 06 06 06 06 06 06 06 06 06 06 06 06 06 06  # nonce
    c4 20 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07  # order hash
    07 07 07 07 07 07 07 07 07 07
    c4 20 0c 0c 0c 0c 0c 0c 0c 0c 0c 0c 0c 0c 0c 0c 0c 0c 0c 0c 0c 0c 0c 0c  # request hash
    0c 0c 0c 0c 0c 0c 0c 0c 0c 0c
    c4 20 0d 0d 0d 0d 0d 0d 0d 0d 0d 0d 0d 0d 0d 0d 0d 0d 0d 0d 0d 0d 0d 0d  # response hash
    0d 0d 0d 0d 0d 0d 0d 0d 0d 0d
    93 0a 01 14  # tokens
    a3 63 75 74  # finish
    05  # first token, ms
    32  # duration, ms
""")

LANE = Lane(
    NETWORK, AccountId(b"\x01" * 32), AccountId(b"\x02" * 32), RecordId(b"\x03" * 32),
    OperationId(b"\x04" * 32), ManifestDigest(b"\x05" * 32), Prices(150_000, 15_000, 600_000),
    20_833,
)  # fmt: skip
THE_ORDER = Order(
    NETWORK, LANE.consumer, LANE.provider, LANE.record, LANE.version, LANE.manifest, LANE.prices,
    10**12, 1_800_000_000, 1_800_003_600, b"\x06" * 16,
)  # fmt: skip
THE_TICKET = Ticket(
    NETWORK, b"\x07" * 32, PublicKey(b"\x08" * 32), "/p", b"\x0a" * 32, 1_800_000_000, b"\x06" * 16
)
THE_RECEIPT = Receipt(LANE, b"\x07" * 32, 2, 3, Tokens(30, 4, 500), b"\x0b" * 32, 1_800_000_100)
THE_CALL = Call(
    b"\x06" * 16, b"\x07" * 32, b"\x0c" * 32, b"\x0d" * 32, Tokens(10, 1, 20), "cut", 5, 50
)


def test_an_order_has_these_bytes() -> None:
    opened, signed = open_order(sign_order(THE_ORDER, KEY), NETWORK)
    assert (signed.content, opened) == (ORDER, THE_ORDER)


def test_a_ticket_has_these_bytes() -> None:
    opened, signed = open_ticket(sign_ticket(THE_TICKET, KEY), NETWORK)
    assert (signed.content, opened) == (TICKET, THE_TICKET)


def test_a_receipt_has_these_bytes_and_its_lane_this_name() -> None:
    assert THE_RECEIPT.content() == RECEIPT
    assert open_receipt(RECEIPT, NETWORK) == THE_RECEIPT
    assert LANE.id.hex() == "1a1cdf10f45b60419a8e91c01f6e97847906d9af6aa1ecab3edb5f1160d53439"
    assert THE_RECEIPT.amount_picos == 30 * 150_000 + 4 * 15_000 + 500 * 600_000


def test_a_call_has_these_bytes() -> None:
    assert THE_CALL.wire() == CALL
    assert open_call(CALL) == THE_CALL


def test_a_claim_and_its_countersignature_nest_the_receipt() -> None:
    claim = sign_receipt(THE_RECEIPT, KEY)
    assert open_claim(claim_bytes(claim), NETWORK) == (THE_RECEIPT, claim)
    item = countersign(claim, KEY)
    assert item.signed.content == encode(["hansa/agreed", 0, RECEIPT, claim.signature])
    assert open_agreed(item, NETWORK).claim == Signed(RECEIPT, claim.signature)
    assert decode(item.raw, bytes_max=4096)[1] == 3
