"""What an audit finds: each reason, each term, everything that was signed twice."""

from __future__ import annotations

import random

import pytest

from crdt import (
    Capability,
    Cause,
    EntryType,
    Item,
    ItemKind,
    OperationId,
    Place,
    RecordKind,
    audit,
    encode,
    pack_item,
    parse_entry,
    seal,
    sha3,
)
from tests.crdt.histories import History
from tests.crdt.replicas import new_replica
from tests.writers import NETWORK, Writer, key_of

BOB = Writer("bob")


@pytest.fixture
def world() -> History:
    return History()


def found(audited, item: Item):
    return audited.operation(OperationId(item.id))


def why(audited, item: Item) -> tuple[Cause, bytes | None]:
    return found(audited, item).why.cause, found(audited, item).why.by


# -- why an operation counts, or does not


def test_a_plain_history_is_current_throughout(world: History) -> None:
    first = world.put()
    second = world.put(first)
    audited = world.audited()
    assert [one.operation.id for one in audited.operations] == [first.id, second.id]
    assert {one.why.cause for one in audited.operations} == {Cause.CURRENT}
    assert audited.winner is found(audited, second)
    assert found(audited, second).is_head
    assert not found(audited, first).is_head
    assert (audited.refusals, audited.forks, audited.equivocations, audited.concurrency) == (
        (), (), (), ()
    )  # fmt: skip
    authority = found(audited, first).authority
    assert (authority.is_root, authority.granted_by, authority.ended_by) == (
        True, world.entries[0].id, None
    )  # fmt: skip


def test_a_revoked_keys_operation_is_void_and_the_entry_that_ended_it_is_named(
    world: History,
) -> None:
    first = world.put()
    eve, grant = world.grant("eve")
    bad = world.put(first, by=eve, head=grant)
    revoke = world.entry(EntryType.REVOKE, by=world.recovery, key=eve)
    audited = world.audited()
    assert why(audited, bad) == (Cause.KEY_ENDED, revoke.id)
    assert not found(audited, bad).effective
    assert audited.winner is found(audited, first)
    authority = found(audited, bad).authority
    assert (authority.is_root, authority.capabilities) == (False, Capability.MAINTAINER)
    assert (authority.granted_by, authority.ended_by) == (grant.id, revoke.id)


def test_what_a_revocation_keeps_counts_and_so_does_its_past(world: History) -> None:
    eve, grant = world.grant("eve")
    first = world.put(by=eve, head=grant)
    good = world.put(first, by=eve, head=grant)
    bad = world.put(first, by=eve, head=grant)
    revoke = world.entry(EntryType.REVOKE, key=eve, keep=(good,))
    audited = world.audited()
    assert why(audited, first) == why(audited, good) == (Cause.KEPT, revoke.id)
    assert why(audited, bad) == (Cause.KEY_ENDED, revoke.id)


def test_what_the_root_cites_is_endorsed_and_the_last_that_did_is_named(world: History) -> None:
    eve, grant = world.grant("eve")
    good = world.put(by=eve, head=grant)
    endorsing = world.put(good, head=grant)
    last = world.put(endorsing, head=grant)
    world.entry(EntryType.REVOKE, key=eve)
    audited = world.audited()
    assert why(audited, good) == (Cause.ENDORSED, last.id)
    assert found(audited, good).effective


def test_after_a_rotation_the_old_roots_operations_are_void_by_that_entry(world: History) -> None:
    old = world.put()
    rotation = world.entry(EntryType.ROTATE_ROOT, by=world.recovery, key=key_of("new"))
    audited = world.audited()
    assert why(audited, old) == (Cause.KEY_ENDED, rotation.id)
    assert audited.register is not None
    assert audited.register.winner is None
    assert audited.winner is None


def test_an_entry_on_a_branch_that_lost_takes_its_operations_with_it(world: History) -> None:
    eve = key_of("eve")
    stolen = world.entry(EntryType.ADD_KEY, key=eve)
    honest = world.entry(EntryType.ADOPT, by=world.recovery, on=world.entries[0])
    bad = world.put(by=eve, head=stolen)
    audited = world.audited()
    assert why(audited, bad) == (Cause.BRANCH_LOST, honest.id)
    places = {one.entry.id: one.place for one in audited.entries}
    assert (places[stolen.id], places[honest.id]) == (Place.LOST, Place.TRUNK)
    (fork,) = audited.forks
    assert (fork.at, fork.on_trunk, fork.settled) == (world.entries[0].id, True, True)
    assert {branch.first: (branch.wins, branch.adopted_by) for branch in fork.branches} == {
        stolen.id: (False, None), honest.id: (True, honest.id)
    }  # fmt: skip


