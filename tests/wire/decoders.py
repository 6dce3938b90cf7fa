"""Every decoder of bytes from outside, what it may raise, and valid bytes for it to start from."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pycrdt import Doc, Text

from crdt import (
    AccountId,
    CardDocument,
    CardEngineFault,
    CardPart,
    HansaError,
    Item,
    ItemId,
    RecordKind,
    RemoteFault,
    UserFault,
    WorkRule,
    answered_items,
    check_gossip,
    check_stamp,
    encode,
    is_good_stamp,
    make_genesis,
    open_card,
    open_checkpoint,
    open_entry,
    open_genesis,
    open_operation,
    parse_network,
    stamp_bytes,
    stamp_challenge,
    unpack_item,
)
from crdt.cards import edit_card
from crdt.cards.updates import parse_update
from crdt.frames import (
    CatchUp,
    CatchUpMode,
    Fetch,
    check_item,
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
from crdt.reconcile.frames import (
    AskRanges,
    AskSketch,
    Compare,
    Held,
    Pick,
    Take,
    decode_compared,
    decode_picked,
    decode_ranged,
    decode_sketched,
    encode_compared,
    encode_picked,
    encode_ranged,
    encode_sketched,
)
from crdt.reconcile.idset import IdSet
from crdt.reconcile.keys import comparison_key
from crdt.reconcile.narrowing import Narrowing
from crdt.reconcile.ranges import Ranges, all_starts, parts_of
from crdt.reconcile.sketches import apart, shorts_of, sketch, unpack_cells
from crdt.scopes import Scope, decode_scoped, encode_scoped
from inference import check_advert
from node.api.account_views import ItemsRequest
from node.api.accounts import _items
from node.api.bodies import checked, parse_object
from node.ledger.wire import (
    Claimed,
    Settle,
    decode_agreed,
    decode_claimed,
    decode_settle,
    encode_agreed,
    encode_claimed,
    encode_settle,
)
from node.live.protocol import (
    read_frame,
    write_answer,
    write_question,
)
from node.live.updates import scan_state, scan_update
from node.network.wire import HEADER_BYTES, length_of, pack, unpack
from node.peer import make_grant, open_grant
from node.signing import from_header, read_account, read_operation, to_header
from node.storage.memory import MemoryStorage
from registry import decode_record
from registry.builds import (
    BuildFile,
    Manifest,
    Segment,
    check_table,
    encode_table,
    open_manifest,
    seal_manifest,
)
from royalties import (
    Base,
    Tokens,
    claim_bytes,
    open_agreed,
    open_call,
    sign_receipt,
    statement,
    verify_bytes,
)
from royalties.orders import open_order, open_ticket, sign_order, sign_ticket
from royalties.receipts import Receipt, open_claim, open_receipt
from tests.inference.adverts import NOW_S as ADVERT_S
from tests.inference.adverts import raw_advert
from tests.royalties.parties import EPOCH, call, lane, order, ticket
from tests.wire.town import Town
from tests.writers import NETWORK, NOW_S, key_of

SCOPE = Scope(frozenset([RecordKind.AGENT]), frozenset([AccountId(b"a" * 32)]))
COMPARISON = comparison_key(NETWORK, b"n" * 16, b"m" * 16)
TABLE = encode_table([(5, bytes(32))])


@dataclass(frozen=True)
class Decoder:
    """One border. What it raises other than `faults` is a defect.

    Attributes:
        seeds: Valid bytes.
    """

    name: str
    decode: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    faults: tuple[type[HansaError], ...] = (RemoteFault,)


def decoders_of(town: Town) -> list[Decoder]:
    """Every decoder there is; the order is part of a seed's meaning."""
    return [
        *_items_and_bodies(town), *_cards(town), *_frames(town), *_money(town), *_edges(town),
        *_live(), *_comparisons(town), *_admission(),
    ]  # fmt: skip


