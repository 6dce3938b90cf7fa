"""Adversarial histories of one account: what was signed, in a causal order, drawn from a seed.

A world holds every entry and operation twice: as signed bytes, and as the small values that
`tests/crdt/reference.py` works on. Honest people follow the rules from what they have seen, which
may lag; what thieves do is in `attacks.py`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from crdt import Item
from tests.crdt import reference as ref
from tests.crdt.reference import RefCard, RefEntry, RefOperation
from tests.sim import press
from tests.sim.press import Paper, Print, public, record_of

SLUGS = ("thing", "other")
ALL_CAPABILITIES = (ref.MAINTAINER, ref.EDITOR, ref.EVALUATOR)


@dataclass(frozen=True)
class Made:
    """One thing that somebody signed.

    Attributes:
        item: Its bytes; None in a world on paper.
        what: Its meaning; None when it does not even pass check A.
        withheld: "" or when it is delivered: "late" or "never".
    """

    id: bytes
    item: Item | None
    what: RefEntry | RefOperation | None
    honest: bool
    withheld: str = ""


@dataclass(frozen=True)
class View:
    """What somebody has seen: valid entries of the account, and valid operations on it."""

    entries: ref.Entries
    operations: ref.Operations

    def of(self, record: bytes) -> ref.Operations:
        return frozenset(one for one in self.operations if one.record == record)

    def era(self, record: bytes) -> bytes:
        effectives = ref.effective_operations(self.of(record), self.entries)
        return ref.era(effectives, self.entries)

    def heads(self, record: bytes) -> tuple[RefOperation, ...]:
        return ref.cited_next(self.of(record), self.entries)


@dataclass
class World:
    """What is made so far, and who holds which key.

    Attributes:
        held: The names of the keys that honest people work with.
        endorsements: (honest operation, honest root operation that is it or vouches for it).
        moves: What was drawn, for replay.
    """

    seed: int
    press: Paper | Print
    rng: random.Random = field(init=False)
    made: list[Made] = field(default_factory=list)
    names: dict[bytes, str] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    endorsements: list[tuple[bytes, bytes]] = field(default_factory=list)
    moves: list[str] = field(default_factory=list)
    key_count: int = 0
    stamp: int = 1_800_000_000

    def __post_init__(self) -> None:
        self.rng = random.Random(f"world {self.seed}")
        self._valid: list[tuple[int, RefEntry | RefOperation]] = []
        self._valid_entries: ref.Entries = frozenset()
        self._valid_operations: ref.Operations = frozenset()
        self.account = self.found("root", "recovery")
        self.mallory = self.found("mallory", "mallory recovery")
        self.held = {"root", "recovery"}

    # What is there

    @property
    def genesis(self) -> RefEntry:
        return next(e for e in self.entries if e.type == ref.GENESIS)

    @property
    def entries(self) -> ref.Entries:
        """The account's valid entries among all that was made and not withheld."""
        return frozenset(e for e in self._valid_entries if e.account == self.account)

    def look(self, *, may_lag: bool = True) -> View:
        """What an honest person sees: everything that is not withheld, or only a first part."""
        count = len(self.made)
        if may_lag and self.rng.random() < 0.2:
            count = self.rng.randint(max(1, count - 6), count)
        seen = [what for n, what in self._valid if n < count and what.account == self.account]
        return View(
            frozenset(one for one in seen if isinstance(one, RefEntry)),
            frozenset(one for one in seen if isinstance(one, RefOperation)),
        )

    def record(self, slug: str) -> bytes:
        return record_of(self.account, slug)

    def pick_slug(self) -> str:
        return SLUGS[0] if self.rng.random() < 0.85 else SLUGS[1]

    def new_key(self, word: str, *, honest: bool) -> str:
        self.key_count += 1
        name = f"{word}{self.key_count}"
        self.names[public(name)] = name
        if honest:
            self.held.add(name)
        return name

    # Making things

    def found(self, root: str, recovery: str) -> bytes:
        for name in (root, recovery):
            self.names[public(name)] = name
        id_, item = self.press.genesis(root, recovery)
        self._add(
            id_,
            item,
            RefEntry(id_, ref.GENESIS, id_, None, public(root), public(root), public(recovery)),
            honest=True,
        )
        return id_

    def enter(
        self,
        type_: int,
        predecessor: bytes,
        signer: str,
        key: str | None = None,
        *,
        capabilities: int = 0,
        scope: frozenset[bytes] = frozenset(),
        keep: frozenset[bytes] = frozenset(),
        honest: bool = False,
        account: bytes | None = None,
    ) -> RefEntry:
        """Sign an account entry."""
        account = account or self.account
        id_, item = self.press.entry(
            type_=type_,
            account=account,
            predecessor=predecessor,
            signer=signer,
            key=key,
            capabilities=capabilities,
            scope=sorted(scope),
            keep=sorted(keep),
        )
        entry = RefEntry(
            id_,
            type_,
            account,
            predecessor,
            public(signer),
            None if key is None else public(key),
            None,
            capabilities,
            scope,
            keep,
        )
        self._add(id_, item, entry, honest=honest)
        return entry

    def operate(
        self,
        type_: int,
        signer: str,
        head: bytes,
        cites: tuple[RefOperation, ...],
        *,
        slug: str = SLUGS[0],
        era: bytes | None = None,
        depth: int | None = None,
        card: RefCard | None = None,
        body: bytes | None = None,
        length: int = 0,
        number: int = 0,
        has_facts: bool = True,
        honest: bool = False,
        withheld: str = "",
        account: bytes | None = None,
        grind: int = 1,
    ) -> RefOperation:
        """Sign an operation; `grind` variants are tried for the greatest id."""
        account = account or self.account
        if era is None:
            era = ref.era_of(cites[0]) if cites else ref.FIRST_ERA
        if depth is None:
            depth = 1 + max((one.depth for one in cites), default=0)
        if body is None:
            body = b"" if type_ == ref.DELETE else b"v%d" % self.stamp
        if type_ == ref.PUT:
            length = len(body)  # its description, in ASCII, seeds the card
        variants = []
        for _ in range(grind):
            self.stamp += 1
            variants.append(
                self.press.operation(
                    type_=type_,
                    account=account,
                    slug=slug,
                    key=signer,
                    heads=(head,),
                    era=era,
                    predecessors=tuple(sorted(one.id for one in cites)),
                    depth=depth,
                    body=body,
                    stamp=self.stamp,
                )
            )
        id_, item = max(variants, key=lambda one: one[0])
        operation = RefOperation(
            id=id_,
            type=type_,
            account=account,
            record=record_of(account, slug),
            key=public(signer),
            account_head=head,
            predecessors=frozenset(one.id for one in cites),
            depth=depth,
            era=era,
            number=number,
            has_facts=has_facts,
            card=card,
            length=length,
        )
        self._add(id_, item, operation, honest=honest, withheld=withheld)
        if honest:
            self._note_endorsed(operation)
        return operation

    def spoil(self, id_: bytes, item: Item | None) -> None:
        """Add something that does not pass check A."""
        self.made.append(Made(id_, item, None, honest=False))

    def write_card(
        self,
        signer: str,
        head: bytes,
        cites: tuple[RefOperation, ...],
        *,
        plain: bool,
        slug: str = SLUGS[0],
        owner: str | None = None,
        beyond: int = 0,
        refer_to: RefOperation | None = None,
        **options: object,
    ) -> RefOperation:
        """Sign a card operation: text after another operation's, or an evaluation."""
        if not plain:
            owner_key = public(owner or signer)
            self.stamp += 1
            update = press.evaluation_update(owner_key, "score", self.stamp % 64)
            card = RefCard(evals=frozenset({owner_key}))
            body = press.card_body((), update)
            return self.operate(
                ref.CARD, signer, head, cites, slug=slug, card=card, body=body, length=2, **options
            )
        if refer_to is not None and refer_to.length + beyond > 0:
            count = refer_to.length + beyond
            update = press.text_update("more", after=count - 1)
            card = RefCard(references=frozenset({(refer_to.id, count)}), plain=True)
            body = press.card_body((refer_to.id,), update)
        else:
            update = press.text_update("start")
            card = RefCard(plain=True)
            body = press.card_body((), update)
        length = len("more") if card.references else len("start")
        return self.operate(
            ref.CARD, signer, head, cites, slug=slug, card=card, body=body, length=length, **options
        )

    def write_checkpoint(
        self,
        signer: str,
        head: bytes,
        *,
        slug: str,
        number: int,
        has_facts: bool = True,
        **options: object,
    ) -> RefOperation:
        self.stamp += 1
        facts = b"facts%d" % self.stamp if has_facts else b""
        return self.operate(
            ref.CHECKPOINT,
            signer,
            head,
            (),
            slug=slug,
            number=number,
            has_facts=has_facts,
            body=self.press.checkpoint_body(number, facts),
            length=len(press.SEED_TEXT),
            **options,
        )

    def _add(
        self,
        id_: bytes,
        item: Item | None,
        what: RefEntry | RefOperation,
        *,
        honest: bool,
        withheld: str = "",
    ) -> None:
        self.made.append(Made(id_, item, what, honest, withheld))
        if withheld:
            return
        if isinstance(what, RefEntry):
            if ref.is_valid_entry(what, self._valid_entries):
                self._valid_entries |= {what}
                self._valid.append((len(self.made) - 1, what))
        elif ref.is_valid_operation(what, self._valid_operations, self._valid_entries):
            self._valid_operations |= {what}
            self._valid.append((len(self.made) - 1, what))

    def _note_endorsed(self, r: RefOperation) -> None:
        entry = next(e for e in self._valid_entries if e.id == r.account_head)
        if r.key != ref.state_at(entry, self._valid_entries).root:
            return
        below = ref.vouched(r, self._valid_operations, self._valid_entries) | {r.id}
        for made in self.made:
            if made.honest and isinstance(made.what, RefOperation) and made.id in below:
                self.endorsements.append((made.id, r.id))


