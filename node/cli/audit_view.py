"""An audit in the terminal: what was found, in words and in tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crdt import Audit, AuditedEntry, AuditedOperation, ItemId, Place, short
from node.cli import format as look
from node.cli.audit_words import (
    Labels,
    authority_words,
    entry_numbers,
    entry_words,
    state_word,
    summary,
    why_words,
)
from node.cli.screen import sheet, stack, styled, table

if TYPE_CHECKING:
    from rich.console import RenderableType

ERA_FIRST_NAME = "first"


def report(audit: Audit, labels: Labels, wrong: Sequence[str], *, now_s: int) -> RenderableType:
    """Return the whole audit: summary, account entries, operations."""
    parts = [styled(line, _line_style(line)) for line in summary(audit, labels)]
    parts += [styled(f"THE NODE SHOWS SOMETHING ELSE: {line}.", "bold red") for line in wrong]
    if not wrong and audit.register is not None:
        parts.append(styled("The node shows what follows from its log.", "green"))
    if audit.entries:
        parts += [styled("", ""), _entries(audit)]
    if audit.operations:
        parts += [styled("", ""), _operations(audit, labels, now_s=now_s)]
    return stack(*parts)


def operation_sheet(
    audit: Audit, one: AuditedOperation, labels: Labels, *, now_s: int
) -> RenderableType:
    """Return everything about one operation."""
    operation, numbers = one.operation, entry_numbers(audit)
    epoch, is_root, is_delete, depth, _id = one.rank
    said_s = operation.timestamp_s
    return sheet(
        {
            "id": operation.id.hex(),
            "type": operation.type.name.lower(),
            "version": labels.get(operation.id),
            "state": styled(state_word(one), style_of(one)),
            "why": why_words(one, numbers),
            "signed by": operation.key.hex(),
            "as": authority_words(one, numbers),
            "cites entry": f"{numbers[operation.account_head]} {operation.account_head.hex()}",
            "cites": "\n".join(id_.hex() for id_ in operation.predecessors),
            "cited by": "\n".join(
                other.operation.id.hex()
                for other in audit.operations
                if operation.id in other.operation.predecessors
            ),
            "era": one.era.hex() or ERA_FIRST_NAME,
            "in the record's era": one.in_era,
            "depth": operation.depth,
            "rank": f"epoch {epoch}, root {_yes(is_root)}, delete {_yes(is_delete)}, depth {depth}",
            "lost by": one.lost_by,
            "writer's clock": f"{said_s} ({look.ago(said_s, now_s=now_s)})",
            "body": look.size(operation.body_bytes),
            "refers to": None
            if one.reference_count is None
            else look.counted(one.reference_count, "operation"),
        }
    )


def picture_titles(audit: Audit, labels: Labels) -> Mapping[bytes, str]:
    """Return what a picture tells of each operation and entry that one points at."""
    numbers = entry_numbers(audit)
    found: dict[bytes, str] = {
        one.entry.id: f"{one.entry.id.hex()}\n{entry_words(one, numbers)}" for one in audit.entries
    }
    for one in audit.operations:
        operation = one.operation
        name = labels.get(operation.id, "")
        found[operation.id] = (
            f"{operation.id.hex()}\n{operation.type.name.lower()} {name}: {state_word(one)}\n"
            f"{why_words(one, numbers)}\nsigned by {operation.key.hex()}\n"
            f"as {authority_words(one, numbers)}\ndepth {operation.depth}"
        )
    return found


def style_of(one: AuditedOperation) -> str:
    """Return the colour of an operation."""
    if one.is_winner:
        return "bold green"
    if not one.effective:
        return "dim red"
    return "yellow" if one.lost_by is not None else "green"


def _line_style(line: str) -> str:
    if line.startswith("NOT VALID") or "FROZEN" in line:
        return "bold red"
    return "red" if "forks at" in line or line.startswith("Equivocation") else ""


def _entries(audit: Audit) -> RenderableType:
    numbers = entry_numbers(audit)
    forked = {fork.at for fork in audit.forks}
    return table(
        ("entry", "id", "what it says"),
        [
            (
                styled(numbers[one.entry.id], _entry_style(one, forked)),
                short(one.entry.id),
                entry_words(one, numbers),
            )
            for one in audit.entries
        ],
        fold=("what it says",),
    )


def _entry_style(one: AuditedEntry, forked: set[ItemId]) -> str:
    if one.entry.id in forked:
        return "bold red"
    return {Place.TRUNK: "", Place.OPEN: "yellow", Place.LOST: "dim red"}[one.place]


def _operations(audit: Audit, labels: Labels, *, now_s: int) -> RenderableType:
    numbers = entry_numbers(audit)
    eras = _era_names(audit)
    rows: list[tuple[Any, ...]] = []
    for one in sorted(audit.operations, key=lambda one: list(eras).index(one.era)):
        operation = one.operation
        rows.append((
            styled(short(operation.id), style_of(one)),
            f"{operation.type.name.lower()} {labels.get(operation.id, '')}".strip(),
            operation.depth,
            *((eras[one.era],) if len(eras) > 1 else ()),
            look.ago(operation.timestamp_s, now_s=now_s),
            styled(state_word(one), style_of(one)),
            f"{authority_words(one, numbers)}; {why_words(one, numbers)}",
        ))  # fmt: skip
    era = ("era",) if len(eras) > 1 else ()
    columns = ("operation", "what", "depth", *era, "clock", "state", "signed as; why")
    fold = ("what", "clock", "state", "signed as; why")
    return table(columns, rows, right=("depth", "era"), fold=fold)


def _era_names(audit: Audit) -> dict[bytes, str]:
    """Return what each era is called in a table, by its checkpoint's number; the first first."""
    numbers = {bytes(one.id): one.number for one in audit.checkpoints}
    eras = {bytes(one.era) for one in audit.operations}
    return {
        era: (str(numbers.get(era) or short(era)) if era else ERA_FIRST_NAME)
        for era in sorted(eras, key=lambda one: (numbers.get(one, 0), one))
    }


def _yes(value: bool) -> str:
    return "yes" if value else "no"
