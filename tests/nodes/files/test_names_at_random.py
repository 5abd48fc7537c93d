"""Names at random: thousands of changes, and after each the namespace says what a model says, and what Linux says.

The model keeps whole paths as text, so it shares no idea with the namespace, which keeps inodes. Beside it the same
changes are made in a folder of this machine.
"""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

import pytest

from nodes.files import operations as op
from nodes.files.messages import AlreadyExists, BadPath, IsAFolder, Loop, NotAFolder, NotEmpty, NotFound
from tests.nodes.files.machine import Machine, expected
from zactor.errors import Failure, Refused

STEPS = 4_000
NAMES = ["a", "b", "c", "ä"]
TARGETS = ["a", "b", "c/a", "a/b/c", "/a", "/b/a", "/", "c"]
DOTTED = ["..", "../a", "../../b", "./c", "a/..", "b/../a"]


def random_path(chance: random.Random) -> str:
    return "".join(f"/{chance.choice(NAMES)}" for _ in range(chance.choice([1, 1, 2, 2, 3])))


def random_change(chance: random.Random, targets: list[str]) -> op.Change:
    path, other, flag = random_path(chance), random_path(chance), chance.random() < 0.5
    match chance.choice(["create", "mkdir", "mkdir", "parents", "link", "remove", "remove", "rename", "rename", "put"]):
        case "create":
            return op.Create(path, flag)
        case "mkdir":
            return op.MakeFolder(path)
        case "parents":
            return op.MakeFolder(path, parents=True)
        case "link":
            return op.MakeLink(path, chance.choice(targets))
        case "remove":
            return op.Remove(path)
        case "rename":
            return op.Rename(path, other, chance.random() < 0.8)
        case _:
            return op.Commit(0, path, 0, 0, (), None, flag)


class Model:
    """Real paths and what is there: "folder", a file's inode, or a link's target."""

    def __init__(self) -> None:
        self.at: dict[str, Any] = {"": "folder"}

    def real(self, path: str, *, follow: bool, links: int = 0) -> str:
        """The real path of what a path stands for; its last part need not be there."""
        here = ""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        for index, part in enumerate(parts):
            if here not in self.at:
                raise NotFound
            if self.at[here] != "folder":
                raise NotAFolder
            if part == "..":
                here = here.rpartition("/")[0]
                continue
            there = f"{here}/{part}"
            target = self.at.get(there)
            if isinstance(target, tuple) and (follow or index < len(parts) - 1):
                if links == 40:
                    raise Loop
                onward = target[0] if target[0].startswith("/") else f"{here}/{target[0]}"
                return self.real("/".join([onward, *parts[index + 1 :]]), follow=follow, links=links + 1)
            here = there
        return here

    def above(self, path: str, *, follow: bool = False) -> str:
        """The real path of something in a folder that is there."""
        real = self.real(path, follow=follow)
        folder = real.rpartition("/")[0]
        if folder not in self.at:
            raise NotFound
        if self.at[folder] != "folder":
            raise NotAFolder
        return real

    def below(self, real: str) -> list[str]:
        return [path for path in self.at if path.startswith(f"{real}/")]

    def names(self, real: str) -> list[str]:
        return sorted(
            (path[len(real) + 1 :] for path in self.below(real) if "/" not in path[len(real) + 1 :]), key=str.encode
        )

    def appear(self, path: str, inode: int, *, replace: bool) -> None:
        real = self.above(path, follow=replace)
        if real in self.at and not replace:
            raise AlreadyExists
        if self.at.get(real) == "folder":
            raise IsAFolder
        self.at[real] = inode

    def make_folder(self, path: str, *, parents: bool) -> None:
        if not parents:
            real = self.above(path)
            if real in self.at:
                raise AlreadyExists
            self.at[real] = "folder"
            return
        parts = path[1:].split("/")
        for depth in range(1, len(parts) + 1):
            upper = "/" + "/".join(parts[:depth])
            real = self.real(upper, follow=True)
            if real not in self.at:
                if self.real(upper, follow=False) in self.at:
                    raise NotFound
                self.at[real] = "folder"
            elif self.at[real] != "folder":
                raise AlreadyExists if depth == len(parts) else NotAFolder

    def remove(self, path: str) -> None:
        real = self.real(path, follow=False)
        if real not in self.at:
            raise NotFound
        if self.below(real):
            raise NotEmpty
        del self.at[real]

    def rename(self, path: str, to: str, *, replace: bool) -> None:
        real, goal = self.above(path), self.above(to)
        if real not in self.at:
            raise NotFound
        if goal == real:
            return
        is_folder = self.at[real] == "folder"
        if is_folder and goal.startswith(f"{real}/"):
            raise Loop
        if goal in self.at:
            if not replace:
                raise AlreadyExists
            if is_folder != (self.at[goal] == "folder"):
                raise NotAFolder if is_folder else IsAFolder
            if self.below(goal):
                raise NotEmpty
        for old in [real, *self.below(real)]:
            self.at[goal + old[len(real) :]] = self.at.pop(old)

    def try_to(self, change: op.Change, inode: int) -> str:
        """Make a change: the wire name of what it was denied with, or ""."""
        try:
            self.make(change, inode)
        except Refused as refused:
            return refused.wire
        return ""

    def make(self, change: op.Change, inode: int) -> None:
        match change:
            case op.Create() | op.Commit():
                self.appear(change.path, inode, replace=change.replace)
            case op.MakeFolder():
                self.make_folder(change.path, parents=change.parents)
            case op.MakeLink():
                real = self.above(change.path)
                if real in self.at:
                    raise AlreadyExists
                self.at[real] = (change.target,)
            case op.Remove():
                self.remove(change.path)
            case op.Rename():
                self.rename(change.path, change.to, replace=change.replace)
            case _:
                raise AssertionError(change)


