"""A neighbour that answers nonsense on every protocol, against whole logs on real children."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from node.network import exchange_protocol
from tests.node.links import eventually
from tests.node.network import attackers
from tests.node.network.logs import Running, running
from tests.node.network.swarms import settings_for
from tests.writers import NETWORK, Writer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ANN = Writer("ann")


Pair = tuple[Running, Running]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """A victim, and an honest node that publishes to it."""
    folder = tmp_path_factory.mktemp("logs")
    async with (
        running("victim", folder) as victim,
        running("honest", folder, *victim.network.addresses) as honest,
    ):
        await honest.catalogue.publish([ANN.genesis.raw])
        await eventually(victim.catalogue, 1)
        yield victim, honest


@pytest.mark.parametrize(
    "answer",
    [
        attackers.garbage,
        attackers.truncated,
        attackers.oversized,
        attackers.endless,
        attackers.trickling,
        attackers.silent,
        attackers.closing,
    ],
)
async def test_a_neighbour_that_answers_nonsense_hurts_nobody(
    pair: Pair, answer: attackers.Handler
) -> None:
    victim, honest = pair
    pid, before = victim.network.child_pid, victim.catalogue.counts()["items"]
    loop = asyncio.get_running_loop()
    asked = {protocol: asyncio.Event() for protocol in settings_protocols()}

    def answering(protocol: str) -> attackers.Handler:
        async def handler(stream: Any) -> None:
            loop.call_soon_threadsafe(asked[protocol].set)
            await answer(stream)

        return handler

    handlers = {protocol: answering(protocol) for protocol in asked}
    address = victim.network.addresses[0]
    async with attackers.attacking(answer.__name__, address=address, handlers=handlers):
        async with asyncio.timeout(10):
            for event in asked.values():
                await event.wait()
        await honest.catalogue.publish([ANN.put(slug=answer.__name__).raw])
        await eventually(victim.catalogue, before + 1)
    assert victim.network.child_pid == pid
    assert honest.network.peer_id in {one.peer for one in victim.network.peers()}
    assert honest.network.peer_id in {one.peer for one in victim.adverts.adverts()}


@pytest.mark.parametrize(
    "answer",
    [attackers.garbage, attackers.oversized, attackers.endless, attackers.silent],
)
async def test_a_dialled_peer_that_tells_nonsense_of_others_teaches_nothing(
    pair: Pair, answer: attackers.Handler
) -> None:
    victim, honest = pair
    pid, known = victim.network.child_pid, len(victim.membership.known())
    before = victim.catalogue.counts()["items"]
    loop = asyncio.get_running_loop()
    asked, listening = asyncio.Event(), asyncio.Queue[str]()

    async def handler(stream: Any) -> None:
        loop.call_soon_threadsafe(asked.set)
        await answer(stream)

    async def tell(hosts: list[Any], _victim: Any) -> None:
        loop.call_soon_threadsafe(listening.put_nowait, str(hosts[0].get_addrs()[0]))

    async with attackers.attacking(
        f"liar {answer.__name__}",
        address=honest.network.addresses[0],
        script=tell,
        handlers={exchange_protocol(NETWORK): handler},
    ):
        address = await listening.get()
        await victim.membership.dial(address)
        async with asyncio.timeout(10):
            await asked.wait()
        await honest.catalogue.publish([ANN.put(slug=f"told-{answer.__name__}").raw])
        await eventually(victim.catalogue, before + 1)
    assert victim.network.child_pid == pid
    assert len(victim.membership.known()) == known + 1, "the one that the operator named"
    assert all(one.tried_s == 0 for one in victim.membership.known() if str(one.address) == address)


def settings_protocols() -> tuple[str, str]:
    """Return the protocols that a node asks everybody on, whoever dialled."""
    sync, adverts, *_ = replace(settings_for("any"), network=NETWORK).protocols
    return sync, adverts
