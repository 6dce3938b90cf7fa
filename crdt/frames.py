"""Frames: every byte that two replicas exchange, and the judgement that needs the bytes alone.

Gossip carries `ops` (whole items) and `have` (ids of items too big, or too many, to gossip).
Requests and their answers carry cursor catch-up and fetch by id; those of a comparison are in
`crdt/reconcile/frames.py`. Every frame is one canonical array that starts with its tag, the wire
version and the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TypeAlias

from crdt.entries import open_entry
from crdt.errors import MalformedBytes, RemoteFault
from crdt.framing import (
    ANSWER_FRAME_BYTES_MAX,
    EPOCH_BYTES,
    FETCH_COUNT_MAX,
    REQUEST_BYTES_MAX,
    VERSION,
    UnknownVersion,
    ids_in,
    items_in,
    not_empty,
    open_frame,
)
from crdt.ids import ItemId, NetworkId
from crdt.items import Item, ItemKind
from crdt.operations import open_operation
from crdt.reconcile.frames import Question, encode_question, question_in
from crdt.scopes import Scope, encode_scope, scope_in
from crdt.wire import encode, field, fixed_bytes, natural

GOSSIP_BYTES_MAX = 60 * 1024
"""Under the 64 KiB that gossipsub passes on safely (node/network/guards.py)."""
OPS_COUNT_MAX = 512
HAVE_COUNT_MAX = 1024
ANSWER_ID_COUNT_MAX = 4096
ANSWER_ITEM_COUNT_MAX = 4096

assert HAVE_COUNT_MAX * 34 + 128 <= GOSSIP_BYTES_MAX


class CatchUpMode(IntEnum):
    """What a catch-up answer carries: the items themselves, or only their ids."""

    ITEMS = 0
    IDS = 1


@dataclass(frozen=True, slots=True)
class Ops:
    """Gossip: items that are new to somebody."""

    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Have:
    """Gossip: ids of items the forwarder can be asked for."""

    ids: tuple[ItemId, ...]


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Request: what arrived at you after `after_n` of `epoch` (empty: from the beginning)."""

    epoch: bytes
    after_n: int
    mode: CatchUpMode


