"""What thieves, liars and careless owners sign; and the drawing of whole worlds.

Each attack takes a world, adds to it, and returns whether there was something to attack.
"""

from __future__ import annotations

from collections.abc import Callable

from crdt import Item, decode, encode, pack_item, seal, sha3
from crdt.items import ItemKind
from crdt.signed import Signed
from tests.crdt import reference as ref
from tests.crdt.reference import RefEntry, RefOperation
from tests.sim import worlds
from tests.sim.press import OTHER_NETWORK, Paper, Print, key_of
from tests.sim.worlds import SLUGS, View, World, newest_head

Move = Callable[[World], bool]


MADE_MAX = 24
"""Things of one world, or a few more: it is to cost milliseconds."""


def keys_of(world: World) -> list[str]:
    """Every key that was ever on the account, on any branch."""
    keys = {key for entry in world.entries for key in ref.state_at(entry, world.entries).introduced}
    return sorted(world.names[key] for key in keys)


def ended_keys(world: World) -> list[str]:
    """Revoked delegates and retired roots, on any branch."""
    ended = {key for entry in world.entries for key in ref.state_at(entry, world.entries).ended_by}
    return sorted(world.names[key] for key in ended)


def places(world: World, signer: str, type_: int, record: bytes) -> list[RefEntry]:
    """The entries at which the account lets (or let) a key do this."""
    probe = RefOperation(b"", type_, world.account, record, _key(signer), b"", card=ref.RefCard())
    return sorted(
        (e for e in world.entries if ref.is_allowed(probe, ref.state_at(e, world.entries))),
        key=lambda e: e.id,
    )


def _key(name: str) -> bytes:
    return key_of(name).public


def all_of(world: World, slug: str) -> list[RefOperation]:
    view = world.look(may_lag=False)
    return sorted(view.of(world.record(slug)), key=lambda o: o.id)


def old_heads(world: World, slug: str, era: bytes) -> tuple[RefOperation, ...]:
    """Up to three operations of an era, from anywhere in its history."""
    found = [one for one in all_of(world, slug) if ref.era_of(one) == era]
    count = min(len(found), world.rng.randint(0, 3))
    return tuple(world.rng.sample(found, count))


def any_signature(world: World, key: str | None = None, **options: object) -> bool:
    """A stolen key signs something it may (or might) at some old account entry."""
    rng = world.rng
    slug = world.pick_slug()
    record = world.record(slug)
    type_ = rng.choice((ref.PUT, ref.PUT, ref.CARD, ref.DELETE, ref.CHECKPOINT))
    names = [key] if key else keys_of(world)
    chances = [(n, e) for n in names for e in places(world, n, type_, record)]
    if not chances:
        return False
    name, place = rng.choice(chances)
    eras = sorted({ref.era_of(one) for one in all_of(world, slug)} | {ref.FIRST_ERA})
    cites = old_heads(world, slug, rng.choice(eras))
    if type_ == ref.CHECKPOINT:
        world.write_checkpoint(
            name,
            place.id,
            slug=slug,
            number=rng.choice((1, 2, 3, 2**31)),
            has_facts=rng.random() < 0.7,
            **options,
        )
    elif not cites and type_ != ref.PUT:
        return False
    elif type_ == ref.CARD:
        grant = ref.state_at(place, world.entries).delegates.get(_key(name))
        plain = grant is None or grant.capabilities != ref.EVALUATOR
        texts = [one for one in cites if worlds.ends_in_text(one)]
        refer_to = texts[0] if texts else None
        world.write_card(
            name, place.id, cites, plain=plain, slug=slug, refer_to=refer_to, **options
        )
    else:
        world.operate(type_, name, place.id, cites, slug=slug, **options)
    return True


def steal(world: World) -> bool:
    """Any key, at any entry where it had a right."""
    return any_signature(world)


def backdate(world: World) -> bool:
    """A key that is over signs as if it were long ago."""
    ended = ended_keys(world)
    return bool(ended) and any_signature(world, world.rng.choice(ended))


def bridge(world: World) -> bool:
    """A key that still counts builds on a backdated operation, and then the root on that."""
    ended = ended_keys(world)
    if not ended or not any_signature(world, world.rng.choice(ended)):
        return False
    bait = world.made[-1].what
    assert isinstance(bait, RefOperation)
    slug = next(slug for slug in SLUGS if world.record(slug) == bait.record)
    now = ref.account_now(world.entries)
    helpers = [world.names[key] for key in sorted(now.delegates)]
    if not helpers:
        return True
    view = world.look(may_lag=False)
    if bait not in view.operations:
        return True
    name = world.rng.choice(helpers)
    world.write_card(name, newest_head(view), (bait,), plain=False, slug=slug)
    worlds.write(world, world.rng.choice((ref.CARD, ref.PUT)), slug=slug)
    return True