def _items_and_bodies(town: Town) -> list[Decoder]:
    raws = tuple(item.raw for item in town.items)
    names = {1: "put", 2: "card", 3: "delete", 4: "checkpoint"}
    bodies: dict[str, list[bytes]] = {}
    for one in town.disk.operations.values():
        item = town.replica.storage.item(ItemId(one.id))
        name = "agent" if one.kind is RecordKind.AGENT else names.get(int(one.type), "other")
        bodies.setdefault(name, []).append(item.body)
    return [
        Decoder("item", unpack_item, raws),
        Decoder("item: check A", lambda raw: check_item(unpack_item(raw), NETWORK), ()),
        Decoder("account entry", lambda raw: open_entry(unpack_item(raw), NETWORK), ()),
        Decoder("genesis", lambda raw: open_genesis(unpack_item(raw), NETWORK), ()),
        Decoder("operation", lambda raw: open_operation(unpack_item(raw), NETWORK), ()),
        Decoder("agreed receipt", lambda raw: open_agreed(unpack_item(raw), NETWORK), ()),
        Decoder("model", lambda raw: decode_record(RecordKind.MODEL, raw), tuple(bodies["put"])),
        Decoder(
            "agent", lambda raw: decode_record(RecordKind.AGENT, raw), tuple(bodies["agent"][:1])
        ),
        Decoder("checkpoint", open_checkpoint, tuple(bodies["checkpoint"])),
        Decoder("card", open_card, tuple(bodies["card"])),
    ]


def _cards(town: Town) -> list[Decoder]:
    bodies = [open_card(one.body) for one in town.items if _is_card(one.body)]
    parts = _some_parts(town)
    snapshot = CardDocument.of(parts).snapshot()

    def restored(raw: bytes) -> bool:
        document = CardDocument.restored(raw, parts)
        if document is None:
            return False
        document.extended(())
        edit_card(document, lambda draft: draft.splice(0, 0, "x"))
        document.content()
        return True

    return [
        Decoder("card update", parse_update, tuple(_update_of(one.raw) for one in bodies)),
        # A snapshot is this node's own: one whose checksum was made to fit may break the engine.
        Decoder("card snapshot", restored, (snapshot,), (CardEngineFault, UserFault)),
    ]


def _frames(town: Town) -> list[Decoder]:
    ids = [item.id for item in town.items][:20]
    raws = [item.raw for item in town.items]
    page = {"network": NETWORK, "epoch": b"e" * 16, "next_n": 90, "last_n": 99, "done": False}
    return [
        Decoder(
            "gossip frame", lambda raw: decode_gossip(raw, NETWORK),
            (encode_ops(town.items[:8], NETWORK), encode_have(ids, NETWORK)),
        ),
        Decoder("gossip verdict", lambda raw: check_gossip(raw, NETWORK), (), ()),
        Decoder(
            "request frame", lambda raw: decode_request(raw, NETWORK),
            (
                encode_request(Fetch(tuple(ids)), NETWORK),
                encode_request(CatchUp(b"e" * 16, 7, CatchUpMode.IDS), NETWORK),
                encode_request(Compare(b"n" * 16), NETWORK),
                encode_request(AskSketch(b"n" * 16, b"s" * 128), NETWORK),
                encode_request(AskSketch(b"n" * 16, b"", 20, 38), NETWORK),
                encode_request(Pick(b"n" * 16, (7, 2**63)), NETWORK),
                encode_request(SCOPE, NETWORK),
                encode_request(AskRanges(b"n" * 16, 90, 1, (0, 0xF << 60)), NETWORK),
                encode_request(Take(b"n" * 16, 2, ((0xAB << 56, 7),)), NETWORK),
            ),
        ),
        Decoder(
            "catch-up answer", lambda raw: decode_caught_up(raw, NETWORK),
            (encode_caught_up(raws=raws[:8], **page), encode_caught_up(ids=ids, **page)),
        ),
        Decoder(
            "fetch answer", lambda raw: decode_fetched(raw, NETWORK),
            (encode_fetched(raws[:4], ids[4:], NETWORK),),
        ),
        Decoder(
            "network child's frame", unpack,
            (pack("rtt", "p" * 52, 7)[HEADER_BYTES:], pack("connected", "p", "q", True)[4:]),
        ),
        Decoder("network child's length", lambda raw: length_of(raw[:HEADER_BYTES]), ()),
    ]  # fmt: skip


