"""Worlds with real card edits in them, and with as much of one attack as is wanted.

`schedules.py` plays what `attacks.py` draws; here is the same with three moves more, weights of
one's own, and a look at the cards. `test_planted.py` plays these until a planted bug is caught.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import msgpack  # noqa: TID251 - to spell what `crdt.wire` never would

from crdt import Item, RemoteFault, encode, pack_item, seal, unpack_item
from crdt.items import ItemKind
from node.storage.memory import MemoryDisk
from tests.crdt import reference as ref
from tests.crdt.replicas import accept
from tests.sim import worlds
from tests.sim.attacks import MOVES, Move, all_of, old_heads
from tests.sim.edits import Editors, cards_on, check_cards, check_equal_cards
from tests.sim.press import Print, key_of
from tests.sim.schedules import Node, Schedule, new_replica
from tests.sim.worlds import SLUGS, World, ends_in_text, newest_head

ITEM_COUNT_MAX = 26


@dataclass
class EditedWorld(World):
    """A world with people who edit cards, at desks that hear of the rest now and then."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.editors = Editors(self)
        self.desks: list[Node] = []
        for number in range(3):
            disk = MemoryDisk(b"desk %010d" % number + b"\0")
            self.desks.append(Node(f"desk {number}", disk, new_replica(disk)))

    def bring(self, desk: Node) -> None:
        """Bring a desk all that is not withheld."""
        items = [one.item for one in self.made if one.what and not one.withheld]
        accept(desk.replica, *items)  # type: ignore[arg-type]

    def edit_at(self, desk: Node, slug: str, *, only: str | None = None) -> bool:
        made = self.editors.edit(desk.disk, slug, only=only)
        if made is None:
            return False
        accept(desk.replica, self.made[-1].item)  # type: ignore[arg-type]
        return True


def edit(world: World) -> bool:
    """Somebody edits at a desk, perhaps one that has not heard of the latest."""
    assert isinstance(world, EditedWorld)
    desk = world.rng.choice(world.desks)
    if not desk.disk.items or world.rng.random() < 0.4:
        world.bring(desk)
    return world.edit_at(desk, world.pick_slug())


def strand(world: World) -> bool:
    """One delegate edits in the text of another, who is then revoked with nothing kept."""
    assert isinstance(world, EditedWorld)
    view = world.look(may_lag=False)
    root = world.names[ref.account_now(view.entries).root]
    if root not in world.held or ref.is_frozen(view.entries):
        return False
    names = [world.new_key("delegate", honest=True) for _ in range(2)]
    for name in names:
        head = newest_head(world.look(may_lag=False))
        world.enter(ref.ADD_KEY, head, root, name, capabilities=ref.EDITOR, honest=True)
    for name in (names[0], names[0], names[1], names[1]):
        world.bring(world.desks[0])
        world.edit_at(world.desks[0], SLUGS[0], only=name)
    head = newest_head(world.look(may_lag=False))
    world.enter(ref.REVOKE, head, root, names[0], honest=True)
    return True


def other_body(world: World) -> bool:
    """A signed write with another body of the same length."""
    items = [one.item for one in world.made if one.item is not None and one.what is not None]
    bodies = [item for item in items if item.body]
    if bodies:
        item = world.rng.choice(bodies)
        body = bytes([item.body[0] ^ 1]) + item.body[1:]
        world.spoil(b"another body", pack_item(ItemKind.OPERATION, item.signed, body))
    return bool(bodies)


def respell(world: World) -> bool:
    """The same item in other bytes: an integer or a length that is longer than it need be."""
    items = [one.item for one in world.made if one.item is not None and one.what is not None]
    item = world.rng.choice(items)
    raw = item.raw
    assert raw[:2] == b"\x95\x00"  # five fields, version 0
    choice = world.rng.randrange(3)
    if choice == 0:
        spelt = b"\xdc\x00\x05" + raw[1:]
    elif choice == 1:
        spelt = raw[:1] + b"\xcc\x00" + raw[2:]
    else:
        spelt = raw[:2] + b"\xcd\x00" + raw[2:]
    other = Item(item.kind, item.id, item.signed, item.body, spelt)
    world.spoil(b"respelt", other)
    return True


def squat_by_id(world: World) -> bool:
    """Another account signs a write to a record of ours, which it calls by our record's id."""
    fields = _fresh_put(world, account=world.mallory, signer="mallory")
    fields[4] = world.record(SLUGS[0])
    _spoil_signed(world, encode(fields), "mallory")
    return True


def loosely_spelt(world: World) -> bool:
    """The root signs content that is not canonical: a second spelling of one write."""
    fields = _fresh_put(world, account=world.account, signer="root")
    content = encode(fields)
    assert content[:3] == b"\xdc\x00\x10"  # 16 fields
    _spoil_signed(world, b"\xdd\x00\x00" + content[1:], "root")
    return True


def refer_sideways(world: World) -> bool:
    """The root's card refers to text that is there, of the same era, and not in its past."""
    view = world.look(may_lag=False)
    root = world.names[ref.account_now(view.entries).root]
    own = [one for one in all_of(world, SLUGS[0]) if ref.era_of(one) == ref.FIRST_ERA]
    chances = [
        (text, cited)
        for text in own
        for cited in own
        if ends_in_text(text)
        and text.type in {ref.PUT, ref.CARD}
        and text.id not in ref.past(cited, view.operations) | {cited.id}
    ]
    if chances:
        text, cited = world.rng.choice(chances)
        world.write_card(root, newest_head(view), (cited,), plain=True, refer_to=text)
    return bool(chances)


