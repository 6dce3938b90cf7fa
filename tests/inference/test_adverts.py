"""Adverts: what is accepted, what is refused, and that nothing stale comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import BadSignature, MalformedBytes, RemoteFault, WrongNetwork, decode, encode, network_id
from inference import AdvertBook, AdvertFault, AdvertStale, Endpoint, check_advert
from inference.adverts import ADVERT_BYTES_MAX, LIFETIME_S, SKEW_S
from tests.inference.adverts import (
    BUILD,
    NETWORK,
    NOW_S,
    OFFER,
    RECORD,
    an_advert,
    an_offer,
    key_of,
    peer_of,
    raw_advert,
)


def resigned(change, seed: int = 1) -> bytes:
    """The standard advert with its fields changed, and signed properly all the same."""
    from crdt import seal

    parts = list(decode(decode(raw_advert(seed), bytes_max=ADVERT_BYTES_MAX)[0], bytes_max=10**6))
    parts = [list(p) if isinstance(p, tuple) else p for p in parts]
    change(parts)
    signed = seal(encode(parts), key_of(seed))
    return encode([signed.content, signed.signature])


def set_offer(index: int, value):
    def change(parts):
        row = list(parts[8][0])
        row[index] = value
        parts[8] = [row]

    return change


def set_part(index: int, value):
    def change(parts):
        parts[index] = value

    return change


def test_an_advert_comes_back_as_it_was_signed():
    advert = check_advert(raw_advert(), NETWORK, NOW_S)
    assert advert.peer == peer_of(1)
    assert advert.offers == (OFFER,)
    assert advert.builds == (BUILD,)
    assert advert.expires_s == NOW_S + LIFETIME_S


@pytest.mark.parametrize(
    "change",
    [
        set_part(0, "hansa/advert2"),
        set_part(1, False),
        set_part(3, b"\x00" * 31),
        set_part(5, -1),
        set_part(5, "now"),
        set_part(6, [["127.0.0.1", 0, b"\x07" * 32]]),
        set_part(6, [["127.0.0.1", 70000, b"\x07" * 32]]),
        set_part(6, [["a b", 1, b"\x07" * 32]]),
        set_part(6, [["", 1, b"\x07" * 32]]),
        set_part(6, [["h", 1, b"\x07" * 31]]),
        set_part(6, [["h", 1, b"\x07" * 32]] * 9),
        set_part(7, [b"\x03" * 32, b"\x03" * 32]),
        set_part(7, [i.to_bytes(32, "big") for i in range(513)]),
        set_part(7, ["x"]),
        set_part(8, "offers"),
        set_part(8, [[]]),
        set_offer(0, b""),
        set_offer(3, ""),
        set_offer(3, "x" * 254),
        set_offer(4, "new\nline"),
        set_offer(7, -5),
        set_offer(8, 10**12 + 1),
        set_offer(9, -1),
        set_offer(12, 10**9),
        set_offer(17, 0),
        set_offer(17, 8),
        lambda parts: parts.append(0),
        lambda parts: parts.pop(),
        lambda parts: parts[8].append(parts[8][0]),
    ],
)
def test_a_wrong_shape_is_refused_although_it_is_signed(change):
    with pytest.raises(MalformedBytes):
        check_advert(resigned(change), NETWORK, NOW_S)


def test_another_key_s_signature_is_refused():
    content, _ = decode(raw_advert(1), bytes_max=ADVERT_BYTES_MAX)
    _, foreign = decode(raw_advert(2), bytes_max=ADVERT_BYTES_MAX)
    with pytest.raises(BadSignature):
        check_advert(encode([content, foreign]), NETWORK, NOW_S)


def test_another_network_s_advert_is_refused():
    with pytest.raises(WrongNetwork):
        check_advert(raw_advert(), network_id("other"), NOW_S)


@pytest.mark.parametrize("now_s", [NOW_S + LIFETIME_S, NOW_S + 10**6, NOW_S - SKEW_S - 1])
def test_an_advert_out_of_its_time_is_stale(now_s):
    with pytest.raises(AdvertStale):
        check_advert(raw_advert(), NETWORK, now_s)


def test_too_many_bytes_are_refused_before_they_are_read():
    with pytest.raises(MalformedBytes, match="at most"):
        check_advert(b"\x92" + b"\x00" * ADVERT_BYTES_MAX, NETWORK, NOW_S)


def test_the_biggest_advert_fits_a_gossip_frame():
    offers = tuple(
        an_offer(record=i.to_bytes(32, "big"), served_name="n" * 200, engine="e" * 64)
        for i in range(1, 65)
    )
    builds = tuple(i.to_bytes(32, "big") for i in range(512))
    endpoints = tuple(Endpoint("h" * 253, 1, bytes(32)) for _ in range(8))
    raw = raw_advert(offers=offers, builds=builds, endpoints=endpoints)
    assert len(raw) <= ADVERT_BYTES_MAX


@given(st.binary(max_size=300))
def test_garbage_is_a_remote_fault(raw):
    with pytest.raises(RemoteFault):
        check_advert(raw, NETWORK, NOW_S)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_flipped_byte_is_never_accepted(at, value):
    raw = bytearray(raw_advert())
    at %= len(raw)
    if raw[at] == value:
        return
    raw[at] = value
    with pytest.raises(RemoteFault):
        check_advert(bytes(raw), NETWORK, NOW_S)


def test_the_book_finds_offers_and_holders():
    book = AdvertBook()
    assert book.accept(an_advert(1), NOW_S)
    assert [o.advert.peer for o in book.offers(RECORD)] == [peer_of(1)]
    assert [a.peer for a in book.holders(BUILD)] == [peer_of(1)]
    assert book.records() == {RECORD}


def test_the_same_advert_again_is_nothing_new():
    book = AdvertBook()
    book.accept(an_advert(1), NOW_S)
    assert not book.accept(an_advert(1), NOW_S)


def test_an_older_advert_is_stale_and_changes_nothing():
    book = AdvertBook()
    book.accept(an_advert(1, at_ms=NOW_S * 1000 + 5, offers=()), NOW_S)
    with pytest.raises(AdvertStale):
        book.accept(an_advert(1), NOW_S)
    assert book.offers() == []


def test_two_adverts_with_one_number_are_a_fault():
    book = AdvertBook()
    book.accept(an_advert(1), NOW_S)
    with pytest.raises(AdvertFault):
        book.accept(an_advert(1, offers=()), NOW_S)


def test_a_forgotten_peer_comes_back_only_by_a_newer_advert():
    book = AdvertBook()
    advert = an_advert(1)
    book.accept(advert, NOW_S)
    assert book.forget(advert.peer)
    assert not book.accept(advert, NOW_S)
    assert book.offers() == []
    assert book.holders(BUILD) == []
    assert book.accept(an_advert(1, at_ms=NOW_S * 1000 + 1), NOW_S)
    assert len(book.offers()) == 1


def test_an_expired_advert_goes_and_stays_away():
    book = AdvertBook()
    advert = an_advert(1)
    book.accept(advert, NOW_S)
    assert book.expire(NOW_S + LIFETIME_S - 1) == []
    assert book.expire(NOW_S + LIFETIME_S) == [advert.peer]
    assert len(book) == 0
    assert book.records() == set()
    with pytest.raises(AdvertStale):
        book.accept(advert, NOW_S + LIFETIME_S)


def test_a_full_book_refuses_strangers_and_lets_neighbours_take_their_place():
    book = AdvertBook(peer_count_max=2)
    book.accept(an_advert(1), NOW_S)
    book.accept(an_advert(2), NOW_S, preferred=True)
    with pytest.raises(AdvertStale, match="full"):
        book.accept(an_advert(3), NOW_S)
    assert book.accept(an_advert(4), NOW_S, preferred=True)
    assert [a.peer for a in book.adverts()] == sorted([peer_of(2), peer_of(4)])
    with pytest.raises(AdvertStale, match="full"):
        book.accept(an_advert(5), NOW_S, preferred=True)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 4), st.booleans()), max_size=12))
def test_the_book_holds_the_newest_whatever_the_order(arrivals):
    book = AdvertBook()
    newest: dict[int, tuple[int, bool]] = {}
    for seed, step, serves in arrivals:
        at_ms = NOW_S * 1000 + 2 * step + int(serves)  # so that one number is one advert
        advert = an_advert(seed, at_ms=at_ms, offers=(OFFER,) if serves else ())
        try:
            book.accept(advert, NOW_S)
        except AdvertStale:
            assert newest[seed][0] > at_ms
            continue
        newest[seed] = (at_ms, serves)
    offering = {peer_of(seed) for seed, (_, serves) in newest.items() if serves}
    assert {o.advert.peer for o in book.offers()} == offering
    assert {a.peer: a.sequence_ms for a in book.adverts()} == {
        peer_of(seed): at_ms for seed, (at_ms, _) in newest.items()
    }


@pytest.mark.parametrize(
    "host", ["[", "[::1]", "a[b", "%", "a" * 64, "a..b", "-a", "a-", ".", "1.2.3.4:99", "a/b"]
)
def test_a_host_that_no_url_can_hold_is_refused(host):
    with pytest.raises(MalformedBytes, match="neither a name nor an address"):
        check_advert(resigned(set_part(6, [[host, 1, b"\x07" * 32]])), NETWORK, NOW_S)


@pytest.mark.parametrize("host", ["a.b", "node-1.example", "::1", "fe80::1%eth0", "10.0.0.1", "x"])
def test_names_and_addresses_are_hosts(host):
    raw = resigned(set_part(6, [[host, 1, b"\x07" * 32]]))
    assert check_advert(raw, NETWORK, NOW_S).endpoints[0].host == host