def test_a_frozen_log_shows_its_open_branches(world: History) -> None:
    _, left = world.grant("left", on=world.entries[0])
    right_key, right = world.grant("right", on=world.entries[0])
    put = world.put(by=right_key, head=right)
    audited = world.audited()
    assert audited.account is not None
    assert audited.account.frozen
    (fork,) = audited.forks
    assert (fork.settled, fork.adopted_count) == (False, 0)
    places = {one.entry.id: one.place for one in audited.entries}
    assert places[left.id] is places[right.id] is Place.OPEN
    assert why(audited, put) == (Cause.CURRENT, None)


def test_unknown_types_and_later_versions_have_no_effect(world: History) -> None:
    first = world.put()
    new = world.write(9, first)  # type: ignore[arg-type]
    later = _later_version(world)
    audited = world.audited(later.raw)
    assert why(audited, new) == (Cause.UNKNOWN_TYPE, None)
    assert why(audited, later) == (Cause.LATER_VERSION, None)
    assert audited.winner is found(audited, first)
    assert audited.refusals == ()


def _later_version(world: History) -> Item:
    put = world.writer.opened(world.operations[0])
    content = encode([
        "hansa/operation", 7, NETWORK, int(RecordKind.MODEL), put.record, put.slug, 1,
        put.account, put.key, list(put.account_heads), "whatever", sha3(b"new"), 3, 5,
    ])  # fmt: skip
    return pack_item(ItemKind.OPERATION, seal(content, world.root), b"new")


# -- which concurrent write shows


def test_a_loser_by_each_term_of_the_rule(world: History) -> None:
    eve, grant = world.grant("eve")
    first = world.put()
    deep = world.put(world.put(first))
    low, high = sorted(
        (world.put(first, body=b"l"), world.put(first, body=b"r")), key=lambda item: item.id
    )
    theirs = world.put(world.put(world.put(first), by=eve, head=grant), by=eve, head=grant)
    audited = world.audited()
    assert audited.winner is found(audited, deep)
    assert found(audited, theirs).lost_by == "is_root"
    assert found(audited, low).lost_by == found(audited, high).lost_by == "depth"
    gone = world.delete(first)
    audited = world.audited()
    assert audited.winner is found(audited, gone)
    assert found(audited, deep).lost_by == "is_delete"
    assert [one.operation.id for one in audited.conflicts][:2] == [deep.id, high.id]


def test_a_loser_by_id_and_one_by_epoch(world: History) -> None:
    low, high = sorted((world.put(), world.put()), key=lambda item: item.id)
    assert found(world.audited(), low).lost_by == "id"
    new = key_of("new")
    rotation = world.entry(EntryType.ROTATE_ROOT, by=world.recovery, key=new, keep=(low, high))
    late = world.put(by=new, head=rotation)
    audited = world.audited()
    assert audited.winner is found(audited, late)
    assert found(audited, low).lost_by == found(audited, high).lost_by == "epoch"


# -- eras and checkpoints


def test_a_checkpoint_opens_an_era_and_rivals_are_shown(world: History) -> None:
    first = world.put()
    one, other = sorted(
        (world.checkpoint(1, b"left"), world.checkpoint(1, b"right")), key=lambda item: item.id
    )
    inside = world.put(other, era=other)
    audited = world.audited()
    assert [found(audited, item).in_era for item in (first, one, other, inside)] == [
        False, False, True, True
    ]  # fmt: skip
    winner, loser = audited.checkpoints
    assert (winner.id, winner.is_era, winner.rivals, winner.lost_by) == (
        other.id, True, (one.id,), None
    )  # fmt: skip
    assert (loser.id, loser.rivals, loser.lost_by) == (one.id, (other.id,), "id")
    world.checkpoint(2)
    lost = {rank.lost_by for rank in world.audited().checkpoints}
    assert lost == {None, "number"}


# -- what was signed twice


def test_writes_that_cite_the_same_heads_are_equivocations(world: History) -> None:
    first = world.put()
    twice = [world.put(first, body=b"a"), world.put(first, body=b"b")]
    audited = world.audited()
    (equivocation,) = audited.equivocations
    assert (equivocation.key, equivocation.predecessors) == (world.root.public, (first.id,))
    assert set(equivocation.operations) == {item.id for item in twice}


def test_writes_of_one_key_on_two_branches_are_concurrent(world: History) -> None:
    eve, grant = world.grant("eve")
    first = world.put()
    other = world.put(first, by=eve, head=grant)
    left, right = world.put(first), world.put(other)
    joined = world.put(left, right)
    audited = world.audited()
    assert audited.equivocations == ()
    (concurrency,) = audited.concurrency
    assert (concurrency.key, concurrency.pair_count) == (world.root.public, 1)
    assert set(concurrency.pairs[0]) == {left.id, right.id}
    assert found(audited, joined).is_winner


