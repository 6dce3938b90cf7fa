"""Accounts over HTTP: anybody hands in signed items, and reads an account whole."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import Capability, EntryType, Item, Status, make_entry
from node.api.budgets import FAULT_COST, ITEMS_BURST, ITEMS_PER_S, ItemBudget
from node.api.errors import TooMany
from node.signing import to_header
from tests.node.api_support import Api, put_of, running_api
from tests.writers import NETWORK, Writer, key_of

ANNA, BOB = Writer("anna"), key_of("bob")
MODEL = {"name": "Thing", "license": "MIT"}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def grant(who: Writer = ANNA, **changes: Any) -> Item:
    said: dict[str, Any] = {
        "type": EntryType.ADD_KEY, "key": BOB.public, "capabilities": Capability.MAINTAINER,
        "predecessor": who.account, "signer": who.key, **changes,
    }  # fmt: skip
    return make_entry(network=NETWORK, account=who.account, **said)


async def hand_in(api: Api, *items: Item, status: int = 200) -> Any:
    found, answer = await api.ask(
        "POST", "/v1/items", value={"items": [to_header(one.raw) for one in items]}
    )
    assert found == status, answer
    return answer["outcomes"] if status == 200 else answer


def test_items_are_judged_in_order_and_each_is_answered_for(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_api(tmp_path) as api:
            outcomes = await hand_in(api, ANNA.genesis, grant(), ANNA.genesis, put_of(ANNA, MODEL))
            assert [one["status"] for one in outcomes] == ["new", "new", "known", "new"]
            assert outcomes[0] == {"id": ANNA.genesis.id.hex(), "status": "new"}
            assert (await api.ask("GET", f"/v1/models/{ANNA.record().hex()}"))[0] == 200

    run(work())


def test_a_bad_item_says_why_and_keeps_no_other_out(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_api(tmp_path) as api:
            theft = grant(signer=key_of("thief"))
            early = Writer("carl")
            outcomes = await hand_in(api, ANNA.genesis, theft, grant(early), grant())
            assert [one["status"] for one in outcomes] == ["new", "rejected", "pending", "new"]
            assert outcomes[1]["code"] == "not-authorised"
            assert "neither the root key" in outcomes[1]["detail"]
            assert outcomes[2]["missing"] == [early.account.hex()]

    run(work())


@pytest.mark.parametrize("text", ["!", "", "AAAA", "A" * 200_000])
def test_what_is_no_item_is_refused_with_its_position(tmp_path: Path, text: str) -> None:
    async def work() -> None:
        async with running_api(tmp_path) as api:
            items = [to_header(ANNA.genesis.raw), text]
            status, answer = await api.ask("POST", "/v1/items", value={"items": items})
            assert status == 422
            assert [one["field"] for one in answer["problems"]] == ["items.1"]
            assert api.catalogue.account(ANNA.account) is None

    run(work())


@pytest.mark.parametrize("count", [0, 257])
def test_items_are_counted_before_they_are_read(tmp_path: Path, count: int) -> None:
    async def work() -> None:
        async with running_api(tmp_path) as api:
            status, answer = await api.ask("POST", "/v1/items", value={"items": ["A"] * count})
            assert (status, answer["code"]) == (422, "bad-fields")

    run(work())


def test_an_account_is_shown_with_its_whole_log(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_api(tmp_path) as api:
            scope = (ANNA.record(),)
            granted = grant(scope=scope)
            ended = make_entry(
                network=NETWORK, type=EntryType.REVOKE, account=ANNA.account,
                predecessor=granted.id, signer=ANNA.key, key=BOB.public, keep=(b"k" * 32,),
            )  # fmt: skip
            await hand_in(api, ANNA.genesis, granted, put_of(ANNA, MODEL))
            path = f"/v1/accounts/{ANNA.account.hex()}"
            _, shown = await api.ask("GET", path)
            assert shown["delegates"] == [
                {
                    "key": BOB.public.hex(), "capabilities": ["maintainer"],
                    "scope": [scope[0].hex()], "entry": granted.id.hex(),
                }
            ]  # fmt: skip
            assert [one["type"] for one in shown["entries"]] == ["genesis", "add_key"]
            assert [one["raw"] for one in shown["entries"]] == [
                to_header(ANNA.genesis.raw), to_header(granted.raw),
            ]  # fmt: skip
            assert shown["records"] == [ANNA.record().hex()]
            await hand_in(api, ended)
            _, shown = await api.ask("GET", path)
            assert shown["ended"] == [{"key": BOB.public.hex(), "kept": 1}]
            assert (shown["epoch"], shown["frozen"], shown["fork"]) == (0, False, None)

    run(work())


def test_a_fork_shows_where_the_log_is_frozen(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_api(tmp_path) as api:
            await hand_in(api, ANNA.genesis, grant(), grant(key=key_of("other").public))
            _, shown = await api.ask("GET", f"/v1/accounts/{ANNA.account.hex()}")
            assert (shown["frozen"], shown["fork"]) == (True, ANNA.account.hex())
            assert [one["on_trunk"] for one in shown["entries"]] == [True, False, False]
            assert all(one["live"] for one in shown["entries"])
            assert len(shown["heads"]) == 2

    run(work())


def test_an_accounts_records_are_listed_with_their_paths(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_api(tmp_path) as api:
            puts = [put_of(ANNA, MODEL, slug=f"m-{n}") for n in range(3)]
            agent = put_of(ANNA, {"name": "Helper", "tools": ["search"]}, "agents")
            await hand_in(api, ANNA.genesis, *puts, agent)
            path = f"/v1/accounts/{ANNA.account.hex()}/records"
            _, page = await api.ask("GET", path)
            assert [(one["plural"], one["slug"]) for one in page["items"]] == [
                ("models", "m-0"), ("models", "m-1"), ("models", "m-2"), ("agents", "thing"),
            ]  # fmt: skip
            assert page["done"]
            _, after = await api.ask("GET", f"{path}?after={page['next']}")
            assert after == {"items": [], "next": page["next"], "done": True}

    run(work())


def test_a_records_log_is_what_was_signed_in_order_of_arrival(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_api(tmp_path) as api:
            first = put_of(ANNA, MODEL)
            second = ANNA.delete(cites=(first,))
            await hand_in(api, ANNA.genesis, first, second)
            path = f"/v1/models/{ANNA.record().hex()}/log"
            _, log = await api.ask("GET", path)
            assert log["entries"] == [to_header(ANNA.genesis.raw)]
            assert [one["raw"] for one in log["items"]] == [
                to_header(first.raw), to_header(second.raw),
            ]  # fmt: skip
            _, rest = await api.ask("GET", f"{path}?after={log['items'][0]['n']}")
            assert len(rest["items"]) == 1
            assert rest["done"]
            missing = f"/v1/agents/{ANNA.record().hex()}/log"
            assert (await api.ask("GET", missing))[0] == 404

    run(work())


def test_a_delegate_that_is_not_known_here_is_told_what_to_send(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_api(tmp_path) as api:
            first = put_of(ANNA, MODEL)
            body = b"{}"
            by_bob = Writer("anna")
            by_bob.__dict__["key"] = BOB
            by_bob.__dict__["genesis"] = ANNA.genesis
            headers = api.sign(by_bob, "POST", "/v1/models", body, first)
            status, answer = await api.ask("POST", "/v1/models", raw=body, headers=headers)
            assert (status, answer["code"]) == (403, "not-authorised")
            assert "POST the account's entries to /v1/items" in answer["detail"]

    run(work())


def test_a_budget_is_spent_and_comes_back() -> None:
    budget = ItemBudget()
    budget.take("10.0.0.1", ITEMS_BURST, now_s=5)
    with pytest.raises(TooMany, match="again in 1 s"):
        budget.take("10.0.0.1", 1, now_s=5)
    budget.take("10.0.0.2", 1, now_s=5)
    budget.take("10.0.0.1", ITEMS_PER_S, now_s=6)


def test_rubbish_costs_more_than_what_is_good() -> None:
    budget = ItemBudget()
    budget.take("10.0.0.1", 256, now_s=5)
    budget.charge_faults("10.0.0.1", 256, now_s=5)
    with pytest.raises(TooMany):
        budget.take("10.0.0.1", 1, now_s=5)
    wait_s = (257 * FAULT_COST - ITEMS_BURST) // ITEMS_PER_S + 1
    budget.take("10.0.0.1", 1, now_s=5 + wait_s)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::1", True),
    ],
)
def test_an_ipv6_network_shares_one_budget(one: str, other: str, shared: bool) -> None:
    budget = ItemBudget()
    budget.take(one, ITEMS_BURST, now_s=5)
    if shared:
        with pytest.raises(TooMany):
            budget.take(other, 1, now_s=5)
    else:
        budget.take(other, 1, now_s=5)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 3), st.integers(0, 40))))
def test_nobody_gets_more_than_the_burst_and_the_rate(
    calls: list[tuple[int, int, int]],
) -> None:
    budget, now_s, taken = ItemBudget(), 0, 0
    for count, passed_s, faults in calls:
        now_s += passed_s
        try:
            budget.take("10.0.0.1", count, now_s=now_s)
            taken += count
        except TooMany:
            pass
        budget.charge_faults("10.0.0.1", faults, now_s=now_s)
    assert taken <= ITEMS_BURST + now_s * ITEMS_PER_S


def test_a_status_has_the_name_that_the_documents_give() -> None:
    names = {one.value for one in Status}
    assert names == {"new", "known", "pending", "rejected", "declined", "over-quota"}
