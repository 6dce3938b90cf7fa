"""A record's history as an SVG picture: the account's log on top, an era a band, a write a box.

Deterministic, and without any script: it opens in every browser, in light and in dark.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from crdt import (
    Audit,
    AuditedEntry,
    AuditedOperation,
    Branch,
    EntryType,
    Fork,
    ItemId,
    OperationId,
    Place,
    PublicKey,
    short,
)
from node.cli import svg
from node.cli.dag_layout import Edge, Layout, layout

OPERATION_COUNT_MAX = 500
"""The newest are drawn; more cannot be read."""
MARGIN = 24.0
WIDTH_MIN = 760.0
WIDTH_WANTED = 1500.0
"""A band that would be wider from the top down is laid out from left to right, if that is less."""
BOX_WIDTH, BOX_HEIGHT = 140.0, 36.0
DOWN_GAP, ACROSS_GAP = 34.0, 56.0
"""Between layers, from the top down and from left to right."""
COLOURS = (
    "#3b82f6", "#f59e0b", "#10b981", "#a855f7", "#06b6d4", "#ec4899", "#84cc16", "#a16207",
)  # fmt: skip
SIGNER_COUNT_MAX = 16
LINE_WRAP = 100
"""Characters of a line of the summary."""
LINE_CHARACTERS_MAX = 20
"""Of a box's second line, before the entry's number."""


@dataclass(frozen=True, slots=True)
class Words:
    """What the picture says beside ids.

    Attributes:
        summary: Lines under the title.
        labels: What an operation's box says in its second line, such as its version.
        titles: What shows over an operation or entry when one points at it.
    """

    title: str
    summary: tuple[str, ...]
    labels: Mapping[OperationId, str]
    titles: Mapping[bytes, str]


@dataclass(frozen=True, slots=True)
class _Block:
    """A part of the picture, drawn from its own corner."""

    parts: tuple[str, ...]
    width: float
    height: float


def picture(audit: Audit, words: Words) -> str:
    """Return the SVG document."""
    drawn = _newest(audit)
    colours = _colours(audit, drawn)
    numbers = {one.entry.id: f"e{number}" for number, one in enumerate(audit.entries)}
    blocks = [
        _heading(words, left_out=len(audit.operations) - len(drawn)),
        _account(audit, drawn, words, colours, numbers),
        *(
            _band(audit, era, members, words, colours, numbers)
            for era, members in _eras(audit, drawn)
        ),
    ]
    width = max(WIDTH_MIN, *(block.width for block in blocks))
    blocks.append(_legend(audit, drawn, colours, width))
    return _document(blocks, width)


def _newest(audit: Audit) -> tuple[AuditedOperation, ...]:
    """Return what is drawn: the record's era before others, and the deepest of it."""
    if len(audit.operations) <= OPERATION_COUNT_MAX:
        return audit.operations
    ranked = sorted(audit.operations, key=lambda one: (one.in_era, *one.rank[3:]), reverse=True)
    chosen = {one.operation.id for one in ranked[:OPERATION_COUNT_MAX]}
    return tuple(one for one in audit.operations if one.operation.id in chosen)


def _eras(
    audit: Audit, drawn: Sequence[AuditedOperation]
) -> Iterator[tuple[bytes, list[AuditedOperation]]]:
    """Yield eras with their operations: the first era, others by rank, the record's own last."""
    members: dict[bytes, list[AuditedOperation]] = {}
    for one in drawn:
        members.setdefault(one.era, []).append(one)
    ranks = {one.id: number for number, one in enumerate(reversed(audit.checkpoints), 1)}
    for era in sorted(members, key=lambda era: (ranks.get(OperationId(era), 0), era)):
        yield era, members[era]


def _colours(audit: Audit, drawn: Sequence[AuditedOperation]) -> dict[PublicKey, str]:
    """Return a colour for each signer, in the order of what they signed."""
    keys = dict.fromkeys(
        (*(one.entry.signer for one in audit.entries), *(one.operation.key for one in drawn))
    )
    return {key: COLOURS[number % len(COLOURS)] for number, key in enumerate(keys)}


