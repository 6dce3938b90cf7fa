"""Run one benchmark, or all of them: `python -m bench NAME [--json] [--KEY VALUE ...]`.

Each benchmark is a module `bench/NAME.py` with `run(**options) -> dict` of figures. Results go to
`bench/results/NAME.json` with the machine they were measured on, under the name that the figures
give themselves where options make another benchmark of it. Nothing here is asserted: a figure that
is worse than the last one is recorded as it is.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import structlog
from rich.console import Console
from rich.markup import escape

from bench.npm import NpmFault

NAMES = (
    "ingest", "put", "card", "resolve", "diff", "join", "reconnect", "live", "swarm", "idle",
    "fair", "relay", "fetch", "hostile",
)  # fmt: skip
ALL = {**{name: (name,) for name in NAMES}, "live-10": ("live", "--nodes", "10")}
"""What `all` runs, by the name of its result."""
ALONE = ("sync-peers",)
"""Not among `all`: they install other people's programs, and take minutes."""
RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> int:
    """Parse, run and record; the exit status says whether every benchmark ran."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", choices=[*NAMES, *ALONE, "all"])
    parser.add_argument("--json", action="store_true", help="print one JSON object and no more")
    parser.add_argument("--no-record", action="store_true", help="leave bench/results as it is")
    known, rest = parser.parse_known_args(arguments)
    console = Console(stderr=True)
    quiet_logs()
    failed: list[str] = []
    chosen = list(ALL.values()) if known.name == "all" else [(known.name,)]
    for name, *words in chosen:
        console.print(f"[bold]{' '.join((name, *words))}[/] ...")
        try:
            figures = measure(name, options_of(name, [*words, *rest]))
        except NpmFault as fault:
            console.print(f"[red]{name}:[/] {escape(str(fault))}")
            failed.append(name)
            continue
        except Exception as error:  # one broken benchmark must not hide the others
            if known.name != "all":
                raise
            console.print(f"[red]{name} failed:[/] {type(error).__name__}: {error}")
            failed.append(name)
            continue
        if not known.no_record:
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{figures['name']}.json").write_text(json.dumps(figures, indent=2) + "\n")
        if known.json:
            sys.stdout.write(json.dumps(figures) + "\n")
        else:
            console.print_json(json.dumps(figures))
    return 1 if failed else 0


def quiet_logs() -> None:
    """Keep the parts' own log off standard output, which carries the figures, and off the clock."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        # Whatever standard error is by then: a test's is closed with it.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def measure(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return a benchmark's figures together with where and when they were measured."""
    module = _module(name)
    started = time.time()  # noqa: TID251 - a benchmark says when it ran
    load_before = os.getloadavg()[0]
    figures: dict[str, Any] = module.run(**options)
    return {
        "name": name,
        **figures,
        "options": options,
        "measured_at_s": int(started),
        "machine": {
            "cpus": os.cpu_count(),
            "processor": processor(),
            "python": platform.python_version(),
            "kernel": platform.release(),
            "load_before": round(load_before, 1),
        },
    }


def options_of(name: str, words: list[str]) -> dict[str, Any]:
    """Return `--key value` pairs as the benchmark's keyword arguments, typed by its defaults."""
    parameters = inspect.signature(_module(name).run).parameters
    parser = argparse.ArgumentParser(prog=f"python -m bench {name}")
    for key, parameter in parameters.items():
        parser.add_argument(
            f"--{key.replace('_', '-')}",
            type=cast("Callable[[str], Any]", type(parameter.default)),
            default=parameter.default,
        )
    return vars(parser.parse_args(words))


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"bench.{name.replace('-', '_')}")


def processor() -> str:
    """Return the processor's name as the kernel tells it, or what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    sys.exit(main())
