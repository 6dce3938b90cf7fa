"""Curves as a PNG, drawn with numpy and nothing else: axes, lines, labels, a font of 5 by 7 dots.

A drawing library would be a dependency for one picture. Everything is drawn three times as large
and averaged, so that lines are smooth.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCALE = 3
INK, DIM, GRID, PAPER = (31, 35, 40), (101, 109, 118), (222, 226, 231), (255, 255, 255)
COLOURS = ((9, 105, 218), (188, 76, 0), (26, 127, 55), (130, 80, 223))
PANEL, GAP, TOP = (400, 280), (70, 74), 64
Colour = tuple[int, int, int]
_GLYPHS = """
    0 3e5149453e 1 00427f4000 2 4261514946 3 2141454b31 4 1814127f10 5 2745454539 6 3c4a494930
    7 0171090503 8 3649494936 9 064949291e a 2054545478 b 7f48444438 c 3844444420 d 384444487f
    e 3854545418 f 087e090102 g 18a4a4a47c h 7f08040478 i 00447d4000 j 4080847d00 k 7f10284400
    l 00417f4000 m 7c04180478 n 7c08040478 o 3844444438 p fc24242418 q 18242424fc r 7c08040408
    s 4854545420 t 043f444020 u 3c4040207c v 1c2040201c w 3c4030403c x 4428102844 y 1ca0a0a07c
    z 4464544c44 A 7e1111117e B 7f49494936 K 7f08142241 G 3e4149497a C 3e41414122 O 3e4141413e
    W 3f4038403f . 0060600000 , 0080600000 % 2313086462 / 2010080402 ( 001c224100 ) 0041221c00
    ; 0080680000 - 0808080808
""".split()  # noqa: SIM905 - a table
FONT: Mapping[str, bytes] = {
    letter: bytes.fromhex(columns)
    for letter, columns in zip(_GLYPHS[::2], _GLYPHS[1::2], strict=True)
} | {" ": bytes(5)}
"""Five columns a letter, the lowest bit on top."""


class Canvas:
    """A white picture; sizes and places in its pixels, from the top left."""

    def __init__(self, width: int, height: int) -> None:
        self._dots: NDArray[np.float32] = np.full(
            (height * SCALE, width * SCALE, 3), 255.0, np.float32
        )

    def box(self, x: float, y: float, to_x: float, to_y: float, colour: Colour) -> None:
        """Fill a rectangle."""
        left, top, right, bottom = (round(one * SCALE) for one in (x, y, to_x, to_y))
        self._dots[max(0, top) : max(top + 1, bottom), max(0, left) : max(left + 1, right)] = colour

    def line(self, points: Sequence[tuple[float, float]], colour: Colour, width: float) -> None:
        """Draw through points, round at the corners."""
        for (x, y), (to_x, to_y) in pairwise(points):
            steps = int(max(abs(to_x - x), abs(to_y - y)) * SCALE) + 1
            for step in range(steps + 1):
                at = step / steps
                self.dot(x + (to_x - x) * at, y + (to_y - y) * at, width / 2, colour)

    def dot(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Draw a filled circle."""
        reach = int(radius * SCALE) + 1
        row, column = round(y * SCALE), round(x * SCALE)
        ys, xs = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        part = self._dots[row - reach : row + reach + 1, column - reach : column + reach + 1]
        if part.shape[:2] == ys.shape:
            part[ys**2 + xs**2 <= (radius * SCALE) ** 2] = colour

    def text(self, x: float, y: float, words: str, colour: Colour, size: float = 1.5) -> None:
        """Write with the upper left corner at a point."""
        for number, letter in enumerate(words):
            for column, bits in enumerate(FONT[letter]):
                for row in range(8):
                    if bits >> row & 1:
                        left, top = x + (number * 6 + column) * size, y + row * size
                        self.box(left, top, left + size, top + size, colour)

    def png(self) -> bytes:
        """Return the picture as a file."""
        height, width = self._dots.shape[0] // SCALE, self._dots.shape[1] // SCALE
        small = self._dots.reshape(height, SCALE, width, SCALE, 3).mean(axis=(1, 3))
        pixels = np.rint(small).astype(np.uint8)
        rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + b"".join((
            _chunk(b"IHDR", head),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
            _chunk(b"IEND", b""),
        ))  # fmt: skip


def text_width(words: str, size: float = 1.5) -> float:
    """Return how wide a text is."""
    return (len(words) * 6 - 1) * size


Figure = Callable[[Mapping[str, Any]], float]


@dataclass(frozen=True)
class Panel:
    """One pair of axes: nodes across, on a logarithmic scale, and what its curves show.

    Attributes:
        ticks: Upwards, from the lowest to the highest.
        logarithmic: Whether the axis upwards is, too.
    """

    title: str
    unit: str
    ticks: tuple[float, ...]
    curves: Mapping[str, Figure]
    logarithmic: bool = False


