"""A topology held against the kinds that it names: are there such kinds, and do settings and links fit them?"""

from __future__ import annotations

from pathlib import Path

from zactor import registry
from zactor.actor import Actor
from zactor.errors import UserError
from zactor.topology.diagnostics import Report, join
from zactor.topology.links import Links
from zactor.topology.model import Node
from zactor.topology.settings import convert_settings
from zactor.topology.source import Tree


def check_nodes(nodes: dict[str, Node], counted: dict[str, Node], tree: Tree, folder: Path, report: Report) -> None:
    """Complain of kinds that there are not and of settings and links that do not fit.

    `counted` are the nodes whose instances are known, so that links can be followed; `tree` is `nodes`.
    """
    kinds: dict[str, type[Actor]] = {}
    found: dict[str, type[Actor] | UserError] = {}
    for node in nodes.values():
        if node.kind not in found:
            try:
                found[node.kind] = registry.find(node.kind, folder)
            except UserError as error:
                found[node.kind] = error
        kind = found[node.kind]
        if isinstance(kind, UserError):
            report.add(tree.place(node.name, "kind"), join("nodes", node.name, "kind"), str(kind))
        else:
            kinds[node.name] = kind
    links = Links(counted, kinds, tree, report)
    for name, kind in kinds.items():
        for problem in convert_settings(kind, nodes[name].settings)[1]:
            path = (name, "settings", *problem.path)
            at = tree.place(*path, of_key=problem.of_key)
            report.add(at, join("nodes", *path), problem.message, problem.hint)
        links.check(nodes[name])
