"""Golden bytes of networks with a rule, of stamps and what they are worked out over."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import (
    BITS_MAX,
    BadNetwork,
    Network,
    WorkRule,
    check_stamp,
    encode,
    is_good_stamp,
    make_genesis,
    network_id,
    open_genesis,
    parse_network,
    sha3,
    stamp_bytes,
    stamp_challenge,
    stamp_of,
)
from tests.wire.hexdump import hexdump
from tests.writers import key_of

ROOT, RECOVERY = key_of("ann"), key_of("ann recovery")
RULED = Network("test", WorkRule(2))

OPEN_NETWORK = hexdump("""
    93  # array of 3
    ad 68 61 6e 73 61 2f 6e 65 74 77 6f 72 6b  # domain
    00  # version
    a4 74 65 73 74  # name: test
""")

RULED_NETWORK = hexdump("""
    94  # array of 4
    ad 68 61 6e 73 61 2f 6e 65 74 77 6f 72 6b  # domain
    00  # version
    a4 74 65 73 74  # name: test
    95  # rule: array of 5
    a6 73 63 72 79 70 74  # scrypt
    cd 20 00  # N: 8192
    08  # r
    01  # p
    02  # bits
""")

CHALLENGE = hexdump("""
    95  # array of 5
    ab 68 61 6e 73 61 2f 73 74 61 6d 70  # domain
    00  # version
    c4 20 56 fd a1 05 01 bf bb 71 06 a8 30 c5 23 e5 e8 9e 8d 6b 6b b2  # network
    67 95 ba 09 4f 50 c3 87 a1 8d 80 d9
    c4 20 98 5e c6 44 ef 9e ae 68 35 06 44 c5 c2 82 15 3e 94 e9 ad ce  # root key
    f5 b9 9e 47 81 32 f0 78 10 9e 52 a5
    c4 20 7e 46 56 8a 43 63 e4 a1 99 8f 36 c4 13 d0 ee c4 d5 d4 9a f1  # recovery key
    29 86 cc e4 25 e2 51 4c 52 5a 38 9c
""")

STAMPED_GENESIS = hexdump("""
    97  # array of 7
    ad 68 61 6e 73 61 2f 61 63 63 6f 75 6e 74  # domain
    00  # version
    c4 20 56 fd a1 05 01 bf bb 71 06 a8 30 c5 23 e5 e8 9e 8d 6b 6b b2  # network
    67 95 ba 09 4f 50 c3 87 a1 8d 80 d9
    01  # entry type: genesis
    c4 20 98 5e c6 44 ef 9e ae 68 35 06 44 c5 c2 82 15 3e 94 e9 ad ce  # root key
    f5 b9 9e 47 81 32 f0 78 10 9e 52 a5
    c4 20 7e 46 56 8a 43 63 e4 a1 99 8f 36 c4 13 d0 ee c4 d5 d4 9a f1  # recovery key
    29 86 cc e4 25 e2 51 4c 52 5a 38 9c
    c4 08 00 00 00 00 00 00 00 0f  # stamp: 15
""")

WORK = hexdump("""
    16 35 3c 4a 26 28 ef b5 f6 6d 50 70 48 ba d5 1a  # three zero bits, and two are asked
    36 d8 8b ea 1c ff 2a 54 fd 1f 34 a8 41 69 ec e6
""")


def test_a_network_without_a_rule_has_the_id_it_always_had() -> None:
    assert network_id("test") == parse_network("test").id == sha3(OPEN_NETWORK)
    assert network_id("test").hex() == (
        "626a5be8eeb7bdd3a505046b514d54e0ae9a180feacd82b0440052a885f3bf7d"
    )


def test_a_networks_id_holds_its_rule() -> None:
    assert RULED.id == network_id("test", WorkRule(2)) == sha3(RULED_NETWORK)
    assert RULED.id.hex() == "56fda10501bfbb7106a830c523e5e89e8d6b6bb26795ba094f50c387a18d80d9"
    ids = {network_id("test", WorkRule(bits)) for bits in range(1, BITS_MAX + 1)}
    assert len(ids | {network_id("test")}) == BITS_MAX + 1


def test_a_stamp_is_worked_out_over_network_and_keys() -> None:
    challenge = stamp_challenge(RULED.id, ROOT.public, RECOVERY.public)
    assert challenge == sha3(CHALLENGE)
    work = hashlib.scrypt(challenge, salt=stamp_bytes(15), n=8192, r=8, p=1, dklen=32)
    assert work == WORK
    good = [bits for bits in range(1, 6) if is_good_stamp(challenge, stamp_bytes(15), bits)]
    assert good == [1, 2, 3]


def test_a_genesis_carries_its_stamp() -> None:
    genesis = make_genesis(RULED.id, ROOT, RECOVERY.public, stamp_bytes(15))
    assert genesis.signed.content == STAMPED_GENESIS
    assert stamp_of(genesis) == stamp_bytes(15)
    account = open_genesis(genesis, RULED.id)
    check_stamp(genesis, account.entries[0], RULED.id, WorkRule(2))


@pytest.mark.parametrize(
    ("text", "name", "bits"),
    [("main", "main", None), ("main:work=1", "main", 1), ("a.b-c_9:work=32", "a.b-c_9", 32)],
)
def test_a_networks_text_says_name_and_rule(text: str, name: str, bits: int | None) -> None:
    network = parse_network(text)
    assert network == Network(name, None if bits is None else WorkRule(bits))
    assert network.text == text


@pytest.mark.parametrize(
    "text",
    [
        "", ":work=4", "main:", "main:work", "main:work=", "main:work=0", "main:work=04",
        "main:work=33", "main:work=100", "main:work=4 ", "main:work=4\n", "main\n", "main:work=-1",
        "main:work=4:work=4", "main:Work=4", "main?work=4", "Main", "a" * 33, "ma in",
        "main:work=\u0664",
    ],
)  # fmt: skip
def test_a_text_has_one_spelling(text: str) -> None:
    with pytest.raises(BadNetwork, match=r"network|at most"):
        parse_network(text)


@given(st.text(max_size=60) | st.from_regex(r"[a-z]{1,3}:work=\d{1,3}", fullmatch=True))
def test_any_text_is_refused_or_means_itself(text: str) -> None:
    try:
        network = parse_network(text)
    except BadNetwork:
        return
    assert network.text == text
    assert network.id == sha3(
        encode(["hansa/network", 0, network.name])
        if network.rule is None
        else encode(["hansa/network", 0, network.name, ["scrypt", 8192, 8, 1, network.rule.bits]])
    )
