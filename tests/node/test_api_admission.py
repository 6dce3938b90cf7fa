"""Who may introduce an account through the API where founding one takes work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cached_property
from pathlib import Path

import pytest

import crdt.stamps
from crdt import Item, WorkRule, is_good_stamp, make_genesis, stamp_bytes, stamp_challenge
from crdt.stamps import FALSE_BURST
from node.signing import to_header
from tests.node.api_support import Api, put_of, running_api
from tests.writers import NETWORK, Writer, key_of

RULE = WorkRule(4)
DATA = {"name": "Thing"}


class Stamped(Writer):
    """A creator whose account has a stamp, good or not."""

    good = True

    @cached_property
    def genesis(self) -> Item:
        recovery = key_of(f"{self.name} recovery").public
        challenge = stamp_challenge(NETWORK, self.key.public, recovery)
        stamps = map(stamp_bytes, range(1 << 16))
        stamp = next(one for one in stamps if is_good_stamp(challenge, one, RULE.bits) is self.good)
        return make_genesis(NETWORK, self.key, recovery, stamp)


class Liar(Stamped):
    """One who has not done the work."""

    good = False


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crdt.stamps, "SCRYPT_N", 2)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path, rule=RULE) as made:
        yield made


async def test_an_account_without_work_may_do_nothing_and_is_told_what_to_do(api: Api) -> None:
    for who, says in ((Writer("ann"), "no admission stamp"), (Liar("bob"), "4 bits of work")):
        status, problem = await api.create(who, DATA)
        assert (status, problem["code"]) == (403, "not-admitted")
        assert says in problem["detail"]
        assert "`hansa account create`" in problem["detail"]
        introduced = {"genesis": to_header(who.genesis.raw)}
        status, problem = await api.ask("POST", "/v1/accounts", value=introduced)
        assert (status, problem["code"]) == (403, "not-admitted")
        assert api.catalogue.account(who.account) is None


async def test_an_account_with_the_work_done_writes(api: Api) -> None:
    assert (await api.create(Stamped("ann"), DATA))[0] == 201
    assert api.catalogue.account(Stamped("ann").account) is not None


async def test_strangers_with_false_stamps_are_held_off_and_the_known_are_not(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await api.create(Stamped("ann"), DATA))[0] == 201
    tried: list[bytes] = []

    def counting(challenge: bytes, stamp: bytes, bits: int) -> bool:
        tried.append(stamp)
        return is_good_stamp(challenge, stamp, bits)

    liars = [Liar(f"liar {number}") for number in range(FALSE_BURST + 3)]
    signed = [who.genesis.id for who in liars]
    assert len(set(signed)) == len(liars)
    monkeypatch.setattr(crdt.stamps, "is_good_stamp", counting)
    codes = [(await api.create(who, DATA))[1]["code"] for who in liars]
    assert codes == ["not-admitted"] * FALSE_BURST + ["too-many"] * 3
    assert len(tried) == FALSE_BURST
    status, answer = await api.ask("GET", f"/v1/accounts/{Stamped('ann').account.hex()}")
    assert status == 200, answer


async def test_a_new_account_is_worked_out_once_by_the_guard_and_once_by_the_log(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = Stamped("ann")
    tried: list[bytes] = []

    def counting(challenge: bytes, stamp: bytes, bits: int) -> bool:
        tried.append(stamp)
        return is_good_stamp(challenge, stamp, bits)

    assert ann.genesis
    monkeypatch.setattr(crdt.stamps, "is_good_stamp", counting)
    for _ in range(3):  # refused for its record, not for its account
        other = {"name": "Other"}
        assert (await api.write(ann, "POST", "/v1/models", other, put_of(ann, DATA)))[0] == 422
    assert len(tried) == 1
    assert (await api.create(ann, DATA))[0] == 201
    assert len(tried) == 2
