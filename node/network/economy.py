# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# (py-libp2p's signatures are partly untyped)
"""What makes py-libp2p 0.8.1 cheap enough for a swarm: less said, less read, the same protocol.

Each step names the waste it ends, as profiled in a swarm of ten (`node/DESIGN.md`, Gossip at
scale). Other implementations notice nothing: all of it is optional in the specifications.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import libp2p.pubsub.gossipsub as gossipsub
import libp2p.pubsub.pubsub as pubsub
import libp2p.stream_muxer.yamux.yamux as yamux
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.stream_muxer.yamux.yamux import YamuxStream

UNWANTED_BYTES_MIN = 4096
"""Messages that neighbours are told not to send as well. Below it telling all of them costs more
than the copies that it spares; single operations are about 1 KB, full batches 30."""


def economise() -> None:
    """Put the economies in place of the library's own ways, for the whole process."""
    # Waste: every RPC carries the sender's signed addresses, and each one is verified, parsed and
    # stored again, control messages twice. Nobody here reads them: addresses come from our own
    # exchange, and what is dialled is ours to choose.
    gossipsub.env_to_send_in_RPC = _no_record  # type: ignore[attr-defined, assignment]
    for module in (gossipsub, pubsub):
        module.maybe_consume_signed_record = _not_consumed  # type: ignore[attr-defined]
    yamux.YamuxStream = LazyYamuxStream  # type: ignore[misc]


class ThriftyGossipSub(GossipSub):
    """Gossipsub that says only what pays."""

    def send_rpc(self, peer_id: ID, rpc: Any, priority: bool = False) -> None:
        """Send without the sender's record, of which every peer takes absence for consent."""
        rpc.ClearField("senderRecord")
        super().send_rpc(peer_id, rpc, priority)

    async def _emit_idontwant_for_message(self, msg_id: bytes, topic_ids: Iterable[str]) -> None:
        """Tell neighbours that a message is here, if it is a large one.

        Waste: for each message of any size, one more RPC to each neighbour and one from each;
        in a swarm they were three quarters of all RPCs, and copies fell from 6 to 4.5.
        """
        message = self.mcache.get(msg_id)
        if message is None or len(message.data) >= UNWANTED_BYTES_MIN:
            await super()._emit_idontwant_for_message(msg_id, topic_ids)


class LazyYamuxStream(YamuxStream):
    """A stream that gives credit by the half window.

    Waste: a window update follows every read, and lengths are read byte by byte: two frames of
    three in a swarm were updates, each encrypted and sent on its own.
    """

    async def _auto_tune_and_send_window_update(self, *, bytes_read: int = 0) -> None:  # noqa: ARG002
        """Send an update when half of the window has been read since the last one."""
        increment = 0
        async with self.window_lock:
            unread = len(self.conn.stream_buffers.get(self.stream_id, b""))
            if self.target_recv_window - self.recv_window - unread >= self.target_recv_window // 2:
                increment = self._grow_to_delta(unread) + self._apply_autotune_epoch(unread)
        await self.send_window_update(increment)


def _no_record(_host: Any) -> tuple[bytes, bool]:
    return b"", False


def _not_consumed(_message: Any, _host: Any, _peer: ID) -> bool:
    return True
