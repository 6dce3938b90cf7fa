"""Golden bytes of peer exchange and of the peers file, and decoders fed garbage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import HansaError, MalformedBytes, NetworkId, RemoteFault, WrongNetwork, encode
from node.network.addressbook import Known
from node.network.addresses import Scope, parse_address
from node.network.bookfile import pack, unpack
from node.network.exchange import (
    ANSWER_BYTES_MAX,
    OWN_COUNT_MAX,
    TOLD_COUNT_MAX,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
    may_tell,
)
from tests.node.network.books import public
from tests.wire.hexdump import hexdump

NETWORK = NetworkId(bytes(range(32)))
PEER = "12D3KooWBCbqBQDFyuPNPpcMHY4ePScRocXh9hPzh7xpPwFa3As9"
ADDRESS = f"/ip4/8.8.4.4/tcp/4001/p2p/{PEER}"

NETWORK_BYTES = """
    c4 20 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 10 11 12 13 14 15  # network id
    16 17 18 19 1a 1b 1c 1d 1e 1f
"""
ADDRESS_BYTES = """
    d9 4e  # text of 78 bytes
    2f 69 70 34 2f 38 2e 38 2e 34 2e 34 2f 74 63 70 2f 34 30 30 31  # /ip4/8.8.4.4/tcp/4001
    2f 70 32 70 2f 31 32 44 33 4b 6f 6f 57 42 43 62 71 42 51 44 46 79 75 50  # /p2p/ and the peer id
    4e 50 70 63 4d 48 59 34 65 50 53 63 52 6f 63 58 68 39 68 50 7a 68 37 78
    70 50 77 46 61 33 41 73 39
"""
REQUEST = hexdump(f"""
    94  # array of 4
    a6 70 65 65 72 73 3f  # "peers?"
    00  # version
    {NETWORK_BYTES}
    91  # 1 address
    {ADDRESS_BYTES}
""")
ANSWER = hexdump(f"""
    94  # array of 4
    a5 70 65 65 72 73  # "peers"
    00  # version
    {NETWORK_BYTES}
    91  # 1 address
    {ADDRESS_BYTES}
""")
FILE = hexdump(f"""
    94  # array of 4
    ab 68 61 6e 73 61 2f 70 65 65 72 73  # domain
    00  # version
    {NETWORK_BYTES}
    91  # 1 entry
    98  # of 8 fields
    {ADDRESS_BYTES}
    a8 65 78 63 68 61 6e 67 65  # found: "exchange"
    91  # 1 informant
    aa 39 2e 39 2e 30 2e 30 2f 31 36  # 9.9.0.0/16
    64  # heard, unix s
    65  # met
    00  # never reached from here
    02  # failures
    c2  # no anchor
