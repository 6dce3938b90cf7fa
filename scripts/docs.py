"""Write the pages of docs/ that follow from the program, so that they cannot be wrong.

`python -m scripts.docs` writes them; `tests/test_docs.py` fails when one is not up to date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
NOTE = "<!-- written by `make docs`; do not edit -->\n"


def configuration() -> str:
    """Return docs/configuration.md: every setting, its default, and why that is so."""
    from node.config import load_settings

    lines = [
        "# Settings",
        NOTE,
        "One TOML file (`hansa run --config FILE`, sections as tables), environment variables over",
        "it (`HANSA_SECTION__KEY`), flags over both (`--set section.key=value`).",
        "`hansa config show` prints each value and where it comes from.",
        "",
        "| setting | default | what, and why |",
        "|---|---|---|",
    ]
    home = str(Path.home())
    for one in load_settings().listing():
        value = "–" if one.value is None else str(one.value).replace(home, "~")
        lines.append(f"| `{one.key}` | `{value}` | {_cell(one.about)} |")
    return "\n".join(lines) + "\n"


def errors() -> str:
    """Return docs/errors.md: every stable code, its HTTP status and exit status."""
    from node.api.problems import EXIT_MEANINGS, TABLE

    lines = [
        "# Errors",
        NOTE,
        "HTTP errors are `application/problem+json` (RFC 9457) with a stable `code`; routes of the",
        "OpenAI dialect give the same code in OpenAI's shape. Commands end with the exit status.",
        "",
        "| code | HTTP | exit | meaning |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{code}` | {row.status} | {int(row.exit)} | {_cell(row.title)} |"
        for code, row in sorted(TABLE.items())
    ]
    lines += ["", "## Exit statuses", "", "| status | meaning |", "|---|---|"]
    lines += [f"| {int(status)} | {meaning} |" for status, meaning in EXIT_MEANINGS.items()]
    return "\n".join(lines) + "\n"


def commands() -> str:
    """Return docs/cli.md."""
    from node.cli.reference import reference

    return reference()


def http() -> str:
    """Return docs/http.md: every route, who may call it, and what it answers."""
    from node.api.declared import declared_routes
    from node.api.openapi import rows_of

    lines = [
        "# HTTP API",
        NOTE,
        "A running node describes all this with its shapes at `/openapi.json`, to try at `/docs`.",
        "A path marked *bare* is served without its `/v1` too, by the same handler.",
        "Errors are `application/problem+json`; `errors.md` lists their codes. Every route may",
        "also give 400 (not HTTP as it is taken here), 500 (a bug) and 503 (stopping).",
        "",
        "Who may call: anybody; the operator (`Authorization: Bearer` with the token in the data",
        "folder's `operator.token`); programs with an API key (`hansa keys create`, then `Bearer",
        "hsk_...`); creators (`Authorization: Hansa ...`, a signed request; `hansa` makes them).",
    ]
    tag = ""
    for row in rows_of(declared_routes()):
        if row.tag != tag:
            tag = row.tag
            lines += ["", f"## {tag}", "", "| | path | who | what | statuses |"]
            lines += ["|---|---|---|---|---|"]
        bare = " *bare*" if row.bare else ""
        statuses = " ".join(str(status) for status in row.statuses)
        lines.append(
            f"| {row.method} | `{row.path}`{bare} | {row.who} | {_cell(row.summary)} | {statuses} |"
        )
    return "\n".join(lines) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "configuration.md": configuration,
    "errors.md": errors,
    "cli.md": commands,
    "http.md": http,
}


FIGURES = {
    "ingest": ("verified ingest to disk, one core", ("ops_per_s",)),
    "put": ("signed, durable puts", ("single_per_s", "batched_per_s")),
    "card": ("an edit of a card", ("parse_us", "apply_us", "raw_apply_us", "rebuild_1000_ms")),
    "resolve": ("what shows of 1, 10, 1000 operations", ("us",)),
    "adversarial": (
        "adversarial worlds in random orders",
        ("schedules", "deliveries", "divergences"),
    ),
    "fuzz": ("hostile payloads", ("payload_count", "death_count", "finding_count")),
    "crashes": ("nodes killed under load", ("kills", "acknowledged_lost", "invalid_found")),
    "diff": (
        "comparing a million ids of which 0, 10 or 1000 differ",
        ("bytes_0", "bytes_10", "bytes_1000"),
    ),
    "join": (
        "a fresh node joins, over libp2p",
        ("records", "seconds", "searchable_seconds", "from_start_s"),
    ),
    "reconnect": ("back after missing 1000 operations", ("seconds",)),
    "live": ("live propagation, two processes", ("p50_ms", "p95_ms")),
    "live-10": ("the same at the slowest of ten nodes", ("p50_ms", "p95_ms", "cpu_ms")),
    "fair": (
        "propagation p95 beside one account's flood, in quiet ones (2 is asked)",
        ("ratio", "flood_ops_per_s"),
    ),
    "swarm": ("1000 operations reach all of 20 nodes", ("seconds", "cpu_s")),
    "idle": (
        "a node with 10 peers and nothing to do",
        ("cpu_percent", "bytes_per_s"),
    ),
    "relay": ("local hop of a call", ("req_per_s", "added_p50_ms", "cpu_us_per_req")),
    "fetch": ("verified fetch over pinned TLS", ("mb_per_s", "fraction_of_loopback")),
    "hostile": (
        "hostile sockets on every port",
        ("quiet_p95_ms", "p95_ms", "port_p95_ms", "unanswered", "grown_mb"),
    ),
}


def figures() -> str:
    """Return the README's table of what was last measured."""
    lines = ["| benchmark | what | figures |", "|---|---|---|"]
    for name, (what, keys) in FIGURES.items():
        path = ROOT / "bench" / "results" / f"{name}.json"
        if not path.exists():
            continue  # not measured yet
        found = json.loads(path.read_text())
        told = ", ".join(f"{key} {_figure(found[key])}" for key in keys)
        lines.append(f"| `{name}` | {what} | {told} |")
    return "\n".join(lines)


