"""Where the nodes of a layered graph go: few crossings, nothing on top of anything else. Pure.

The classic steps (Sugiyama 1981): layers by depth, bends where an edge passes a layer, an order in
each layer by the mean place of neighbours, then places as near to the neighbours' as the order and
the distances allow (isotonic regression). Deterministic: ties go by the order that was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

Edge: TypeAlias = tuple[bytes, bytes]
"""From what is cited to what cites it."""
Node: TypeAlias = bytes | tuple[Edge, int]
"""A node that was given, or the bend of an edge in a layer."""
SWEEP_COUNT = 6
PULL = 0.9
"""How much of its distance from the middle line a node keeps in each sweep."""
BEND_COUNT_MAX = 4000
"""Bends beyond this are left out: such edges go straight, across whatever is between."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Places along the layers.

    Attributes:
        places: The middle of each node across its layer, from 0 up.
        layers: The layer of each node, from 0.
        bends: For each edge (from, to): its places in the layers between, from low to high.
        extent: How much room the widest layer takes.
    """

    places: Mapping[bytes, float]
    layers: Mapping[bytes, int]
    bends: Mapping[Edge, tuple[float, ...]]
    extent: float


@dataclass(slots=True)
class _Graph:
    """Layers of nodes and bends, in order; bends are (edge, layer)."""

    rows: list[list[Node]]
    sizes: dict[Node, float]
    down: dict[Node, list[Node]] = field(default_factory=dict[Node, list[Node]])
    up: dict[Node, list[Node]] = field(default_factory=dict[Node, list[Node]])

    def join(self, low: Node, high: Node) -> None:
        self.up.setdefault(low, []).append(high)
        self.down.setdefault(high, []).append(low)


def layout(
    layers: Mapping[bytes, int],
    edges: Sequence[Edge],
    *,
    size: float,
    gap: float,
) -> Layout:
    """Return where nodes go.

    Args:
        layers: The layer of each node, from 0; in the order ties go by.
        edges: (from, to), from a lower layer to a higher one.
        size: Room one node takes across its layer.
        gap: Least distance between two.
    """
    graph, chains = _graph(layers, edges, size=size)
    for sweep in range(SWEEP_COUNT):
        _order(graph, upward=bool(sweep % 2))
    places = _places(graph, gap=gap)
    return Layout(
        places={node: places[node] for node in layers},
        layers=layers,
        bends={edge: tuple(places[bend] for bend in chain) for edge, chain in chains.items()},
        extent=max((places[one] + graph.sizes[one] / 2 for one in places), default=0.0),
    )


def _graph(
    layers: Mapping[bytes, int], edges: Sequence[Edge], *, size: float
) -> tuple[_Graph, dict[Edge, list[Node]]]:
    rows: list[list[Node]] = [[] for _ in range(1 + max(layers.values(), default=-1))]
    for node, layer in layers.items():
        rows[layer].append(node)
    graph = _Graph(rows, dict.fromkeys(layers, size))
    spans = sum(layers[high] - layers[low] - 1 for low, high in edges)
    chains: dict[Edge, list[Node]] = {}
    for edge in edges:
        low, high = edge
        assert layers[low] < layers[high], "an edge leads to a higher layer"
        between = range(layers[low] + 1, layers[high]) if spans <= BEND_COUNT_MAX else range(0)
        chain: list[Node] = [(edge, layer) for layer in between]
        for bend, layer in zip(chain, between, strict=True):
            rows[layer].append(bend)
            graph.sizes[bend] = size / 8
        chains[edge] = chain
        if spans > BEND_COUNT_MAX and layers[high] - layers[low] > 1:
            continue
        for one, other in pairwise((low, *chain, high)):
            graph.join(one, other)
    return graph, chains


def _order(graph: _Graph, *, upward: bool) -> None:
    """Sort each layer by the mean place of its neighbours in the layer before."""
    rows = list(reversed(graph.rows)) if upward else graph.rows
    neighbours = graph.up if upward else graph.down
    for before, row in pairwise(rows):
        at = {node: number for number, node in enumerate(before)}
        means = {
            node: _mean([at[one] for one in neighbours.get(node, ()) if one in at], number)
            for number, node in enumerate(row)
        }
        row.sort(key=means.__getitem__)  # stable: what has no neighbours stays where it is


def _places(graph: _Graph, *, gap: float) -> dict[Node, float]:
    places: dict[Node, float] = {}
    for row in graph.rows:
        # Around one middle line, or the whole drifts to a side.
        at = -(sum(graph.sizes[node] + gap for node in row) - gap) / 2
        for node in row:
            at += graph.sizes[node] / 2
            places[node] = at
            at += graph.sizes[node] / 2 + gap
    for sweep in range(2 * SWEEP_COUNT):
        upward = bool(sweep % 2)
        rows = list(reversed(graph.rows)) if upward else graph.rows
        neighbours = graph.up if upward else graph.down
        for row in rows[1:] if len(rows) > 1 else ():
            wanted = [
                _mean([places[one] for one in neighbours.get(node, ())], places[node]) * PULL
                for node in row
            ]
            sizes = [graph.sizes[node] for node in row]
            places.update(zip(row, _apart(wanted, sizes, gap=gap), strict=True))
    least = min((places[node] - graph.sizes[node] / 2 for node in places), default=0.0)
    return {node: place - least for node, place in places.items()}


def _apart(wanted: Sequence[float], sizes: Sequence[float], *, gap: float) -> list[float]:
    """Return places in the given order, apart by sizes and gap, least squares from the wanted.

    Isotonic regression by pooling adjacent violators, after the distances are taken off.
    """
    offsets: list[float] = []
    at = 0.0
    for size in sizes:
        offsets.append(at + size / 2)
        at += size + gap
    pools: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        total, count = want - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            before, number = pools.pop()
            total, count = total + before, count + number
        pools.append((total, count))
    free = [total / count for total, count in pools for _ in range(count)]
    return [one + offset for one, offset in zip(free, offsets, strict=True)]


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