def kept_bridge(world: World) -> bool:
    """A delegate builds on an ended key's operation, at an old entry; then it goes, and is kept.

    Then the root writes on what was kept.
    """
    now = ref.account_now(world.entries)
    delegates = [world.names[key] for key in sorted(now.delegates)]
    ended = ended_keys(world)
    slug = SLUGS[0]
    if not ended or not delegates or not any_signature(world, world.rng.choice(ended)):
        return False
    bait = world.made[-1].what
    assert isinstance(bait, RefOperation)
    name = world.rng.choice(delegates)
    there = places(world, name, ref.CARD, bait.record)
    if not there or bait not in world.look(may_lag=False).operations:
        return True
    place = world.rng.choice(there)
    slug = next(slug for slug in SLUGS if world.record(slug) == bait.record)
    bridge = world.write_card(name, place.id, (bait,), plain=False, slug=slug)
    root = world.names[now.root]
    if root in world.held:
        head = newest_head(world.look(may_lag=False))
        world.enter(ref.REVOKE, head, root, name, keep=frozenset({bridge.id}), honest=True)
        worlds.write(world, ref.CARD, signer=root, slug=slug)
    return True


def lost_grant(world: World) -> bool:
    """A root, perhaps a retired one, grants a present delegate more on a branch that may lose.

    The delegate uses it, and builds on that where its real grant is; then the root writes.
    """
    rng = world.rng
    view = world.look(may_lag=False)
    now = ref.account_now(view.entries)
    chances = [
        (key, entry)
        for key in sorted(now.delegates)
        for entry in sorted(view.entries, key=lambda e: e.id)
        if key not in ref.state_at(entry, view.entries).introduced
    ]
    if not chances:
        return False
    key, entry = rng.choice(chances)
    name = world.names[key]
    root = world.names[ref.state_at(entry, view.entries).root]
    more = world.enter(ref.ADD_KEY, entry.id, root, name, capabilities=7)
    cites = view.heads(world.record(SLUGS[0]))
    if not cites:
        return True
    bait = world.operate(ref.PUT, name, more.id, cites)
    world.write_card(name, newest_head(view), (bait,), plain=False)
    worlds.write(world, rng.choice((ref.CARD, ref.PUT)), signer=world.names[now.root],
                 slug=SLUGS[0])  # fmt: skip
    return True


def equivocate(world: World) -> bool:
    """Two or three writes by one key on the same heads."""
    view = world.look(may_lag=False)
    slug = world.pick_slug()
    type_ = world.rng.choice((ref.PUT, ref.CARD, ref.DELETE))
    signers = worlds.who_may(world, view, ref.PUT, world.record(slug))
    cites = view.heads(world.record(slug))
    if not signers or not cites:
        return False
    signer = world.rng.choice(signers)
    for _ in range(world.rng.randint(2, 3)):
        if type_ == ref.CARD:
            world.write_card(signer, newest_head(view), cites, plain=True, slug=slug)
        else:
            world.operate(type_, signer, newest_head(view), cites, slug=slug)
    return True


def withhold(world: World) -> bool:
    """Cite what is delivered last, or never."""
    view = world.look(may_lag=False)
    slug = world.pick_slug()
    cites = view.heads(world.record(slug))
    signers = [world.names[ref.account_now(view.entries).root]]
    signers += worlds.who_may(world, view, ref.PUT, world.record(slug))
    if not cites and view.era(world.record(slug)) != ref.FIRST_ERA:
        return False
    when = world.rng.choice(("late", "never"))
    signer = world.rng.choice(signers)
    head = newest_head(view)
    hidden = world.operate(ref.PUT, signer, head, cites, slug=slug, withheld=when)
    for _ in range(world.rng.randint(1, 2)):
        # Their causes are not seen by anybody yet, so they are marked as the hidden one is.
        later = "late" if when == "late" else ""
        hidden = world.operate(ref.PUT, signer, head, (hidden, *cites[:3]), slug=slug,
                               withheld=later)  # fmt: skip
    return True


