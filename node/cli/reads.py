"""What `show`, `search`, `versions` and `deps` do for a record of either kind."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from node.cli import format as look
from node.cli.screen import sheet, stack, styled, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from node.cli.session import Session

WHERE_HELP = "Any other filter of the API, for example context_min=8192; repeat for more."


def parse_where(texts: Sequence[str]) -> dict[str, Any]:
    """Return `NAME=VALUE` filters as query parameters; a name given twice makes a list.

    Raises:
        BadUsage: a text has no `=`.
    """
    from node.cli.errors import BadUsage

    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise BadUsage(f"--where {text!r} is not NAME=VALUE; for example context_min=8192")
        found.setdefault(name.strip(), []).append(value)
    return dict(found)


def show(session: Session, plural: str, reference: str, *, template: bool = False) -> None:
    """Show one record, or only the Formfile in it.

    Raises:
        BadUsage: the Formfile is wanted, and the record has none.
    """
    found = session.client().get(f"/v1/{plural}/{session.path_of(reference)}")
    if template and not session.screen.json:
        session.screen.text(_formfile(found, reference))
        return
    session.screen.result(found, lambda: record_sheet(found))
    if found["conflicts"]:
        session.screen.note(
            f"{look.counted(len(found['conflicts']), 'concurrent write')} lost to this one and the"
            f" next update settles that; compare them with hansa {plural} conflicts {reference}"
        )


def _formfile(found: dict[str, Any], reference: str) -> str:
    text: str | None = found["record"].get("formfile_template")
    if not text:
        from node.cli.errors import BadUsage

        raise BadUsage(f"{reference} has no Formfile; its engine's own template is used")
    return text


def search(
    session: Session, plural: str, query: Mapping[str, Any], sort: str | None, limit: int
) -> None:
    """Show the records that a query finds, page after page up to a limit."""
    client = session.client()
    pages = list(client.pages(f"/v1/{plural}", {**query, "sort": sort}, limit=limit))
    items: list[dict[str, Any]] = [item for page in pages for item in page["items"]]
    total = pages[0]["total"] if pages else 0
    session.screen.result(
        {"items": items, "total": total},
        lambda: _models(items) if plural == "models" else _agents(items),
    )
    if not items:
        session.screen.note(f"No {plural} here. Does this node see others? hansa sync status")
    if len(items) < total:
        session.screen.note(f"{len(items)} of {total}; --limit shows more")


def versions(session: Session, plural: str, reference: str, version: str | None) -> None:
    """Show a record's versions, or one of them."""
    path = f"/v1/{plural}/{session.path_of(reference)}/versions"
    if version is not None:
        from node.client import quoted

        found = session.client().get(f"{path}/{quoted(version)}")
        session.screen.result(found, lambda: record_sheet(found))
        return
    found = session.client().get(path)
    session.screen.result(
        found,
        lambda: table(
            ("version", "version id", "when", ""),
            [
                (
                    one["version"],
                    one["version_id"],
                    look.ago(one["signed_by"]["timestamp_s"], now_s=_now_s()),
                    styled("current", "green") if one["current"] else "",
                )
                for one in found["items"]
            ],
        ),
    )


def dependencies(session: Session, plural: str, reference: str) -> None:
    """Show what a record depends on.

    Raises:
        CheckFailed: something cannot be resolved.
    """
    from node.cli.errors import CheckFailed

    found = session.client().get(f"/v1/{plural}/{session.path_of(reference)}/dependencies")
    missing, lock = found["unresolved"], found["lock"]
    columns = ("reference", "kind", "version", "version id")
    rows = [[one[name.replace(" ", "_")] for name in columns] for one in lock]
    session.screen.result(
        found,
        lambda: stack(
            *([table(columns, rows)] if rows else []),
            *(styled(f"{one['reference']}: {one['reason']}", "bold red") for one in missing),
        ),
    )
    if not lock and not missing:
        session.screen.note(f"{reference} depends on nothing")
    if missing:
        raise CheckFailed(f"{len(missing)} dependencies cannot be resolved; see above")


def record_sheet(found: dict[str, Any]) -> RenderableType:
    """Return one version of a record: its fields, then who signed it."""
    record: dict[str, Any] = found["record"]
    shown = {
        name: _field(name, value, record)
        for name, value in record.items()
        if name not in ("name", "version", "description")
    }
    signed = found["signed_by"]
    proof = {
        "version id": found["version_id"],
        "content hash": found["content_hash"],
        "signed by key": signed["key"],
        "signed": look.ago(signed["timestamp_s"], now_s=_now_s()),
        "conflicts": found["conflicts"],
    }
    card: dict[str, Any] = found.get("card") or {}
    if card.get("evaluations"):
        shown["evaluations"] = [
            f"{name} {value} by {look.short_id(key)}"
            for key, values in sorted(card["evaluations"].items())
            for name, value in sorted(values.items())
        ]
    parts = [sheet({"slug": found["slug"], **shown}, title=f"{record['name']} {record['version']}")]
    if record.get("description"):
        parts += [styled("", ""), styled(str(record["description"]), "italic")]
    return stack(*parts, styled("", ""), sheet(proof))