def field(name: str, part: str = "") -> Figure:
    """Return what reads a figure of a row."""
    return lambda row: float(row[name][part] if part else row[name])


def both(name: str) -> Figure:
    """Return what reads the bytes of gossip and catch-up together."""
    return lambda row: float(row[name]["gossip_bytes"] + row[name]["sync_bytes"])


PANELS = (
    Panel("One operation, nothing lost", "s until held", (0, 0.1, 0.2, 0.3, 0.4),
          {"the slowest of 20": field("worst_s"), "by all nodes": field("all_s"),
           "by half of them": field("half_s")}),
    Panel("300 operations at once", "s until all sets are equal", (0.1, 0.3, 1, 3, 10, 30, 100),
          {"30 % of gossip dropped": field("dropped_s"), "nothing dropped": field("burst_s")},
          logarithmic=True),
    Panel("Who comes, and who comes back", "s until all sets are equal", (0, 10, 20, 30, 40),
          {"after a partition of 60 s": field("healed_s"), "a newcomer, 700 KB": field("join_s")}),
    Panel("Gossip messages", "sent by a node for an operation", (0, 2, 4, 6, 8, 10),
          {"one at a time": field("live", "gossip_messages"),
           "300 at once": field("burst", "gossip_messages")}),
    Panel("Bytes", "B sent by a node for an operation", (0, 2000, 4000, 6000, 8000, 10000, 12000),
          {"one at a time": both("live"), "300 at once": both("burst"),
           "of these, catch-up": field("burst", "sync_bytes"),
           "the operation itself": field("item_bytes")}),
    Panel("When nothing happens", "B/s to each peer", (0, 2, 4, 6, 8, 10),
          {"catch-up and peer exchange": field("idle_bytes_per_peer_s")}),
)  # fmt: skip


def draw(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the picture of all panels: lines through medians, a dot for each town."""
    width = 3 * (PANEL[0] + GAP[0]) + 30
    canvas = Canvas(width, TOP + 2 * (PANEL[1] + GAP[1]) + 10)
    title = "Convergence and traffic by number of nodes (simulated; medians, dots are single towns)"
    canvas.text(GAP[0] - 8, 18, title, INK, 2)
    for number, panel in enumerate(PANELS):
        x = GAP[0] + (number % 3) * (PANEL[0] + GAP[0])
        y = TOP + 30 + (number // 3) * (PANEL[1] + GAP[1])
        _draw_panel(canvas, panel, x, y, rows)
    return canvas.png()


def _draw_panel(
    canvas: Canvas, panel: Panel, x: float, y: float, rows: Sequence[Mapping[str, Any]]
) -> None:
    width, height = PANEL[0], PANEL[1] - 50
    sizes = sorted({int(row["nodes"]) for row in rows})
    low, high = panel.ticks[0], panel.ticks[-1]

    def across(nodes: float) -> float:
        first, last = np.log10(sizes[0]), np.log10(max(sizes[-1], sizes[0] * 2))
        return x + 14 + (width - 28) * float((np.log10(nodes) - first) / (last - first))

    def up(value: float) -> float:
        if panel.logarithmic:
            share = float(np.log(max(value, low) / low) / np.log(high / low))
        else:
            share = (value - low) / (high - low)
        return y + height - height * min(1.0, max(0.0, share))

    canvas.text(x, y - 32, panel.title, INK, 1.5)
    canvas.text(x, y - 16, panel.unit, DIM, 1.25)
    for tick in panel.ticks:
        canvas.box(x, up(tick), x + width, up(tick) + 0.6, GRID)
        said = f"{tick:g}"
        canvas.text(x - 8 - text_width(said, 1.25), up(tick) - 4, said, DIM, 1.25)
    for size in sizes:
        said = f"{size}"
        canvas.text(across(size) - text_width(said, 1.25) / 2, y + height + 8, said, DIM, 1.25)
    canvas.text(x + width - text_width("nodes", 1.25), y + height + 22, "nodes", DIM, 1.25)
    for number, (name, figure) in enumerate(panel.curves.items()):
        colour = COLOURS[number]
        middle = [
            (across(size), up(median(figure(row) for row in rows if row["nodes"] == size)))
            for size in sizes
        ]
        canvas.line(middle, colour, 1.8)
        for row in rows:
            canvas.dot(across(int(row["nodes"])), up(figure(row)), 2.6, colour)
        _name(canvas, name, x, y, number, colour)


def _name(canvas: Canvas, name: str, x: float, y: float, number: int, colour: Colour) -> None:
    """Say which curve has which colour, in the upper right corner."""
    left = x + PANEL[0] - text_width(name, 1.25) - 4
    top = y + 5 + number * 14
    canvas.box(left - 30, top - 3, x + PANEL[0], top + 11, PAPER)
    canvas.line([(left - 24, top + 4), (left - 8, top + 4)], colour, 2.4)
    canvas.text(left, top, name, INK, 1.25)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