def _document(blocks: Sequence[_Block], width: float) -> str:
    parts: list[str] = []
    at = MARGIN
    for block in blocks:
        where = f"translate({svg.number(MARGIN)} {svg.number(at)})"
        parts.append(svg.element("g", *block.parts, transform=where))
        at += block.height + MARGIN
    total = width + 2 * MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{svg.number(total)}" '
        f'height="{svg.number(at)}" viewBox="0 0 {svg.number(total)} {svg.number(at)}">\n'
        + "\n".join([
            svg.element("style", svg.STYLE),
            svg.element("rect", width=total, height=at, kind="paper"),
            *parts,
        ])
        + "\n</svg>\n"
    )  # fmt: skip


def _heading(words: Words, *, left_out: int) -> _Block:
    lines = [part for line in words.summary for part in textwrap.wrap(line, LINE_WRAP)]
    if left_out:
        lines.append(f"{left_out} older operations are not drawn.")
    parts = [svg.label((0, 16), words.title, "title")]
    parts += [svg.label((0, 40 + 19 * at), line, "words") for at, line in enumerate(lines)]
    longest = max((len(line) for line in lines), default=0)
    return _Block(tuple(parts), 7.0 * longest, 22 + 19.0 * len(lines))


def _account(
    audit: Audit,
    drawn: Sequence[AuditedOperation],
    words: Words,
    colours: Mapping[PublicKey, str],
    numbers: Mapping[ItemId, str],
) -> _Block:
    """Draw the account's log from left to right; runs of entries that change nothing are cut."""
    entries = {one.entry.id: one for one in audit.entries}
    forks = {fork.at: fork for fork in audit.forks}
    shown = _telling(audit, drawn)
    layers: dict[bytes, int] = {}
    edges: list[Edge] = []
    skipped: dict[Edge, int] = {}
    for id_ in shown:
        before, count = entries[id_].entry.predecessor, 0
        while before is not None and before not in layers:
            before, count = entries[before].entry.predecessor, count + 1
        layers[id_] = 0 if before is None else layers[before] + 1
        if before is not None:
            edges.append((before, id_))
            skipped[before, id_] = count
    placed = layout(layers, edges, size=BOX_HEIGHT, gap=12)
    frame = _Frame(placed, across=True, top=26)
    branch_kinds = {
        branch.first: _branch_kind(fork, branch) for fork in audit.forks for branch in fork.branches
    }
    parts: list[str] = []
    for edge in edges:
        parts.append(frame.edge(edge, f"edge{branch_kinds.get(ItemId(edge[1]), '')}"))
        if skipped[edge]:
            x, y = frame.corner(edge[1])
            parts.append(svg.label((x - ACROSS_GAP + 8, y + 12), f"+{skipped[edge]}", "small"))
    for id_ in shown:
        kind = "fork" if id_ in forks else _ENTRY_KINDS[entries[id_].place]
        lines = (f"{numbers[id_]} {_entry_word(entries[id_])}", short(id_))
        colour = colours[entries[id_].entry.signer]
        parts.append(frame.box(id_, lines, kind, colour, words.titles.get(id_, "")))
    state = "frozen at a fork" if audit.account is not None and audit.account.frozen else ""
    count = len(audit.entries)
    counted = f"{count} {'entry' if count == 1 else 'entries'}"
    title = f"Account log, {counted}" + (f" · {state}" if state else "")
    return _banded(title, parts, frame)


def _branch_kind(fork: Fork, branch: Branch) -> str:
    if fork.on_trunk and not fork.settled:
        return " open"
    return " adopted" if branch.wins else " lost"


_ENTRY_KINDS = {Place.TRUNK: "", Place.OPEN: "open", Place.LOST: "void"}


def _telling(audit: Audit, drawn: Sequence[AuditedOperation]) -> list[ItemId]:
    """Return the entries that are drawn, in order: what is cited, ends a key, or is at a fork."""
    told = {one.operation.account_head for one in drawn}
    told |= {one.why.by for one in drawn if one.why.by is not None}  # type: ignore[misc]
    for fork in audit.forks:
        told |= {fork.at, *(branch.first for branch in fork.branches)}
        told |= {branch.adopted_by for branch in fork.branches if branch.adopted_by is not None}
    ends = audit.account.heads if audit.account is not None else ()
    told |= set(ends)
    few = len(audit.entries) <= 12
    return [
        one.entry.id
        for one in audit.entries
        if few or one.entry.id in told or one.entry.type in _TELLING
    ]