def _field(name: str, value: Any, record: Mapping[str, Any]) -> object:
    """Return a field's value as a line of a sheet, with its unit."""
    match name:
        case "created_at" | "updated_at":
            return look.ago(int(value), now_s=_now_s())
        case "price":
            return price_of(record) + (" per 1M tokens, in / out" if _by_tokens(record) else "")
        case "parameters":
            return _known(value)
        case "context_length":
            return f"{look.whole(value)} tokens" if value else None
        case "royalty_bps":
            return f"{value} ({look.percent(value)} of what is paid)" if value else None
        case "formfile_template":
            lines = str(value or "").count("\n")
            return f"{look.counted(lines, 'line')}; see it with --template" if value else None
        case "resource_requirements":
            return needs_of(value)
        case _:
            return _plain(value)


def _plain(value: Any) -> object:
    if isinstance(value, dict):
        inner = cast("dict[str, Any]", value)
        known = {key: one for key, one in inner.items() if one not in (None, [], {})}
        return ", ".join(f"{key} {look.choice(one)}" for key, one in known.items())
    if isinstance(value, list):
        return [_plain(one) for one in cast("list[Any]", value)]
    return value


def needs_of(needs: Mapping[str, Any]) -> str:
    """Return what a record needs of a machine, least and recommended, with units."""
    mib, gib = 1 << 20, 1 << 30
    memory = [look.size(needs[f"{one}_memory_mb"] * mib) for one in ("min", "recommended")]
    disk = [look.size(needs[f"{one}_disk_gb"] * gib) for one in ("min", "recommended")]
    lines = [
        f"{needs['min_vcpus']} vCPU, better {needs['recommended_vcpus']}",
        f"{memory[0]} memory, better {memory[1]}",
        f"{disk[0]} disk, better {disk[1]}",
    ]
    if needs.get("requires_gpu"):
        vram = needs.get("min_vram_gb")
        lines.append(f"a GPU with {look.size(vram * gib)}" if vram else "a GPU")
    lines += [
        f"{look.whole(needs[cores])} {cores.replace('_', ' ')}"
        for cores in ("cuda_cores", "tensor_cores")
        if needs.get(cores)
    ]
    return "\n".join(lines)


def _models(items: Sequence[dict[str, Any]]) -> RenderableType:
    return table(
        ("model", "version", "type", "parameters", "context", "licence", "price per 1M in / out"),
        [
            (
                _name(item),
                item["version"],
                look.choice(item["record"]["model_type"]),
                _known(item["record"]["parameters"]),
                _whole(item["record"]["context_length"]),
                item["record"]["license"],
                price_of(item["record"]),
            )
            for item in items
        ],
        right=("parameters", "context"),
    )


def _agents(items: Sequence[dict[str, Any]]) -> RenderableType:
    return table(
        ("agent", "version", "type", "framework", "tools", "licence", "price per 1M in / out"),
        [
            (
                _name(item),
                item["version"],
                look.choice(item["record"]["agent_type"]),
                look.choice(item["record"]["framework"]),
                len(item["record"]["tools"]),
                item["record"]["license"],
                price_of(item["record"]),
            )
            for item in items
        ],
        right=("tools",),
    )


def _by_tokens(record: Mapping[str, Any]) -> bool:
    terms = cast("dict[str, int | None]", record.get("price") or {})
    return bool(terms.get("input") or terms.get("output"))


def price_of(record: Mapping[str, Any]) -> str:
    """Return a record's price in dollars per million tokens (in / out), or what else it is."""
    terms = cast("dict[str, int | None]", record.get("price") or {})
    price = {name: value for name, value in terms.items() if value}
    if not price:
        return "free"
    if "per_request" in price:
        return f"{look.price(price['per_request'])} a request"
    if "per_minute" in price:
        return f"{look.price(price['per_minute'])} a minute"
    return f"{look.price(price.get('input', 0))} / {look.price(price.get('output', 0))}"


def _known(number: int | None) -> str | None:
    return look.count(number) if number else None


def _whole(number: int | None) -> str | None:
    return look.whole(number) if number else None


def _name(item: dict[str, Any]) -> str:
    return f"{look.short_id(item['owner_id'])}/{item['slug']}"


def _now_s() -> int:
    return int(time.time())  # noqa: TID251 - the command line is an edge
