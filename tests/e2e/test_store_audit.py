"""What a crash could do to a store is found by its judge: each fault alone, in a file made here."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing

import pytest

from crdt import ItemKind, OperationType, RecordKind, encode, pack_item, seal
from node.client import ApiProblem
from registry import encode_record, validate
from tests.e2e.crash_load import SPOILS
from tests.e2e.crashing import CrashFault, Figures, World
from tests.e2e.store_audit import audit, disagreement, shown_state
from tests.writers import NETWORK, Writer, key_of

ANN, BOB = Writer("ann"), Writer("bob")


def body(name):
    return encode_record(validate(RecordKind.MODEL, {"name": name}))


FIRST = ANN.put(body("first"))
SECOND = ANN.put(body("second"), cites=(FIRST,))
BESIDE = ANN.put(body("beside"), cites=(FIRST,))
GONE = ANN.delete(cites=(SECOND,))
LOG = (ANN.genesis, FIRST, SECOND, BESIDE, GONE)


def row(n, item):
    record = ANN.opened(item).record if item.kind is ItemKind.OPERATION else None
    return [n, item.id, int(item.kind), record, item.raw]


def stored(folder, items, change=None):
    """Write items into a file as a node does, one thing of it changed, and return the audit."""
    rows = [row(n, item) for n, item in enumerate(items, 1)]
    if change is not None:
        change(rows)
    with closing(sqlite3.connect(folder / "registry.sqlite3")) as database:
        database.execute("CREATE TABLE item_v1 (n INTEGER PRIMARY KEY, id, kind, record, raw)")
        database.executemany("INSERT INTO item_v1 VALUES (?, ?, ?, ?, ?)", rows)
        database.commit()
    return audit(folder, NETWORK)


def test_a_whole_store_has_no_fault_and_its_states_follow_from_the_set(tmp_path):
    store = stored(tmp_path, LOG)
    assert store.faults == []
    state = store.states()[ANN.record()]
    assert state.heads == {GONE.id, BESIDE.id}
    assert (state.winner, state.deleted) == (GONE.id, True)


def test_a_folder_without_a_registry_is_one_that_was_killed_early(tmp_path):
    assert audit(tmp_path, NETWORK).faults == []


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("MalformedBytes", lambda rows: rows[2].__setitem__(4, SECOND.raw[:-1])),
        ("MalformedBytes", lambda rows: rows[2].__setitem__(4, b"")),
        ("columns", lambda rows: rows[2].__setitem__(1, bytes(32))),
        ("columns", lambda rows: rows[2].__setitem__(3, BOB.record())),
        ("columns", lambda rows: rows[2].__setitem__(4, BESIDE.raw)),
        ("of another wire version or kind", lambda rows: rows[2].__setitem__(2, 1)),
        ("it cites is not there", lambda rows: rows.pop(2)),
        ("account is not there", lambda rows: rows.pop(0)),
        ("it cites came after it", lambda rows: rows[2].__setitem__(0, 9)),
        ("an account entry that it cites is not before it", lambda rows: rows[0].__setitem__(0, 9)),
    ],
)
def test_what_a_crash_could_do_to_a_row_is_found(tmp_path, what, change):
    store = stored(tmp_path, LOG, change)
    assert any(what in fault for fault in store.faults), store.faults


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
def test_every_spoiled_write_is_found_if_a_node_took_it(tmp_path, spoil):
    spoiled = spoil(SECOND, ANN.key, random.Random(1))
    assert stored(tmp_path, (ANN.genesis, FIRST, spoiled)).faults


@pytest.mark.parametrize(
    "item",
    [
        ANN.put(b"no record"),
        ANN.write(OperationType.DELETE, b"", depth=1),
        ANN.write(OperationType.DELETE, b"x", cites=(FIRST,)),
        BOB.put(body("of bob"), account=ANN.account),
    ],
    ids=["body", "delete of nothing", "delete with a body", "key of another account"],
)
def test_an_operation_that_breaks_a_rule_is_found(tmp_path, item):
    assert stored(tmp_path, (ANN.genesis, FIRST, item)).faults


def test_a_damaged_page_is_found(tmp_path):
    stored(tmp_path, LOG)
    path = tmp_path / "registry.sqlite3"
    raw = bytearray(path.read_bytes())
    raw[4096:4200] = bytes(104)  # the second page: the table's
    path.write_bytes(raw)
    assert audit(tmp_path, NETWORK).faults


def entry(type_, *fields, key):
    content = encode(["hansa/account", 0, NETWORK, type_, *fields])
    return pack_item(ItemKind.ACCOUNT, seal(content, key))


def test_an_account_entry_of_a_type_to_come_passes_if_a_key_of_the_account_signed_it(tmp_path):
    recovery, stranger = key_of("ann recovery"), key_of("stranger")
    adopt = entry(6, ANN.genesis.id, ANN.genesis.id, recovery.public, key=recovery)
    store = stored(tmp_path, (*LOG, adopt))
    assert store.faults == []
    assert store.states()[ANN.record()].winner is None, "effectiveness is not judged here"

    (tmp_path / "other").mkdir()
    bad = entry(6, ANN.genesis.id, ANN.genesis.id, recovery.public, key=stranger)
    assert any("nobody signed" in one for one in stored(tmp_path / "other", (*LOG, bad)).faults)


def test_a_memory_of_verified_items_does_not_hide_a_changed_one(tmp_path):
    memory = {}
    stored(tmp_path, LOG)
    assert audit(tmp_path, NETWORK, memory).faults == []
    with closing(sqlite3.connect(tmp_path / "registry.sqlite3")) as database:
        database.execute("UPDATE item_v1 SET raw = substr(raw, 1, 200) WHERE n = 3")
        database.commit()
    assert audit(tmp_path, NETWORK, memory).faults


def test_a_shown_state_that_is_not_the_sets_is_told(tmp_path):
    expected = stored(tmp_path, LOG).states()[ANN.record()]

    def heads(*items):
        return [{"version_id": item.id.hex()} for item in items]

    right = {"heads": heads(GONE, BESIDE), "tombstone": GONE.id.hex()}
    assert disagreement(expected, shown_state(410, right, 1)) == ""
    stale = {"heads": heads(SECOND), "conflicts": [], "version_id": SECOND.id.hex()}
    assert disagreement(expected, shown_state(200, stale, 1))
    missing = {"heads": heads(GONE), "tombstone": GONE.id.hex()}
    assert disagreement(expected, shown_state(410, missing, 1))


@pytest.mark.parametrize("what", ["lost", "refused", "spoiled", "never sent", "other bytes", None])
def test_a_store_that_is_not_what_was_acknowledged_fails_the_campaign(tmp_path, what):
    world = World(tmp_path, random.Random(1), Figures(), paired=False, kills=0)
    one, notes = world.members[0], world.notes
    one.identity = ("peer", "00" * 32)
    for item in LOG[1:]:
        notes.sending(item, ANN.genesis, one.url)
        notes.answered(item, None)
    items = list(LOG)
    if what == "lost":
        items.remove(GONE)
    elif what == "refused":
        del notes.acknowledged[GONE.id]
        notes.refused[GONE.id] = ApiProblem(status=409, code="exists", message="no")
    elif what == "spoiled":
        del notes.sent[GONE.id], notes.acknowledged[GONE.id]
        notes.spoiling(GONE)
    elif what == "never sent":
        items.append(ANN.put(body("never sent"), cites=(SECOND,)))
    elif what == "other bytes":
        again = ANN.delete(cites=(SECOND,))
        assert again.raw == GONE.raw, "Ed25519 signs the same bytes the same way"
        notes.sent[GONE.id] = notes.sent[BESIDE.id]
    store = stored(tmp_path, items)
    assert store.faults == []
    if what is None:
        world.check_store(one, store, "now")
        return
    with pytest.raises(CrashFault, match="lost" if what == "lost" else "nobody may have written"):
        world.check_store(one, store, "now")
