import asyncio

import pytest

from node.live import Splice
from node.live.publishing import Publisher
from tests.node.live.replicas import Replicas, Unreachable


async def test_a_burst_is_one_operation():
    replicas = Replicas()
    card = replicas.card()
    publisher = Publisher(card, interval_s=0.01, notice=pytest.fail)
    publisher.start()
    for count in range(50):
        card.splice([Splice(count, 0, "x")])
        publisher.edited()
    await replicas.until(lambda: replicas.replayed() == "x" * 50)
    await publisher.stop()
    assert card.publish_count == 1


async def test_what_is_left_is_published_at_the_end():
    replicas = Replicas()
    card = replicas.card()
    publisher = Publisher(card, interval_s=3600, notice=pytest.fail)
    publisher.start()
    card.splice([Splice(0, 0, "x")])
    publisher.edited()
    await publisher.stop()
    assert replicas.replayed() == "x"


async def test_edits_made_while_publishing_go_with_the_next_operation():
    replicas = Replicas()
    card = replicas.card()
    publisher = Publisher(card, interval_s=0.001, notice=pytest.fail)
    publisher.start()
    replicas.publish_gate.clear()
    card.splice([Splice(0, 0, "a")])
    publisher.edited()
    stopping = asyncio.create_task(replicas.until(lambda: replicas.replayed() == "ab"))
    card.splice([Splice(1, 0, "b")])
    publisher.edited()
    replicas.publish_gate.set()
    await stopping
    await publisher.stop()


async def test_trouble_is_said_once_and_tried_again():
    replicas = Replicas()
    card = replicas.card()
    notices: list[str] = []
    said = asyncio.Event()

    def notice(line: str) -> None:
        notices.append(line)
        said.set()

    publisher = Publisher(card, interval_s=0.001, notice=notice)
    publisher.start()
    replicas.is_down = True
    card.splice([Splice(0, 0, "x")])
    publisher.edited()
    await asyncio.wait_for(said.wait(), 20)
    replicas.is_down = False
    await replicas.until(lambda: replicas.replayed() == "x")
    await publisher.stop()
    assert notices == [
        "edits are not published yet: the node does not answer",
        "edits are published again",
    ]


async def test_edits_that_cannot_be_published_at_the_end_are_not_passed_over():
    replicas = Replicas()
    card = replicas.card()
    publisher = Publisher(card, interval_s=3600, notice=pytest.fail)
    publisher.start()
    replicas.is_down = True
    card.splice([Splice(0, 0, "x")])
    with pytest.raises(Unreachable):
        await publisher.stop()