def _money(town: Town) -> list[Decoder]:
    receipt = Receipt(lane(), bytes(32), 1, 3, Tokens(9, 1, 5), bytes(32), NOW_S)
    claim = sign_receipt(receipt, key_of("ann"))
    genesis, agreed = town.items[0], town.items[-1]
    calls = tuple(call(number) for number in range(3))
    settle = encode_settle(Settle(lane().id, genesis, agreed, calls), NETWORK)
    signed = sign_order(order(), key_of("ann"))
    return [
        Decoder("receipt", lambda raw: open_receipt(raw, NETWORK), (receipt.content(),)),
        Decoder("claim", lambda raw: open_claim(raw, NETWORK), (claim_bytes(claim),)),
        Decoder("call", open_call, (calls[0].wire(),)),
        Decoder("order", lambda raw: open_order(raw, NETWORK), (signed,)),
        Decoder(
            "ticket", lambda raw: open_ticket(raw, NETWORK),
            (sign_ticket(ticket(bytes(32), b"body"), key_of("ann")),),
        ),
        Decoder("report", lambda raw: decode_settle(raw, NETWORK), (settle,)),
        Decoder(
            "claims", lambda raw: decode_claimed(raw, NETWORK),
            (encode_claimed(Claimed(genesis, claim, calls, ()), NETWORK),),
        ),
        Decoder(
            "agreement", lambda raw: decode_agreed(raw, NETWORK),
            (encode_agreed(agreed, genesis, NETWORK),),
        ),
        Decoder("statement", verify_bytes, (_statement(town),), (UserFault,)),
    ]  # fmt: skip


def _statement(town: Town) -> bytes:
    """What the owner of the record earned by the town's receipts."""
    storage = town.replica.storage
    receipts = [storage.item(standing.id) for standing, _ in town.disk.slots.values()]
    found = statement(NETWORK, town.owners["dan"].id, EPOCH, receipts, _Evidence(storage))
    assert found.lines, found.skipped
    return found.raw


class _Evidence:
    """What a statement proves itself with, from a store."""

    def __init__(self, storage: MemoryStorage) -> None:
        self._storage = storage
        self.version = storage.item

    def base(self, base: Base) -> None:
        return None

    def entries(self, account: AccountId) -> list[Item]:
        found = self._storage.account(account)
        return [self._storage.item(entry.id) for entry in found.entries] if found else []


def _edges(town: Town) -> list[Decoder]:
    key = key_of("ann")
    segment = Segment(5, 1, _digest(TABLE))
    manifest = seal_manifest(
        Manifest(key.public, "application/x-test", (BuildFile("a/b", 5, 0o644, bytes(32)),),
                 (segment,), bytes(32), b""),
        key,
    )  # fmt: skip
    grant = make_grant(
        key, NETWORK, key.public, "builds", b"", now_s=NOW_S, nonce=bytes(16)
    )  # fmt: skip
    texts = ",".join(f'"{to_header(item.raw)}"' for item in town.items[:3])
    signed = town.items[1].signed
    header = encode([signed.content, signed.signature])
    return [
        Decoder("advert", lambda raw: check_advert(raw, NETWORK, ADVERT_S), (raw_advert(),)),
        Decoder("manifest", open_manifest, (manifest.raw,)),
        Decoder("chunk table", lambda raw: check_table(segment, raw, 0), (TABLE,)),
        Decoder("grant", _texted(open_grant), (base64.urlsafe_b64decode(grant + "=="),)),
        Decoder("grant header", lambda raw: open_grant(raw.decode("latin-1")), (grant.encode(),)),
        Decoder("POST /v1/items", _handed_in, (b'{"items":[%s]}' % texts.encode(),), _API),
        Decoder("an item in base64", lambda raw: _items([to_header(raw)]), (), _API),
        Decoder("base64", lambda raw: from_header(raw.decode("latin-1")), (), _API),
        Decoder("operation header", _texted(read_operation), (header,), _API),
        Decoder("account header", _texted(read_account), (), _API),
    ]


def _live() -> list[Decoder]:
    doc = Doc(client_id=7)
    doc.get("text", type=Text).insert(0, "a😀 text")
    del doc.get("text", type=Text)[0:1]
    update = doc.get_update()
    state = doc.get_state()
    return [
        Decoder("live frame", read_frame, (write_question(state), write_answer(update))),
        Decoder("live update", lambda raw: scan_update(raw, "text"), (update,)),
        Decoder("live state", scan_state, (state,)),
    ]


