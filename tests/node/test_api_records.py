"""`/models` and `/agents` over real HTTP: the whole life of a record, and every wrong write."""

from __future__ import annotations

import pytest

from crdt import OperationType, QuotaLimits
from tests.node.api_support import put_of, running_api, write_of
from tests.writers import Writer

ANN, BOB = Writer("ann"), Writer("bob")
DATA = {"name": "Thing", "description": "reads maps", "tags": ["b", "a"]}


@pytest.fixture
async def api(tmp_path):
    async with running_api(tmp_path) as made:
        yield made


@pytest.mark.parametrize("plural", ["models", "agents"])
async def test_the_life_of_a_record(api, plural):
    status, made = await api.create(ANN, DATA, plural=plural)
    id_ = made["model_id" if plural == "models" else "agent_id"]
    assert (status, made["version"], made["owner_id"]) == (201, "0.1.0", ANN.account.hex())
    path = f"/v1/{plural}/{id_}"

    status, shown = await api.ask("GET", path)
    assert (status, shown["record"]["tags"], shown["conflicts"]) == (200, ["a", "b"], [])
    assert api.headers["ETag"] == f'"{shown["version_id"]}"'

    second = {**DATA, "version": "0.2.0"}
    item = put_of(ANN, second, plural, heads=shown["heads"])
    status, changed = await api.write(ANN, "PUT", path, second, item, introduce=False)
    assert (status, changed["version"], changed["heads"][0]["depth"]) == (200, "0.2.0", 2)

    _, history = await api.ask("GET", f"{path}/versions")
    assert [(one["version"], one["current"]) for one in history["items"]] == [
        ("0.2.0", True), ("0.1.0", False)
    ]  # fmt: skip
    status, old = await api.ask("GET", f"{path}/versions/0.1.0")
    assert (status, old["version_id"]) == (200, made["version_id"])

    _, found = await api.ask("GET", f"/{plural}?q=maps")
    assert [one["slug"] for one in found["items"]] == ["thing"]
    _, found = await api.ask("POST", f"/v1/{plural}/search", value={"tags": ["nothing"]})
    assert found["items"] == []

    kind = item_kind(plural)
    item = write_of(ANN, b"", kind, heads=changed["heads"], type_=OperationType.DELETE)
    status, _ = await api.write(ANN, "DELETE", path, None, item)
    assert status == 204
    status, gone = await api.ask("GET", path)
    assert (status, gone["code"], len(gone["heads"])) == (410, "gone", 1)

    back = put_of(ANN, DATA, plural, heads=gone["heads"])
    status, _ = await api.write(ANN, "POST", f"/v1/{plural}", DATA, back)
    assert status == 201


def item_kind(plural):
    from tests.node.api_support import KINDS

    return KINDS[plural]


async def test_a_merge_patch_is_signed_as_its_result(api):
    _, made = await api.create(ANN, DATA)
    path = f"/v1/models/{made['model_id']}"
    result = {**made["record"], "description": "reads charts"}
    result = {k: v for k, v in result.items() if k not in ("model_id", "owner_id")}
    item = put_of(ANN, result, heads=made["heads"])
    patch = {"description": "reads charts"}
    kind = "application/merge-patch+json"
    status, changed = await api.write(ANN, "PUT", path, patch, item, content_type=kind)
    assert (status, changed["record"]["description"]) == (200, "reads charts")
    assert changed["record"]["tags"] == ["a", "b"]
    status, problem = await api.write(ANN, "PUT", path, {"name": "x"}, item, content_type=kind)
    assert (status, problem["code"]) == (422, "operation-mismatch")


async def test_a_lost_race_is_412_when_the_writer_asked(api):
    _, made = await api.create(ANN, DATA)
    path = f"/v1/models/{made['model_id']}"
    item = put_of(ANN, DATA | {"version": "0.2.0"}, heads=made["heads"])
    data = DATA | {"version": "0.2.0"}
    status, problem = await api.write(ANN, "PUT", path, data, item, if_match="0" * 64)
    assert (status, problem["code"]) == (412, "stale-write")
    match = f'"{made["version_id"]}"'
    status, _ = await api.write(ANN, "PUT", path, data, item, if_match=match)
    assert status == 200


async def test_a_record_is_found_by_owner_and_slug(api):
    _, made = await api.create(ANN, DATA)
    status, shown = await api.ask("GET", f"/v1/models/{ANN.account.hex()[:10]}%2Fthing")
    assert (status, shown["model_id"]) in ((200, made["model_id"]),)


async def test_creating_twice_is_a_conflict(api):
    await api.create(ANN, DATA)
    status, problem = await api.create(ANN, DATA)
    assert (status, problem["code"]) == (409, "exists")


async def test_every_bad_field_is_listed_at_once(api):
    bad = {"name": 7, "version": "one", "nonsense": 1, "parameters": -1}
    item = put_of(ANN, DATA)
    status, problem = await api.write(ANN, "POST", "/v1/models", bad, item)
    assert status == 422
    assert {one["field"] for one in problem["problems"]} >= {"name", "version", "nonsense"}
    assert api.catalogue.counts()["items"] == 0