# What honest people do. Each returns whether there was something to do.


def who_may(world: World, view: View, type_: int, record: bytes) -> list[str]:
    """The honest names that the account, as seen, lets do this."""
    now = ref.account_now(view.entries)
    names = [world.names[now.root]]
    for key, grant in sorted(now.delegates.items()):
        wanted = {ref.PUT: 1, ref.DELETE: 1, ref.CARD: 7, ref.CHECKPOINT: 0}[type_]
        if grant.capabilities & wanted and (not grant.scope or record in grant.scope):
            names.append(world.names[key])
    return [name for name in names if name in world.held]


def ends_in_text(o: RefOperation) -> bool:
    """Whether its last item is text, which other text may follow."""
    return o.length > 0 and (o.card is None or o.card.plain)


def newest_head(view: View) -> bytes:
    return ref.trunk(view.entries)[-1].id


def write(world: World, type_: int, *, signer: str | None = None, slug: str | None = None) -> bool:
    """One honest write on what its writer has seen."""
    view = world.look()
    slug = slug or world.pick_slug()
    record = world.record(slug)
    signers = who_may(world, view, type_, record)
    if signer is not None:
        signers = [one for one in signers if one == signer]
    cites = view.heads(record)
    first_era = view.era(record) == ref.FIRST_ERA
    if not signers or not (cites or (type_ == ref.PUT and first_era)):
        return False
    signer = world.rng.choice(signers)
    head = newest_head(view)
    if type_ != ref.CARD:
        world.operate(type_, signer, head, cites, slug=slug, honest=True)
        return True
    now = ref.account_now(view.entries)
    grant = now.delegates.get(public(signer))
    may_text = grant is None or bool(grant.capabilities & (ref.MAINTAINER | ref.EDITOR))
    texts = [one for one in cites if ends_in_text(one)]
    world.write_card(
        signer,
        head,
        cites,
        plain=may_text and world.rng.random() < 0.8,
        slug=slug,
        refer_to=world.rng.choice(texts) if texts and world.rng.random() < 0.7 else None,
        honest=True,
    )
    return True


