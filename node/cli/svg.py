"""Writing SVG: numbers, text and shapes, and nothing that came from outside as markup. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

_UNSHOWABLE = re.compile(
    # What XML forbids, and what turns the direction of writing.
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufffe\uffff]"
)
STYLE = """
svg { --paper: #ffffff; --ink: #1f2328; --dim: #656d76; --line: #b6bec9; --band: #f4f6f8;
  --card: #ffffff; --good: #1a7f37; --bad: #cf222e; --lost: #bc4c00; --win: #9a6700;
  --tint: #fff5d6; font-family: system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { svg { --paper: #0d1117; --ink: #e6edf3; --dim: #8b949e;
  --line: #57606a; --band: #161b22; --card: #0d1117; --good: #3fb950; --bad: #f85149;
  --lost: #f0883e; --win: #e3b341; --tint: #332a00; } }
.paper { fill: var(--paper); }
.band { fill: var(--band); }
text { fill: var(--ink); font-size: 11px; }
.title { font-size: 18px; font-weight: 600; }
.words { font-size: 13px; }
.head { font-size: 12px; font-weight: 600; fill: var(--dim); }
.id { font-family: ui-monospace, monospace; font-size: 11px; }
.small { font-size: 10px; fill: var(--dim); }
.box { fill: var(--card); stroke: var(--line); stroke-width: 1.5; }
.good .box { stroke: var(--good); }
.void .box, .refused .box { stroke: var(--bad); stroke-dasharray: 4 3; }
.void text { fill: var(--dim); }
.void .id { text-decoration: line-through; }
.lost .box { stroke: var(--lost); stroke-width: 2; }
.win .box { stroke: var(--win); stroke-width: 3; fill: var(--tint); }
.win .id { font-weight: 700; }
.open .box { stroke: var(--lost); stroke-dasharray: 4 3; }
.fork .box { stroke: var(--bad); stroke-width: 2.5; }
.edge { fill: none; stroke: var(--line); stroke-width: 1.3; }
.edge.void { stroke: var(--bad); stroke-opacity: 0.45; stroke-dasharray: 4 3; }
.edge.lost { stroke: var(--bad); stroke-width: 1.8; }
.edge.open { stroke: var(--lost); stroke-width: 1.8; }
.edge.adopted { stroke: var(--good); stroke-width: 1.8; }
""".strip()


def text(value: str) -> str:
    """Return text as it may stand between tags."""
    return escape(_UNSHOWABLE.sub("\N{REPLACEMENT CHARACTER}", value))


def element(name: str, *inside: str, **attributes: str | float) -> str:
    """Return an element; `_` in an attribute's name stands for `-`, and `kind` is its class."""
    said = "".join(
        f" {'class' if key == 'kind' else key.replace('_', '-')}={_quoted(value)}"
        for key, value in attributes.items()
    )
    return f"<{name}{said}>{''.join(inside)}</{name}>" if inside else f"<{name}{said}/>"


def number(value: float) -> str:
    """Return a coordinate with at most one decimal."""
    shown = f"{value:.1f}".removesuffix(".0")
    return "0" if shown == "-0" else shown


def label(at: tuple[float, float], value: str, kind: str) -> str:
    """Return a line of text that starts at a point."""
    return element("text", text(value), x=at[0], y=at[1], kind=kind)


def curve(points: Sequence[tuple[float, float]], *, across: bool) -> str:
    """Return a smooth path through points.

    Args:
        across: The layers go from left to right; otherwise from the top down.
    """
    said = [f"M{number(points[0][0])} {number(points[0][1])}"]
    for (x, y), (to_x, to_y) in pairwise(points):
        if across:
            middle = (x + to_x) / 2
            bends = (middle, y, middle, to_y, to_x, to_y)
        else:
            middle = (y + to_y) / 2
            bends = (x, middle, to_x, middle, to_x, to_y)
        said.append("C" + " ".join(number(one) for one in bends))
    return "".join(said)


def _quoted(value: str | float) -> str:
    shown = value if isinstance(value, str) else number(value)
    return quoteattr(_UNSHOWABLE.sub("\N{REPLACEMENT CHARACTER}", shown))
