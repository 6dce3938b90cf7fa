"""A caller that is told to end while its answer arrives ends: a node that stops depends on it."""

from __future__ import annotations

import asyncio

import pytest

from crdt import PeerId
from node.network import NetworkClient
from tests.node.network.swarms import Recorder, settings_for


class Link:
    """Takes the node's frames, as a child would."""

    def __init__(self):
        self.frames = []

    def send(self, frame):
        self.frames.append(frame)


async def test_a_cancel_that_comes_with_the_answer_is_not_lost():
    client, link = NetworkClient(settings_for("a"), Recorder()), Link()
    client._link = link
    asked = asyncio.create_task(
        client.request(PeerId("p"), "/x", b"", timeout_s=5, answer_bytes_max=10)
    )
    while not link.frames:  # noqa: ASYNC110 - it takes a few turns of the loop, and no event
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    client.frame_received(link, ("done", 1, "", "", b"answer"))
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