def put(world: World) -> bool:
    return write(world, ref.PUT)


def card(world: World) -> bool:
    return write(world, ref.CARD)


def delete(world: World) -> bool:
    return write(world, ref.DELETE)


def endorse(world: World) -> bool:
    """The root writes, on whatever is there."""
    now = ref.account_now(world.entries)
    type_ = world.rng.choice((ref.PUT, ref.CARD))
    return write(world, type_, signer=world.names[now.root])


def checkpoint(world: World) -> bool:
    view = world.look()
    slug = world.pick_slug()
    ops = view.of(world.record(slug))
    signers = who_may(world, view, ref.CHECKPOINT, world.record(slug))
    if not signers or not ops:
        return False
    numbers = [one.number for one in ops if one.id == view.era(world.record(slug))]
    world.write_checkpoint(
        signers[0],
        newest_head(view),
        slug=slug,
        number=1 + max(numbers, default=0),
        has_facts=world.rng.random() < 0.8,
        honest=True,
    )
    return True


def add_delegate(world: World) -> bool:
    view = world.look()
    root = world.names[ref.account_now(view.entries).root]
    if root not in world.held:
        return False
    capabilities = world.rng.choice((*ALL_CAPABILITIES, ref.MAINTAINER | ref.EVALUATOR))
    records = frozenset({world.record(SLUGS[0])})
    world.enter(
        ref.ADD_KEY,
        newest_head(view),
        root,
        world.new_key("delegate", honest=True),
        capabilities=capabilities,
        scope=records if world.rng.random() < 0.25 else frozenset(),
        honest=True,
    )
    return True