def check_all(machine: Machine, model: Model) -> None:
    """Each name and each listing is as the model has it."""
    for real, what in model.at.items():
        stat = machine.ask(op.GetStat(real or "/", follow=False))
        kind = {str: "folder", int: "file", tuple: "link"}[type(what)]
        assert stat.kind == kind, real
        if kind == "folder":
            assert machine.names(real or "/", page=3) == model.names(real)
        elif kind == "file":
            assert stat.inode == what
        else:
            assert stat.target == what[0]
    space = machine.ask(op.GetSpace())
    assert space.files == sum(isinstance(what, int) for what in model.at.values())
    assert space.folders == sum(what == "folder" for what in model.at.values()) - 1
    assert len(machine.namespace.tables.entries) == len(model.at) - 1


@pytest.mark.parametrize("seed", range(4))
def test_the_namespace_says_what_the_model_says(seed: int) -> None:
    chance = random.Random(seed)
    machine, model = Machine(), Model()
    machine.servers("", "")
    hit: dict[str, int] = {}
    for step in range(STEPS):
        change = random_change(chance, TARGETS + DOTTED)
        if isinstance(change, op.Commit):
            change = machine.written(chance.choice([0, 9, 3 << 20]), change.path, replace=change.replace)
        outcome = machine.all(change)[0]
        error = outcome.error if isinstance(outcome, op.Denied) else ""
        theirs = model.try_to(change, outcome.inode if isinstance(outcome, op.Stat) else 0)
        assert theirs == error, (step, change, outcome)
        hit[error] = hit.get(error, 0) + 1
        if step % 50 == 0:
            check_all(machine, model)
        if error and isinstance(change, op.Commit):
            machine.do(op.Abandon(change.inode))
        path = random_path(chance)
        assert look(machine, path) == look_at_model(model, path)
    check_all(machine, model)
    again = machine.restored()
    assert again.digest() == machine.namespace.digest()
    assert expected(again) == expected(machine.namespace)
    assert len(hit) >= 7, "the changes at random come by every refusal"


def look(machine: Machine, path: str) -> str:
    try:
        return str(machine.ask(op.GetStat(path)).inode) if machine.ask(op.GetStat(path)).kind == "file" else "folder"
    except Refused as refused:
        return refused.wire


def look_at_model(model: Model, path: str) -> str:
    try:
        real = model.real(path, follow=True)
        if real not in model.at:
            raise NotFound
        return str(model.at[real])
    except Refused as refused:
        return refused.wire


# --- beside a file system of this machine
ERRORS: dict[int, type[Failure]] = {
    errno.ENOENT: NotFound,
    errno.EEXIST: AlreadyExists,
    errno.ENOTDIR: NotAFolder,
    errno.EISDIR: IsAFolder,
    errno.ENOTEMPTY: NotEmpty,
    errno.ELOOP: Loop,
    errno.EINVAL: Loop,  # rename(2): a folder below itself
    errno.EBUSY: BadPath,
}


def on_disk(root: Path, change: op.Change) -> str:
    """Make a change in a folder of this machine: the wire name of what it was denied with, or ""."""
    try:
        match change:
            case op.Create():
                flags = os.O_CREAT | os.O_WRONLY | (os.O_TRUNC if change.replace else os.O_EXCL)
                os.close(os.open(f"{root}{change.path}", flags))
            case op.MakeFolder():
                os.mkdir(f"{root}{change.path}")
            case op.MakeLink():
                prefix = root if change.target.startswith("/") else ""
                os.symlink(f"{prefix}{change.target}", f"{root}{change.path}")
            case op.Remove():
                path = f"{root}{change.path}"
                is_folder = os.path.isdir(path) and not os.path.islink(path)
                os.rmdir(path) if is_folder else os.unlink(path)
            case op.Rename():
                os.rename(f"{root}{change.path}", f"{root}{change.to}")
            case _:
                raise AssertionError(change)
    except OSError as error:
        return ERRORS[error.errno or 0].wire
    return ""


@pytest.mark.parametrize("seed", range(4))
def test_the_namespace_says_what_linux_says(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    machine = Machine()
    for step in range(STEPS):
        change = random_change(chance, TARGETS)
        is_ours = isinstance(change, op.Commit) or (isinstance(change, op.MakeFolder) and change.parents)
        if is_ours or (isinstance(change, op.Rename) and not change.replace):
            continue
        outcome = machine.all(change)[0]
        ours, theirs = outcome.error if isinstance(outcome, op.Denied) else "", on_disk(tmp_path, change)
        if (ours, theirs) == (IsAFolder.wire, NotEmpty.wire):
            # A file onto a folder that it is in is both, and POSIX leaves open which is said.
            assert isinstance(change, op.Rename)
            continue
        assert ours == theirs, (step, change)
    for folder, folders, files in os.walk(tmp_path):
        shown = folder[len(str(tmp_path)) :] or "/"
        assert machine.names(shown) == sorted(folders + files, key=str.encode)