_TELLING = frozenset({
    EntryType.GENESIS, EntryType.REVOKE, EntryType.ROTATE_ROOT, EntryType.SET_RECOVERY,
})  # fmt: skip


def _entry_word(one: AuditedEntry) -> str:
    return one.entry.type.name.lower().replace("_", " ")


def _band(
    audit: Audit,
    era: bytes,
    members: Sequence[AuditedOperation],
    words: Words,
    colours: Mapping[PublicKey, str],
    numbers: Mapping[ItemId, str],
) -> _Block:
    """Draw one era."""
    depths = sorted({one.operation.depth for one in members})
    layer_of = {depth: layer for layer, depth in enumerate(depths)}
    layers: dict[bytes, int] = {one.operation.id: layer_of[one.operation.depth] for one in members}
    edges: list[Edge] = [
        (id_, one.operation.id)
        for one in members
        for id_ in one.operation.predecessors
        if id_ in layers
    ]
    down = layout(layers, edges, size=BOX_WIDTH, gap=16)
    frame = _Frame(down, across=False, top=30)
    if frame.width > WIDTH_WANTED:
        across = _Frame(layout(layers, edges, size=BOX_HEIGHT, gap=10), across=True, top=30)
        frame = min(frame, across, key=lambda one: one.width)
    voids = {one.operation.id for one in members if not one.effective}
    parts = [frame.edge(edge, "edge void" if edge[1] in voids else "edge") for edge in edges]
    for one in members:
        lines = (("★ " if one.is_winner else "") + short(one.operation.id), _second(one, words))
        lines = (lines[0], f"{lines[1]} · {numbers[one.operation.account_head]}")
        colour = colours[one.operation.key]
        title = words.titles.get(one.operation.id, "")
        parts.append(frame.box(one.operation.id, lines, _kind(one), colour, title))
    return _banded(_era_title(audit, era, len(members)), parts, frame)


def _second(one: AuditedOperation, words: Words) -> str:
    said = words.labels.get(one.operation.id, one.operation.type.name.lower())
    shown = f"{said}, lost by {one.lost_by}" if one.lost_by is not None else said
    return shown if len(shown) <= LINE_CHARACTERS_MAX else shown[: LINE_CHARACTERS_MAX - 1] + "…"


def _kind(one: AuditedOperation) -> str:
    if one.is_winner:
        return "win"
    if not one.effective:
        return "void"
    return "lost" if one.lost_by is not None else "good"


def _era_title(audit: Audit, era: bytes, count: int) -> str:
    number = next((one.number for one in audit.checkpoints if one.id == era), None)
    name = "First era" if number is None else f"Era of checkpoint {number}, {short(era)}"
    counted = f"{count} operation{'' if count == 1 else 's'}"
    is_now = audit.register is not None and audit.register.era == era
    return f"{name}, {counted}" + (" · the record's era" if is_now else "")


@dataclass(frozen=True, slots=True)
class _Frame:
    """Turns layers and places into points.

    Attributes:
        across: Layers go from left to right; otherwise from the top down.
        top: Room for the band's heading.
    """

    layout: Layout
    across: bool
    top: float

    @property
    def width(self) -> float:
        """How wide it all is, with room at both sides."""
        inner = self._length if self.across else self.layout.extent
        return inner + 2 * MARGIN

    @property
    def height(self) -> float:
        """How high it all is, with the heading."""
        inner = self.layout.extent if self.across else self._length
        return inner + self.top + MARGIN

    @property
    def _length(self) -> float:
        count = 1 + max(self.layout.layers.values(), default=0)
        return count * self._step - (ACROSS_GAP if self.across else DOWN_GAP)

    @property
    def _step(self) -> float:
        return BOX_WIDTH + ACROSS_GAP if self.across else BOX_HEIGHT + DOWN_GAP

    def corner(self, id_: bytes) -> tuple[float, float]:
        """Return the upper left corner of a box."""
        along, place = self.layout.layers[id_] * self._step, self.layout.places[id_]
        if self.across:
            return MARGIN + along, self.top + place - BOX_HEIGHT / 2
        return MARGIN + place - BOX_WIDTH / 2, self.top + along

    def edge(self, edge: Edge, kind: str) -> str:
        """Return the line from what is cited to what cites it."""
        low, high = edge
        depth = BOX_WIDTH if self.across else BOX_HEIGHT
        first = self.layout.layers[low]
        points = [(first * self._step + depth, self.layout.places[low])]
        for layer, place in enumerate(self.layout.bends[edge], first + 1):
            points += [(layer * self._step, place), (layer * self._step + depth, place)]
        points.append((self.layout.layers[high] * self._step, self.layout.places[high]))
        path = svg.curve([self._point(*one) for one in points], across=self.across)
        return svg.element("path", d=path, kind=kind)

    def box(self, id_: bytes, lines: tuple[str, str], kind: str, colour: str, title: str) -> str:
        """Return the box of one node, with its signer's colour at its side."""
        x, y = self.corner(id_)
        inside = [
            svg.element("title", svg.text(title)),
            svg.element("rect", width=BOX_WIDTH, height=BOX_HEIGHT, rx=5.0, kind="box"),
            svg.element(
                "rect", x=3.0, y=5.0, width=4.0, height=BOX_HEIGHT - 10, rx=2.0, fill=colour
            ),
            svg.label((12, 15), lines[0], "id"),
            svg.label((12, 29), lines[1], "small"),
        ]
        where = f"translate({svg.number(x)} {svg.number(y)})"
        name = f"node {kind}".rstrip()
        return svg.element("g", *inside, transform=where, kind=name, data_id=id_.hex())

    def _point(self, along: float, place: float) -> tuple[float, float]:
        if self.across:
            return MARGIN + along, self.top + place
        return MARGIN + place, self.top + along


