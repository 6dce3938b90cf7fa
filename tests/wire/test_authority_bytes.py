"""Golden bytes of account entries and checkpoints, what they decode to, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import (
    Capability,
    EntryType,
    Item,
    ItemId,
    ItemKind,
    MalformedBytes,
    OperationId,
    RemoteFault,
    Seed,
    SigningKey,
    decode,
    encode,
    encode_checkpoint,
    make_entry,
    open_checkpoint,
    open_entry,
    pack_item,
    seal,
)
from tests.wire.hexdump import hexdump
from tests.writers import NETWORK, Writer, key_of

ANN = Writer("ann")
DELEGATE, RECOVERY = key_of("delegate"), key_of("ann recovery")
NEW_ROOT, NEW_RECOVERY = key_of("new root"), key_of("new recovery")
KEPT = OperationId(b"\x11" * 32)

ADD_KEY = hexdump("""
    9a  # array of 10
    ad 68 61 6e 73 61 2f 61 63 63 6f 75 6e 74  # domain
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f  # network
    ea cd 82 b0 44 00 52 a8 85 f3 bf 7d
    02  # type: add key
    c4 20 3a 3a 49 49 e6 b4 6b a9 9a 34 d9 2a 23 98 56 fd af 98 c3 86  # account
    7d 9f f4 e9 7a 04 ec 2d 85 5c 95 9b
    c4 20 3a 3a 49 49 e6 b4 6b a9 9a 34 d9 2a 23 98 56 fd af 98 c3 86  # predecessor
    7d 9f f4 e9 7a 04 ec 2d 85 5c 95 9b
    c4 20 98 5e c6 44 ef 9e ae 68 35 06 44 c5 c2 82 15 3e 94 e9 ad ce  # signer
    f5 b9 9e 47 81 32 f0 78 10 9e 52 a5
    c4 20 4b 4d de d7 d4 a5 6d 62 a7 d6 87 a0 0c 9a d5 e0 5c 7d 7a 66  # key
    6b cd cb da e7 df 64 0d dc 40 7e 0f
    06  # capabilities: editor, evaluator
    91 c4 20 29 19 0b 8f e1 cb 59 8a 92 32 9e f3 92 7c 95 2a 6b 8e 22  # scope
    1a 6b 94 e3 40 31 a1 91 75 78 18 a3 5c
""")

REVOKE = hexdump("""
    99  # array of 9
    ad 68 61 6e 73 61 2f 61 63 63 6f 75 6e 74  # domain
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f  # network
    ea cd 82 b0 44 00 52 a8 85 f3 bf 7d
    03  # type: revoke
    c4 20 3a 3a 49 49 e6 b4 6b a9 9a 34 d9 2a 23 98 56 fd af 98 c3 86  # account
    7d 9f f4 e9 7a 04 ec 2d 85 5c 95 9b
    c4 20 38 66 87 1d a0 9f c2 3b bf 41 bf 13 7f 28 2d 45 43 c4 e1 4e  # predecessor
    46 0d 62 69 40 3b 04 d6 0c 4b e5 df
    c4 20 98 5e c6 44 ef 9e ae 68 35 06 44 c5 c2 82 15 3e 94 e9 ad ce  # signer
    f5 b9 9e 47 81 32 f0 78 10 9e 52 a5
    c4 20 4b 4d de d7 d4 a5 6d 62 a7 d6 87 a0 0c 9a d5 e0 5c 7d 7a 66  # key
    6b cd cb da e7 df 64 0d dc 40 7e 0f
    91 c4 20 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11  # keep
    11 11 11 11 11 11 11 11 11 11 11 11 11
""")

ROTATE_ROOT = hexdump("""
    99  # array of 9
    ad 68 61 6e 73 61 2f 61 63 63 6f 75 6e 74  # domain
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f  # network
    ea cd 82 b0 44 00 52 a8 85 f3 bf 7d
    04  # type: rotate root
    c4 20 3a 3a 49 49 e6 b4 6b a9 9a 34 d9 2a 23 98 56 fd af 98 c3 86  # account
    7d 9f f4 e9 7a 04 ec 2d 85 5c 95 9b
    c4 20 72 3f ea fb 42 df ee 47 9c 1c 1b e3 aa 02 3c 3c bb 16 6d f5  # predecessor
    0b ef b3 e0 3a 6d ce 7e ca 03 f4 7c
    c4 20 7e 46 56 8a 43 63 e4 a1 99 8f 36 c4 13 d0 ee c4 d5 d4 9a f1  # signer: recovery
    29 86 cc e4 25 e2 51 4c 52 5a 38 9c
    c4 20 5e 2b 6f b8 e0 35 b9 28 26 75 9b 91 4f 1f c0 42 ac b4 f7 81  # new root
    bf f9 6a 14 56 61 a3 53 6b ee ab cd
    90  # keep: nothing