def what_to_keep(world: World, view: View, key: bytes) -> frozenset[bytes]:
    """What a key did last, in every record; or some of it, or nothing, or only the heads."""
    choice = world.rng.random()
    found: set[bytes] = set()
    for slug in SLUGS:
        operations = view.of(world.record(slug))
        own = (o for o in ref.effective_operations(operations, view.entries) if o.key == key)
        last = view.heads(world.record(slug)) if choice < 0.2 else ref.tops(own, operations)
        found |= {one.id for one in last}
    if choice < 0.6 or not found:
        return frozenset(found)
    if choice < 0.8:
        return frozenset(world.rng.sample(sorted(found), world.rng.randint(1, len(found))))
    return frozenset()


def revoke(world: World) -> bool:
    view = world.look()
    now = ref.account_now(view.entries)
    signers = [n for n in (world.names[now.root], world.names[now.recovery]) if n in world.held]
    if not now.delegates or not signers:
        return False
    if world.rng.random() < 0.4:
        write(world, ref.PUT, signer=world.names[now.root])
    key = world.rng.choice(sorted(now.delegates))
    world.enter(
        ref.REVOKE,
        newest_head(view),
        signers[0] if world.rng.random() < 0.8 else signers[-1],
        world.names[key],
        keep=what_to_keep(world, view, key),
        honest=True,
    )
    return True


def rotate(world: World) -> bool:
    """Another root, as planned; usually it endorses every record at once."""
    view = world.look()
    recovery = world.names[ref.account_now(view.entries).recovery]
    if recovery not in world.held:
        return False
    _rotate(world, view, newest_head(view), recovery)
    return True


def _rotate(world: World, view: View, place: bytes, recovery: str) -> None:
    name = world.new_key("root", honest=True)
    keep = what_to_keep(world, view, ref.account_now(view.entries).root)
    entry = world.enter(ref.ROTATE_ROOT, place, recovery, name, keep=keep, honest=True)
    if world.rng.random() < 0.65:
        endorse_after(world, view, entry, name)


def endorse_after(world: World, before: View, rotation: RefEntry, name: str) -> None:
    """The new root cites what showed before it came, and by name what each ended key did last."""
    there = ref.state_at(rotation, world.entries)
    for slug in SLUGS:
        operations = before.of(world.record(slug))
        heads = before.heads(world.record(slug))
        if not heads:
            continue
        effectives = ref.effective_operations(operations, before.entries)
        of_era = [o for o in effectives if ref.era_of(o) == before.era(world.record(slug))]
        last = set(heads)
        for key in sorted({o.key for o in of_era if not ref.has_role(o.key, there)}):
            last |= ref.tops((o for o in of_era if o.key == key), operations)
        cites = tuple(sorted(last, key=lambda o: (o not in heads, o.id)))[: ref.CITED_MAX]
        type_ = ref.PUT if world.rng.random() < 0.6 else ref.CARD
        if type_ == ref.PUT:
            world.operate(ref.PUT, name, rotation.id, cites, slug=slug, honest=True)
        else:
            world.write_card(name, rotation.id, cites, plain=True, slug=slug, honest=True)


def set_recovery(world: World) -> bool:
    view = world.look()
    recovery = world.names[ref.account_now(view.entries).recovery]
    if recovery not in world.held:
        return False
    key = world.new_key("recovery", honest=True)
    world.enter(ref.SET_RECOVERY, newest_head(view), recovery, key, honest=True)
    return True


def recover(world: World) -> bool:
    """The recovery key settles a fork, or rotates a root that is not in honest hands."""
    view = world.look()
    now = ref.account_now(view.entries)
    end = ref.trunk(view.entries)[-1]
    recovery = world.names[now.recovery]
    if recovery not in world.held:
        return False
    if ref.is_frozen(view.entries):
        tips = [e for e in ref.behind(end, view.entries) if not ref.successors(e, view.entries)]
        honest = {made.id for made in world.made if made.honest}
        good = sorted(tip.id for tip in tips if tip.id in honest) or sorted(t.id for t in tips)
        world.enter(ref.ADOPT, world.rng.choice(good), recovery, honest=True)
        return True
    if world.names[now.root] in world.held and world.rng.random() < 0.8:
        return False
    place = end
    if len(view.entries) > 1 and world.rng.random() < 0.5:
        place = next(e for e in view.entries if e.id == end.predecessor) if end.predecessor else end
    if public(recovery) != ref.state_at(place, view.entries).recovery:
        return False
    _rotate(world, view, place.id, recovery)
    return True
