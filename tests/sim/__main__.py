"""Replay one simulated life: `python -m tests.sim --seed 7 --nodes 9`; equal to the byte."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from tests.sim.scenario import live


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--nodes", type=int, default=9)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--lives", type=int, default=1, help="so many seeds from --seed on")
    arguments = parser.parse_args()
    for seed in range(arguments.seed, arguments.seed + arguments.lives):
        sys.stderr.write(f"seed {seed}\n")
        life = live(seed, arguments.nodes, arguments.steps)
        sys.stdout.write(json.dumps(asdict(life)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
