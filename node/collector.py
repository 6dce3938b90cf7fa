"""How the garbage collector runs in a node: seldom, because reference counts free nearly all."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

THRESHOLD = 10_000
"""New containers between two looks at the young ones: about what a batch of 250 operations makes.
Python's 700 costs verified ingest 2 % and finds nothing there (`crdt/DESIGN.md`, section 8)."""


@contextmanager
def collected_after() -> Generator[None, None, None]:
    """Import big libraries without looking at what they make: that takes a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        settle_collector()


def settle_collector() -> None:
    """Leave what was imported alone from now on, and look at the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(THRESHOLD, 10, 10)