""")

SET_RECOVERY = hexdump("""
    98  # array of 8
    ad 68 61 6e 73 61 2f 61 63 63 6f 75 6e 74  # domain
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f  # network
    ea cd 82 b0 44 00 52 a8 85 f3 bf 7d
    05  # type: set recovery
    c4 20 3a 3a 49 49 e6 b4 6b a9 9a 34 d9 2a 23 98 56 fd af 98 c3 86  # account
    7d 9f f4 e9 7a 04 ec 2d 85 5c 95 9b
    c4 20 64 ca 77 fc 47 78 78 02 f6 0b 90 fc d1 b2 54 7d b4 26 14 92  # predecessor
    96 0a ed 12 b3 27 5f 6e 4a 4a fb e7
    c4 20 7e 46 56 8a 43 63 e4 a1 99 8f 36 c4 13 d0 ee c4 d5 d4 9a f1  # signer: recovery
    29 86 cc e4 25 e2 51 4c 52 5a 38 9c
    c4 20 bc 73 10 cf 2e 62 b9 2e d7 76 7e 00 60 31 62 f0 24 7a 23 ec  # new recovery
    15 ef 0a 33 c0 ba 1c 28 18 0b f0 83
""")

ADOPT = hexdump("""
    97  # array of 7
    ad 68 61 6e 73 61 2f 61 63 63 6f 75 6e 74  # domain
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f  # network
    ea cd 82 b0 44 00 52 a8 85 f3 bf 7d
    06  # type: adopt
    c4 20 3a 3a 49 49 e6 b4 6b a9 9a 34 d9 2a 23 98 56 fd af 98 c3 86  # account
    7d 9f f4 e9 7a 04 ec 2d 85 5c 95 9b
    c4 20 87 5c a1 7d 97 ca 65 5c 49 d5 68 40 87 06 c6 9b f5 76 58 8c  # predecessor
    99 c7 3b 82 98 59 79 a9 50 34 79 de
    c4 20 bc 73 10 cf 2e 62 b9 2e d7 76 7e 00 60 31 62 f0 24 7a 23 ec  # signer: the new recovery
    15 ef 0a 33 c0 ba 1c 28 18 0b f0 83
""")

CHECKPOINT = hexdump("""
    96  # array of 6
    00  # version
    03  # number
    c4 05 66 61 63 74 73  # facts
    a4 74 65 78 74  # text
    92 a1 61 a1 62  # tags
    91 93 d9 40 34 62 34 64 64 65 64 37 64 34 61 35 36 64 36 32 61 37  # evaluations
    64 36 38 37 61 30 30 63 39 61 64 35 65 30 35 63 37 64 37 61 36 36
    36 62 63 64 63 62 64 61 65 37 64 66 36 34 30 64 64 63 34 30 37 65
    30 66 a4 6d 6d 6c 75 c4 05 7c 3f 00 00 00
