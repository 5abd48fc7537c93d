"""A whole file system does what a dictionary does, whatever is asked, and whoever is started again in between."""

from __future__ import annotations

import random

import pytest

from nodes.files.invariants import IsSound, is_whole
from nodes.files.messages import BLOCK_SIZE
from nodes.files.operations import Denied, MakeFolder, Operation, Remove, Rename
from tests.nodes.files.conftest import DoClose, DoGet, DoPut, System
from zactor.errors import Refused

FOLDERS = ("/f", "/g", "/f/h")
FILES = ("/a", "/b", "/f/a", "/g/a", "/f/h/a")
SIZES = (0, 1, 4_096, BLOCK_SIZE, BLOCK_SIZE + 1, 2 * BLOCK_SIZE, 3 * BLOCK_SIZE + 777)
STEPS = 200


class Model:
    """Paths, and their contents; None for a folder. Each method returns whether it can be done, and does it."""

    def __init__(self) -> None:
        self.paths: dict[str, bytes | None] = {"/": None}

    def is_folder(self, path: str) -> bool:
        return path in self.paths and self.paths[path] is None

    def below(self, path: str) -> list[str]:
        return [each for each in self.paths if each.startswith(path + "/")]

    def put(self, path: str, content: bytes) -> bool:
        if not self.is_folder(parent(path)) or self.is_folder(path):
            return False
        self.paths[path] = content
        return True

    def make_folder(self, path: str) -> bool:
        if not self.is_folder(parent(path)) or path in self.paths:
            return False
        self.paths[path] = None
        return True

    def remove(self, path: str) -> bool:
        if path not in self.paths or self.below(path):
            return False
        del self.paths[path]
        return True

    def rename(self, path: str, to: str) -> bool:
        if path not in self.paths or not self.is_folder(parent(to)) or (f"{to}/".startswith(f"{path}/") and to != path):
            return False
        if to == path:
            return True
        if to in self.paths and (self.is_folder(to) != self.is_folder(path) or self.below(to)):
            return False
        for each in [path, *self.below(path)]:
            self.paths[to + each.removeprefix(path)] = self.paths.pop(each)
        return True


def parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


@pytest.mark.parametrize("seed", range(8))
def test_random_operations_do_what_they_do_to_a_dictionary(seed: int) -> None:
    chance = random.Random(seed)
    system = System(chunk_size=2 * BLOCK_SIZE, lease=10**9, survey_every=10**9)
    model, sound = Model(), IsSound()
    for step in range(STEPS):
        what, path, other = chance.random(), chance.choice(FILES + FOLDERS), chance.choice(FILES + FOLDERS)
        if what < 0.35:
            content = chance.randbytes(chance.choice(SIZES))
            can = put(system, path, content)
            assert can == model.put(path, content), (step, path)
        elif what < 0.5:
            folder = chance.choice(FOLDERS)
            assert change(system, MakeFolder(folder)) == model.make_folder(folder), (step, folder)
        elif what < 0.65:
            assert change(system, Remove(path)) == model.remove(path), (step, path)
        elif what < 0.85:
            assert change(system, Rename(path, other)) == model.rename(path, other), (step, path, other)
        elif what < 0.93:
            check_content(system, model, path, chance.choice((0, 1, BLOCK_SIZE, BLOCK_SIZE + 1)))
        else:
            process = chance.choice(("metadata", *system.servers))
            getattr(system, chance.choice(("kill", "lose_power")))(process)
            system.run(0.01)
            system.restart(process)
        assert sound(system.actors()) is None, step
    check_whole(system, model)


def put(system: System, path: str, content: bytes) -> bool:
    try:
        system.ask(DoPut(path=path, content=content))
    except Refused:
        return False
    return True


def change(system: System, operation: Operation) -> bool:
    (outcome,) = system.change(operation)
    return not isinstance(outcome, Denied)


def check_content(system: System, model: Model, path: str, offset: int) -> None:
    content = model.paths.get(path)
    try:
        found = system.ask(DoGet(path=path, offset=offset))
    except Refused:
        found = None
    assert found == (None if content is None else content[offset:]), path


def check_whole(system: System, model: Model) -> None:
    for path, content in model.paths.items():
        if content is None:
            below = {each.removeprefix(path.rstrip("/") + "/"): each for each in model.paths if each != "/"}
            names = {name: each for name, each in below.items() if parent(each) == path}
            sizes = {name: len(model.paths[each] or b"") for name, each in names.items()}
            assert dict(system.listing(path)) == sizes
        else:
            check_content(system, model, path, 0)
            system.check_copies(path)
    system.ask(DoClose())
    system.run(5.0)
    assert is_whole(system.actors()) is None