def _banded(title: str, parts: Sequence[str], frame: _Frame) -> _Block:
    head = svg.label((MARGIN / 2, 18), title, "head")
    # Half a margin around what is drawn: the block's own margin is outside.
    width = max(frame.width, 7.5 * len(title) + MARGIN)
    band = svg.element("rect", width=width, height=frame.height, rx=8.0, kind="band")
    return _Block((band, head, *parts), width, frame.height)


def _legend(
    audit: Audit, drawn: Sequence[AuditedOperation], colours: Mapping[PublicKey, str], width: float
) -> _Block:
    """Explain borders and colours, in as many rows as it takes."""
    samples = [
        ("win", "shows"), ("lost", "concurrent, lost by a term"), ("good", "effective"),
        ("void", "void"), ("open", "behind an open fork"), ("fork", "forked entry"),
    ]  # fmt: skip
    roles = _roles(audit)
    signers = [f"{short(key)} {roles.get(key, 'delegate')}" for key in colours]
    signed = {one.operation.key for one in drawn} | {one.entry.signer for one in audit.entries}
    keys = [key for key in colours if key in signed][:SIGNER_COUNT_MAX]
    cells = [
        *((_sample(kind), word) for kind, word in samples),
        *((_swatch(colours[key]), signers[at]) for at, key in enumerate(keys)),
    ]
    if len(signers) > len(keys):
        cells.append(("", f"and {len(signers) - len(keys)} more signers"))
    parts = [svg.label((0, 12), "A line leads from what is cited to what cites it.", "head")]
    x, y = 0.0, 24.0
    for shape, word in cells:
        size = 44 + 5.6 * len(word)
        if x and x + size > width:
            x, y = 0.0, y + 24
        inside = [*([shape] if shape else []), svg.label((28, 12), word, "small")]
        where = f"translate({svg.number(x)} {svg.number(y)})"
        parts.append(svg.element("g", *inside, transform=where))
        x += size
    return _Block(tuple(parts), width, y + 20)


def _sample(kind: str) -> str:
    return svg.element(
        "g", svg.element("rect", x=1.0, y=1.0, width=20.0, height=14.0, rx=3.0, kind="box"),
        kind=kind,
    )  # fmt: skip


def _swatch(colour: str) -> str:
    return svg.element("rect", x=8.0, width=6.0, height=16.0, rx=2.0, fill=colour)


def _roles(audit: Audit) -> dict[PublicKey, str]:
    """Return what each key is or was that is no delegate."""
    found: dict[PublicKey, str] = {}
    for one in audit.entries:
        if one.entry.recovery_key is not None:
            found[one.entry.recovery_key] = "recovery key"
        if one.entry.type is EntryType.SET_RECOVERY:
            found[one.entry.key] = "recovery key"
        if one.entry.type in {EntryType.GENESIS, EntryType.ROTATE_ROOT}:
            found[one.entry.key] = "root key"
    return found