def inflate(world: World) -> bool:
    """A false depth, or a long true chain."""
    view = world.look(may_lag=False)
    slug = world.pick_slug()
    cites = view.heads(world.record(slug))
    signers = worlds.who_may(world, view, ref.PUT, world.record(slug))
    if not signers or not cites:
        return False
    signer = world.rng.choice(signers)
    head = newest_head(view)
    if world.rng.random() < 0.5:
        depth = world.rng.choice((0, 1, cites[0].depth, cites[0].depth + 2, 2**32 - 1))
        world.operate(ref.PUT, signer, head, cites, slug=slug, depth=depth)
        return True
    tip = world.rng.choice(cites)
    for _ in range(world.rng.randint(2, 4)):
        tip = world.operate(ref.PUT, signer, head, (tip,), slug=slug)
    return True


def wrong_era(world: World) -> bool:
    """Claim an era that is not the predecessors', or mix two."""
    slug = world.pick_slug()
    found = all_of(world, slug)
    if not found:
        return False
    root = world.names[ref.account_now(world.entries).root]
    head = newest_head(world.look(may_lag=False))
    one = world.rng.choice(found)
    eras = [ref.FIRST_ERA, sha3(b"nowhere"), *(ref.era_of(other) for other in found)]
    cites = (one,)
    if world.rng.random() < 0.3:
        cites = tuple({one, world.rng.choice(found)})
    era = world.rng.choice(eras)
    world.operate(ref.PUT, root, head, cites, slug=slug, era=era)
    return True


def grind(world: World) -> bool:
    """Many variants of one write, for the greatest id."""
    view = world.look(may_lag=False)
    slug = world.pick_slug()
    signers = worlds.who_may(world, view, ref.PUT, world.record(slug))
    cites = view.heads(world.record(slug))
    if not signers or not cites:
        return False
    type_ = world.rng.choice((ref.PUT, ref.DELETE))
    signer = world.rng.choice(signers)
    world.operate(type_, signer, newest_head(view), cites, slug=slug, grind=8)
    return True


def squat(world: World) -> bool:
    """Another account's key writes to a record of this one."""
    head = world.rng.choice((world.account, world.mallory))
    world.operate(ref.PUT, "mallory", head, old_heads(world, SLUGS[0], ref.FIRST_ERA))
    return True


def own_record(world: World) -> bool:
    """Another account writes its own record, with operations of ours among its predecessors."""
    cites = old_heads(world, SLUGS[0], ref.FIRST_ERA) if world.rng.random() < 0.6 else ()
    world.operate(ref.PUT, "mallory", world.mallory, cites, account=world.mallory)
    return True


def replay(world: World) -> bool:
    """The same signature, moved to another record, network or body."""
    items = [m.item for m in world.made if isinstance(m.what, RefOperation) and m.item]
    if not items:
        return isinstance(world.press, Paper)
    item = world.rng.choice(items)
    choice = world.rng.randrange(3)
    if choice == 0:
        options = {"era": ref.FIRST_ERA, "predecessors": (), "depth": 1, "body": b"other net"}
        id_, other = world.press.operation(
            type_=ref.PUT, account=world.account, slug=SLUGS[0], key="root",
            heads=(world.account,), stamp=world.stamp, network=OTHER_NETWORK, **options,
        )  # fmt: skip
        world.spoil(id_, other)
    elif choice == 1:
        fields = list(_fields(item))
        fields[5] = SLUGS[1] if fields[5] == SLUGS[0] else SLUGS[0]
        fields[4] = world.record(fields[5])
        moved = pack_item(ItemKind.OPERATION, Signed(encode(fields), item.signed.signature),
                          item.body)  # fmt: skip
        world.spoil(moved.id, moved)
    else:
        body = pack_item(ItemKind.OPERATION, item.signed, item.body + b"!")
        world.spoil(b"body", body)
    return True


def two_heads(world: World) -> bool:
    """An operation that cites two account entries, or none."""
    if isinstance(world.press, Paper):
        return True
    two = (world.account, world.mallory)
    id_, item = world.press.operation(
        type_=ref.PUT, account=world.account, slug=SLUGS[0], key="root",
        heads=world.rng.choice((two, ())), era=ref.FIRST_ERA, predecessors=(), depth=1, body=b"2",
        stamp=world.stamp,
    )  # fmt: skip
    world.spoil(id_, item)
    return True


def forged(world: World) -> bool:
    """The root's name over somebody else's signature."""
    items = [m.item for m in world.made if m.item and isinstance(m.what, RefOperation)]
    if not items:
        return isinstance(world.press, Paper)
    item = world.rng.choice(items)
    fields = list(_fields(item))
    fields[15] += 1_000_000
    fake = pack_item(ItemKind.OPERATION, seal(encode(fields), key_of("nobody's")), item.body)
    world.spoil(fake.id, fake)
    return True


