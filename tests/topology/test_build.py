"""A topology made in Python is one that could have been written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from zactor import Actor, Node, Topology, registry
from zactor.errors import UserError
from zactor.topology import build, model, read
from zactor.topology.diagnostics import TopologyError
from zactor.topology.placement import is_inline


class Lone(Actor):
    """In a module that no other process has by this name."""


def actor(name: str) -> Any:
    """A class of the folder's `actors_here.py`, as a program has it that imports that."""
    return registry.find(f"./actors_here.py:{name}", Path.cwd())


def same(topology: model.Topology) -> model.Topology:
    """What has to be the same when its text is another one."""
    return msgspec.structs.replace(topology, file="", text="")


def test_it_is_the_same_as_its_file(folder: Path) -> None:
    (folder / "t.yaml").write_text("""\
name: all
vars: {title: Dr.}
nodes:
  greeter: {kind: ./actors_here.py:Polite, replicas: 2, settings: {title: "${title}", capacity: 2MiB}, overflow: drop}
  caller:
    kind: ./actors_here.py:Caller
    links: {greeter: greeter/0, others: [greeter]}
    mailbox: 10
    restart: {when: always, limit: 3 in 10s}
    record: full
  hello: {kind: hello.greeter}
processes:
  both: {nodes: [caller, hello], transport: tcp}
peer_timeout: 2s
nemesis: [{at: 5s, do: kill, node: hello}]
try: [zactor ps]
""")
    polite = Node(actor("Polite"), replicas=2, settings={"title": "${title}", "capacity": "2MiB"}, overflow="drop")
    caller = Node(
        actor("Caller"),
        links={"greeter": "greeter/0", "others": ("greeter",)},
        mailbox=10,
        restart={"when": "always", "limit": "3 in 10s"},
        record="full",
    )
    made = Topology(
        name="all",
        vars={"title": "Dr."},
        nodes={"greeter": polite, "caller": caller, "hello": Node(registry.find("hello.greeter", None))},
        processes={"both": {"nodes": ["caller", "hello"], "transport": "tcp"}},
        peer_timeout="2s",
        nemesis=[{"at": "5s", "do": "kill", "node": "hello"}],
        try_=["zactor ps"],
    )

    assert same(build.load(made)) == same(read.load(Path("t.yaml")))


def test_it_has_every_key_of_the_file() -> None:
    assert {field.encode_name for field in msgspec.structs.fields(Topology)} == set(read.KEYS)
    assert {field.encode_name for field in msgspec.structs.fields(Node)} == set(read.NODE_KEYS)


def test_it_is_overridden_like_its_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZACTOR_SET", "greeter.salutation=Hi")

    found = build.load(Topology(name="t", nodes={"greeter": Node(actor("Greeter"))}), overrides=["greeter.patience=2s"])

    assert found.nodes["greeter"].settings == {"salutation": "Hi", "patience": "2s"}


def test_what_is_wrong_is_shown_at_once_in_the_text_that_it_became(folder: Path) -> None:
    wrong = Topology(
        name="t", nodes={"a": Node(actor("Greeter"), settings={"salutaton": "Hi"}), "b": Node("hello.greter")}
    )

    with pytest.raises(TopologyError) as found:
        build.load(wrong)

    assert (
        str(found.value)
        == """\
<Topology>:7:9: nodes.a.settings.salutaton: Greeter has no setting 'salutaton'. Did you mean 'salutation'?
    "salutaton": "Hi"
    ^
<Topology>:11:15: nodes.b.kind: there is no kind 'hello.greter'. Did you mean 'hello.greeter'?
    "kind": "hello.greter"
            ^"""
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object, "<class 'object'> has no place in a topology; expected text, numbers"),
        (1 << 70, "out of range|does not fit"),
        ("\ud800", "surrogates"),
    ],
)
def test_a_value_that_has_no_place_in_a_file_is_refused(folder: Path, value: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        build.load(Topology(name="t", nodes={"a": Node(actor("Greeter"), settings={"salutation": value})}))


def test_a_mapping_within_itself_is_refused(folder: Path) -> None:
    settings: dict[str, Any] = {}
    settings["salutation"] = settings

    with pytest.raises(UserError, match="cannot be written as a file"):
        build.load(Topology(name="t", nodes={"a": Node(actor("Greeter"), settings=settings)}))


# --- classes
def test_a_class_has_the_name_that_one_would_write(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "afar.py"
    elsewhere.write_text("from zactor import Actor\nclass Far(Actor): pass\n")
    far = registry.find(f"{elsewhere}:Far", folder)
    try:
        nodes = {"near": Node(actor("Greeter")), "far": Node(far), "known": Node(registry.find("hello.greeter", None))}

        found = build.load(Topology(name="t", nodes=nodes)).nodes

        kinds = {name: node.kind for name, node in found.items()}
        assert kinds == {"near": "./actors_here.py:Greeter", "far": f"{elsewhere}:Far", "known": "hello.greeter"}
    finally:
        del sys.modules["afar"]


def test_a_class_that_only_this_program_has_is_taken_inline_alone(folder: Path) -> None:
    class Inner(Actor):
        pass

    inner = Topology(name="t", nodes={"a": Node(Lone), "b": Node(Inner)})

    with pytest.raises(UserError, match=rf"only this program knows Lone of {Lone.__module__}: put it into a file"):
        build.load(inner)
    assert is_inline(build.load(inner, inline=True))


def test_of_two_classes_of_one_name_the_last_counts(folder: Path) -> None:
    """A cell of a notebook that is run again makes its class anew."""
    for setting in ("first", "second"):
        again: type[Actor] = type("Again", (Actor,), {"__annotations__": {setting: "int"}, "__module__": __name__})
        build.load(Topology(name="t", nodes={"a": Node(again, settings={setting: 1})}), inline=True)


def test_the_class_of_a_main_program_is_not_what_its_file_would_give(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    greeter = actor("Greeter")
    monkeypatch.setattr(greeter, "__module__", "__main__")
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["actors_here"])

    assert registry.name_of(greeter) is None