@dataclass(frozen=True, slots=True)
class Fetch:
    """Request: these items, please."""

    ids: tuple[ItemId, ...]


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Answer to `CatchUp`: items or ids, in order of arrival at the answerer.

    Attributes:
        epoch: The answerer's store; another one than was asked for means "from the beginning".
        next_n: Where the next request goes on.
        done: Nothing is left after `next_n`.
        last_n: The answerer's newest arrival, for progress bars; nothing is decided by it.
    """

    epoch: bytes
    next_n: int
    last_n: int
    done: bool
    items: tuple[Item, ...] = ()
    ids: tuple[ItemId, ...] = ()


@dataclass(frozen=True, slots=True)
class Fetched:
    """Answer to `Fetch`: a prefix of what was asked that fits, and what the answerer lacks."""

    items: tuple[Item, ...]
    absent: tuple[ItemId, ...]


GossipFrame: TypeAlias = Ops | Have
RequestFrame: TypeAlias = CatchUp | Fetch | Scope | Question


class Verdict(Enum):
    """What the network child does with a gossip frame."""

    ACCEPT = "accept"
    IGNORE = "ignore"
    REJECT = "reject"


def check_gossip(raw: bytes, network: NetworkId) -> Verdict:
    """Judge a gossip frame by its bytes alone (check A without the body's schema).

    A frame of a later version is ignored: it may be meant for somebody newer than we are.
    """
    try:
        frame = decode_gossip(raw, network)
        if isinstance(frame, Ops):
            for item in frame.items:
                check_item(item, network)
    except UnknownVersion:
        return Verdict.IGNORE
    except RemoteFault:
        return Verdict.REJECT
    return Verdict.ACCEPT


def check_item(item: Item, network: NetworkId) -> None:
    """Check A of one item. A receipt's signatures need its parties' accounts: not judged here.

    Raises:
        RemoteFault: the bytes, the network or the signature are wrong.
    """
    if item.kind is ItemKind.OPERATION:
        open_operation(item, network)
    elif item.kind is ItemKind.ACCOUNT:
        open_entry(item, network)


def encode_ops(items: Sequence[Item], network: NetworkId) -> bytes:
    """Return the gossip frame that carries `items`; `batches` keeps them within bounds."""
    raw = encode(["ops", VERSION, network, [item.raw for item in items]])
    assert len(raw) <= GOSSIP_BYTES_MAX
    return raw


def encode_have(ids: Sequence[ItemId], network: NetworkId) -> bytes:
    """Return the gossip frame that announces `ids`."""
    assert 0 < len(ids) <= HAVE_COUNT_MAX
    return encode(["have", VERSION, network, list(ids)])


def gossip_frames(items: Iterable[Item], network: NetworkId) -> list[bytes]:
    """Return the frames that gossip `items` in order: batched, the big ones announced only."""
    frames: list[bytes] = []
    batch: list[Item] = []
    size = 0
    big: list[ItemId] = []
    for item in items:
        cost = len(item.raw) + 5
        if cost > _OPS_ROOM:
            big.append(item.id)
            continue
        if size + cost > _OPS_ROOM or len(batch) == OPS_COUNT_MAX:
            frames.append(encode_ops(batch, network))
            batch, size = [], 0
        batch.append(item)
        size += cost
    if batch:
        frames.append(encode_ops(batch, network))
    frames += have_frames(big, network)
    return frames


def have_frames(ids: Sequence[ItemId], network: NetworkId) -> list[bytes]:
    """Return the frames that announce `ids`."""
    return [
        encode_have(ids[start : start + HAVE_COUNT_MAX], network)
        for start in range(0, len(ids), HAVE_COUNT_MAX)
    ]


def decode_gossip(raw: bytes, network: NetworkId) -> GossipFrame:
    """Return the gossip frame in `raw`; its items are decoded and not judged.

    Raises:
        MalformedBytes, WrongNetwork, UnknownVersion: it is not one of ours.
    """
    tag, rest = open_frame(raw, network, bytes_max=GOSSIP_BYTES_MAX)
    if tag == "ops" and len(rest) == 1:
        return Ops(not_empty(items_in(rest[0], OPS_COUNT_MAX), "ops"))
    if tag == "have" and len(rest) == 1:
        return Have(not_empty(ids_in(rest[0], HAVE_COUNT_MAX), "have"))
    raise MalformedBytes(f"gossip frame {tag[:20]!r} of {len(rest)} fields is unknown")


def encode_request(frame: RequestFrame, network: NetworkId) -> bytes:
    """Return the bytes of a request."""
    if isinstance(frame, Fetch):
        assert 0 < len(frame.ids) <= FETCH_COUNT_MAX
        return encode(["fetch", VERSION, network, list(frame.ids)])
    if isinstance(frame, CatchUp):
        return encode(["after", VERSION, network, frame.epoch, frame.after_n, int(frame.mode)])
    if isinstance(frame, Scope):
        return encode_scope(frame, network)
    return encode_question(frame, network)


def decode_request(raw: bytes, network: NetworkId) -> RequestFrame:
    """Return the request in `raw`.

    Raises:
        MalformedBytes, WrongNetwork, UnknownVersion: it is not one of ours.
    """
    tag, rest = open_frame(raw, network, bytes_max=REQUEST_BYTES_MAX)
    if tag == "fetch" and len(rest) == 1:
        return Fetch(not_empty(ids_in(rest[0], FETCH_COUNT_MAX), "fetch"))
    if tag == "after" and len(rest) == 3:
        epoch = field(rest[0], bytes, "epoch")
        if len(epoch) not in {0, EPOCH_BYTES}:
            raise MalformedBytes(f"epoch of {len(epoch)} bytes; it has {EPOCH_BYTES} or none")
        mode = natural(rest[2], "catch-up mode", maximum=max(CatchUpMode))
        return CatchUp(epoch, natural(rest[1], "cursor"), CatchUpMode(mode))
    if tag == "scope" and len(rest) == 2:
        return scope_in(rest)
    question = question_in(tag, rest)
    if question is not None:
        return question
    raise MalformedBytes(f"request frame {tag[:20]!r} of {len(rest)} fields is unknown")


def encode_caught_up(
    *,
    network: NetworkId,
    epoch: bytes,
    next_n: int,
    last_n: int,
    done: bool,
    raws: Sequence[bytes] = (),
    ids: Sequence[ItemId] = (),
) -> bytes:
    """Return the answer to a catch-up request; items as they lie in the store."""
    return encode(["page", VERSION, network, epoch, next_n, last_n, done, list(raws), list(ids)])


def decode_caught_up(raw: bytes, network: NetworkId) -> CaughtUp:
    """Return the answer in `raw`; its items are decoded and not judged.

    Raises:
        MalformedBytes, WrongNetwork, UnknownVersion: it is not one of ours.
    """
    tag, rest = open_frame(raw, network, bytes_max=ANSWER_FRAME_BYTES_MAX)
    if tag != "page" or len(rest) != 6:
        raise MalformedBytes(f"{tag[:20]!r} of {len(rest)} fields where a catch-up answer is due")
    return CaughtUp(
        epoch=fixed_bytes(rest[0], EPOCH_BYTES, "epoch"),
        next_n=natural(rest[1], "cursor"),
        last_n=natural(rest[2], "last arrival"),
        done=field(rest[3], bool, "done"),
        items=items_in(rest[4], ANSWER_ITEM_COUNT_MAX),
        ids=ids_in(rest[5], ANSWER_ID_COUNT_MAX),
    )


def encode_fetched(raws: Sequence[bytes], absent: Sequence[ItemId], network: NetworkId) -> bytes:
    """Return the answer to a fetch."""
    return encode(["items", VERSION, network, list(raws), list(absent)])


def decode_fetched(raw: bytes, network: NetworkId) -> Fetched:
    """Return the answer in `raw`; its items are decoded and not judged.

    Raises:
        MalformedBytes, WrongNetwork, UnknownVersion: it is not one of ours.
    """
    tag, rest = open_frame(raw, network, bytes_max=ANSWER_FRAME_BYTES_MAX)
    if tag != "items" or len(rest) != 2:
        raise MalformedBytes(f"{tag[:20]!r} of {len(rest)} fields where a fetch answer is due")
    return Fetched(items_in(rest[0], FETCH_COUNT_MAX), ids_in(rest[1], FETCH_COUNT_MAX))


def encode_probe(id_: ItemId, network: NetworkId) -> bytes:
    """Return the smallest request that every version answers: for an item that nobody has."""
    return encode_request(Fetch((id_,)), network)


def check_probed(raw: bytes, id_: ItemId, network: NetworkId) -> None:
    """Check that a probe was answered by a peer of this network.

    Raises:
        MalformedBytes, WrongNetwork, UnknownVersion: it was not.
    """
    if decode_fetched(raw, network) != Fetched((), (id_,)):
        raise MalformedBytes("an item that nobody has is not said to be absent")


_OPS_ROOM = GOSSIP_BYTES_MAX - 64
"""64 covers the array heads, the tag, the version and the network id."""
