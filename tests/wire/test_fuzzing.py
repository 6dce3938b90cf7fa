"""A share of the fuzzing, with another seed each time; what is planted is found."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from pathlib import Path

import pytest

from crdt import ItemId, MalformedBytes
from tests.wire.decoders import Decoder, decoders_of
from tests.wire.fuzzing import Pace, Watched, _without_stalls, fuzz, run_round
from tests.wire.rounds import Round, Tally, make_round_maker
from tests.wire.town import make_town

COUNT = 12_000
"""Some 20 s on one core that is shared."""


@pytest.mark.slow
def test_a_share() -> None:
    seed = int(os.environ.get("HANSA_FUZZ_SEED", secrets.randbelow(2**32)))
    print(f"HANSA_FUZZ_SEED={seed}")
    found = fuzz(count=COUNT, seed=seed, processes=1, payloads=500)
    outcomes = found.pop("outcomes")
    assert found["ok"], json.dumps(found, indent=1)
    assert found["payload_count"] == COUNT
    for target in ("item", "card", "checkpoint", "model", "agent", "gossip frame", "receipt"):
        assert outcomes[target].get("accepted"), f"nothing got past {target}"
    assert outcomes["an item's outcome"]["new"] > COUNT / 20
    reasons = " ".join(outcomes["why an item is refused"])
    assert "causal-fault" in reasons
    assert "not-authorised" in reasons


def test_the_town_is_valid_and_every_decoder_takes_its_seeds() -> None:
    town = make_town()
    for one in decoders_of(town):
        for seed in one.seeds:
            one.decode(seed)
    assert {one.type.name for one in town.disk.operations.values()} >= {
        "PUT", "CARD", "DELETE", "CHECKPOINT", "UNKNOWN",
    }  # fmt: skip
    assert town.disk.pruned
    assert [account.frozen for account in town.disk.accounts.values()].count(True) == 1


def test_a_seed_and_a_round_name_the_same_payloads() -> None:
    make_round = make_round_maker()

    def payloads(seed: int, number: int) -> list[bytes]:
        one = make_round(Tally(), seed=seed, number=number)
        found = []
        for _ in range(60):
            found.append(one.payload())
            one.feed(found[-1])
        return found

    assert payloads(1, 2) == payloads(1, 2)
    assert payloads(1, 2) != payloads(1, 3)
    assert payloads(1, 2) != payloads(2, 2)


def refuse_odd(raw: bytes) -> None:
    if len(raw) % 2:
        raise MalformedBytes("odd")


def fail_on_long(raw: bytes) -> None:
    if len(raw) > 600:
        raise IndexError("planted")


def test_another_exception_than_a_fault_is_a_finding() -> None:
    town, tally = make_town(), Tally()
    planted = [Decoder("fine", refuse_odd, (b"seed",)), Decoder("planted", fail_on_long, ())]
    one = Round(town, planted, tally, seed=1, number=1)
    run_round(one, 40, Pace(), None)
    assert {found["target"] for found in tally.findings} == {"planted"}
    first = tally.findings[0]
    assert (first["seed"], first["round"]) == (1, 1)
    assert len(bytes.fromhex(first["hex"])) > 600
    assert "IndexError: planted" in first["error"]
    assert not first["is_time"]
    assert tally.outcomes["planted"]["DEFECT IndexError"] >= 1
    assert tally.outcomes["fine"]["MalformedBytes"] >= 1


def burn(raw: bytes) -> None:
    until_s = time.process_time() + (1.1 if len(raw) > 600 else 0)
    while time.process_time() < until_s:
        pass


@pytest.mark.slow
def test_a_second_of_processor_time_is_a_finding() -> None:
    tally = Tally()
    one = Round(make_town(), [Decoder("slow", burn, (b"seed",))], tally, seed=1, number=1)
    one.feed(b"\x90" * 500)
    assert not tally.findings
    one.feed(b"\x90" * 601)
    assert [found["target"] for found in tally.findings] == ["slow"]
    assert tally.slowest_s["slow"] > 1
    assert tally.findings[0]["is_time"]


@pytest.mark.slow
def test_a_second_that_is_not_taken_again_is_a_stall() -> None:
    finding = {
        "seed": 1, "round": 0, "payload": 3, "target": "item", "is_time": True, "error": "1.1 s",
        "hex": "",
    }  # fmt: skip
    found = {"ok": False, "deaths": [], "payload_count": 9, "findings": [finding]}
    judged = _without_stalls(found, 5)
    assert judged["ok"]
    assert [one["target"] for one in judged["stalls_that_did_not_happen_again"]] == ["item"]
    other = {**found, "findings": [{**finding, "is_time": False}]}
    assert not _without_stalls(other, 5)["ok"]


def test_a_state_that_is_not_what_the_operations_say_is_a_finding() -> None:
    town, tally = make_town(), Tally()
    one = Round(town, [], tally, seed=1, number=1)
    records = one.replica.storage.disk.records
    record = next(id_ for id_, change in records.items() if change.register.winner)
    records[record] = type(records[record])(
        record, records[record].operation, one.replica.storage.register(record).__class__(
            None, (), False, ()
        ),
    )  # fmt: skip
    one.finish()
    assert [found["target"] for found in tally.findings] == ["whole set"]


CHILD = """
import os, sys, time
from pathlib import Path
from tests.wire.fuzzing import Slot
slot, start = Slot(Path(sys.argv[1])), int(sys.argv[3])
slot.write(start, 7, b"payload %d" % start)
if start == 0:
    os.abort()
if start == 1:
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_child_that_dies_or_hangs_is_noticed_with_its_payload(tmp_path: Path) -> None:
    def command(slot: Path, out: Path, numbers: range) -> list[str]:
        return [sys.executable, "-c", CHILD, str(slot), str(out), str(numbers.start)]

    watched = Watched(tmp_path, "child", range(3), command, hang_s=1.5)
    try:
        while watched.poll():
            time.sleep(0.02)
    finally:
        watched.stop()
    died, hung = watched.deaths
    assert (died["round"], died["hex"], died["hung"]) == (0, b"payload 0".hex(), False)
    assert (hung["round"], hung["hex"], hung["hung"]) == (1, b"payload 1".hex(), True)
    assert [one["round"] for one in watched.slow] == [1]


def test_the_town_is_left_as_it_is() -> None:
    town = make_town()
    before = dict(town.disk.records), dict(town.disk.numbers), town.disk.last_n
    one = Round(town, [Decoder("fine", refuse_odd, (b"seed",))], Tally(), seed=5, number=0)
    run_round(one, 50, Pace(), None)
    assert (town.disk.records, town.disk.numbers, town.disk.last_n) == before
    assert one.replica.storage.disk.last_n > town.disk.last_n
    assert one.replica.storage.known([ItemId(town.items[0].id)])
