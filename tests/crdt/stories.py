"""Small histories by hand, on the values of `reference.py`: ids and keys are readable words."""

from __future__ import annotations

from tests.crdt import reference as ref
from tests.crdt.reference import RefCard, RefEntry, RefOperation, RefState

ROOT, RECOVERY = b"root", b"recovery"
RECORD = b"record"


class Story:
    """One account with one record; entries and operations by name."""

    def __init__(self) -> None:
        self.entries: dict[str, RefEntry] = {}
        self.operations: dict[str, RefOperation] = {}
        self.entries["genesis"] = RefEntry(
            b"genesis", ref.GENESIS, b"genesis", None, ROOT, ROOT, RECOVERY
        )

    def entry(
        self,
        name: str,
        type_: int,
        after: str,
        *,
        by: bytes = ROOT,
        key: bytes | None = None,
        capabilities: int = 0,
        scope: tuple[bytes, ...] = (),
        keep: tuple[str, ...] = (),
    ) -> str:
        self.entries[name] = RefEntry(
            name.encode(),
            type_,
            b"genesis",
            after.encode(),
            by,
            key,
            None,
            capabilities,
            frozenset(scope),
            frozenset(one.encode() for one in keep),
        )
        return name

    def add(self, key: bytes, after: str, capabilities: int = 1, **options: object) -> str:
        name = f"add {key.decode()} after {after}"
        return self.entry(name, ref.ADD_KEY, after, key=key, capabilities=capabilities, **options)

    def revoke(self, key: bytes, after: str, **options: object) -> str:
        return self.entry(f"revoke {key.decode()}", ref.REVOKE, after, key=key, **options)

    def rotate(
        self, key: bytes, after: str, by: bytes = RECOVERY, keep: tuple[str, ...] = ()
    ) -> str:
        name = f"rotate {key.decode()}"
        return self.entry(name, ref.ROTATE_ROOT, after, by=by, key=key, keep=keep)

    def adopt(self, after: str, by: bytes = RECOVERY) -> str:
        return self.entry(f"adopt {after}", ref.ADOPT, after, by=by)

    def operation(
        self,
        name: str,
        type_: int,
        at: str,
        *cites: str,
        by: bytes = ROOT,
        era: str | None = None,
        depth: int | None = None,
        record: bytes = RECORD,
        number: int = 0,
        has_facts: bool = True,
        card: RefCard | None = None,
        length: int = 0,
    ) -> str:
        cited = [self.operations[one] for one in cites]
        natural = ref.era_of(cited[0]) if cited else ref.FIRST_ERA
        self.operations[name] = RefOperation(
            id=name.encode(),
            type=type_,
            account=b"genesis",
            record=record,
            key=by,
            account_head=at.encode(),
            predecessors=frozenset(one.id for one in cited),
            depth=1 + max((one.depth for one in cited), default=0) if depth is None else depth,
            era=natural if era is None else era.encode(),
            number=number,
            has_facts=has_facts,
            card=RefCard(plain=True) if type_ == ref.CARD and card is None else card,
            length=length,
        )
        return name

    def put(self, name: str, at: str, *cites: str, **options: object) -> str:
        return self.operation(name, ref.PUT, at, *cites, **options)

    def card(self, name: str, at: str, *cites: str, **options: object) -> str:
        return self.operation(name, ref.CARD, at, *cites, **options)

    def delete(self, name: str, at: str, *cites: str, **options: object) -> str:
        return self.operation(name, ref.DELETE, at, *cites, **options)

    def checkpoint(self, name: str, at: str, number: int = 1, **options: object) -> str:
        return self.operation(name, ref.CHECKPOINT, at, number=number, **options)

    # What follows from it

    @property
    def valid_entries(self) -> ref.Entries:
        return ref.valid_entries(self.entries.values())

    @property
    def valid(self) -> ref.Operations:
        return ref.valid_operations(self.operations.values(), self.valid_entries)

    @property
    def trunk(self) -> list[str]:
        return [entry.id.decode() for entry in ref.trunk(self.valid_entries)]

    @property
    def frozen(self) -> bool:
        return ref.is_frozen(self.valid_entries)

    @property
    def state(self) -> RefState | None:
        return ref.resolve(self.valid, self.valid_entries)

    @property
    def winner(self) -> str | None:
        return self.state.winner.decode() if self.state else None

    @property
    def conflicts(self) -> list[str]:
        assert self.state
        return [one.decode() for one in self.state.conflicts]

    @property
    def heads(self) -> list[str]:
        assert self.state
        return [one.decode() for one in self.state.heads]

    @property
    def effective(self) -> set[str]:
        found = ref.effective_operations(self.valid, self.valid_entries)
        return {one.id.decode() for one in found}

    def is_valid(self, name: str) -> bool:
        return name.encode() in {one.id for one in (*self.valid, *self.valid_entries)}
