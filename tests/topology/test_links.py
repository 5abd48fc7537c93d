from __future__ import annotations

from pathlib import Path

import pytest

from zactor.topology import read
from zactor.topology.diagnostics import TopologyError
from zactor.topology.links import complaint, expand
from zactor.topology.model import Node

STORE = Node("store", "k", 3, {}, {}, None)
ALONE = Node("alone", "k", None, {}, {}, None)
NODES = {"store": STORE, "alone": ALONE}

GREETERS = """
name: test
nodes:
  one: {kind: "./actors_here.py:Greeter"}
  many: {kind: "./actors_here.py:Greeter", replicas: 2}
  polite: {kind: "./actors_here.py:Polite", settings: {title: Sir}}
  caller:
    kind: ./actors_here.py:Caller
    links: LINKS
"""


def links_of_caller(folder: Path, links: str) -> dict[str, tuple[str, ...]]:
    (folder / "t.yaml").write_text(GREETERS.replace("LINKS", links).lstrip())
    topology = read.load(Path("t.yaml"))
    return topology.processes[-1].instances[0].links


def refusal(folder: Path, links: str) -> list[str]:
    with pytest.raises(TopologyError) as raised:
        links_of_caller(folder, links)
    return [str(diagnostic).splitlines()[0] for diagnostic in raised.value.diagnostics]


# --- what names mean
def test_the_name_of_a_replicated_node_means_all_its_instances() -> None:
    assert expand(("store",), ALONE, "alone", NODES) == ("store/0", "store/1", "store/2")


def test_a_number_means_one_instance() -> None:
    assert expand(("store/1", "alone"), STORE, "store/0", NODES) == ("store/1", "alone")


def test_the_name_of_ones_own_node_means_all_the_others() -> None:
    assert expand(("store",), STORE, "store/1", NODES) == ("store/0", "store/2")
    assert expand(("alone",), ALONE, "alone", NODES) == ()


@pytest.mark.parametrize("target", ["store", "store/0", "store/2", "alone"])
def test_a_name_that_exists_is_right(target: str) -> None:
    assert complaint(target, NODES, NODES) is None


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("stroe", "there is no node 'stroe'. Did you mean 'store'?"),
        ("zzz", "there is no node 'zzz'. The nodes are: store, alone."),
        ("store/3", "there is no 'store/3': the replicas of 'store' count from 0 to 2"),
        ("store/-1", "there is no 'store/-1'"),
        ("store/01", "there is no 'store/01'"),
        ("store/", "there is no 'store/'"),
        ("store/0/child", "there is no 'store/0/child'"),
        ("store/٢", "there is no 'store/٢'"),
        ("alone/0", "'alone' is one actor without a number. Write 'alone'."),
        ("", "there is no node ''."),
    ],
)
def test_a_name_that_does_not_exist_is_wrong(target: str, says: str) -> None:
    found = complaint(target, NODES, NODES)

    assert found is not None
    assert "".join(found).startswith(says)


def test_nothing_is_said_about_the_name_of_a_node_whose_own_entry_is_wrong() -> None:
    assert complaint("broken/7", NODES, [*NODES, "broken"]) is None


# --- whether they fit the role
def test_links_that_fit_are_taken(folder: Path) -> None:
    assert links_of_caller(folder, "{greeter: many/1, leaver: polite, others: [many, one]}") == {
        "greeter": ("many/1",),
        "leaver": ("polite",),
        "others": ("many/0", "many/1", "one"),
    }


def test_a_link_to_any_number_may_be_empty_or_left_out(folder: Path) -> None:
    assert links_of_caller(folder, "{greeter: one, leaver: [], others: []}") == {
        "greeter": ("one",),
        "leaver": (),
        "others": (),
    }
    assert links_of_caller(folder, "{greeter: [one]}") == {"greeter": ("one",)}


