from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from zactor.topology import graph, read
from zactor.topology.model import Topology

TEXT = """\
name: "a-graph"
nodes:
  front: {kind: './actors_here.py:Front', links: {behind: [peer/0, peer/2, one]}}
  one: {kind: './actors_here.py:Greeter'}
  peer: {kind: './actors_here.py:Peer', replicas: 3, links: {peers: peer, next: one}}
  caller: {kind: './actors_here.py:Caller', links: {greeter: front, others: [one]}}
  alone: {kind: './actors_here.py:Greeter'}
"""

SVG = "{http://www.w3.org/2000/svg}"


def load(folder: Path) -> Topology:
    (folder / "t.yaml").write_text(TEXT)
    return read.load(Path("t.yaml"))


def test_as_text_each_node_has_a_line_and_each_link_one_below_it(folder: Path) -> None:
    assert (
        graph.as_text(load(folder))
        == """\
front    ./actors_here.py:Front
  behind -> peer [0, 2]
  behind -> one
one      ./actors_here.py:Greeter
peer x3  ./actors_here.py:Peer
  peers -> peer
  next -> one
caller   ./actors_here.py:Caller
  greeter -> front
  others -> one
alone    ./actors_here.py:Greeter
"""
    )


def test_as_mermaid_names_are_labels_and_nothing_in_them_is_syntax(folder: Path) -> None:
    assert graph.as_mermaid(load(folder)).splitlines()[:3] == [
        "flowchart LR",
        '  n0["front<br/><small>./actors_here.py:Front</small>"]',
        '  n1["one<br/><small>./actors_here.py:Greeter</small>"]',
    ]
    assert '  n0 -- "behind [0, 2]" --> n2' in graph.as_mermaid(load(folder)).splitlines()


def test_as_svg_no_box_lies_on_another_and_links_go_to_the_right_where_they_can(folder: Path) -> None:
    topology = load(folder)
    drawn = ET.fromstring(graph.as_svg(topology))
    boxes = [tuple(int(rect.attrib[key]) for key in ("x", "y", "width", "height")) for rect in drawn.iter(f"{SVG}rect")]
    width, height = int(drawn.attrib["width"]), int(drawn.attrib["height"])

    assert len(boxes) == 5
    for index, (x, y, wide, high) in enumerate(boxes):
        assert x >= 0
        assert y >= 0
        assert x + wide <= width
        assert y + high <= height
        for other_x, other_y, other_wide, other_high in boxes[:index]:
            assert x >= other_x + other_wide or other_x >= x + wide or y >= other_y + other_high or other_y >= y + high
    paths = [path.attrib["d"] for path in drawn.iter(f"{SVG}path") if path.attrib.get("class") == "edge"]
    assert len(paths) == len(graph.edges(topology)) == 6
    ends = [[float(word) for word in re.findall(r"-?[0-9.]+", path)] for path in paths]
    assert sum(end[-2] > end[0] for end in ends) == 5  # all but the ring of the peers


def test_rings_are_drawn(folder: Path) -> None:
    (folder / "t.yaml").write_text(
        "name: t\nnodes:\n  a: {kind: './actors_here.py:Peer', links: {next: b}}\n"
        "  b: {kind: './actors_here.py:Peer', links: {next: a}}\n"
    )

    assert ET.fromstring(graph.as_svg(read.load(Path("t.yaml")))).tag == f"{SVG}svg"