async def test_a_stranger_cannot_write_anothers_record(api):
    _, made = await api.create(ANN, DATA)
    path = f"/v1/models/{made['model_id']}"
    item = put_of(BOB, DATA, heads=made["heads"])
    status, problem = await api.write(BOB, "PUT", path, DATA, item)
    assert (status, problem["code"]) == (403, "wrong-owner")
    status, _ = await api.write(
        BOB, "DELETE", path, None, write_of(BOB, b"", type_=OperationType.DELETE)
    )
    assert status == 403
    # Ann's own operation in Bob's request: the two signatures must be of one account.
    status, problem = await api.write(BOB, "POST", "/v1/models", DATA, put_of(ANN, DATA))
    assert (status, problem["code"]) == (403, "wrong-owner")


async def test_unsigned_forged_and_replayed_writes_are_401(api):
    body = b'{"name": "Thing"}'
    status, problem = await api.ask("POST", "/v1/models", raw=body)
    assert (status, problem["code"]) == (401, "unsigned")
    item = put_of(ANN, {"name": "Thing"})
    headers = api.sign(ANN, "POST", "/v1/models", body, item)
    status, problem = await api.ask("POST", "/v1/models", raw=body + b" ", headers=headers)
    assert (status, problem["code"]) == (401, "bad-request-signature")
    status, _ = await api.ask("POST", "/v1/models", raw=body, headers=headers)
    assert status == 201
    status, problem = await api.ask("POST", "/v1/models", raw=body, headers=headers)
    assert (status, problem["code"]) == (401, "replayed-request")


async def test_an_account_nobody_introduced_is_unknown(api):
    item = put_of(ANN, DATA)
    status, problem = await api.write(ANN, "POST", "/v1/models", DATA, item, introduce=False)
    assert (status, problem["code"]) == (401, "unknown-account")


@pytest.mark.parametrize("operation", ["", "AAAA", "!!", "wA", "x" * 9000])
async def test_a_garbled_operation_is_refused(api, operation):
    body = b'{"name": "Thing"}'
    from crdt import sha3  # the header is part of what is signed, so sign it as it is
    from node.signing import RequestFacts, authorization
    from tests.node.api_support import NODE
    from tests.writers import NETWORK, NOW_S

    facts = RequestFacts(NETWORK, NODE.public, "POST", "/v1/models", "", body, operation.encode())
    nonce = sha3(operation.encode())[:16]
    headers = {
        **api.sign(ANN, "POST", "/v1/models", body),
        "Authorization": authorization(facts, ANN.account, ANN.key, now_s=NOW_S, nonce=nonce),
        "Hansa-Operation": operation,
    }
    status, problem = await api.ask("POST", "/v1/models", raw=body, headers=headers)
    assert (status, problem["code"]) == (401, "unsigned")


async def test_dependencies_are_locked_or_the_reason_given(api):
    _, base = await api.create(ANN, DATA)
    needs = {
        "name": "User",
        "dependencies": [f"{base['model_id']}@^0.1", f"{BOB.account.hex()}/nothing"],
    }
    item = put_of(ANN, needs, "agents", slug="user")
    _, made = await api.write(ANN, "POST", "/v1/agents", needs, item)
    _, found = await api.ask("GET", f"/v1/agents/{made['agent_id']}/dependencies")
    assert found["resolved"] is False
    assert [one["version_id"] for one in found["lock"]] == [base["version_id"]]
    assert found["unresolved"][0]["reason"] == "no such record is known here"


@pytest.mark.parametrize("plural", ["models", "agents"])
async def test_a_write_that_is_stored_is_acknowledged_though_a_tombstone_shows(api, plural):
    """As when another writer of the account deletes between the commit and the answer."""
    kind = item_kind(plural)
    _, made = await api.create(ANN, DATA, plural=plural)
    path = f"/v1/{plural}/{made[f'{plural[:-1]}_id']}"
    gone = write_of(ANN, b"", kind, heads=made["heads"], type_=OperationType.DELETE)
    assert (await api.write(ANN, "DELETE", path, None, gone))[0] == 204

    beside = put_of(ANN, {**DATA, "version": "0.3.0"}, plural, heads=made["heads"])
    status, said = await api.write(
        ANN, "POST", f"/v1/{plural}", {**DATA, "version": "0.3.0"}, beside
    )
    assert (status, said["version"], said["version_id"]) == (201, "0.3.0", beside.id.hex())
    assert {one["version_id"] for one in said["heads"]} == {gone.id.hex(), beside.id.hex()}
    assert said["conflicts"] == [beside.id.hex()]
    assert (await api.ask("GET", path))[0] == 410
    assert (await api.ask("GET", f"{path}/versions/{beside.id.hex()}"))[0] == 200


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        (QuotaLimits(operation_count_max=4), "quota.operation_count_max"),
        (QuotaLimits(operations_per_day=4), "quota.operations_per_day"),
    ],
)
async def test_over_its_quota_an_account_is_told_which_and_what_to_do(tmp_path, limits, setting):
    async with running_api(tmp_path, quotas=limits) as api:
        statuses = []
        for number in range(7):
            item = put_of(ANN, DATA, slug=f"thing-{number}")
            status, answer = await api.write(ANN, "POST", "/v1/models", DATA, item)
            statuses.append(status)
        assert statuses[:4] == [201] * 4
        assert statuses[-1] == 429
        assert answer["code"] == "over-quota"
        for word in (ANN.account.hex()[:16], setting, "another node"):
            assert word in answer["detail"]
        status, _ = await api.create(BOB, DATA)
        assert status == 201