def _fields(item: Item) -> tuple:
    return decode(item.signed.content, bytes_max=4096)


def fork(world: World) -> bool:
    """The stolen root (or one that is retired) signs at an old entry."""
    rng = world.rng
    entries = sorted(world.entries, key=lambda e: e.id)
    place = rng.choice(entries)
    state = ref.state_at(place, world.entries)
    _hostile_entry(world, place, world.names[state.root])
    return True


def recovery_forks(world: World) -> bool:
    """A recovery key, perhaps a retired one, signs at an old entry."""
    place = world.rng.choice(sorted(world.entries, key=lambda e: e.id))
    state = ref.state_at(place, world.entries)
    recovery = world.names[state.recovery]
    if world.rng.random() < 0.6:
        world.enter(ref.ADOPT, place.id, recovery)
    else:
        _hostile_entry(world, place, recovery)
    return True


def _hostile_entry(world: World, place: RefEntry, signer: str) -> None:
    rng = world.rng
    state = ref.state_at(place, world.entries)
    choice = rng.random()
    if choice < 0.4:
        key = world.new_key("thief", honest=False)
        world.enter(ref.ADD_KEY, place.id, signer, key, capabilities=rng.choice((1, 2, 4, 7)))
    elif choice < 0.6 and state.delegates:
        key = world.names[rng.choice(sorted(state.delegates))]
        world.enter(ref.REVOKE, place.id, signer, key)
    else:  # valid only from the recovery key
        key = world.new_key("thief", honest=False)
        world.enter(ref.ROTATE_ROOT, place.id, signer, key)


def two_machines(world: World) -> bool:
    """The owner's two machines add a delegate each, on the same entry."""
    view = world.look(may_lag=False)
    root = world.names[ref.account_now(view.entries).root]
    if root not in world.held:
        return False
    for _ in range(2):
        key = world.new_key("delegate", honest=True)
        options = {"capabilities": world.rng.choice((1, 2)), "honest": True}
        world.enter(ref.ADD_KEY, newest_head(view), root, key, **options)
    return True


def bad_entry(world: World) -> bool:
    """An entry that no right covers, or that uses a key twice."""
    rng = world.rng
    place = rng.choice(sorted(world.entries, key=lambda e: e.id))
    keys = keys_of(world)
    signer = rng.choice((*keys, "mallory"))
    type_ = rng.choice((ref.ADD_KEY, ref.REVOKE, ref.ROTATE_ROOT, ref.SET_RECOVERY, ref.ADOPT))
    key = None if type_ == ref.ADOPT else rng.choice(keys)
    capabilities = 1 if type_ == ref.ADD_KEY else 0
    account = world.mallory if rng.random() < 0.2 else None
    world.enter(type_, place.id, signer, key, capabilities=capabilities, account=account)
    return True


def beyond_rights(world: World) -> bool:
    """A delegate writes what its capabilities or its scope do not hold."""
    view = world.look(may_lag=False)
    delegates = sorted(ref.account_now(view.entries).delegates)
    if not delegates:
        return False
    name = world.names[world.rng.choice(delegates)]
    slug = world.rng.choice(SLUGS)
    cites = view.heads(world.record(slug))
    type_ = world.rng.choice((ref.PUT, ref.DELETE, ref.CARD, ref.CHECKPOINT))
    head = newest_head(view)
    if type_ == ref.CHECKPOINT:
        world.write_checkpoint(name, head, slug=slug, number=9)
    elif type_ == ref.CARD and cites:
        world.write_card(name, head, cites, plain=world.rng.random() < 0.5, slug=slug)
    elif cites or type_ == ref.PUT:
        world.operate(ref.PUT if type_ == ref.CARD else type_, name, head, cites, slug=slug)
    return True


def bad_card(world: World) -> bool:
    """Text after what is not there or not in the past, or an evaluation in another's name."""
    view = world.look(may_lag=False)
    cites = view.heads(world.record(SLUGS[0]))
    signers = worlds.who_may(world, view, ref.CARD, world.record(SLUGS[0]))
    if not cites or not signers:
        return False
    name = world.rng.choice(signers)
    head = newest_head(view)
    if world.rng.random() < 0.4:
        world.write_card(name, head, cites, plain=False, owner=world.rng.choice(keys_of(world)))
        return True
    texts = [one for one in all_of(world, SLUGS[0]) if worlds.ends_in_text(one)]
    if not texts:
        return False
    world.write_card(
        name, head, cites, plain=True, refer_to=world.rng.choice(texts),
        beyond=world.rng.choice((0, 0, 1, 1000)),
    )  # fmt: skip
    return True