""")
ENTRY = Known(parse_address(ADDRESS), "exchange", 100.0, ["9.9.0.0/16"], 101.5, 0.0, 2)


def test_the_frames_are_these_bytes() -> None:
    assert encode_request(NETWORK, [ADDRESS]) == REQUEST
    assert decode_request(REQUEST, NETWORK) == [parse_address(ADDRESS)]
    assert encode_answer(NETWORK, [parse_address(ADDRESS)]) == ANSWER
    assert decode_answer(ANSWER, NETWORK) == [parse_address(ADDRESS)]


def test_the_file_is_these_bytes() -> None:
    assert pack(NETWORK, [ENTRY]) == FILE
    (found,) = unpack(FILE, NETWORK)
    assert (found.address, found.found, found.informants) == (
        ENTRY.address,
        "exchange",
        ["9.9.0.0/16"],
    )
    assert (found.heard_s, found.met_s, found.tried_s) == (100, 101, 0)
    assert (found.failures, found.anchor) == (2, False)


def test_another_network_tag_version_or_count_is_refused() -> None:
    with pytest.raises(WrongNetwork):
        decode_answer(ANSWER, NetworkId(bytes(32)))
    for parts in (
        ["peers?", 0, NETWORK, []],
        ["peers", 1, NETWORK, []],
        ["peers", False, NETWORK, []],
        ["peers", 0, NETWORK],
        ["peers", 0, NETWORK, ADDRESS],
        ["peers", 0, NETWORK, [7]],
        ["peers", 0, NETWORK, ["x" * 400]],
        ["peers", 0, NETWORK, [ADDRESS] * (TOLD_COUNT_MAX + 1)],
    ):
        with pytest.raises(MalformedBytes):
            decode_answer(encode(parts), NETWORK)
    with pytest.raises(MalformedBytes):
        decode_request(encode(["peers?", 0, NETWORK, [ADDRESS] * (OWN_COUNT_MAX + 1)]), NETWORK)


def test_addresses_that_cannot_be_dialled_are_left_out_and_the_rest_is_taken() -> None:
    told = [
        f"/ip4/0.0.0.0/tcp/1/p2p/{PEER}",
        ADDRESS,
        "/quic/x",
        f"/ip4/224.0.0.1/tcp/1/p2p/{PEER}",
    ]
    raw = encode(["peers", 0, NETWORK, told])
    assert decode_answer(raw, NETWORK) == [parse_address(ADDRESS)]


def test_the_longest_answer_fits_its_bound() -> None:
    name = ".".join(["a" * 63] * 3) + ".a" * 30
    longest = parse_address(f"/dns4/{name}/tcp/65535/p2p/{PEER}")
    assert len(encode_answer(NETWORK, [longest] * TOLD_COUNT_MAX)) <= ANSWER_BYTES_MAX


@pytest.mark.parametrize(
    ("host", "told_to"),
    [
        ("8.8.4.4", [Scope.LOOPBACK, Scope.PRIVATE, Scope.PUBLIC]),
        ("192.168.1.1", [Scope.LOOPBACK, Scope.PRIVATE]),
        ("127.0.0.1", [Scope.LOOPBACK]),
    ],
)
def test_near_addresses_pass_between_near_peers_only(host: str, told_to: list[Scope]) -> None:
    address = parse_address(f"/ip4/{host}/tcp/1/p2p/{PEER}")
    assert [near for near in Scope if may_tell(address, near)] == told_to


@given(st.binary(max_size=300), st.integers(0, len(ANSWER) - 1), st.integers(0, 255))
def test_garbage_and_flipped_bytes_are_refused_or_read(raw: bytes, at: int, byte: int) -> None:
    for given_bytes in (raw, ANSWER[:at] + bytes([byte]) + ANSWER[at + 1 :], ANSWER[:at]):
        for decoder in (decode_answer, decode_request):
            try:
                decoder(given_bytes, NETWORK)
            except RemoteFault:
                continue


@given(st.integers(0, len(FILE) - 1), st.integers(0, 255))
def test_a_file_with_a_flipped_byte_is_refused_or_read_within_its_bounds(
    at: int, byte: int
) -> None:
    try:
        found = unpack(FILE[:at] + bytes([byte]) + FILE[at + 1 :], NETWORK)
    except HansaError:
        return
    assert len(found) <= 1


@pytest.mark.parametrize(
    "row",
    [
        [ADDRESS],
        ["/ip4/1.1.1.1", "exchange", [], 1, 1, 1, 1, False],
        [ADDRESS, "rumour", [], 1, 1, 1, 1, False],
        [ADDRESS, "exchange", ["x"] * 9, 1, 1, 1, 1, False],
        [ADDRESS, "exchange", ["x" * 65], 1, 1, 1, 1, False],
        [ADDRESS, "exchange", [], -1, 1, 1, 1, False],
        [ADDRESS, "exchange", [], 1, 1, 1, 1, 0],
    ],
)
def test_an_entry_out_of_bounds_makes_the_file_a_broken_one(row: list[object]) -> None:
    with pytest.raises(MalformedBytes):
        unpack(encode(["hansa/peers", 0, NETWORK, [row]]), NETWORK)  # type: ignore[list-item]


def test_a_full_book_survives_the_way_to_disk() -> None:
    entries = [Known(public(n), "exchange", float(n), ["a", "b"]) for n in range(500)]
    assert [one.address for one in unpack(pack(NETWORK, entries), NETWORK)] == [
        one.address for one in entries
    ]
