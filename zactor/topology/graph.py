"""A topology as a picture: nodes and the links between them, as text, as Mermaid and as SVG.

Replicas are one box. The SVG is layered as Sugiyama, Tagawa and Toda (1981) have it: who links to others stands left
of them, and the boxes of a layer are in the order of those to which they are linked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import NamedTuple

from zactor.topology.model import Node, Topology

BOX_HEIGHT, GAP, LAYER_GAP, LETTER_WIDTH, MARGIN = 44, 20, 120, 7, 16
"""Pixels."""

SWEEPS = 4
"""How often the order of each layer is made that of its neighbours."""


class Edge(NamedTuple):
    """A link: from a node to a node, by its role; `detail` names replicas if not all of them are meant."""

    source: str
    target: str
    role: str
    detail: str


def edges(topology: Topology) -> list[Edge]:
    """The links of all nodes, in the order of the file."""
    found = []
    for node in topology.nodes.values():
        for role, targets in node.links.items():
            by_node: dict[str, list[str]] = {}
            for target in targets:
                name, slash, index = target.partition("/")
                by_node.setdefault(name, []).extend([index] * bool(slash))
            found += [Edge(node.name, name, role, ", ".join(indexes)) for name, indexes in by_node.items()]
    return found


def as_text(topology: Topology) -> str:
    """A line a node, and below it one a link."""
    width = max(len(_label(node)) for node in topology.nodes.values())
    lines = []
    for node in topology.nodes.values():
        lines.append(f"{_label(node):{width}}  {node.kind}")
        lines += [
            f"  {each.role} -> {each.target}{_bracketed(each)}" for each in edges(topology) if each.source == node.name
        ]
    return "\n".join(lines) + "\n"


def as_mermaid(topology: Topology) -> str:
    """A flowchart for Markdown."""
    numbers = {name: f"n{number}" for number, name in enumerate(topology.nodes)}
    lines = ["flowchart LR"]
    for node in topology.nodes.values():
        lines.append(f'  {numbers[node.name]}["{escape(_label(node))}<br/><small>{escape(node.kind)}</small>"]')
    for each in edges(topology):
        label = escape(each.role + _bracketed(each))
        lines.append(f'  {numbers[each.source]} -- "{label}" --> {numbers[each.target]}')
    return "\n".join(lines) + "\n"


def as_svg(topology: Topology) -> str:
    """A picture that stands alone."""
    boxes = _boxes(topology)
    width = max(box.x + box.width for box in boxes.values()) + MARGIN
    height = max(box.y for box in boxes.values()) + BOX_HEIGHT + MARGIN + GAP
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
        f"<title>{escape(topology.name)}</title>",
        f"<style>{_STYLE}</style>",
        _ARROW,
    ]
    parts += [_line(boxes[each.source], boxes[each.target], each) for each in edges(topology)]
    parts += [_box(boxes[node.name], node) for node in topology.nodes.values()]
    return "\n".join([*parts, "</svg>"]) + "\n"


FORMATS: dict[str, Callable[[Topology], str]] = {"text": as_text, "mermaid": as_mermaid, "svg": as_svg}

_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1a1a1a}.kind,.role{font-size:11px;fill:#666}"
    ".role{paint-order:stroke;stroke:#fff;stroke-width:4px}"
    "rect{fill:#f4f6fa;stroke:#5b6b8c;rx:6}.edge{fill:none;stroke:#5b6b8c}marker path{fill:#5b6b8c}"
)


_ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0L8 4L0 8z"/></marker></defs>'
)


class Box(NamedTuple):
    x: int
    y: int
    width: int


def _boxes(topology: Topology) -> dict[str, Box]:
    boxes: dict[str, Box] = {}
    x = MARGIN
    layers = _layers(topology)
    tallest = max(map(len, layers))
    for layer in layers:
        widest = max(max(len(_label(node)), len(node.kind)) for node in map(topology.nodes.__getitem__, layer))
        width = widest * LETTER_WIDTH + 2 * MARGIN
        y = MARGIN + GAP + (tallest - len(layer)) * (BOX_HEIGHT + GAP) // 2
        for name in layer:
            boxes[name] = Box(x, y, width)
            y += BOX_HEIGHT + GAP
        x += width + LAYER_GAP
    return boxes


def _layers(topology: Topology) -> list[list[str]]:
    """Names in layers: each stands to the right of all that link to it, rings aside, which are cut where they close."""
    targets: dict[str, list[str]] = {name: [] for name in topology.nodes}
    for source, target, *_ in edges(topology):
        targets[source].append(target)
    order = _after_their_targets(targets)
    place = {name: index for index, name in enumerate(reversed(order))}
    depth = dict.fromkeys(targets, 0)
    for name in reversed(order):
        for target in targets[name]:
            if place[target] > place[name]:
                depth[target] = max(depth[target], depth[name] + 1)
    layers: list[list[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for name in targets:
        layers[depth[name]].append(name)
    sources = {name: [each for each in targets if name in targets[each]] for name in targets}
    for sweep in range(SWEEPS):
        rank = {name: index / len(layer) for layer in layers for index, name in enumerate(layer)}
        near = targets if sweep % 2 else sources
        for layer in layers:
            layer.sort(key=lambda name: _middle([rank[each] for each in near[name]] or [rank[name]]))
    return layers


def _after_their_targets(targets: dict[str, list[str]]) -> list[str]:
    """All names, each after those that it links to, as far as no ring is closed; without recursion."""
    done: dict[str, None] = {}
    begun: set[str] = set()
    for first in targets:
        ways: list[tuple[str, Iterator[str]]] = [] if first in begun else [(first, iter(targets[first]))]
        begun.add(first)
        while ways:
            name, rest = ways[-1]
            further = next((each for each in rest if each not in begun), None)
            if further is None:
                done[name] = None
                ways.pop()
            else:
                begun.add(further)
                ways.append((further, iter(targets[further])))
    return list(done)


def _middle(ranks: list[float]) -> float:
    return sum(ranks) / len(ranks)


def _box(box: Box, node: Node) -> str:
    middle = box.x + box.width // 2
    return (
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{BOX_HEIGHT}"/>'
        f'<text x="{middle}" y="{box.y + 18}" text-anchor="middle">{escape(_label(node))}</text>'
        f'<text class="kind" x="{middle}" y="{box.y + 35}" text-anchor="middle">{escape(node.kind)}</text>'
    )


def _line(source: Box, target: Box, edge: Edge) -> str:
    """A curve with its role. One to its own layer, or back, goes over the boxes."""
    x, y = source.x + source.width, source.y + BOX_HEIGHT // 2
    to_x, to_y = target.x, target.y + BOX_HEIGHT // 2
    if to_x > x:
        bend = (to_x - x) // 2
        path = f"M{x} {y}C{x + bend} {y} {to_x - bend} {to_y} {to_x} {to_y}"
        label_x, label_y = (x + to_x) // 2, (y + to_y) // 2 - 5
    else:
        x, to_x = source.x + source.width * 2 // 3, target.x + target.width // 3
        over = min(source.y, target.y) - GAP
        path = f"M{x} {source.y}C{x} {over} {to_x} {over} {to_x} {target.y}"
        label_x, label_y = (x + to_x) // 2, over + 4
    label = escape(edge.role + _bracketed(edge))
    return (
        f'<path class="edge" d="{path}" marker-end="url(#arrow)"/>'
        f'<text class="role" x="{label_x}" y="{label_y}" text-anchor="middle">{label}</text>'
    )


def _label(node: Node) -> str:
    return node.name if node.replicas is None else f"{node.name} x{node.replicas}"


def _bracketed(edge: Edge) -> str:
    return f" [{edge.detail}]" if edge.detail else ""