def _figure(value: Any) -> str:
    if isinstance(value, dict):
        return " / ".join(str(one) for one in cast("dict[str, Any]", value).values())
    return str(value)


SIDE_BY_SIDE = (
    ("put", "per_s", "puts one by one, a second"),
    ("put", "cpu_ms", "the same: CPU of one, ms"),
    ("batched", "per_s", "batched puts, a second"),
    ("join", "seconds", "a new reader of {records} records: until all is readable, s"),
    ("join", "held_s", "the same: until all is on disk, s"),
    ("join", "cpu_s", "the same: CPU of both sides, s"),
    ("join", "wire_bytes", "the same: bytes between them"),
    ("reconnect", "seconds", "a reader that missed {missed}: until they are readable, s"),
    ("reconnect", "cpu_s", "the same: CPU of both sides, s"),
    ("reconnect", "wire_bytes", "the same: bytes between them"),
    ("live", "p50_ms", "a put until another process has it: p50, ms"),
    ("live", "p95_ms", "the same: p95, ms"),
    ("live", "cpu_ms", "the same: CPU of both sides, ms"),
    ("live", "wire_bytes", "the same: bytes between them"),
    ("start", "seconds", "a process until it is ready, s"),
)
SIDE_BY_SIDE_TOLD = {
    "durability": "a put",
    "writers": "writers",
    "checked": "checked at a reader",
    "batches": "a batch",
    "storage": "storage",
    "transport": "transport",
}


def side_by_side() -> str:
    """Return the README's table of the last comparison, the best figure of each row in bold."""
    from bench.sync_peers import LOWER_IS_BETTER

    found = json.loads((ROOT / "bench" / "results" / "sync-peers.json").read_text())
    systems: dict[str, dict[str, Any]] = found["systems"]
    heads = [" ".join(next(iter(one["version"].items()))) for one in systems.values()]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for row, figure, what in SIDE_BY_SIDE:
        values = {name: found["rows"][row][name][figure] for name in systems}
        best = (min if LOWER_IS_BETTER[row][figure] else max)(values.values())
        cells = [f"**{one:,}**" if one == best else f"{one:,}" for one in values.values()]
        told = what.format(**found["options"])
        lines.append(f"| {told} | {' | '.join(cells).replace(',', ' ')} |")
    for key, what in SIDE_BY_SIDE_TOLD.items():
        lines.append(f"| {what} | {' | '.join(one[key] for one in systems.values())} |")
    before, after = found["load_before"][0], found["load_after"][0]
    cpus = found["machine"]["cpus"]
    lines += [
        "",
        f"Load of the machine's {cpus} cores before this run and at its end: {before}, {after}.",
    ]
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {"bench": figures, "bench-sync": side_by_side}


def write_figures() -> None:
    """Put the tables of figures between their marks in the README."""
    path = ROOT / "README.md"
    text = path.read_text()
    for name, table in TABLES.items():
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        _, _, after = rest.partition(f"<!-- /{name} -->")
        text = f"{before}<!-- {name} -->\n{table()}\n<!-- /{name} -->{after}"
    path.write_text(text)


def main() -> int:
    """Write every page and name those that changed."""
    write_figures()
    for name, write in PAGES.items():
        path = DOCS / name
        text = write()
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"docs/{name} written\n")
    return 0


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
