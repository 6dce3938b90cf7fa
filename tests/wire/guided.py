"""Payloads that coverage chooses: `python -m tests.wire.guided --runs 100000 --seed 7`.

libFuzzer keeps what reaches code that nothing reached before, and changes it: as bytes, or by the
mutators of `mutating.py`, which sign again. What is then done with a payload is what `rounds.py`
does. Needs atheris, which the project does not: `uv pip install atheris`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.wire.rounds import Round, Tally

PACKAGES = ["crdt", "registry", "royalties", "inference.adverts", "node"]
PAYLOAD_BYTES_MAX = 70_000
PAYLOADS_OF_A_TOWN = 500


class Guided:
    """Feeds one payload after the other, to a fresh replica now and then."""

    def __init__(self, seed: int) -> None:
        from tests.wire.rounds import Tally, make_round_maker

        self.tally: Tally = Tally()
        self._make_round = make_round_maker()
        self._seed = seed
        self._left = 0
        self._number = 0
        self._round: Round = self._next()

    def _next(self) -> Round:
        self._number += 1
        self._left = PAYLOADS_OF_A_TOWN
        return self._make_round(self.tally, seed=self._seed, number=self._number)

    def feed(self, raw: bytes) -> None:
        """Show bytes to everything; raise for what must not happen, so that libFuzzer keeps it."""
        if not self._left:
            self._round.finish()
            self._round = self._next()
        self._left -= 1
        self._round.feed(raw)
        if self.tally.findings:
            print(json.dumps(self.tally.findings[-1], indent=1), file=sys.stderr)
            raise AssertionError(self.tally.findings[-1]["error"])

    def mutated(self, raw: bytes, size_max: int, seed: int) -> bytes:
        """Return other bytes, made by libFuzzer or by us."""
        import atheris

        if seed % 3 == 0:
            return bytes(atheris.Mutate(raw, size_max))
        return self._round.changed(raw, random.Random(seed))[:size_max]

    def seeds(self) -> list[bytes]:
        """Return valid bytes of every kind."""
        return self._round.seeds()


def main(arguments: list[str] | None = None) -> int:
    """Fuzz until `--runs` are done, or something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.wire.guided", description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, default=None, help="a folder to keep and go on with")
    asked = parser.parse_args(arguments)
    try:
        import atheris
    except ImportError:
        print("this needs atheris: uv pip install atheris", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=PACKAGES):
        guided = Guided(asked.seed)
    corpus = asked.corpus or Path(tempfile.mkdtemp(prefix="hansa-corpus-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, raw in enumerate(guided.seeds()):
        (corpus / f"seed-{number}").write_bytes(raw)
    _run(atheris, guided, asked.runs, asked.seed, corpus)
    return 0


def _run(atheris: Any, guided: Guided, runs: int, seed: int, corpus: Path) -> None:
    """Never returns when libFuzzer ends the process, which it does."""
    import atexit

    atexit.register(lambda: print(json.dumps(_summary(guided.tally)), flush=True))
    options = [
        f"-runs={runs}", f"-seed={seed}", f"-max_len={PAYLOAD_BYTES_MAX}", "-timeout=10",
        "-rss_limit_mb=2048", "-print_final_stats=1", f"-artifact_prefix={corpus.parent}/",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(corpus)], guided.feed, custom_mutator=guided.mutated)
    atheris.Fuzz()


def _summary(tally: Tally) -> dict[str, Any]:
    return {
        "payload_count": tally.payload_count,
        "findings": len(tally.findings),
        "new": tally.outcomes.get("what is new", {}),
    }


if __name__ == "__main__":
    sys.exit(main())
