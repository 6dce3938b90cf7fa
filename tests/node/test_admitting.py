"""A node works for its operator's admission beside everything else, and keeps what it found."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from crdt import Network, WorkRule, is_good_stamp, open_genesis, stamp_of
from node import admitting
from node.admitting import Admitting
from node.config import Settings, load_settings
from node.identity import Identity, load_identity, operator_challenge
from node.storage import StorageFull

RULED = Network("test", WorkRule(2))
NEVER = Network("test", WorkRule(32))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(None, [f"node.data_dir={tmp_path}"]).settings


class Told:
    """Who is told of the identity that has its stamp."""

    def __init__(self, faults: int = 0) -> None:
        self.faults = faults
        self.identity: asyncio.Future[Identity] = asyncio.get_running_loop().create_future()

    async def __call__(self, identity: Identity) -> None:
        if self.faults:
            self.faults -= 1
            raise StorageFull("no space is left")
        self.identity.set_result(identity)


async def test_the_stamp_is_found_told_and_kept(settings: Settings) -> None:
    before = load_identity(settings, RULED)
    told = Told()
    work = Admitting(settings, RULED, before, told)
    await work.start()
    found = await told.identity
    await work.stop()
    assert found.is_admitted
    assert open_genesis(found.genesis, RULED.id).id == found.operator != before.operator
    challenge = operator_challenge(before, RULED)
    assert is_good_stamp(challenge, stamp_of(found.genesis), 2)
    assert load_identity(settings, RULED).genesis.raw == found.genesis.raw
    assert work.mean_s is None, "nothing is under way"


async def test_a_store_that_cannot_write_the_account_is_asked_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admitting, "RETRY_S", 0)
    told = Told(faults=3)
    work = Admitting(settings, RULED, load_identity(settings, RULED), told)
    await work.start()
    assert (await told.identity).is_admitted
    await work.stop()


async def test_a_node_that_stops_meanwhile_gives_up_and_keeps_nothing(settings: Settings) -> None:
    told = Told()
    work = Admitting(settings, NEVER, load_identity(settings, NEVER), told)
    await work.start()
    await work.stop()
    assert not told.identity.done()
    assert not load_identity(settings, NEVER).is_admitted


async def test_who_is_admitted_works_for_nothing(settings: Settings) -> None:
    told = Told()
    identity = load_identity(settings, Network("test"))
    work = Admitting(settings, Network("test"), identity, told)
    await work.start()
    await work.stop()
    assert not told.identity.done()