def _admission() -> list[Decoder]:
    root, recovery = key_of("stamped"), key_of("stamped recovery").public
    challenge = stamp_challenge(NETWORK, root.public, recovery)
    stamp = next(one for one in map(stamp_bytes, range(99)) if is_good_stamp(challenge, one, 1))
    stamped = make_genesis(NETWORK, root, recovery, stamp)

    def admitted(raw: bytes) -> None:
        item = unpack_item(raw)
        check_stamp(item, open_genesis(item, NETWORK).entries[0], NETWORK, WorkRule(1))

    return [
        Decoder("admission", admitted, (stamped.raw,)),
        Decoder(
            "network's text", lambda raw: parse_network(raw.decode("latin-1")),
            (b"main", b"main:work=14"), _API,
        ),
        Decoder("answer's items", lambda raw: answered_items(raw, NETWORK), ()),
    ]  # fmt: skip


_API = (RemoteFault, UserFault)


def _texted(read: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda raw: read(to_header(raw))


def _handed_in(raw: bytes) -> list[bytes]:
    """What `POST /v1/items` does with a body before anything is published."""
    asked = checked(ItemsRequest, parse_object(raw), what="the body")
    return _items(asked.items)


def _digest(table: bytes) -> Any:
    from blake3 import blake3

    return blake3(table).digest()


def _is_card(body: bytes) -> bool:
    try:
        open_card(body)
    except RemoteFault:
        return False
    return True


def _update_of(body: bytes) -> bytes:
    from crdt import decode

    return decode(body, bytes_max=1 << 17)[2]


def _some_parts(town: Town) -> list[CardPart]:
    """The parts of the first card of the town."""
    record = next(
        id_ for id_, change in town.disk.records.items() if change.register.card_count
    )  # fmt: skip
    key = town.shelf._source.card_key(record)
    return list(town.shelf._document(record, key, None).parts)


def taken_apart(shorts: Any, raw: bytes) -> object:
    """What an asker does with cells."""
    theirs = unpack_cells(raw)
    return apart(sketch(shorts, COMPARISON, len(theirs)), theirs, COMPARISON)


def narrowed(mine: Ranges, raw: bytes) -> object:
    """What an asker does with what it is told of ranges, and what it asks then."""
    narrowing = Narrowing(mine, COMPARISON, depth=0)
    narrowing.ask(b"n" * 16, 0)
    narrowing.told(decode_ranged(raw, NETWORK).parts)
    return narrowing.ask(b"n" * 16, 9)


def _comparisons(town: Town) -> list[Decoder]:
    raws = [item.raw for item in town.items]
    held = Held(b"e" * 16, 99, 90, b"d" * 16)
    shorts = shorts_of(IdSet(b"".join(item.id for item in town.items)).rows(), COMPARISON)
    cells = sketch(shorts[1:], COMPARISON, 30)
    ranges = Ranges.of(IdSet(b"".join(item.id for item in town.items)).rows())
    return [
        Decoder(
            "comparison", lambda raw: decode_compared(raw, NETWORK),
            (encode_compared(b"m" * 16, held, NETWORK),),
        ),
        Decoder(
            "sketch", lambda raw: decode_sketched(raw, NETWORK),
            (encode_sketched(held, cells.pack(), NETWORK),),
        ),
        Decoder(
            "sketch's cells", lambda raw: taken_apart(shorts, raw),
            (cells.pack(), sketch(shorts[5:], COMPARISON, 30).pack()),
        ),
        Decoder(
            "scope", lambda raw: decode_scoped(raw, NETWORK), (encode_scoped(SCOPE, NETWORK),),
        ),
        Decoder(
            "ranges", lambda raw: decode_ranged(raw, NETWORK),
            (encode_ranged(held, parts_of(ranges, COMPARISON, 1, all_starts(1))[0], NETWORK),),
        ),
        Decoder(
            "what ranges hold", lambda raw: narrowed(ranges, raw),
            (encode_ranged(held, parts_of(ranges, COMPARISON, 0, (0,))[0], NETWORK),),
        ),
        Decoder(
            "picked items", lambda raw: decode_picked(raw, NETWORK),
            (encode_picked(raws[:4], [7, 8], NETWORK),),
        ),
    ]  # fmt: skip
