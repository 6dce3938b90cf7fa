"""`hansa` and `python -m node`: the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; refuse to without assertions, which guard what must never happen."""
    if sys.flags.optimize:
        sys.stderr.write("hansa does not run under python -O: it relies on its assertions\n")
        raise SystemExit(2)
    from node.cli import main as run

    run()


if __name__ == "__main__":
    main()