# -- what is wrong


def test_forged_bytes_are_refused_with_the_reason(world: History) -> None:
    put = world.put()
    forged = pack_item(ItemKind.OPERATION, seal(put.signed.content, key_of("eve")), put.body)
    world.operations = [forged]
    audited = world.audited(b"\xc1 no item")
    assert sorted(one.code for one in audited.refusals) == ["bad-signature", "malformed-bytes"]
    assert {one.id for one in audited.refusals} == {put.id, None}
    assert audited.winner is None


def test_a_wrong_depth_and_a_key_without_authority_are_refused(world: History) -> None:
    first = world.put()
    deep = world.put(first, depth=9)
    stranger = world.put(first, by=key_of("stranger"))
    audited = world.audited()
    codes = {one.id: one.code for one in audited.refusals}
    assert codes == {deep.id: "causal-fault", stranger.id: "not-authorised"}


def test_what_the_log_leaves_out_is_told(world: History) -> None:
    first = world.put()
    second = world.put(first)
    world.operations = [second]
    (refusal,) = world.audited().refusals
    assert (refusal.id, refusal.code) == (second.id, "missing-items")
    assert first.id.hex()[:16] in refusal.message


def test_what_is_about_something_else_is_told(world: History) -> None:
    world.put()
    other = world.put(slug="other")
    audited = world.audited(BOB.genesis.raw)
    codes = {one.id: one.code for one in audited.refusals}
    assert codes == {other.id: "foreign", BOB.genesis.id: "foreign"}


def test_an_invalid_account_entry_is_refused_and_the_rest_stands(world: History) -> None:
    first = world.put()
    world.entry(EntryType.ROTATE_ROOT, by=world.root, key=key_of("new"))
    audited = world.audited()
    assert [one.code for one in audited.refusals] == ["not-authorised"]
    assert audited.winner is found(audited, first)


def test_without_the_genesis_nothing_can_be_judged(world: History) -> None:
    world.put()
    world.entries = []
    audited = world.audited()
    assert (audited.account, audited.register) == (None, None)
    assert [one.code for one in audited.refusals] == ["missing-items"]


def test_the_order_of_a_log_makes_no_difference(world: History) -> None:
    eve, grant = world.grant("eve")
    first = world.put()
    tips = [first]
    rng = random.Random(5)
    for number in range(40):
        cites = rng.sample(tips, min(len(tips), rng.randint(1, 3)))
        by, head = (eve, grant) if number % 3 else (None, None)
        tips.append(world.put(*cites, by=by, head=head))
    world.entry(EntryType.REVOKE, by=world.recovery, key=eve, keep=(tips[20],))
    expected = world.audited()
    shuffled = [item.raw for item in world.operations]
    rng.shuffle(shuffled)
    again = audit(new_replica(), world.record, [*shuffled, *(item.raw for item in world.entries)])
    assert again == expected
    assert expected.refusals == ()
    assert {one.why.cause for one in expected.operations} == {
        Cause.CURRENT, Cause.ENDORSED, Cause.KEPT, Cause.KEY_ENDED
    }  # fmt: skip


def test_whoever_is_endorsed_has_an_endorser_that_vouches_for_it() -> None:
    """Each reason against the rule itself, in histories of all sorts."""
    for seed in range(30):
        world, rng = History(), random.Random(seed)
        keys = [world.grant(f"d{number}") for number in range(3)]
        tips = [world.put(head=keys[-1][1])]
        for _ in range(25):
            by, head = rng.choice([*keys, (None, rng.choice(world.entries))])
            if by is not None and rng.random() < 0.1:
                world.entry(EntryType.REVOKE, key=by) if by.public not in _ended(world) else None
            tips.append(world.put(*rng.sample(tips, min(len(tips), 2)), by=by, head=head))
        audited = world.audited()
        replica = new_replica()
        again = audit(replica, world.record, world.raws)
        assert again == audited
        expected = replica.resolution(world.record)
        explained = {
            one.operation.id for one in audited.operations if one.why.cause is Cause.ENDORSED
        }
        assert explained <= expected.endorsed
        for one in audited.operations:
            assert one.effective == (one.operation.id in expected.effective)
            if one.why.cause is Cause.ENDORSED:
                root = audited.operation(OperationId(one.why.by))
                assert root.authority.is_root
                assert root.operation.depth > one.operation.depth


def _ended(world: History) -> set[bytes]:
    entries = [parse_entry(item, NETWORK) for item in world.entries]
    return {entry.key for entry in entries if entry.type is EntryType.REVOKE}
