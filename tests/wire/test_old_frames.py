"""What the version before wrote is read, judged and spelt as it was; what a later one may write is
refused or ignored by rule."""

from __future__ import annotations

import pytest

from crdt import (
    LOCAL,
    ItemId,
    MalformedBytes,
    NetworkId,
    PeerId,
    RemoteFault,
    Status,
    Verdict,
    check_gossip,
    check_probed,
    decode,
    encode,
    encode_probe,
    seal,
    unpack_item,
)
from crdt.frames import (
    CatchUp,
    CatchUpMode,
    Fetch,
    Have,
    Ops,
    decode_caught_up,
    decode_fetched,
    decode_gossip,
    decode_request,
    encode_caught_up,
    encode_fetched,
    encode_have,
    encode_ops,
    encode_request,
)
from crdt.framing import UnknownVersion
from inference import AdvertStale, check_advert
from inference.adverts import ADVERT_BYTES_MAX
from node.network.exchange import decode_answer
from node.network.exchange import decode_request as decode_peers_request
from node.network.validation import make_validators
from node.storage.memory import MemoryDisk
from tests.inference.adverts import key_of as node_key
from tests.node.network.swarms import settings_for
from tests.wire.old_frames import ABSENT, ADVERT_S, EPOCH, LAST_N, OLD
from tests.wire.town import new_replica
from tests.writers import NETWORK, OTHER_NETWORK

PEER = PeerId("peer")


def test_every_item_of_the_old_page_is_valid_and_the_page_is_spelt_as_it_was() -> None:
    page = decode_caught_up(OLD["page of items"], NETWORK)
    assert (page.epoch, page.next_n, page.last_n, page.done) == (EPOCH, LAST_N, LAST_N, True)
    replica = new_replica(MemoryDisk(b"new " * 4))
    outcomes = replica.accept(page.items, source=LOCAL, now_ms=0).outcomes
    assert [one.status for one in outcomes] == [Status.NEW] * LAST_N
    again = encode_caught_up(
        network=NETWORK, epoch=EPOCH, next_n=LAST_N, last_n=LAST_N, done=True,
        raws=[item.raw for item in page.items],
    )  # fmt: skip
    assert again == OLD["page of items"]


def test_old_pages_of_ids_and_old_answers_are_read_and_spelt_as_they_were() -> None:
    items = decode_caught_up(OLD["page of items"], NETWORK).items
    ids = [item.id for item in items]
    page = decode_caught_up(OLD["page of ids"], NETWORK)
    assert list(page.ids) == ids
    at = {"network": NETWORK, "epoch": EPOCH, "next_n": LAST_N, "last_n": LAST_N, "done": True}
    assert encode_caught_up(**at, ids=ids) == OLD["page of ids"]  # type: ignore[arg-type]
    assert not decode_caught_up(OLD["page at the end"], NETWORK).ids
    assert encode_caught_up(**at) == OLD["page at the end"]  # type: ignore[arg-type]
    fetched = decode_fetched(OLD["items"], NETWORK)
    assert [item.id for item in fetched.items] == ids[:2]
    assert fetched.absent == (ABSENT,)
    assert encode_fetched([one.raw for one in items[:2]], [ItemId(ABSENT)], NETWORK) == OLD["items"]


def test_old_requests_are_read_and_spelt_as_they_were() -> None:
    ids = decode_caught_up(OLD["page of ids"], NETWORK).ids
    for name, frame in (
        ("after, from the beginning", CatchUp(b"", 0, CatchUpMode.ITEMS)),
        ("after, ids since 7", CatchUp(EPOCH, 7, CatchUpMode.IDS)),
        ("fetch", Fetch((*ids[:2], ItemId(ABSENT)))),
    ):
        assert decode_request(OLD[name], NETWORK) == frame
        assert encode_request(frame, NETWORK) == OLD[name]


def test_old_gossip_is_accepted_and_spelt_as_it_was() -> None:
    assert check_gossip(OLD["ops"], NETWORK) is Verdict.ACCEPT
    assert check_gossip(OLD["have"], NETWORK) is Verdict.ACCEPT
    ops, have = decode_gossip(OLD["ops"], NETWORK), decode_gossip(OLD["have"], NETWORK)
    assert isinstance(ops, Ops)
    assert isinstance(have, Have)
    assert encode_ops(ops.items, NETWORK) == OLD["ops"]
    assert encode_have(have.ids, NETWORK) == OLD["have"]
    assert [item.id for item in ops.items] == list(have.ids)


