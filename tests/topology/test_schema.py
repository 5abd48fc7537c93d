from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from ruamel.yaml import YAML

from zactor import registry
from zactor.topology import schema
from zactor.topology.trials import FAULTS

CONFIGS = sorted(Path("configs").glob("*.yaml"))

KINDS = """
import msgspec
from typing import Literal
from zactor import Actor, ByteSize, Duration


class Rule(msgspec.Struct):
    wait: Duration
    level: int = 0


class Level(msgspec.Struct):
    number: int


class Kind(Actor):
    rules: tuple[Rule, ...] = ()
    levels: tuple[Level, ...] = ()
    waits: dict[str, Duration] = {}
    mode: Literal["fast", "safe"] = "safe"
    room: ByteSize | None = None
    needed: int
"""


@pytest.fixture(scope="session")
def validator() -> Any:
    made = schema.schema({name: registry.find(name, None) for name in registry.names()})
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


def complaints(validator: Any, text: str) -> list[str]:
    return [each.json_path for each in validator.iter_errors(YAML(typ="safe").load(text))]


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_what_ships_is_as_the_schema_has_it(validator: Any, path: Path) -> None:
    assert complaints(validator, path.read_text()) == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("nodes: {a: {kind: hello.greeter}}", "$"),
        ("name: t\nnodes: {a: {kind: hello.greter}}", "$.nodes.a.kind"),
        ("name: t\nnodes: {a: {kind: hello.greeter, replicas: 0}}", "$.nodes.a.replicas"),
        ("name: t\nnodes: {a: {kind: hello.greeter, replica: 1}}", "$.nodes.a"),
        ("name: t\nnodes: {a: {kind: hello.greeter, settings: {salutatoin: x}}}", "$.nodes.a.settings"),
        ("name: t\nnodes: {a: {kind: hello.greeter, settings: {salutation: 5}}}", "$.nodes.a.settings.salutation"),
        ("name: t\nnodes: {a: {kind: hello.caller, links: {greter: b}}}", "$.nodes.a.links"),
        ("name: t\nnodes: {a: {kind: hello.greeter}}\nnemesis: [{at: 5s, do: kil, node: a}]", "$.nemesis[0]"),
        ("name: t\nnodes: {a: {kind: hello.greeter}}\nprocesses: {p: {nodes: a}}", "$.processes.p.nodes"),
    ],
)
def test_what_check_would_refuse_is_marked_in_an_editor(validator: Any, text: str, where: str) -> None:
    assert complaints(validator, text) == [where]


@pytest.mark.parametrize(
    "text",
    [
        "include: base.yaml",
        "name: t\nvars: {n: 2}\nnodes: {a: {kind: files.server, replicas: '${n}', settings: {capacity: '${n}'}}}",
        "name: t\nnodes: {a: {kind: './x.py:X', settings: {anything: [1]}}}",
        "name: t\nnodes: {a: {kind: files.server, settings: {capacity: 2GiB}, mailbox: 5, overflow: drop}}",
    ],
)
def test_what_check_accepts_is_not_marked(validator: Any, text: str) -> None:
    assert complaints(validator, text) == []


def test_every_fault_is_there(validator: Any) -> None:
    for name, kind in FAULTS.items():
        words = {"for": "2s", "by": "-5ms", "rate": "10%", "times": "3", "ppm": "-20", "messages": "[Greet]"}
        more = "".join(f", {word}: {words[word]}" for word in kind.needs)
        aim = "a" if kind.aim == "node" else "[a, '*']"
        fault = f"{{at: 5s, do: {name}, {kind.aim}: {aim}{more}}}"
        assert complaints(validator, f"name: t\nnodes: {{a: {{kind: hello.greeter}}}}\nnemesis: [{fault}]") == []


def test_settings_of_any_type_have_the_form_in_which_they_are_written(folder: Path) -> None:
    (folder / "schema_kinds.py").write_text(KINDS)
    made = schema.schema({"my.kind": registry.find("./schema_kinds.py:Kind", folder)})
    own = jsonschema.Draft202012Validator(made)
    good = "{rules: [{wait: 5s}], levels: [{number: 1}], waits: {a: 5s}, mode: fast, room: 2KiB, needed: 1}"

    assert complaints(own, f"name: t\nnodes: {{a: {{kind: my.kind, settings: {good}}}}}") == []
    bad = "{levels: [{number: x}], mode: fats}"
    assert sorted(complaints(own, f"name: t\nnodes: {{a: {{kind: my.kind, settings: {bad}}}}}")) == [
        "$.nodes.a.settings",
        "$.nodes.a.settings.levels",
        "$.nodes.a.settings.mode",
    ]
