"""What the root signs so that good operations outlive the key that made them."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from crdt import (
    Account,
    Capability,
    Entry,
    EntryType,
    Item,
    ItemId,
    Operation,
    OperationId,
    OperationType,
    RecordKind,
    SigningKey,
    head_to_cite,
    make_entry,
    make_operation,
    maximal,
    open_entry,
    open_genesis,
    parse_operation,
    plan_endorsement,
    resolved,
    sign_endorsement,
    split_keep,
    taken_away,
)
from tests.crdt.replicas import accept, new_replica, statuses
from tests.writers import NETWORK, NOW_S, Writer, key_of

RECOVERY = key_of("anna recovery")


@dataclass
class World:
    """One account and one record of it, with whatever is signed."""

    writer: Writer = field(default_factory=lambda: Writer("anna"))
    items: list[Item] = field(default_factory=list)
    entries: list[Item] = field(default_factory=list)
    operations: dict[OperationId, Operation] = field(default_factory=dict)
    bodies: dict[OperationId, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.account: Account = open_genesis(self.writer.genesis, NETWORK)
        self.items.append(self.writer.genesis)

    def entry(self, type_: EntryType, signer: SigningKey, **changes: object) -> Account:
        """Sign an entry on the trunk's end (or `on`) and return the account with it."""
        on = changes.pop("on", self.account.trunk[-1].id)
        item = make_entry(
            network=NETWORK, type=type_, account=self.account.id, predecessor=on, signer=signer,
            **changes,
        )  # fmt: skip
        entry: Entry = open_entry(item, NETWORK)
        self.account.check(entry)
        self.account = self.account.joined(entry)
        self.items.append(item)
        return self.account

    def grant(self, key: SigningKey, role: Capability = Capability.MAINTAINER) -> Account:
        return self.entry(EntryType.ADD_KEY, self.writer.key, key=key.public, capabilities=role)

    def write(
        self, key: SigningKey, *cites: OperationId, body: bytes = b"facts",
        head: ItemId | None = None, type_: OperationType = OperationType.PUT,
    ) -> OperationId:  # fmt: skip
        item = make_operation(
            network=NETWORK, kind=RecordKind.MODEL, slug="thing", type=type_,
            account=self.account.id, key=key,
            account_heads=(head or self.account.trunk[-1].id,), predecessors=cites,
            depth=1 + max((self.operations[one].depth for one in cites), default=0),
            body=body, timestamp_s=NOW_S,
        )  # fmt: skip
        return self.take(item)

    def take(self, item: Item) -> OperationId:
        operation = parse_operation(item, NETWORK)
        self.operations[operation.id] = operation
        self.bodies[operation.id] = item.body
        self.items.append(item)
        return operation.id

    def endorse(self, wanted: set[OperationId], root: SigningKey) -> frozenset[OperationId]:
        """Plan, sign and take an endorsement; returns what it says it saves."""
        plan = plan_endorsement(self.operations, self.bodies.__getitem__, self.account, wanted)
        assert plan is not None
        made = sign_endorsement(
            plan, network=NETWORK, account=self.account.id, head=self.account.trunk[-1].id,
            key=root, timestamp_s=NOW_S,
        )  # fmt: skip
        for item in made:
            self.take(item)
        return plan.saved

    @property
    def effective(self) -> frozenset[OperationId]:
        return resolved(self.operations, self.account).effective

    def body(self) -> bytes:
        winner = resolved(self.operations, self.account).register.winner
        assert winner is not None
        return self.bodies[winner]


def rotated(world: World) -> SigningKey:
    root = key_of("the next root")
    world.entry(EntryType.ROTATE_ROOT, RECOVERY, key=root.public)
    return root


def test_a_rotation_is_survived_by_what_the_new_root_endorses() -> None:
    world = World()
    first = world.write(world.writer.key, body=b"one")
    second = world.write(world.writer.key, first, body=b"two")
    before = world.account
    root = rotated(world)
    assert taken_away(world.operations, before, world.account) == {first, second}
    assert world.effective == frozenset()
    assert world.endorse({first, second}, root) == {first, second}
    assert world.body() == b"two"
    assert {first, second} < world.effective


