from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nodes
from zactor import Actor, registry
from zactor.errors import UserError

KIND = """
from zactor.actor import Actor

class {name}(Actor):
    greeting: str = "Hello"
"""


class Lent(Actor):
    """In a module that no other process has by this name."""


@pytest.fixture(autouse=True)
def modules_of_this_test_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages below `nodes`, beside those that ship."""
    monkeypatch.setattr(nodes, "__path__", [*nodes.__path__, str(tmp_path)])
    return tmp_path


def put_package(shelf: Path, name: str, text: str) -> None:
    (shelf / name).mkdir()
    (shelf / name / "__init__.py").write_text(text)


def put_entry_point(monkeypatch: pytest.MonkeyPatch, group: str, name: str, value: str) -> None:
    point = importlib.metadata.EntryPoint(name, value, group)

    monkeypatch.setattr(registry, "_entry_points", lambda group: (point,) if group == point.group else ())


# --- packages
def test_a_kind_is_found_in_the_package_before_the_dot(shelf: Path) -> None:
    put_package(shelf, "bakery", KIND.format(name="Oven") + "KINDS = {'bakery.oven': Oven}")

    found = registry.find("bakery.oven", None)

    assert found.__name__ == "Oven"
    assert found.__module__ == "nodes.bakery"
    assert "bakery.oven" in registry.names()


def test_a_misspelt_kind_gets_the_nearest_name(shelf: Path) -> None:
    put_package(shelf, "bakery", KIND.format(name="Oven") + "KINDS = {'bakery.oven': Oven}")

    with pytest.raises(UserError, match=r"^there is no kind 'bakrey\.oven'\. Did you mean 'bakery\.oven'\?$"):
        registry.find("bakrey.oven", None)


def test_a_kind_that_resembles_nothing_gets_the_list(shelf: Path) -> None:
    put_package(shelf, "bakery", KIND.format(name="Oven") + "KINDS = {'bakery.oven': Oven}")

    with pytest.raises(UserError, match=r"there is no kind 'zzz'\. The kinds are: .*bakery\.oven"):
        registry.find("zzz", None)


def test_a_package_that_fails_hides_no_other_and_is_named_when_asked_for(shelf: Path) -> None:
    put_package(shelf, "bakery", KIND.format(name="Oven") + "KINDS = {'bakery.oven': Oven}")
    put_package(shelf, "crash", "import sys\n\nraise RuntimeError('out of flour')\n")

    assert "bakery.oven" in registry.names()
    assert "out of flour" in registry.broken()["crash"]
    with pytest.raises(UserError) as raised:
        registry.find("crash.oven", None)
    assert str(raised.value) == (
        f"nodes.crash cannot be imported: {shelf}/crash/__init__.py:3: RuntimeError: out of flour"
    )


def test_the_list_of_kinds_says_which_packages_are_missing_from_it(shelf: Path) -> None:
    put_package(shelf, "crash", "import no_such_module")

    with pytest.raises(UserError, match=r"Not usable: nodes\.crash cannot be imported: .*no_such_module"):
        registry.find("zzz", None)


@pytest.mark.parametrize("table", ["KINDS = ['bakery.oven']", "KINDS = {'oven': Oven}", "KINDS = {'bakery.oven': 5}"])
def test_a_table_of_kinds_of_another_form_is_refused(shelf: Path, table: str) -> None:
    put_package(shelf, "bakery", KIND.format(name="Oven") + table)

    with pytest.raises(UserError, match=r"KINDS of nodes\.bakery"):
        registry.find("bakery.oven", None)


def test_a_kind_whose_annotations_cannot_be_read_is_refused(shelf: Path) -> None:
    text = "from __future__ import annotations\n" + KIND.format(name="Oven") + "    heat: Kelvin = 5\n"
    put_package(shelf, "bakery", text + "KINDS = {'bakery.oven': Oven}")

    with pytest.raises(UserError, match=r"settings and links of kind 'bakery\.oven'.*NameError.*Kelvin"):
        registry.find("bakery.oven", None)


# --- entry points
def test_another_distribution_brings_kinds_by_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pastry_shop.py").write_text(KIND.format(name="Oven") + "KINDS = {'pastry.oven': Oven}")
    monkeypatch.syspath_prepend(tmp_path)
    put_entry_point(monkeypatch, "zactor.nodes", "pastry", "pastry_shop:KINDS")

    assert registry.find("pastry.oven", None).__name__ == "Oven"
    assert "pastry.oven" in registry.names()


def test_an_entry_point_that_leads_nowhere_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    put_entry_point(monkeypatch, "zactor.nodes", "pastry", "no_such_shop:KINDS")

    with pytest.raises(UserError, match="no_such_shop:KINDS cannot be imported: ModuleNotFoundError"):
        registry.find("pastry.oven", None)


def test_two_packages_that_bring_one_kind_are_refused(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_package(shelf, "bakery", KIND.format(name="Oven") + "KINDS = {'bakery.oven': Oven}")
    (tmp_path / "rival_shop.py").write_text(KIND.format(name="Oven") + "KINDS = {'bakery.oven': Oven}")
    monkeypatch.syspath_prepend(tmp_path)
    put_entry_point(monkeypatch, "zactor.nodes", "bakery", "rival_shop:KINDS")

    with pytest.raises(UserError, match=r"two packages bring the kind 'bakery\.oven'; rival_shop:KINDS"):
        registry.find("bakery.oven", None)


# --- verbs
def test_groups_of_verbs_are_named_without_importing_them(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_package(shelf, "bakery", "COMMANDS = {'bake': 'nodes.bakery.cli:app'}")
    put_entry_point(monkeypatch, "zactor.commands", "fry", "no_such_shop:app")

    commands = registry.commands()

    assert commands["bake"] == "nodes.bakery.cli:app"
    assert commands["fry"] == "no_such_shop:app"


def test_a_shipped_group_of_verbs_wins_over_another_distribution(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_package(shelf, "bakery", "COMMANDS = {'bake': 'nodes.bakery.cli:app'}")
    put_entry_point(monkeypatch, "zactor.commands", "bake", "rival_shop:app")

    assert registry.commands()["bake"] == "nodes.bakery.cli:app"


def test_a_package_that_fails_takes_no_verbs_of_others_with_it(shelf: Path) -> None:
    put_package(shelf, "crash", "COMMANDS = {'smash': 'nodes.crash.cli:app'}\n1 / 0")
    put_package(shelf, "bakery", "COMMANDS = {'bake': 'nodes.bakery.cli:app'}")

    commands = registry.commands()

    assert "bake" in commands
    assert "smash" not in commands


# --- files
def test_models_and_invariants_are_announced_as_verbs_are(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_package(shelf, "bakery", "MODELS = {'bakery.shelf': 'nodes.bakery:Shelf'}\nclass Shelf: pass")
    put_entry_point(monkeypatch, "zactor.invariants", "pastry.warm", "pastry_shop:warm")

    assert registry.models()["bakery.shelf"] == "nodes.bakery:Shelf"
    assert registry.invariants()["pastry.warm"] == "pastry_shop:warm"
    assert registry.load("nodes.bakery:Shelf", None).__name__ == "Shelf"


def test_what_cannot_be_loaded_is_named(shelf: Path, tmp_path: Path) -> None:
    put_package(shelf, "bakery", "")
    (tmp_path / "shelf.py").write_text("from typing import Any\ndef warm(actors: Any) -> None: pass\n")

    with pytest.raises(UserError, match=r"nodes.bakery:Shelf cannot be loaded: .*AttributeError"):
        registry.load("nodes.bakery:Shelf", None)
    with pytest.raises(UserError, match=r"there is no 'cold' in .*shelf.py. It has: warm."):
        registry.load("./shelf.py:cold", tmp_path)


def test_a_file_is_taken_relative_to_its_base_and_names_its_module_by_its_stem(tmp_path: Path) -> None:
    (tmp_path / "baker_one.py").write_text(KIND.format(name="Baker"))

    found = registry.find("./baker_one.py:Baker", tmp_path)

    assert (found.__name__, found.__module__) == ("Baker", "baker_one")
    assert sys.modules["baker_one"].__file__ == str(tmp_path / "baker_one.py")


def test_the_same_file_gives_the_same_class(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "baker_two.py").write_text(KIND.format(name="Baker"))

    first = registry.find("./baker_two.py:Baker", tmp_path)

    assert registry.find("../baker_two.py:Baker", tmp_path / "sub") is first


def test_a_file_may_import_its_neighbours_and_be_imported_by_them(tmp_path: Path) -> None:
    (tmp_path / "baker_recipes.py").write_text("LOAF = 'rye'")
    (tmp_path / "baker_three.py").write_text("import baker_recipes\n" + KIND.format(name="Baker"))
    (tmp_path / "baker_four.py").write_text("from baker_three import Baker\n" + KIND.format(name="Cook"))

    registry.find("./baker_four.py:Cook", tmp_path)

    assert sys.modules["baker_three"] is not None
    assert registry.find("./baker_three.py:Baker", tmp_path) is registry.find("./baker_four.py:Baker", tmp_path)


@pytest.mark.parametrize("stem", ["queue", "this", "pytest", "nodes", "sys"])
def test_a_file_that_is_named_like_another_module_must_be_renamed(tmp_path: Path, stem: str) -> None:
    (tmp_path / f"{stem}.py").write_text(KIND.format(name="Baker"))

    with pytest.raises(UserError, match=f"there is already a module '{stem}' .*: rename the file"):
        registry.find(f"./{stem}.py:Baker", tmp_path)


def test_two_files_of_one_name_in_two_folders_are_refused(tmp_path: Path) -> None:
    for folder in ("north", "south"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "baker_five.py").write_text(KIND.format(name="Baker"))
    registry.find("./north/baker_five.py:Baker", tmp_path)

    with pytest.raises(UserError, match=r"north/baker_five\.py\): rename the file"):
        registry.find("./south/baker_five.py:Baker", tmp_path)


def test_a_file_whose_stem_is_no_name_must_be_renamed(tmp_path: Path) -> None:
    (tmp_path / "my-baker.py").write_text(KIND.format(name="Baker"))

    with pytest.raises(UserError, match="rename the file to letters, digits and _"):
        registry.find("./my-baker.py:Baker", tmp_path)


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("\n\n1 / 0\n", "baker_six.py:3", "ZeroDivisionError: division by zero"),
        ("def f(:\n", "baker_six.py:1", "SyntaxError: "),
        (
            "\nimport no_such_flour\n",
            "baker_six.py:2",
            "ModuleNotFoundError: No module named 'no_such_flour'",
        ),
        ("raise SystemExit('closed')\n", "baker_six.py:1", "SystemExit: closed"),
        ("import baker_flour\n", "baker_flour.py:1", "ValueError: weevils"),
        (
            "from zactor.actor import Actor, on\nclass Baker(Actor):\n    @on\n    def f(self): ...\n",
            "baker_six.py:2",
            "TypeError: ",
        ),
    ],
)
def test_what_a_file_raises_is_shown_with_its_line(tmp_path: Path, text: str, place: str, reason: str) -> None:
    (tmp_path / "baker_flour.py").write_text("raise ValueError('weevils')")
    (tmp_path / "baker_six.py").write_text(text)

    with pytest.raises(UserError) as raised:
        registry.find("./baker_six.py:Baker", tmp_path)

    assert f"{tmp_path}/{place}: {reason}" in str(raised.value)
    assert "baker_six" not in sys.modules


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("./baker_seven.py:Bakr", "Did you mean 'Baker'?"),
        ("./baker_seven.py:Zzzzzz", "It has: Baker."),
        ("./baker_seven.py:flour", "is no subclass of Actor"),
        ("./baker_seven.py:Actor", "is no subclass of Actor"),
        ("./baker_seven.py", "expected the form ./greeter.py:Greeter"),
        ("./baker_seven.py:", "expected the form ./greeter.py:Greeter"),
        ("./no_such.py:Baker", "there is no file"),
        (".", "expected the form ./greeter.py:Greeter"),
        ("./\0.py:Baker", "there is no file"),
        ("./" + "x" * 5_000 + ".py:Baker", "there is no file"),
        ("./.py:Baker", "there is no file"),
    ],
)
def test_a_wrong_name_of_a_class_in_a_file_says_what_is_there(tmp_path: Path, kind: str, says: str) -> None:
    (tmp_path / "baker_seven.py").write_text(KIND.format(name="Baker") + "\nflour = 5\n")

    with pytest.raises(UserError) as raised:
        registry.find(kind, tmp_path)

    assert says in str(raised.value)


def test_a_file_without_a_folder_to_start_from_is_refused() -> None:
    with pytest.raises(UserError, match="relative to a topology's folder"):
        registry.find("./baker.py:Baker", None)


# --- classes that a program has
def test_a_class_has_the_name_by_which_other_processes_find_it(tmp_path: Path, shelf: Path) -> None:
    put_package(shelf, "bakery", KIND.format(name="Oven") + "KINDS = {'bakery.oven': Oven}")
    nested = "class Box:\n    class Inner(Actor):\n        pass\n"
    (tmp_path / "lonely.py").write_text(KIND.format(name="Lonely") + nested)
    lonely = registry.find("./lonely.py:Lonely", tmp_path)

    assert registry.name_of(registry.find("bakery.oven", None)) == "bakery.oven"
    assert registry.name_of(lonely) == f"{tmp_path}/lonely.py:Lonely"
    assert registry.name_of(sys.modules["lonely"].Box.Inner) is None
    assert registry.name_of(Lent) is None


def test_a_class_that_is_lent_is_found_here_and_nowhere_else() -> None:
    name = f"{__name__}:Lent"
    with pytest.raises(UserError, match=rf"no kind '{name}' outside of the program that made it; .*\./greeter\.py:Gr"):
        registry.find(name, None)

    assert registry.lend(Lent) == name
    assert registry.find(name, None) is Lent
    del registry._lent[name]
