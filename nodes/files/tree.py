"""Folders, files and symbolic links: what POSIX says of their names, on the tables of the namespace.

Files get here whole: what a file's inode is, who stores it and when its bytes are free is not decided here. What an
entry pointed to before is handed back to who does (`Unlinked`).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .messages import (
    AlreadyExists,
    BadPath,
    IsAFolder,
    Loop,
    NotAFolder,
    NotEmpty,
    NotFound,
)
from .operations import Page, Stat
from .paths import PATH_SIZE_MAX, plain_name, split, split_target
from .tables import ROOT, File, Folder, Link, Tables

LINKS_MAX = 40
"""Symbolic links that one path may lead over, as Linux has it."""

KNOWN_FOLDERS_MAX = 4_096
"""Paths of folders that are remembered, so that not every change walks from the root."""


KNOWN_LENGTH_MAX = PATH_SIZE_MAX // 4
"""Characters of a path that is never too long in UTF-8. What is remembered must never change an answer: others, who
remember something else, are to come to the same."""


class Spot(msgspec.Struct, frozen=True):
    """Where a path ends: a name in a folder, and the inode there, if there is one. The root has no name."""

    parent: int
    name: bytes
    inode: int | None


class Tree:
    """The names. `_known` are folders by path, with '/' at its end: nothing that walking would not find."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._known: dict[str, int] = {}

    # --- finding
    def spot(self, path: str, *, follow: bool) -> Spot:
        """Where a path ends; a link at its end is followed if `follow`. Raises if its folder is not there."""
        cut = path.rfind("/") + 1
        parent, last = self._known.get(path[:cut]), plain_name(path[cut:])
        if parent is None or last is None or len(path) > KNOWN_LENGTH_MAX:
            names = split(path)
            if not names:
                return Spot(ROOT, b"", ROOT)
            parent, last = self._folder_of(path[:cut], names[:-1]), names[-1]
        inode = self.tables.find(parent, last)
        if follow and inode is not None and inode not in self.tables.folders:
            record = self.tables.leaf(inode)
            if isinstance(record, Link):
                return self._walk(parent, split_target(record.target), path, 1, absolute=record.target[0] == "/")
        return Spot(parent, last, inode)

    def inode(self, path: str, *, follow: bool = True) -> tuple[Spot, int]:
        """Where a path ends, and the inode that must be there. Raises `NotFound`."""
        spot = self.spot(path, follow=follow)
        if spot.inode is None:
            raise NotFound(f"there is no file or folder {path}")
        return spot, spot.inode

    def _folder_of(self, folder: str, names: list[bytes]) -> int:
        spot = self._walk(ROOT, names, folder, 0, absolute=True)
        if spot.inode is None:
            raise NotFound(f"there is no folder {folder}")
        if spot.inode not in self.tables.folders:
            raise NotAFolder(f"{folder} is not a folder")
        if len(folder) <= KNOWN_LENGTH_MAX:
            if len(self._known) >= KNOWN_FOLDERS_MAX:
                self._known.clear()
            self._known[folder] = spot.inode
        return spot.inode

    def _walk(self, start: int, names: Iterable[bytes], path: str, links: int, *, absolute: bool) -> Spot:
        """Go on from a folder, over links. '..' leads out of a folder, never out of the root."""
        tables = self.tables
        spot = self._folder_spot(ROOT if absolute else start)
        todo = list(names)[::-1]
        while todo:
            name, parent = todo.pop(), spot.inode
            if parent is None:
                raise NotFound(f"there is no {spot.name.decode()!r} on the way of {path}")
            if parent not in tables.folders:
                raise NotAFolder(f"{spot.name.decode()!r} on the way of {path} is not a folder")
            if name in (b"", b"."):
                continue
            if name == b"..":
                spot = self._folder_spot(tables.folders[parent].parent)
                continue
            inode = tables.find(parent, name)
            spot = Spot(parent, name, inode)
            if inode is None or inode in tables.folders:
                continue
            record = tables.leaf(inode)
            if isinstance(record, Link):
                links += 1
                if links > LINKS_MAX:
                    raise Loop(f"{path} leads over more than {LINKS_MAX} symbolic links")
                todo.extend(split_target(record.target)[::-1])
                spot = self._folder_spot(ROOT if record.target[0] == "/" else parent)
        return spot

    def _folder_spot(self, inode: int) -> Spot:
        folder = self.tables.folders[inode]
        return Spot(folder.parent, folder.name, inode)

    # --- showing
    def stat(self, name: bytes, inode: int) -> Stat:
        """What an inode is, under a name."""
        folder = self.tables.folders.get(inode)
        if folder is not None:
            return Stat(name.decode(), inode, "folder", 0, folder.mode, folder.mtime_ns)
        record = self.tables.leaf(inode)
        if isinstance(record, Link):
            return Stat(
                name.decode(), inode, "link", len(record.target.encode()), 0o777, record.mtime_ns, 0, record.target
            )
        return Stat(name.decode(), inode, "file", record.size, record.mode, record.mtime_ns, record.checksum)

    def page(self, path: str, after: str, limit: int) -> Page:
        """A part of a listing, sorted by the bytes of the names. Raises `NotFound`, `BadPath`."""
        _, inode = self.inode(path)
        if inode not in self.tables.folders:
            name = last_name(path)
            return Page((self.stat(name, inode),) if after.encode() < name else (), more=False)
        keys = self.tables.names_in(inode, after.encode(), limit + 1)
        entries = self.tables.entries
        return Page(tuple(self.stat(key[8:], entries[key]) for key in keys[:limit]), more=len(keys) > limit)

    def path_of(self, key: bytes) -> str:
        """The path of an entry."""
        folders, names, inode = self.tables.folders, [key[8:]], int.from_bytes(key[:8], "big")
        while inode != ROOT:
            names.append(folders[inode].name)
            inode = folders[inode].parent
        return "/" + b"/".join(reversed(names)).decode()

    # --- changing
    def file_spot(self, path: str, *, replace: bool) -> Spot:
        """Where a file may appear, in the place of one that is there if `replace`. As open(2) with O_CREAT does,
        a link is followed, also to where nothing is yet, unless there must be nothing (O_EXCL)."""
        spot = self.spot(path, follow=replace)
        if spot.inode is not None:
            if not replace:
                raise AlreadyExists(f"there is a {path} already")
            if spot.inode in self.tables.folders:
                raise IsAFolder(f"{path} is a folder")
        return spot

    def make_folder(self, path: str, inode: int, mode: int, time_ns: int) -> None:
        """An empty folder with that inode. Raises `AlreadyExists`."""
        spot = self.spot(path, follow=False)
        if spot.inode is not None:
            raise AlreadyExists(f"there is a {path} already")
        self._add_folder(spot.parent, spot.name, inode, mode, time_ns)

    def make_folders(self, path: str, inode: int, mode: int, time_ns: int) -> int:
        """A folder and all above it that are missing, with inodes from that one on; the one behind the last is
        returned. Raises `NotAFolder`, and `AlreadyExists` when something else is there."""
        names = split(path)
        parent = ROOT
        for depth, name in enumerate(names):
            spot = self._walk(parent, [name], path, 0, absolute=False)
            if spot.inode is None and self.tables.find(parent, name) is None:
                return self._add_folders(parent, names[depth:], inode, mode, time_ns)
            if spot.inode is None:
                raise NotFound(f"{name.decode()!r} on the way of {path} is a link that leads nowhere")
            if spot.inode not in self.tables.folders:
                if depth == len(names) - 1:
                    raise AlreadyExists(f"there is a {path} already, and it is not a folder")
                raise NotAFolder(f"{name.decode()!r} on the way of {path} is not a folder")
            parent = spot.inode
        return inode

    def _add_folders(self, parent: int, names: list[bytes], inode: int, mode: int, time_ns: int) -> int:
        for name in names:
            self._add_folder(parent, name, inode, mode, time_ns)
            parent, inode = inode, inode + 1
        return inode

    def _add_folder(self, parent: int, name: bytes, inode: int, mode: int, time_ns: int) -> None:
        self.tables.add_folder(inode, Folder(mode, time_ns, parent, name))
        self.tables.link(parent, name, inode, time_ns)

    def make_link(self, path: str, target: str, inode: int, time_ns: int) -> None:
        """A symbolic link. Raises `AlreadyExists`."""
        split_target(target)
        spot = self.spot(path, follow=False)
        if spot.inode is not None:
            raise AlreadyExists(f"there is a {path} already")
        self.tables.set_leaf(inode, Link(time_ns, target))
        self.tables.link(spot.parent, spot.name, inode, time_ns)

    def remove(self, path: str, time_ns: int) -> int:
        """Take a name away; what it stood for is returned. Raises `NotEmpty`."""
        spot, inode = self.inode(path, follow=False)
        if inode == ROOT:
            raise BadPath("the root cannot be removed")
        folder = self.tables.folders.get(inode)
        if folder is not None and folder.count:
            raise NotEmpty(f"the folder {path} is not empty: {folder.count} names are in it")
        self.tables.unlink(spot.parent, spot.name, time_ns)
        self._forget(inode)
        return inode

    def rename(self, path: str, to: str, *, replace: bool, time_ns: int) -> int | None:
        """As rename(2); what was there before is returned. Refusals come before any change."""
        spot, goal = self.spot(path, follow=False), self.spot(to, follow=False)
        inode = spot.inode
        if inode is None:
            raise NotFound(f"there is no file or folder {path}")
        if ROOT in (inode, goal.inode):
            raise BadPath("the root cannot be renamed or replaced")
        if goal.inode == inode:
            return None
        folder = self.tables.folders.get(inode)
        if folder is not None:
            self._refuse_loop(inode, goal.parent, path, to)
        if goal.inode is not None:
            self._refuse_replacing(goal.inode, to, replace=replace, by_folder=folder is not None)
        self.tables.unlink(spot.parent, spot.name, time_ns)
        self.tables.link(goal.parent, goal.name, inode, time_ns)
        if folder is not None:
            moved = self.tables.changing(inode)
            moved.parent, moved.name = goal.parent, goal.name
        self._forget(inode)
        if goal.inode is not None:
            self._forget(goal.inode)
        return goal.inode

    def _refuse_loop(self, inode: int, folder: int, path: str, to: str) -> None:
        # By inodes, not by text: links may lead back into the folder by another name.
        while folder != ROOT:
            if folder == inode:
                raise Loop(f"{to} is below {path}: a folder cannot be moved into itself")
            folder = self.tables.folders[folder].parent

    def _refuse_replacing(self, inode: int, path: str, *, replace: bool, by_folder: bool) -> None:
        folder = self.tables.folders.get(inode)
        if not replace:
            raise AlreadyExists(f"there is a {path} already")
        if folder is None and by_folder:
            raise NotAFolder(f"{path} is not a folder; a folder takes the place of an empty folder alone")
        if folder is not None and not by_folder:
            raise IsAFolder(f"{path} is a folder; a file takes the place of a file alone")
        if folder is not None and folder.count:
            raise NotEmpty(f"the folder {path} is not empty: {folder.count} names are in it")

    def _forget(self, inode: int) -> None:
        """A name went away: if paths may lead over it, those that are known may be wrong now."""
        if inode in self.tables.folders or isinstance(self.tables.leaf(inode), Link):
            self._known.clear()

    def set_mode(self, path: str, mode: int) -> None:
        """Permissions of a file or folder; those of a link cannot be set, and it is followed."""
        _, inode = self.inode(path)
        if inode in self.tables.folders:
            self.tables.changing(inode).mode = mode
            return
        record = self.tables.leaf(inode)
        assert isinstance(record, File), "a link at the end was followed"
        self.tables.set_leaf(inode, msgspec.structs.replace(record, mode=mode))


def last_name(path: str) -> bytes:
    """What a path calls its end."""
    return path.rpartition("/")[2].encode()
