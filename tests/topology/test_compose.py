from __future__ import annotations

from pathlib import Path

import pytest

from zactor.errors import UserError
from zactor.topology import compose, read
from zactor.topology.diagnostics import TopologyError
from zactor.topology.model import Topology

NODES = """\
name: test
nodes:
  a: {kind: './actors_here.py:Greeter', settings: {salutation: Hi}}
  b: {kind: './actors_here.py:Greeter', replicas: 2}
"""


def load(folder: Path, text: str, *overrides: str, **others: str) -> Topology:
    """Others are files beside it, `x_yaml` for x.yaml; a folder goes before two underscores."""
    for name, content in others.items():
        path = folder / f"{name.replace('__', '/').replace('_yaml', '.yaml')}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    (folder / "t.yaml").write_text(text)
    return read.load(Path("t.yaml"), overrides=overrides)


def refusal(folder: Path, text: str, *overrides: str, **others: str) -> list[str]:
    with pytest.raises(TopologyError) as raised:
        load(folder, text, *overrides, **others)
    return [str(diagnostic).replace(str(folder), "FOLDER").splitlines()[0] for diagnostic in raised.value.diagnostics]


# --- include
def test_an_included_file_is_below_the_one_that_includes_it(folder: Path) -> None:
    topology = load(
        folder,
        "include: base.yaml\nname: mine\nnodes:\n  a: {settings: {salutation: Ho}}\n  c: {kind: hello.greeter}\n",
        base_yaml=NODES + "try: [one, two]\npeer_timeout: 2s\n",
    )

    assert topology.name == "mine"
    assert list(topology.nodes) == ["a", "b", "c"]
    assert topology.nodes["a"].settings == {"salutation": "Ho"}
    assert topology.nodes["b"].replicas == 2
    assert (topology.try_, topology.peer_timeout_ns) == (("one", "two"), 2_000_000_000)


def test_the_later_of_two_included_files_has_the_last_word_between_them(folder: Path) -> None:
    more = "nodes: {a: {settings: {salutation: Last, capacity: 2KiB}}}\n"
    topology = load(folder, "include: [base.yaml, more.yaml]\n", base_yaml=NODES, more_yaml=more)

    assert topology.nodes["a"].settings == {"salutation": "Last", "capacity": "2KiB"}


def test_paths_in_an_included_file_are_relative_to_it(folder: Path) -> None:
    there = "include: ../base.yaml\nnodes: {d: {kind: './two.py:Other'}, e: {kind: ../actors_here.py:Greeter}}\n"
    (folder / "sub").mkdir()
    (folder / "sub" / "two.py").write_text("from zactor.actor import Actor\nclass Other(Actor): pass\n")
    topology = load(folder, "include: sub/more.yaml\n", base_yaml=NODES, sub__more_yaml=there)

    assert {name: node.kind for name, node in topology.nodes.items()} == {
        "a": "./actors_here.py:Greeter",
        "b": "./actors_here.py:Greeter",
        "d": "./sub/two.py:Other",
        "e": "./actors_here.py:Greeter",
    }


def test_what_is_wrong_is_shown_in_the_file_where_it_stands(folder: Path) -> None:
    found = refusal(
        folder,
        "include: base.yaml\nnodes: {c: {kind: hello.greter}}\n",
        base_yaml=NODES.replace("salutation", "salutatoin") + "vars: 5\nname: t\n",
    )

    assert found == [
        "t.yaml:2:19: nodes.c.kind: there is no kind 'hello.greter'. Did you mean 'hello.greeter'?",
        "base.yaml:3:52: nodes.a.settings.salutatoin: Greeter has no setting 'salutatoin'. Did you mean 'salutation'?",
        "base.yaml:5:7: vars: expected a mapping, found 5",
        "base.yaml:6:1: name: the key 'name' stands in line 1 already",
    ]


@pytest.mark.parametrize(
    ("include", "says"),
    [
        ("no.yaml", "t.yaml:1:10: include: FOLDER/no.yaml: cannot be read: No such file or directory"),
        ("[no.yaml]", "t.yaml:1:11: include[0]: FOLDER/no.yaml: cannot be read: No such file or directory"),
        ("t.yaml", "t.yaml:1:10: include: a file cannot include itself: t.yaml -> t.yaml"),
        ("ring.yaml", "ring.yaml:1:10: include: a file cannot include itself: t.yaml -> ring.yaml -> t.yaml"),
        ("5", "t.yaml:1:10: include: expected the name of a file, found 5"),
        ("{a: b}", "t.yaml:1:10: include: expected the name of a file, found a mapping"),
        ("list.yaml", "list.yaml:1:1: expected a mapping, found a list"),
        ("torn.yaml", "torn.yaml:2:1: this is not YAML"),
    ],
)
def test_what_cannot_be_included_is_refused(folder: Path, include: str, says: str) -> None:
    others = {"ring_yaml": "include: t.yaml\n", "list_yaml": "[1]", "torn_yaml": "a: [\n"}

    assert any(line.startswith(says) for line in refusal(folder, f"include: {include}\n{NODES}", **others))