""")


def entry(type_: EntryType, signer: SigningKey, predecessor: Item, **fields: object) -> Item:
    return make_entry(
        network=NETWORK, type=type_, account=ANN.account, predecessor=ItemId(predecessor.id),
        signer=signer, **fields,
    )  # fmt: skip


ADDED = entry(
    EntryType.ADD_KEY, ANN.key, ANN.genesis, key=DELEGATE.public,
    capabilities=Capability.EDITOR | Capability.EVALUATOR, scope=(ANN.record(),),
)  # fmt: skip
REVOKED = entry(EntryType.REVOKE, ANN.key, ADDED, key=DELEGATE.public, keep=(KEPT,))
ROTATED = entry(EntryType.ROTATE_ROOT, RECOVERY, REVOKED, key=NEW_ROOT.public)
RESET = entry(EntryType.SET_RECOVERY, RECOVERY, ROTATED, key=NEW_RECOVERY.public)
ADOPTED = entry(EntryType.ADOPT, NEW_RECOVERY, RESET)
ENTRIES = [
    (ADDED, ADD_KEY), (REVOKED, REVOKE), (ROTATED, ROTATE_ROOT), (RESET, SET_RECOVERY),
    (ADOPTED, ADOPT),
]  # fmt: skip


@pytest.mark.parametrize(("item", "golden"), ENTRIES)
def test_an_entry(item: Item, golden: bytes) -> None:
    assert item.signed.content == golden
    assert open_entry(item, NETWORK).id == item.id


def test_what_an_entry_says() -> None:
    added = open_entry(ADDED, NETWORK)
    assert (added.account, added.predecessor, added.signer, added.key) == (
        ANN.account, ANN.genesis.id, ANN.key.public, DELEGATE.public
    )  # fmt: skip
    assert added.capabilities == Capability.EDITOR | Capability.EVALUATOR
    assert (added.scope, open_entry(REVOKED, NETWORK).keep) == ((ANN.record(),), (KEPT,))
    assert open_entry(ADOPTED, NETWORK).key == NEW_RECOVERY.public


def test_a_checkpoint() -> None:
    seed = Seed("text", ("a", "b"), ((DELEGATE.public.hex(), "mmlu", 0.5),))
    assert encode_checkpoint(3, b"facts", seed) == CHECKPOINT
    found = open_checkpoint(CHECKPOINT)
    assert (found.number, found.facts, found.seed) == (3, b"facts", seed)


def changed(item: Item, index: int, value: object, signer: SigningKey = ANN.key) -> Item:
    parts = [*decode(item.signed.content, bytes_max=4096)]
    parts[index] = value
    return pack_item(ItemKind.ACCOUNT, seal(encode(parts), signer))


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, "hansa/operation"), (1, 1), (1, False), (2, b"n" * 32), (3, 0), (3, 7), (3, True),
        (4, b"short"), (5, b""), (6, "text"), (7, None), (8, 0), (8, 8), (8, True),
        (9, (b"r" * 31,)), (9, (b"r" * 32, b"r" * 32)), (9, (b"s" * 32, b"r" * 32)),
        (9, tuple(bytes([n]) * 32 for n in range(65))),
    ],
)  # fmt: skip
def test_a_field_that_is_not_what_it_should_be_is_refused(index: int, value: object) -> None:
    with pytest.raises(RemoteFault):
        open_entry(changed(ADDED, index, value), NETWORK)


def test_an_entry_signed_by_another_key_than_it_says_is_refused() -> None:
    with pytest.raises(RemoteFault, match="does not verify"):
        open_entry(changed(ADDED, 8, 1, signer=DELEGATE), NETWORK)


def test_an_entry_with_a_body_or_a_field_too_many_is_refused() -> None:
    with pytest.raises(MalformedBytes, match="no body"):
        open_entry(pack_item(ItemKind.ACCOUNT, ADDED.signed, b"x"), NETWORK)
    parts = [*decode(ADOPTED.signed.content, bytes_max=4096), 0]
    longer = pack_item(ItemKind.ACCOUNT, seal(encode(parts), NEW_RECOVERY))
    with pytest.raises(MalformedBytes, match="7 fields"):
        open_entry(longer, NETWORK)


def test_a_genesis_with_one_key_for_both_roles_is_refused() -> None:
    parts = [*decode(ANN.genesis.signed.content, bytes_max=4096)]
    parts[5] = parts[4]
    with pytest.raises(MalformedBytes, match="one role"):
        open_entry(pack_item(ItemKind.ACCOUNT, seal(encode(parts), ANN.key)), NETWORK)


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, 1), (1, 0), (1, 2**32), (2, "facts"), (3, b"text"), (4, ("b", "a")), (4, ("a", "a")),
        (4, ("",)), (4, ("a\nb",)), (5, (("k", "n", b"x"),)), (5, ((1, 2),)),
        (5, ((DELEGATE.public.hex(), "n", b""),)),
        (5, ((DELEGATE.public.hex(), "n", b"\x7e\x7e"),)),
    ],
)  # fmt: skip
def test_a_checkpoint_that_is_not_what_it_should_be_is_refused(index: int, value: object) -> None:
    parts = [*decode(CHECKPOINT, bytes_max=4096)]
    parts[index] = value
    with pytest.raises(MalformedBytes):
        open_checkpoint(encode(parts))


@given(st.binary(max_size=300))
def test_garbage_is_refused_as_garbage(raw: bytes) -> None:
    with pytest.raises(RemoteFault):
        open_checkpoint(raw)
    with pytest.raises(RemoteFault):
        open_entry(pack_item(ItemKind.ACCOUNT, seal(raw, ANN.key)), NETWORK)
