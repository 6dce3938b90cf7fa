"""Replay one simulated life: `python -m tests.sim --seed 7 --nodes 9`; equal to the byte."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from tests.sim.focus import focused
from tests.sim.scenario import live


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--nodes", type=int, default=9)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--lives", type=int, default=1, help="so many seeds from --seed on")
    parser.add_argument(
        "--cards", action="store_true", help="no swarm: a world's items in random orders, and cards"
    )
    arguments = parser.parse_args()
    for seed in range(arguments.seed, arguments.seed + arguments.lives):
        sys.stderr.write(f"seed {seed}\n")
        if arguments.cards:
            _deliver(seed)
        else:
            life = live(seed, arguments.nodes, arguments.steps)
            sys.stdout.write(json.dumps(asdict(life), indent=1) + "\n")
    return 0


def _deliver(seed: int) -> None:
    schedule = focused(seed)
    sys.stdout.write("\n".join(schedule.world.moves) + "\n")
    schedule.run()
    sys.stdout.write(json.dumps(dict(sorted(schedule.counts.items())), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