def test_an_old_advert_is_believed_alone_and_in_an_answer() -> None:
    advert = check_advert(OLD["advert"], NETWORK, ADVERT_S)
    assert len(advert.offers) == 1
    assert decode(OLD["adverts?"], bytes_max=256) == ("adverts?", 0, NETWORK)
    tag, version, network, raws = decode(OLD["adverts"], bytes_max=ADVERT_BYTES_MAX)
    assert (tag, version, network, raws) == ("adverts", 0, NETWORK, (OLD["advert"],))


@pytest.mark.parametrize("name", sorted(OLD))
def test_an_old_frame_of_another_network_is_refused(name: str) -> None:
    """That the fixtures are judged at all: with another network's id each of them fails."""
    raw = OLD[name].replace(NETWORK, OTHER_NETWORK)
    readers = (
        lambda: decode_caught_up(raw, NETWORK), lambda: decode_fetched(raw, NETWORK),
        lambda: decode_request(raw, NETWORK), lambda: decode_gossip(raw, NETWORK),
        lambda: check_advert(raw, NETWORK, ADVERT_S),
    )  # fmt: skip
    for read in readers:
        with pytest.raises(RemoteFault):
            read()


def later(raw: bytes, *more: object) -> bytes:
    """The same frame as version 1 would write it, with fields that nobody here knows."""
    tag, _, *rest = decode(raw, bytes_max=2**20)
    return encode([tag, 1, *rest, *more])  # type: ignore[list-item]


@pytest.mark.parametrize("more", [(), (7,), ("new field", b"")])
def test_frames_of_a_later_version_are_told_from_malformed_ones(more: tuple[object, ...]) -> None:
    for name in ("ops", "have"):
        assert check_gossip(later(OLD[name], *more), NETWORK) is Verdict.IGNORE
    with pytest.raises(UnknownVersion):
        decode_request(later(OLD["fetch"], *more), NETWORK)
    with pytest.raises(UnknownVersion):
        decode_caught_up(later(OLD["page of ids"], *more), NETWORK)
    for decoder in (decode_answer, decode_peers_request):
        with pytest.raises(RemoteFault):
            decoder(encode(["peers", 1, NETWORK, [], *more]), NETWORK)  # type: ignore[list-item]


def test_within_a_version_an_unknown_frame_or_a_further_field_is_malformed() -> None:
    for raw in (encode(["novel", 0, NETWORK, 1]), encode(["have", 0, NETWORK, [ABSENT], 1])):
        assert check_gossip(raw, NETWORK) is Verdict.REJECT
        with pytest.raises(MalformedBytes):
            decode_request(raw, NETWORK)


def test_an_advert_of_a_later_version_is_ignored_and_its_forwarder_is_not_blamed() -> None:
    outer = decode(OLD["advert"], bytes_max=ADVERT_BYTES_MAX)
    domain, _, *rest = decode(outer[0], bytes_max=ADVERT_BYTES_MAX)
    signed = seal(encode([domain, 1, *rest, "more"]), node_key(1))
    raw = encode([signed.content, signed.signature])
    with pytest.raises(AdvertStale, match="version 1"):
        check_advert(raw, NETWORK, ADVERT_S)
    judge = make_validators(settings_for("any"))[settings_for("any").adverts_topic]
    assert judge(raw) is Verdict.IGNORE
    assert judge(raw[:-1]) is Verdict.REJECT


def test_an_item_of_a_later_version_is_refused_with_the_frame_that_holds_it() -> None:
    """New items are of a new operation version inside, which is stored; the envelope stays."""
    item = decode_fetched(OLD["items"], NETWORK).items[0]
    parts = decode(item.raw, bytes_max=2**20)
    raw = encode([1, *parts[1:]])
    with pytest.raises(MalformedBytes):
        unpack_item(raw)
    assert check_gossip(encode(["ops", 0, NETWORK, [raw]]), NETWORK) is Verdict.REJECT


def test_a_probe_is_a_request_that_the_old_version_answers() -> None:
    id_ = ItemId(ABSENT)
    assert decode_request(encode_probe(id_, NETWORK), NETWORK) == Fetch((id_,))
    check_probed(encode_fetched([], [id_], NETWORK), id_, NETWORK)
    for answer in (
        encode_fetched([], [], NETWORK),
        encode_fetched([], [ItemId(b"\x12" * 32)], NETWORK),
        encode_fetched([], [id_], NetworkId(OTHER_NETWORK)),
        OLD["page at the end"],
    ):
        with pytest.raises(RemoteFault):
            check_probed(answer, id_, NETWORK)