def test_what_a_thief_dates_back_afterwards_stays_void() -> None:
    world = World()
    first = world.write(world.writer.key, body=b"one")
    root = rotated(world)
    world.endorse({first}, root)
    stolen = world.write(world.writer.key, first, body=b"stolen", head=world.account.entries[0].id)
    assert stolen not in world.effective
    assert world.body() == b"one"


def test_what_is_left_out_is_void_and_its_rival_shows() -> None:
    world = World()
    first = world.write(world.writer.key, body=b"one")
    good = world.write(world.writer.key, first, body=b"good")
    theft = world.write(world.writer.key, first, body=b"theft")
    root = rotated(world)
    world.endorse({first, good}, root)
    assert theft not in world.effective
    assert world.body() == b"good"
    assert resolved(world.operations, world.account).register.conflicts == ()


def test_what_is_wanted_keeps_what_it_was_built_on() -> None:
    world = World()
    first = world.write(world.writer.key, body=b"one")
    theft = world.write(world.writer.key, first, body=b"theft")
    good = world.write(world.writer.key, theft, body=b"good")
    root = rotated(world)
    assert world.endorse({first, good}, root) == {first, theft, good}
    assert world.body() == b"good"


def test_a_deleted_record_stays_deleted() -> None:
    world = World()
    first = world.write(world.writer.key)
    gone = world.write(world.writer.key, first, body=b"", type_=OperationType.DELETE)
    root = rotated(world)
    world.endorse({first, gone}, root)
    assert resolved(world.operations, world.account).register.deleted


def test_what_an_older_root_had_kept_of_a_revoked_key_survives_the_next_rotation() -> None:
    world, editor = World(), key_of("the delegate")
    first = world.write(world.writer.key, body=b"one")
    world.grant(editor)
    theirs = world.write(editor, first, body=b"theirs")
    world.entry(EntryType.REVOKE, world.writer.key, key=editor.public)
    world.endorse({theirs}, world.writer.key)
    last = world.write(world.writer.key, *resolved(world.operations, world.account).register.heads)
    everything = set(world.operations)
    root = rotated(world)
    world.endorse(everything, root)
    assert everything < world.effective
    assert last in world.effective


def test_more_heads_than_one_operation_cites_are_chained() -> None:
    world, delegate = World(), key_of("the delegate")
    first = world.write(world.writer.key)
    world.grant(delegate)
    heads = {world.write(delegate, first, body=b"%d" % n) for n in range(40)}
    before = len(world.operations)
    world.entry(EntryType.REVOKE, world.writer.key, key=delegate.public)
    world.endorse(heads, world.writer.key)
    assert len(world.operations) - before == 3
    assert all(len(one.predecessors) <= 16 for one in world.operations.values())
    assert heads < world.effective
    register = resolved(world.operations, world.account).register
    assert len(register.heads) == 1


def test_a_record_that_shows_nothing_cannot_be_endorsed() -> None:
    world = World()
    world.write(world.writer.key)
    rotated(world)
    assert (
        plan_endorsement(world.operations, world.bodies.__getitem__, world.account, set()) is None
    )


def test_every_signed_plan_is_valid_for_a_replica() -> None:
    world, delegate = World(), key_of("the delegate")
    first = world.write(world.writer.key, body=b"one")
    world.grant(delegate)
    heads = {world.write(delegate, first, body=b"%d" % n) for n in range(20)}
    root = rotated(world)
    world.endorse({first, *heads}, root)
    assert set(statuses(accept(new_replica(), *world.items))) == {"new"}