def unknown_by_root(world: World) -> bool:
    """The root signs something from the future on whatever is there, void or not."""
    cites = old_heads(world, SLUGS[0], ref.FIRST_ERA)
    view = world.look(may_lag=False)
    root = world.names[ref.account_now(view.entries).root]
    if cites:
        world.operate(6, root, newest_head(view), cites, body=b"from the future")
    return bool(cites)


def malformed(world: World) -> bool:
    """The root signs a write with one field that no such write has."""
    fields = _fresh_put(world, account=world.account, signer="root")
    place = world.rng.choice(sorted(BAD_FIELDS))
    fields[place] = world.rng.choice(BAD_FIELDS[place])
    _spoil_signed(world, msgpack.packb(fields), "root")
    return True


def _fresh_put(world: World, *, account: bytes, signer: str) -> list:
    world.stamp += 1
    _, item = world.press.operation(
        type_=ref.PUT, account=account, slug=SLUGS[0], key=signer, heads=(account,),
        era=ref.FIRST_ERA, predecessors=(), depth=1, body=b"fresh", stamp=world.stamp,
    )  # fmt: skip
    assert item is not None
    return list(msgpack.unpackb(item.signed.content))


def _spoil_signed(world: World, content: bytes, signer: str) -> None:
    item = pack_item(ItemKind.OPERATION, seal(content, key_of(signer)), b"fresh")
    world.spoil(item.id, item)


_ID = b"\7" * 32
BAD_FIELDS: Mapping[int, tuple] = {
    0: ("hansa/operations", b"hansa/operation", None),
    1: (-1, False, "0", None),
    2: (_ID, _ID[:31], "test", None),
    3: (0, 3, 255, -1, True, 1.0, None),
    4: (_ID, _ID[:31], None),
    5: ("", "A", "-a", "a" * 65, b"thing", None),
    6: (0, 256, -1, True, 1.0, None),
    7: (_ID, _ID[:31], None),
    8: (_ID, _ID[:31], "root", None),
    9: ([], [_ID, _ID], _ID, [_ID[:31]], None),
    10: (_ID[:31], None, "", [b""]),
    11: ([_ID, _ID], [_ID, b"\1" * 32], [_ID[:31]], _ID, [_ID] * 17, None),
    12: (0, 2, -1, 2**32, True, 1.0, None),
    13: (_ID, _ID[:31], None),
    14: (0, 4, 6, -1, True, None),
    15: (-1, 2**63, True, 1.0, None),
}
"""Per field of an operation, values that break check A, or check B of a first put."""
MORE_MOVES: Mapping[Move, int] = {
    respell: 2, other_body: 2, squat_by_id: 1, loosely_spelt: 1, unknown_by_root: 2, malformed: 3,
    refer_sideways: 2,
}  # fmt: skip
EDIT_WEIGHT = 25


@dataclass
class CardSchedule(Schedule):
    """A schedule that looks at the cards, too."""

    editors: Editors | None = None

    def _deliver(self, node: Node, batch: list[Item]) -> bool:
        """Deliver bytes, as the network does: what cannot be opened goes no further."""
        opened = []
        for item in batch:
            with suppress(RemoteFault):
                opened.append(unpack_item(item.raw))
        return super()._deliver(node, opened)

    def _check(self, *, everything: bool) -> None:
        super()._check(everything=everything)
        assert self.editors is not None
        cards = {node.name: self._digests(node) for node in self.nodes}
        self.counts["cards"] += sum(map(len, cards.values()))
        # In the end those that have pruned say the same as the others.
        sets = {n.name: frozenset() if everything else n.admitted
                for n in self.nodes if everything or not n.prunes}  # fmt: skip
        check_equal_cards(sets, cards)

    def _digests(self, node: Node) -> dict[bytes, bytes]:
        assert self.editors is not None
        shown = node.shown
        cards = cards_on(node.disk, shown)
        if not node.prunes:
            check_cards(self.editors, self._whole(node.admitted), shown, cards.get)
        return {record: card.digest() for record, card in cards.items() if card is not None}


def focused(seed: int, emphasis: Mapping[Move, int] | None = None) -> CardSchedule:
    """Draw a world with real edits and its deliveries; emphasis is added to the moves' weights."""
    world = EditedWorld(seed, Print())
    rng = world.rng
    weights = {**MOVES, **MORE_MOVES, edit: EDIT_WEIGHT, strand: 2}
    for move, more in (emphasis or {}).items():
        weights[move] = weights.get(move, 0) + more
    for move in (worlds.put, edit):
        make(world, move)
    for _ in range(rng.randint(6, 22)):
        if len(world.made) < ITEM_COUNT_MAX:
            make(world, rng.choices(list(weights), list(weights.values()))[0])
    return _delivered(seed, world)


def make(world: World, move: Move) -> None:
    """Make a move, and note it if there was something to do."""
    before = len(world.made)
    if move(world):
        world.moves.append(f"{move.__name__} x{len(world.made) - before}")


def _delivered(seed: int, world: EditedWorld) -> CardSchedule:
    rng = random.Random(f"focused {seed}")
    nodes = []
    for number in range(3):
        disk = MemoryDisk(b"epoch %09d" % number + b"\0")
        nodes.append(Node(f"n{number}", disk, new_replica(disk)))
    nodes[-1].prunes = rng.random() < 0.4
    return CardSchedule(seed, world, rng, nodes, editors=world.editors)
