"""Limits of different parts that must agree, asserted together when a node starts.

Each part owns its bound and knows nothing of the others; a change of one that no longer fits the
next stops the node at its start, and a test for each pair before that.
"""

from __future__ import annotations

from dataclasses import dataclass

from crdt import ANSWER_FRAME_BYTES_MAX, BODY_BYTES_MAX, GOSSIP_BYTES_MAX, ITEM_BYTES_MAX
from inference.adverts import ADVERT_BYTES_MAX
from node.adverts import ANSWER_BYTES_MAX as ADVERTS_BYTES_MAX
from node.api.server import FIELD_BYTES_MAX, ApiLimits
from node.builds import UPLOAD_BYTES_MAX
from node.builds.serving import RANGE_BYTES_MAX
from node.gateway.calls import CALL_BYTES_MAX
from node.ledger.wire import ANSWER_BYTES_MAX as SETTLE_ANSWER_BYTES_MAX
from node.ledger.wire import SETTLE_BYTES_MAX
from node.network import PUBLISH_BYTES_MAX, REQUEST_BYTES_MAX
from node.network.wire import FRAME_BYTES_MAX
from node.peer.server import PeerLimits
from node.signing import HEADER_BYTES_MAX
from registry.builds import CHUNK_BYTES_MAX, MANIFEST_BYTES_MAX, TABLE_BYTES_MAX

FRAME_HEAD_BYTES = 1024
"""Of a frame between the processes: kind, ids, names."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """One bound that must fit within another, each with where it stands."""

    inner: str
    inner_max: int
    outer: str
    outer_max: int

    @property
    def holds(self) -> bool:
        """Whether it fits."""
        return self.inner_max <= self.outer_max

    def __str__(self) -> str:
        """Say what must fit into what."""
        return f"{self.inner} ({self.inner_max}) fits {self.outer} ({self.outer_max})"


def agreements(peer: PeerLimits | None = None, api: ApiLimits | None = None) -> list[Agreement]:
    """Return every pair of limits that must agree, as this program has them."""
    peer, api = peer or PeerLimits(), api or ApiLimits()
    publish, request = ("a gossip message", PUBLISH_BYTES_MAX), ("a request", REQUEST_BYTES_MAX)
    frame = ("a frame between the processes", FRAME_BYTES_MAX - FRAME_HEAD_BYTES)
    peer_body, api_body = ("a peer's body", peer.body_bytes_max), ("a body", api.body_bytes_top)
    pairs = [
        (("a frame of operations", GOSSIP_BYTES_MAX), publish),
        (("an advert", ADVERT_BYTES_MAX), publish),
        (("a catch-up answer", ANSWER_FRAME_BYTES_MAX), request),
        (("an answer of adverts", ADVERTS_BYTES_MAX), request),
        (request, frame),
        (publish, frame),
        (("a record's body", BODY_BYTES_MAX), ("an item", ITEM_BYTES_MAX)),
        (("an item", ITEM_BYTES_MAX), ("a catch-up answer", ANSWER_FRAME_BYTES_MAX)),
        (("a model call", CALL_BYTES_MAX), peer_body),
        (("a settlement", SETTLE_BYTES_MAX), peer_body),
        (("an answer to a settlement", SETTLE_ANSWER_BYTES_MAX), peer_body),
        (("a chunk", CHUNK_BYTES_MAX), ("an upload", UPLOAD_BYTES_MAX)),
        (("a chunk", CHUNK_BYTES_MAX), ("a range of a build", RANGE_BYTES_MAX)),
        (("an upload", UPLOAD_BYTES_MAX), api_body),
        (("a model call", CALL_BYTES_MAX), api_body),
        (("a manifest", MANIFEST_BYTES_MAX), api_body),
        (("a table of chunks", TABLE_BYTES_MAX), api_body),
        (("a JSON body", api.body_bytes_max), api_body),
        (("a signed operation's header", HEADER_BYTES_MAX), ("a header", FIELD_BYTES_MAX)),
    ]
    return [Agreement(*inner, *outer) for inner, outer in pairs]


def assert_limits(found: list[Agreement]) -> None:
    """Stop the program if two of its own limits contradict each other."""
    for one in found:
        assert one.holds, f"limits do not agree: {one}"