def test_keep_takes_whole_records_and_the_small_ones_first() -> None:
    heads = {
        b"a" * 32: [bytes([n]) * 32 for n in range(3)],
        b"b" * 32: [bytes([10]) * 32],
        b"c" * 32: [bytes([20 + n]) * 32 for n in range(2)],
    }
    keep, left = split_keep(heads, count_max=4)
    assert keep == (bytes([10]) * 32, bytes([20]) * 32, bytes([21]) * 32)
    assert left == (b"a" * 32,)


def test_a_key_cites_the_trunks_end_while_it_may_write_there() -> None:
    world, delegate = World(), key_of("the delegate")
    record = world.writer.record()
    genesis = world.account.trunk[-1].id
    assert head_to_cite(world.account, delegate.public, Capability.EDITOR, record) is None
    account = world.grant(delegate)
    end = account.trunk[-1].id
    assert head_to_cite(account, delegate.public, Capability.MAINTAINER, record) == end
    account = world.entry(EntryType.REVOKE, world.writer.key, key=delegate.public)
    assert head_to_cite(account, delegate.public, Capability.MAINTAINER, record) is None
    assert head_to_cite(account, world.writer.key.public, Capability.MAINTAINER, record) != genesis


def test_a_writer_that_can_tell_cites_the_last_entry_it_trusts() -> None:
    world = World()
    record, genesis = world.writer.record(), world.account.trunk[-1].id
    world.grant(key_of("a thief's"))
    root = world.writer.key.public
    account = world.account
    assert head_to_cite(account, root, Capability.MAINTAINER, record, trusted={genesis}) == genesis
    end = account.trunk[-1].id
    assert head_to_cite(account, root, Capability.MAINTAINER, record, trusted=set()) == end


def test_behind_a_fork_a_delegate_cites_the_entry_that_granted_it() -> None:
    world, one, other = World(), key_of("one"), key_of("other")
    record = world.writer.record()
    genesis = world.account.trunk[-1].id
    for key in (one, other):
        world.entry(
            EntryType.ADD_KEY, world.writer.key, key=key.public, on=genesis,
            capabilities=Capability.EDITOR,
        )  # fmt: skip
    account = world.account
    assert account.frozen
    found = head_to_cite(account, one.public, Capability.EDITOR, record)
    assert found is not None
    assert one.public in account.states[found].delegates
    assert head_to_cite(account, world.writer.key.public, Capability.MAINTAINER, record) == genesis


@given(st.data())
def test_a_rotation_that_endorses_what_was_effective_changes_nothing_that_shows(
    data: st.DataObject,
) -> None:
    world, delegate = World(), key_of("the delegate")
    keys = [world.writer.key, delegate]
    world.write(world.writer.key, body=b"0")
    world.grant(delegate)
    revoke_at = data.draw(st.integers(1, 12))
    for n in range(1, data.draw(st.integers(1, 12))):
        if n == revoke_at:
            world.entry(EntryType.REVOKE, world.writer.key, key=delegate.public)
        known = sorted(world.operations)
        cites = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True))
        key = world.writer.key if n >= revoke_at else data.draw(st.sampled_from(keys))
        world.write(key, *cites, body=b"%d" % n)
    shown = resolved(world.operations, world.account)
    expected = world.body()
    root = rotated(world)
    world.endorse(set(shown.effective), root)
    found = resolved(world.operations, world.account)
    assert shown.effective <= found.effective
    assert world.body() == expected
    assert found.register.conflicts == ()


@given(st.data())
def test_maximal_ones_are_in_nobodys_past(data: st.DataObject) -> None:
    world = World()
    world.write(world.writer.key, body=b"0")
    for n in range(1, data.draw(st.integers(1, 10))):
        cites = data.draw(
            st.lists(st.sampled_from(sorted(world.operations)), min_size=1, max_size=3, unique=True)
        )
        world.write(world.writer.key, *cites, body=b"%d" % n)
    chosen = data.draw(st.sets(st.sampled_from(sorted(world.operations)), min_size=1))
    found = maximal(chosen, world.operations)
    assert set(found) <= chosen
    assert found
