"""`python -m examples.demo`: run the story, print what happens, end with a table and a status."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from examples.demo.processes import StepFailed
from examples.demo.story import Story


def main() -> int:
    """Tell the story; 0 if every step came true, 1 with the name of the one that did not."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--keep", action="store_true", help="leave the nodes' folders for a look")
    given = parser.parse_args()
    console = Console(stderr=given.json, highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="hansa-demo-"))
    story = Story(folder, say=lambda text: console.print(f"   {text}"))
    rows: list[tuple[str, float, str]] = []
    failed: str | None = None
    started = time.monotonic()
    try:
        for number, (title, step) in enumerate(story.steps(), start=1):
            console.print(f"\n[bold cyan]{number}. {title}[/]")
            begun = time.monotonic()
            try:
                rows.append((title, time.monotonic() - begun, step()))
            except StepFailed as error:
                failed = f"step {number} ({title}): {error}"
                break
            rows[-1] = (title, time.monotonic() - begun, rows[-1][2])
    finally:
        story.end()
        if failed is None and not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            console.print(f"\n   the nodes' folders and logs are in {folder}")
    if given.json:
        summary = {
            "ok": failed is None,
            "failed": failed,
            "seconds": round(time.monotonic() - started, 1),
            "steps": [{"title": t, "seconds": round(s, 1), "seen": r} for t, s, r in rows],
            "facts": story.facts,
        }
        sys.stdout.write(json.dumps(summary) + "\n")
    else:
        console.print(table(rows))
    if failed:
        console.print(f"[bold red]failed:[/] {failed}")
        return 1
    console.print(f"[bold green]every step came true[/] in {time.monotonic() - started:.0f} s")
    return 0


def table(rows: list[tuple[str, float, str]]) -> Table:
    """Return the summary: each step, how long it took, and what was seen."""
    found = Table(title="The story", title_justify="left")
    found.add_column("#", justify="right")
    found.add_column("step")
    found.add_column("seconds", justify="right")
    found.add_column("seen", overflow="fold")
    for number, (title, seconds, seen) in enumerate(rows, start=1):
        found.add_row(str(number), title, f"{seconds:.1f}", f"[green]✓[/] {seen}")
    return found


if __name__ == "__main__":
    sys.exit(main())