def test_files_that_include_many_files_have_a_bound(folder: Path) -> None:
    names = [f"f{number}.yaml" for number in range(compose.FILE_COUNT_MAX)]
    for name in names:
        (folder / name).write_text("{}")

    assert refusal(folder, f"include: [{', '.join(names)}]\n{NODES}") == [
        "t.yaml:1:631: include[63]: a topology has at most 64 files"
    ]


# --- vars
def test_a_variable_alone_has_its_own_type_and_in_a_text_its_words(folder: Path) -> None:
    text = "vars: {count: 3, who: World, size: 2KiB, all: [a]}\nname: t\nnodes:\n"
    text += "  a: {kind: hello.greeter, settings: {salutation: 'Dear ${who} no. ${count}, $${who}'}}\n"
    text += "  b: {kind: './actors_here.py:Greeter', replicas: '${count}', settings: {capacity: '${size}'}}\n"
    text += "processes: {p: {nodes: '${all}'}}\n"
    topology = load(folder, text)

    assert topology.nodes["a"].settings == {"salutation": "Dear World no. 3, ${who}"}
    assert topology.nodes["b"].replicas == 3
    assert topology.nodes["b"].settings == {"capacity": "2KiB"}
    assert topology.processes[0].name == "p"


@pytest.mark.parametrize(
    ("salutation", "says"),
    [
        ("${wha}", "there is no variable 'wha'. Did you mean 'who'? Write $${ for a plain ${."),
        ("${}", "there is no variable ''. There are: who, list. Write $${ for a plain ${."),
        ("a ${list}", "list is a list, which has no place within a text"),
        ("${list}", "expected str, found a list"),
    ],
)
def test_a_reference_that_cannot_be_filled_is_refused_where_it_stands(folder: Path, salutation: str, says: str) -> None:
    text = "vars: {who: me, list: [1]}\nname: t\nnodes:\n"
    text += f"  a: {{kind: hello.greeter, settings: {{salutation: '{salutation}'}}}}\n"

    assert refusal(folder, text) == [f"t.yaml:4:51: nodes.a.settings.salutation: {says}"]


def test_variables_cannot_blow_a_topology_up(folder: Path) -> None:
    items = ", ".join(["x"] * 1000)
    uses = ", ".join(["'${v}'"] * 1000)

    found = refusal(folder, f"vars: {{v: [{items}]}}\nname: t\nnodes: {{a: {{kind: hello.greeter}}}}\ntry: [{uses}]\n")
    assert any(line.endswith("more than 100000 values, variables filled in") for line in found)


# --- set
def test_what_is_set_has_the_last_word_over_file_and_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compose.VARIABLE, "a.salutation='Good day' b.capacity=1KiB count=1")
    text = NODES.replace("replicas: 2", "replicas: '${count}'") + "vars: {count: 2}\n"
    topology = load(folder, text, "b.capacity=4KiB", 'a.patience="5s"', "count=4")

    assert topology.nodes["a"].settings == {"salutation": "Good day", "patience": "5s"}
    assert topology.nodes["b"].settings == {"capacity": "4KiB"}
    assert topology.nodes["b"].replicas == 4


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("a.salutatoin=x", "--set:1:1: nodes.a.settings.salutatoin: Greeter has no setting 'salutatoin'."),
        ("a.capacity=x", "--set:1:12: nodes.a.settings.capacity: expected a size"),
        ("a.salutation=5", "--set:1:14: nodes.a.settings.salutation: expected str, found 5"),
        ("c.salutation=x", "--set:1:1: there is no node 'c'. The nodes are: a, b."),
        ("a.salutation", "--set:1:1: expected NODE.SETTING=VALUE or VARIABLE=VALUE, found 'a.salutation'"),
        (".x=1", "--set:1:1: expected NODE.SETTING=VALUE or VARIABLE=VALUE, found '.x=1'"),
        ("count=1", "--set:1:1: there is no variable 'count'. There are: none."),
        ("a.salutation=[1", "--set:1:16: this is not YAML: "),
    ],
)
def test_a_word_that_sets_nothing_is_refused(folder: Path, word: str, says: str) -> None:
    found = refusal(folder, NODES, word)

    assert len(found) == 1
    assert found[0].startswith(says)


def test_an_environment_that_is_no_list_of_words_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compose.VARIABLE, "a.salutation='Good day")

    with pytest.raises(UserError, match="ZACTOR_SET cannot be read: No closing quotation"):
        load(folder, NODES)


def test_the_environment_changes_nothing_of_a_text_that_was_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compose.VARIABLE, "a.salutation=x")

    assert read.read(NODES, Path("t.yaml")).nodes["a"].settings == {"salutation": "Hi"}


def test_all_of_a_topology_is_one_text_that_means_the_same(folder: Path) -> None:
    text = "include: sub/base.yaml\nname: ${who}\nvars: {who: mine}\n"
    moved = NODES.replace("./actors", "../actors")
    topology = load(folder, text, "a.salutation='5'", sub__base_yaml=moved)
    again = read.read(topology.text, Path("t.yaml"))

    assert again == topology
    assert again.nodes["a"].settings == {"salutation": "5"}
    assert load(folder, NODES).text == NODES