def twin_checkpoints(world: World) -> bool:
    """Two checkpoints of one number by the root, and a write in each era."""
    view = world.look(may_lag=False)
    root = world.names[ref.account_now(view.entries).root]
    slug = world.pick_slug()
    head = newest_head(view)
    for _ in range(2):
        opened = world.write_checkpoint(root, head, slug=slug, number=2)
        if world.rng.random() < 0.6:
            world.operate(ref.PUT, root, head, (opened,), slug=slug)
    return True


def unknown_type(world: World) -> bool:
    """Types that nobody knows yet, by anybody."""
    view = world.look(may_lag=False)
    cites = view.heads(world.record(SLUGS[0]))[:3]
    name = world.rng.choice(keys_of(world))
    type_ = world.rng.choice((5, 6, 200))
    body = b"from the future"
    odd = world.operate(type_, name, newest_head(view), cites, body=body)
    if odd in world.look(may_lag=False).operations and world.rng.random() < 0.5:
        root = world.names[ref.account_now(view.entries).root]
        world.operate(ref.PUT, root, newest_head(view), (odd,))
    return True


def flood(world: World) -> bool:
    """More heads than one write can cite."""
    view = world.look(may_lag=False)
    cites = view.heads(world.record(SLUGS[0]))[:2]
    signers = worlds.who_may(world, view, ref.PUT, world.record(SLUGS[0]))
    if not signers or not (cites or view.era(world.record(SLUGS[0])) == ref.FIRST_ERA):
        return False
    name = world.rng.choice(signers)
    for _ in range(world.rng.randint(15, 20)):
        world.operate(ref.PUT, name, newest_head(view), cites)
    return worlds.write(world, ref.PUT, slug=SLUGS[0])


def loose(world: World) -> bool:
    """A delete, card or late-era put that cites nothing; a checkpoint that cites something."""
    root = world.names[ref.account_now(world.entries).root]
    head = newest_head(world.look(may_lag=False))
    choice = world.rng.randrange(3)
    if choice == 0:
        world.operate(ref.DELETE, root, head, ())
    elif choice == 1:
        world.operate(ref.PUT, root, head, (), era=sha3(b"no such era"))
    else:
        world.write_card(root, head, (), plain=True)
    return True


MOVES: dict[Move, int] = {
    worlds.put: 14, worlds.card: 10, worlds.delete: 3, worlds.endorse: 4, worlds.checkpoint: 3,
    worlds.add_delegate: 9, worlds.revoke: 6, worlds.rotate: 5, worlds.set_recovery: 2,
    worlds.recover: 6, steal: 5, backdate: 7, bridge: 4, kept_bridge: 3, lost_grant: 3,
    equivocate: 4, withhold: 3, inflate: 2, wrong_era: 2, grind: 1, squat: 1,
    own_record: 1, replay: 2, two_heads: 1, forged: 1, fork: 5,
    recovery_forks: 2, two_machines: 2, bad_entry: 2, beyond_rights: 3, bad_card: 2,
    twin_checkpoints: 2, unknown_type: 2, flood: 1, loose: 1,
}  # fmt: skip


def draw_world(
    seed: int, press: Paper | Print, *, moves_max: int = 18, made_max: int = MADE_MAX
) -> World:
    """One world: usually an account with a delegate and a record, then whatever is drawn."""
    world = World(seed, press)
    rng = world.rng
    for move in (worlds.add_delegate, worlds.put, worlds.card):
        if rng.random() < 0.7:
            make(world, move)
    moves, weights = list(MOVES), list(MOVES.values())
    for _ in range(rng.randint(min(5, moves_max), moves_max)):
        if len(world.made) >= made_max:
            break
        make(world, rng.choices(moves, weights)[0])
    return world


def make(world: World, move: Move) -> None:
    """Make a move, and note it if it added something."""
    before = len(world.made)
    if move(world):
        world.moves.append(f"{move.__name__} x{len(world.made) - before}")


def entries_and_operations(world: World) -> View:
    """The valid part of everything that is ever delivered, by the reference."""
    delivered = [made for made in world.made if made.withheld != "never"]
    entries = ref.valid_entries(m.what for m in delivered if isinstance(m.what, RefEntry))
    operations = ref.valid_operations(
        (m.what for m in delivered if isinstance(m.what, RefOperation)), entries
    )
    return View(entries, operations)