@pytest.mark.parametrize(
    ("links", "says"),
    [
        (
            "{greter: one, greeter: one}",
            (
                "t.yaml:8:13: nodes.caller.links.greter: ./actors_here.py:Caller has no link 'greter'. "
                "Did you mean 'greeter'?"
            ),
        ),
        (
            "{zzz: one, greeter: one}",
            (
                "t.yaml:8:13: nodes.caller.links.zzz: ./actors_here.py:Caller has no link 'zzz'. "
                "It has: greeter, leaver, others."
            ),
        ),
        (
            "{}",
            (
                "t.yaml:8:5: nodes.caller.links.greeter: missing: ./actors_here.py:Caller needs this link, "
                "to an actor that handles Greet"
            ),
        ),
        (
            "{greeter: many}",
            "t.yaml:8:22: nodes.caller.links.greeter: this link takes exactly one actor, found 2: many/0, many/1",
        ),
        ("{greeter: []}", "t.yaml:8:22: nodes.caller.links.greeter: this link takes exactly one actor, found 0"),
        (
            "{greeter: one, leaver: [polite, polite]}",
            "t.yaml:8:35: nodes.caller.links.leaver: polite: named more than once",
        ),
        (
            "{greeter: one, others: [many, many/0]}",
            "t.yaml:8:35: nodes.caller.links.others: many/0: named more than once",
        ),
        (
            "{greeter: one, leaver: one}",
            (
                "t.yaml:8:35: nodes.caller.links.leaver: ./actors_here.py:Greeter does not handle Bye, "
                "which this link sends; it handles Greet"
            ),
        ),
        (
            "{greeter: one, others: [many, caller]}",
            (
                "t.yaml:8:42: nodes.caller.links.others[1]: ./actors_here.py:Caller does not handle Greet, "
                "which this link sends; it handles nothing"
            ),
        ),
        (
            "{greeter: oen}",
            "t.yaml:8:22: nodes.caller.links.greeter: there is no node 'oen'. Did you mean 'one'?",
        ),
        (
            "{greeter: 5}",
            (
                "t.yaml:8:22: nodes.caller.links.greeter: expected the name of a node, node/INDEX or a list of them, "
                "found 5; quote it if it is text"
            ),
        ),
        (
            "{greeter: one, others: [many, qq qq]}",
            (
                "t.yaml:8:42: nodes.caller.links.others[1]: there is no node 'qq qq'. "
                "The nodes are: one, many, polite, caller."
            ),
        ),
        ("[one]", "t.yaml:8:12: nodes.caller.links: expected a mapping, found a list"),
    ],
)
def test_a_link_that_does_not_fit_is_one_error(folder: Path, links: str, says: str) -> None:
    assert says in refusal(folder, links)


def test_a_setting_among_the_links_is_sent_to_its_place(folder: Path) -> None:
    text = "name: t\nnodes:\n  one: {kind: './actors_here.py:Greeter', links: {capacity: one}}\n"
    (folder / "t.yaml").write_text(text)

    with pytest.raises(TopologyError, match="It is a setting: write it under settings"):
        read.load(Path("t.yaml"))


def test_replicas_that_name_their_own_node_get_each_other(folder: Path) -> None:
    text = "name: t\nnodes:\n  p: {kind: './actors_here.py:Peer', replicas: 3, links: {peers: p}}\n"
    (folder / "t.yaml").write_text(text)

    topology = read.load(Path("t.yaml"))

    assert [process.instances[0].links["peers"] for process in topology.processes] == [
        ("p/1", "p/2"),
        ("p/0", "p/2"),
        ("p/0", "p/1"),
    ]
    assert topology.nodes["p"].links == {"peers": ("p",)}


# --- what is passed on undecoded
FRONTS = GREETERS.replace(
    "  caller:\n",
    """\
  deaf: {kind: './actors_here.py:Caller', links: {greeter: one}}
  good: {kind: './actors_here.py:Front', links: {behind: [one, many]}}
  bad: {kind: './actors_here.py:Front', links: {behind: [one, deaf]}}
  far: {kind: './actors_here.py:Front', links: {behind: [good, far, bad]}}
  caller:
""",
)


@pytest.mark.parametrize(
    ("links", "says"),
    [
        ("{greeter: good, leaver: good}", ""),
        ("{greeter: bad}", "t.yaml:12:22: nodes.caller.links.greeter: bad"),
        ("{greeter: one, others: far}", "t.yaml:12:35: nodes.caller.links.others: far"),
    ],
)
def test_a_link_is_followed_through_who_passes_messages_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, links: str, says: str
) -> None:
    monkeypatch.setattr(f"{__name__}.GREETERS", FRONTS)

    if says:
        why = "./actors_here.py:Caller does not handle Greet, which this link sends; it handles nothing"
        assert refusal(folder, links) == [f"{says} passes on to deaf, and {why}"]
    else:
        assert links_of_caller(folder, links)["greeter"] == ("good",)
