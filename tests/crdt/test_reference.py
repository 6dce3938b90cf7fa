"""The slow reading of the rules, against examples by hand and the properties the page promises."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.crdt import reference as ref
from tests.crdt.reference import RefCard, RefEntry, RefOperation
from tests.crdt.stories import RECORD, RECOVERY, ROOT, Story
from tests.sim.attacks import draw_world
from tests.sim.press import Paper, record_of
from tests.sim.worlds import View, World

BOB, EVE = b"bob", b"eve"


@pytest.fixture
def story() -> Story:
    return Story()


# Entries


@pytest.mark.parametrize(
    ("type_", "by", "valid"),
    [
        (ref.ADD_KEY, ROOT, True), (ref.ADD_KEY, RECOVERY, True), (ref.ADD_KEY, BOB, False),
        (ref.REVOKE, ROOT, True), (ref.REVOKE, RECOVERY, True), (ref.REVOKE, BOB, False),
        (ref.ROTATE_ROOT, ROOT, False), (ref.ROTATE_ROOT, RECOVERY, True),
        (ref.SET_RECOVERY, ROOT, False), (ref.SET_RECOVERY, RECOVERY, True),
        (ref.ADOPT, ROOT, False), (ref.ADOPT, RECOVERY, True), (7, ROOT, False),
    ],
)  # fmt: skip
def test_who_signs_an_entry(story: Story, type_: int, by: bytes, valid: bool) -> None:
    start = story.add(BOB, "genesis")
    key = None if type_ == ref.ADOPT else BOB if type_ == ref.REVOKE else b"new"
    story.entry("entry", type_, start, by=by, key=key)
    assert story.is_valid("entry") == valid


@pytest.mark.parametrize("type_", [ref.ADD_KEY, ref.ROTATE_ROOT, ref.SET_RECOVERY])
@pytest.mark.parametrize("key", [ROOT, RECOVERY, BOB])
def test_a_key_has_one_role_for_ever(story: Story, type_: int, key: bytes) -> None:
    gone = story.revoke(BOB, story.add(BOB, "genesis"))
    story.entry("again", type_, gone, by=RECOVERY, key=key)
    assert not story.is_valid("again")


def test_a_key_may_be_on_two_branches(story: Story) -> None:
    story.add(BOB, "genesis")
    story.entry("other", ref.ADD_KEY, "genesis", key=BOB, capabilities=ref.EDITOR)
    assert story.is_valid("other")


def test_a_genesis_needs_two_keys() -> None:
    alone = RefEntry(b"g", ref.GENESIS, b"g", None, ROOT, ROOT, ROOT)
    assert not ref.valid_entries([alone])


def test_only_a_delegate_is_revoked_and_once(story: Story) -> None:
    gone = story.revoke(BOB, story.add(BOB, "genesis"))
    story.entry("twice", ref.REVOKE, gone, key=BOB)
    story.entry("stranger", ref.REVOKE, gone, key=EVE)
    story.entry("root", ref.REVOKE, gone, key=ROOT)
    assert not any(story.is_valid(one) for one in ("twice", "stranger", "root"))


def test_a_path_has_an_end(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ref, "PATH_MAX", 3)
    third = story.add(EVE, story.add(BOB, "genesis"))
    story.add(b"one more", third)
    assert story.is_valid(third)
    assert not story.is_valid(f"add one more after {third}")


# The case table of section 1, row by row


def test_a_stolen_delegate_key_is_void_but_for_what_is_kept(story: Story) -> None:
    added = story.add(BOB, "genesis")
    story.put("good", added, by=BOB)
    story.put("better", added, "good", by=BOB)
    story.put("thief's", added, "better", by=BOB)
    story.put("backdated", added, "good", by=BOB)
    story.revoke(BOB, added, keep=("better",))
    assert story.effective == {"good", "better"}
    assert story.winner == "better"


def test_what_the_root_endorsed_survives_a_revocation(story: Story) -> None:
    added = story.add(BOB, "genesis")
    story.put("good", added, by=BOB)
    story.put("root's", added, "good")
    story.put("backdated", added, "good", by=BOB)
    story.revoke(BOB, added)
    assert story.effective == {"good", "root's"}


def test_recovery_rotates_behind_what_a_thief_appended(story: Story) -> None:
    thiefs = story.add(EVE, "genesis")
    story.put("eve's", thiefs, by=EVE)
    new = story.rotate(b"root 2", thiefs, by=RECOVERY)
    story.revoke(EVE, new, by=RECOVERY)
    assert story.trunk == ["genesis", thiefs, new, "revoke eve"]
    assert story.effective == set()


def test_recovery_rotates_before_what_a_thief_appended(story: Story) -> None:
    thiefs = story.add(EVE, "genesis")
    story.put("eve's", thiefs, by=EVE)
    new = story.rotate(b"root 2", "genesis", by=RECOVERY)
    story.put("honest", new, by=b"root 2")
    assert not story.frozen
    assert story.trunk == ["genesis", new]
    assert story.effective == {"honest"}


def test_a_fork_at_an_old_entry_freezes_until_recovery_adopts(story: Story) -> None:
    added = story.add(BOB, "genesis")
    story.put("bob's", added, by=BOB)
    thiefs = story.add(EVE, "genesis")
    story.put("eve's", thiefs, by=EVE)
    assert story.frozen
    assert story.trunk == ["genesis"]
    adopted = story.adopt(added)
    assert not story.frozen
    assert story.trunk == ["genesis", added, adopted]
    assert story.effective == {"bob's"}


def test_two_machines_of_one_owner_are_the_same_fork(story: Story) -> None:
    story.put("before", "genesis")
    story.add(BOB, "genesis")
    second = story.add(EVE, "genesis")
    assert story.frozen
    assert story.effective == {"before"}
    story.adopt(second)
    assert story.trunk[1] == second


def test_a_revocation_behind_a_fork_has_no_effect_while_frozen(story: Story) -> None:
    added = story.add(BOB, "genesis")
    story.put("bob's", added, by=BOB)
    gone = story.revoke(BOB, added)
    assert story.effective == set()
    story.add(EVE, added)
    assert story.effective == {"bob's"}
    story.adopt(gone)
    assert story.effective == set()


def test_a_retired_root_counts_only_if_endorsed_or_kept(story: Story) -> None:
    story.put("first", "genesis")
    story.put("second", "genesis", "first")
    new = story.rotate(b"root 2", "genesis", by=RECOVERY, keep=("first",))
    assert story.effective == {"first"}
    story.put("endorsing", new, "second", by=b"root 2")
    story.put("backdated", "genesis", "first")
    assert story.effective == {"first", "second", "endorsing"}
    story.add(EVE, "genesis")
    assert story.trunk == ["genesis", new]


def test_recovery_on_two_branches_freezes_for_good(story: Story) -> None:
    first, second = story.add(BOB, "genesis"), story.add(EVE, "genesis")
    one, two = story.adopt(first), story.adopt(second)
    story.adopt(one), story.adopt(two)
    assert story.frozen
    assert story.trunk == ["genesis"]


def test_a_retired_recovery_key_can_freeze(story: Story) -> None:
    story.entry("new", ref.SET_RECOVERY, "genesis", by=RECOVERY, key=b"recovery 2")
    story.adopt("genesis")
    assert story.frozen


def test_a_fork_inside_a_branch_is_settled_by_the_recovery_key_of_its_state(story: Story) -> None:
    moved = story.entry("new", ref.SET_RECOVERY, "genesis", by=RECOVERY, key=b"recovery 2")
    story.add(BOB, moved)
    story.add(EVE, moved)
    story.adopt(f"add bob after {moved}", by=RECOVERY)
    assert not story.is_valid(f"adopt add bob after {moved}")
    assert story.frozen
    story.adopt(f"add eve after {moved}", by=b"recovery 2")
    assert not story.frozen


# Operations


@pytest.mark.parametrize(
    ("capabilities", "allowed"),
    [
        (ref.MAINTAINER, {ref.PUT, ref.CARD, ref.DELETE, 5}),
        (ref.EDITOR, {ref.CARD, 5}),
        (ref.EVALUATOR, {5}),
        (0, set()),
    ],
)
def test_what_a_delegate_may(story: Story, capabilities: int, allowed: set[int]) -> None:
    added = story.add(BOB, "genesis", capabilities)
    story.put("base", "genesis")
    for type_ in (ref.PUT, ref.CARD, ref.DELETE, 5):
        story.operation(str(type_), type_, added, "base", by=BOB)
    story.checkpoint("4", added, by=BOB)
    assert {int(one) for one in "12345" if story.is_valid(one)} == allowed


def test_the_root_may_everything(story: Story) -> None:
    story.put("base", "genesis")
    for type_ in (ref.PUT, ref.CARD, ref.DELETE, 5):
        story.operation(str(type_), type_, "genesis", "base")
    story.checkpoint("4", "genesis")
    assert all(story.is_valid(one) for one in "12345")
    assert "5" not in story.effective


def test_an_evaluator_writes_only_its_own_evaluations(story: Story) -> None:
    added = story.add(BOB, "genesis", ref.EVALUATOR)
    story.put("base", "genesis")
    story.card("own", added, "base", by=BOB, card=RefCard(evals=frozenset({BOB})))
    story.card("other's", added, "base", by=BOB, card=RefCard(evals=frozenset({EVE})))
    story.card("text", added, "base", by=BOB, card=RefCard(plain=True))
    story.card("root's", added, "base", card=RefCard(evals=frozenset({BOB})))
    valid = {one for one in ("own", "other's", "text", "root's") if story.is_valid(one)}
    assert valid == {"own"}


def test_a_scope_is_kept_to(story: Story) -> None:
    added = story.add(BOB, "genesis", scope=(RECORD,))
    story.put("here", added, by=BOB)
    story.put("there", added, by=BOB, record=b"elsewhere")
    assert story.is_valid("here")
    assert not story.is_valid("there")


def test_rights_are_those_of_the_cited_entry(story: Story) -> None:
    added = story.add(BOB, "genesis")
    gone = story.revoke(BOB, added)
    story.put("too early", "genesis", by=BOB)
    story.put("in time", added, by=BOB)
    story.put("too late", gone, by=BOB)
    valid = {one for one in ("too early", "in time", "too late") if story.is_valid(one)}
    assert valid == {"in time"}


def test_predecessors_are_of_one_record_and_era(story: Story) -> None:
    story.put("base", "genesis")
    story.put("other record", "genesis", "base", record=b"elsewhere")
    opened = story.checkpoint("checkpoint", "genesis")
    story.put("in era", "genesis", opened)
    story.put("claims the first", "genesis", opened, era="")
    story.put("claims the new", "genesis", "base", era="checkpoint")
    story.put("both", "genesis", "base", opened)
    story.put("nowhere", "genesis", era="checkpoint")
    assert {name for name in story.operations if story.is_valid(name)} == {
        "base", "checkpoint", "in era",
    }  # fmt: skip


@pytest.mark.parametrize("depth", [0, 1, 2, 4, 2**32 - 1])
def test_depth_is_computed(story: Story, depth: int) -> None:
    story.put("one", "genesis")
    story.put("two", "genesis", "one")
    story.put("three", "genesis", "one", "two", depth=depth)
    assert not story.is_valid("three")


def test_only_a_first_put_and_a_checkpoint_cite_nothing(story: Story) -> None:
    story.put("put", "genesis")
    story.delete("delete", "genesis")
    story.card("card", "genesis")
    story.operation("unknown", 5, "genesis")
    story.checkpoint("checkpoint", "genesis")
    valid = {name for name in story.operations if story.is_valid(name)}
    assert valid == {"put", "checkpoint"}


def test_a_reference_is_into_the_past_and_within_it(story: Story) -> None:
    story.put("base", "genesis")
    story.card("text", "genesis", "base", length=5)

    def refer(name: str, to: bytes, count: int, *cites: str) -> None:
        card = RefCard(references=frozenset({(to, count)}), plain=True)
        story.card(name, "genesis", *cites, card=card)

    refer("within", b"text", 5, "text")
    refer("beyond", b"text", 6, "text")
    refer("not in the past", b"text", 1, "base")
    refer("unknown", b"nothing", 1, "text")
    assert story.is_valid("within")
    assert not any(story.is_valid(one) for one in ("beyond", "not in the past", "unknown"))


# What shows


def test_the_greatest_head_wins_and_the_others_are_conflicts(story: Story) -> None:
    added = story.add(BOB, "genesis")
    story.put("base", added)
    story.put("b", added, "base")
    story.put("a", added, "base")
    story.put("bob 1", added, "base", by=BOB)
    story.put("bob 2", added, "bob 1", by=BOB)
    assert story.winner == "b"
    assert story.conflicts == ["a", "bob 2"]


def test_a_later_epoch_outranks_the_root_of_an_earlier_one(story: Story) -> None:
    added = story.add(BOB, "genesis")
    story.put("base", added)
    story.put("old root's", added, "base")
    story.delete("old root's delete", added, "base")
    new = story.rotate(b"root 2", added, keep=("old root's", "old root's delete"))
    story.put("bob's", new, "base", by=BOB)
    assert story.winner == "bob's"


def test_a_delete_outranks_depth_but_not_the_root(story: Story) -> None:
    added = story.add(BOB, "genesis")
    story.put("base", added)
    story.delete("bob's delete", added, "base", by=BOB)
    story.put("bob's deeper", added, story.put("bob's", added, "base", by=BOB), by=BOB)
    assert story.winner == "bob's delete"
    assert story.state
    assert story.state.deleted
    story.put("root's", added, "base")
    assert story.winner == "root's"


def test_a_put_that_cites_a_delete_revives(story: Story) -> None:
    story.delete("gone", "genesis", story.put("base", "genesis"))
    story.put("back", "genesis", "gone")
    assert story.winner == "back"
    assert story.conflicts == []


def test_a_fact_is_covered_through_cards_and_void_operations(story: Story) -> None:
    added = story.add(BOB, "genesis")
    story.put("base", added)
    story.put("void", added, "base", by=BOB)
    story.card("note", added, "void")
    story.put("top", added, "note")
    assert story.winner == "top"
    assert story.conflicts == []
    assert story.heads == ["top"]


def test_cards_do_not_cover_facts_from_showing(story: Story) -> None:
    story.card("note", "genesis", story.put("base", "genesis"))
    assert story.winner == "base"
    assert story.heads == ["note"]


def test_an_unknown_type_never_shows_but_its_root_endorses(story: Story) -> None:
    added = story.add(BOB, "genesis")
    story.put("good", added, by=BOB)
    story.operation("odd", 77, added, "good")
    story.revoke(BOB, added)
    assert story.effective == {"good"}
    assert story.heads == ["good"]


def test_a_record_without_effective_facts_does_not_show(story: Story) -> None:
    added = story.add(BOB, "genesis")
    story.put("good", added, by=BOB)
    story.card("note", added, "good")
    # The root's card endorses; without it there is nothing.
    story.revoke(BOB, added)
    assert story.winner == "good"
    del story.operations["note"]
    assert story.state is None


def test_the_era_is_the_greatest_checkpoint_by_epoch_number_and_id(story: Story) -> None:
    story.put("base", "genesis")
    story.checkpoint("c1", "genesis", 1)
    assert story.state
    assert (story.winner, story.state.era) == ("c1", b"c1")
    story.put("in c1", "genesis", "c1")
    assert story.winner == "in c1"
    story.checkpoint("c2", "genesis", 2)
    story.checkpoint("a2", "genesis", 2)
    assert story.state.era == b"c2"
    assert story.heads == ["c2"]
    new = story.rotate(b"root 2", "genesis", keep=("c2",))
    assert story.state.era == b"c2"
    story.checkpoint("d1", new, 1, by=b"root 2")
    assert story.state.era == b"d1"


def test_a_checkpoint_that_lost_its_effect_gives_the_era_back(story: Story) -> None:
    story.put("base", "genesis")
    story.checkpoint("c1", "genesis")
    story.put("in c1", "genesis", "c1")
    story.rotate(b"root 2", "genesis", keep=("base",))
    assert story.winner == "base"


def test_a_checkpoint_without_facts_counts_as_a_delete(story: Story) -> None:
    story.checkpoint("c1", "genesis", has_facts=False)
    assert story.state
    assert story.state.deleted
    story.put("back", "genesis", "c1")
    assert not story.state.deleted


def test_the_next_write_cites_at_most_16_the_winner_first(story: Story) -> None:
    story.put("base", "genesis")
    for number in range(20):
        story.put(f"put {number:02}", "genesis", "base")
    cited = ref.cited_next(story.valid, story.valid_entries)
    assert [one.id.decode() for one in cited] == [f"put {n:02}" for n in range(19, 3, -1)]


# Properties, over drawn worlds


def world_of(seed: int) -> World:
    return draw_world(seed, Paper())


def view_of(world: World, count: int | None = None, drop: frozenset[bytes] = frozenset()) -> View:
    """The valid part of the first `count` things, less some."""
    made = [one for one in world.made[:count] if one.id not in drop]
    entries = ref.valid_entries(one.what for one in made if isinstance(one.what, RefEntry))
    operations = ref.valid_operations(
        (one.what for one in made if isinstance(one.what, RefOperation)), entries
    )
    mine = frozenset(one for one in entries if one.account == world.account)
    return View(mine, frozenset(one for one in operations if one.account == world.account))


seeds = st.integers(0, 2**32)


@given(seeds, st.randoms(use_true_random=False))
def test_validity_never_changes_as_the_set_grows(seed: int, rng: random.Random) -> None:
    world = world_of(seed)
    ids = sorted(one.id for one in world.made)
    drop = frozenset(rng.sample(ids, len(ids) // 4))
    part, whole = view_of(world, drop=drop), view_of(world)
    assert part.entries <= whole.entries
    assert part.operations <= whole.operations
    for one in whole.operations - part.operations:
        below = {one.id, *ref.past(one, whole.operations)}
        heads = {o.account_head for o in whole.operations if o.id in below}
        paths = {
            e.id
            for head in whole.entries
            if head.id in heads
            for e in ref.path(head, whole.entries)
        }
        assert (below | paths) & drop, "what has all its causes is valid at once"


@given(seeds, st.randoms(use_true_random=False))
def test_a_backdated_operation_that_is_nobodys_ancestor_changes_nothing(
    seed: int, rng: random.Random
) -> None:
    view = view_of(world_of(seed))
    ended = {} if ref.is_frozen(view.entries) else ref.account_now(view.entries).ended_by
    places = [
        (key, entry)
        for key in sorted(ended)
        for entry in sorted(view.entries, key=lambda e: e.id)
        if ref.is_allowed(_put_at(entry, key), ref.state_at(entry, view.entries))
    ]
    assume(places)
    key, entry = rng.choice(places)
    operations = view.of(record_of(entry.account, "thing"))
    same_era = sorted((o for o in operations if ref.era_of(o) == b""), key=lambda o: o.id)
    cites = frozenset(rng.sample(same_era, min(len(same_era), 2)))
    late = replace(
        _put_at(entry, key),
        predecessors=frozenset(o.id for o in cites),
        depth=1 + max((o.depth for o in cites), default=0),
    )
    assert ref.is_valid_operation(late, operations, view.entries)
    after = ref.resolve(operations | {late}, view.entries)
    assert after == ref.resolve(operations, view.entries)


def _put_at(entry: RefEntry, key: bytes) -> RefOperation:
    record = record_of(entry.account, "thing")
    return RefOperation(b"\xff" * 32, ref.PUT, entry.account, record, key, entry.id)


@given(seeds, st.randoms(use_true_random=False))
def test_a_fork_before_a_recovery_signed_entry_moves_nothing(seed: int, rng: random.Random) -> None:
    entries = view_of(world_of(seed)).entries
    trunk = ref.trunk(entries)
    places = [
        (n, one)
        for n, one in enumerate(trunk[:-1])
        if any(e.signer == ref.state_at(one, entries).recovery for e in trunk[n + 1 :])
    ]
    assume(places)
    _, place = rng.choice(places)
    root = ref.state_at(place, entries).root
    fork = RefEntry(b"f", ref.ADD_KEY, place.account, place.id, root, b"new", capabilities=1)
    assert ref.is_valid_entry(fork, entries)
    assert ref.trunk(entries | {fork}) == trunk


@dataclass(frozen=True)
class Growth:
    """What was known before, and then more of it, of one account and its first record."""

    before: View
    after: View

    @property
    def trunk_only_grew(self) -> bool:
        old, new = ref.trunk(self.before.entries), ref.trunk(self.after.entries)
        return not ref.is_frozen(self.before.entries) and new[: len(old)] == old


def growth(seed: int, cut: int) -> tuple[World, Growth]:
    world = world_of(seed)
    return world, Growth(view_of(world, cut % len(world.made)), view_of(world))


@given(seeds, st.integers(2, 40))
def test_dropping_lower_eras_changes_nothing_while_the_trunk_only_grows(
    seed: int, cut: int
) -> None:
    world, grown = growth(seed, max(3, cut))
    assume(grown.before.entries and grown.trunk_only_grew)
    for slug in ("thing", "other"):
        old, new = (view.of(world.record(slug)) for view in (grown.before, grown.after))
        era = grown.before.era(world.record(slug))
        left = new - pruned(old, grown.before.entries, era)
        still = {one.id for one in ref.effective_operations(new, grown.after.entries)}
        if era in still:
            left = ref.valid_operations(left, grown.after.entries)
            after = ref.resolve(left, grown.after.entries)
            assert shown(after) == shown(ref.resolve(new, grown.after.entries))


def pruned(operations: ref.Operations, entries: ref.Entries, era: bytes) -> ref.Operations:
    """The operations of the eras below this one, their checkpoints among them."""
    checkpoints = {
        (ref.epoch(one, entries), one.number, one.id)
        for one in operations
        if one.type == ref.CHECKPOINT
    }
    mine = [one for one in checkpoints if one[2] == era]
    below = {one[2] for one in checkpoints if mine and one < mine[0]} | ({b""} if mine else set())
    return frozenset(one for one in operations if ref.era_of(one) in below)


def shown(state: ref.RefState | None) -> object:
    return state and replace(state, effective=frozenset())


@given(seeds, st.integers(2, 40))
def test_nothing_revealed_later_undoes_what_the_root_endorsed(seed: int, cut: int) -> None:
    """While the root stays, and its trunk only grows; a checkpoint may supersede all of an era."""
    world, grown = growth(seed, max(3, cut))
    assume(grown.before.entries and grown.trunk_only_grew)
    before, after = grown.before, grown.after
    if ref.account_now(before.entries).root != ref.account_now(after.entries).root:
        return
    for slug in ("thing", "other"):
        old, new = before.of(world.record(slug)), after.of(world.record(slug))
        safe = {o for o in old if ref.endorsed(o, old, before.entries) and o.type < 5}
        state = ref.resolve(new, after.entries)
        assert {o.id for o in safe} <= (state.effective if state else set())
        if state is None:
            continue
        tops = {o for o in new if o.id in {state.winner, *state.conflicts, *state.heads}}
        below = {o.id for o in tops}.union(*(ref.past(o, new) for o in tops))
        assert {o.id for o in safe if ref.era_of(o) == state.era} <= below


# How dead keys, and keys on dead branches, might come back, and do not


def test_a_dead_key_does_not_come_back_through_a_living_delegate(story: Story) -> None:
    """An evaluator cites a backdated put; then the root edits the card, as honest as can be."""
    both = story.add(EVE, story.add(BOB, "genesis"), ref.EVALUATOR)
    story.put("honest", both)
    gone = story.revoke(BOB, both)
    story.put("backdated", both, "honest", by=BOB)
    story.card("bridge", gone, "backdated", by=EVE, card=RefCard(evals=frozenset({EVE})))
    assert (story.winner, story.heads) == ("honest", ["bridge"])
    story.card("root's card", gone, "bridge")
    assert story.winner == "honest"


def test_a_revoked_put_stays_void_when_the_root_edits_what_was_built_on_it(story: Story) -> None:
    """Nobody but the thief is dishonest: the editor built on what then showed."""
    both = story.add(EVE, story.add(BOB, "genesis"), ref.EDITOR)
    story.put("honest", both)
    story.put("thief's", both, "honest", by=BOB)
    story.card("editor's", both, "thief's", by=EVE)
    gone = story.revoke(BOB, both, keep=("honest",))
    assert story.winner == "honest"
    story.card("root's card", gone, "editor's")
    assert story.winner == "honest"


def test_a_dead_key_does_not_come_back_when_its_bridge_is_kept(story: Story) -> None:
    """The evaluator who cites the backdated put leaves, and the owner keeps what it wrote."""
    both = story.add(EVE, story.add(BOB, "genesis"), ref.EVALUATOR)
    story.put("honest", both)
    gone = story.revoke(BOB, both)
    story.put("backdated", both, "honest", by=BOB)
    story.card("bridge", both, "backdated", by=EVE, card=RefCard(evals=frozenset({EVE})))
    left = story.revoke(EVE, gone, keep=("bridge",))
    assert (story.winner, story.heads) == ("honest", ["bridge"])
    story.card("root's card", left, "bridge")
    assert story.winner == "honest"


def test_a_grant_on_a_lost_branch_does_not_come_back_through_its_own_delegate(
    story: Story,
) -> None:
    """A leaked retired root makes an evaluator a maintainer, on a branch that loses at once."""
    new = story.rotate(b"root 2", "genesis", by=RECOVERY)
    added = story.entry("evaluator", ref.ADD_KEY, new, by=b"root 2", key=BOB, capabilities=4)
    story.put("honest", added, by=b"root 2")
    lost = story.entry("maintainer", ref.ADD_KEY, "genesis", key=BOB, capabilities=1)
    assert not story.frozen
    story.put("bob's", lost, "honest", by=BOB)
    assert story.is_valid("bob's")
    story.card("bridge", added, "bob's", by=BOB, card=RefCard(evals=frozenset({BOB})))
    story.card("root's card", added, "bridge", by=b"root 2")
    assert story.winner == "honest"


@given(seeds, st.integers(2, 40))
def test_what_is_void_comes_back_only_by_name(seed: int, cut: int) -> None:
    """While the trunk only grows, the root must mean it, or not know yet that the key is over."""
    world, grown = growth(seed, max(3, cut))
    before, after = grown.before, grown.after
    if not (before.entries and grown.trunk_only_grew) or ref.is_frozen(after.entries):
        return
    for slug in ("thing", "other"):
        old, new = before.of(world.record(slug)), after.of(world.record(slug))
        void = old - ref.effective_operations(old, before.entries)
        back = void & ref.effective_operations(new, after.entries)
        assert all(is_meant(o, new - old, new, after.entries) for o in back)


def is_meant(
    o: RefOperation, later: ref.Operations, operations: ref.Operations, entries: ref.Entries
) -> bool:
    """Something later by the root names it, is unaware of its end, or was to be kept."""
    ending = ref.account_now(entries).ended_by.get(o.key)
    if ending is not None and any(one.id in ending.keep for one in later):
        return True
    for r in later:
        if not ref.endorses(r, entries):
            continue
        path = ref.path(ref.entry_of(r, entries), entries)
        if o.id in ref.past(r, operations) and ending is not None and ending not in path:
            return True
        for q in operations:
            was_root = q.key == ref.state_at(ref.entry_of(q, entries), entries).root
            carries = o.id in ref.past(q, operations) and (was_root or q.key == o.key)
            if q.id in r.predecessors and (q == o or carries):
                return True
    return False


# What a fork may not undo


def test_a_fork_does_not_undo_a_delegate_added_behind_it(story: Story) -> None:
    added = story.add(BOB, "genesis")
    story.put("bob's", added, by=BOB)
    story.add(EVE, "genesis")
    assert story.frozen
    assert story.winner == "bob's"


def test_a_fork_does_not_undo_a_rotation_behind_it(story: Story) -> None:
    """Two recovery-signed branches: nothing that was granted on either stops working."""
    new = story.rotate(b"root 2", "genesis", by=RECOVERY)
    story.put("new root's", new, by=b"root 2")
    story.adopt("genesis")
    assert story.frozen
    assert story.winner == "new root's"


@given(seeds, st.randoms(use_true_random=False))
def test_a_fork_on_the_trunk_undoes_nothing(seed: int, rng: random.Random) -> None:
    view = view_of(world_of(seed))
    place = rng.choice(ref.trunk(view.entries))
    root = ref.state_at(place, view.entries).root
    fork = RefEntry(b"f", ref.ADD_KEY, place.account, place.id, root, b"new", capabilities=1)
    after = view.entries | {fork}
    for record in sorted({one.record for one in view.operations}):
        operations = view.of(record)
        was = ref.effective_operations(operations, view.entries)
        assert was <= ref.effective_operations(operations, after)


def test_what_was_dropped_is_wanted_again_when_a_fork_shows(story: Story) -> None:
    """Epochs fall back at a fork, so a lower era can rise though the checkpoint still counts."""
    story.checkpoint("c9", "genesis", 9)
    new = story.rotate(b"root 2", "genesis", keep=("c9",))
    story.checkpoint("c1", new, 1, by=b"root 2")
    dropped = pruned(story.valid, story.valid_entries, b"c1")
    assert {one.id for one in dropped} == {b"c9"}
    story.adopt("genesis")
    assert "c1" in story.effective
    assert story.state
    assert story.state.era == b"c9"
    assert ref.resolve(story.valid - dropped, story.valid_entries) != story.state
