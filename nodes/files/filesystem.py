"""The file system as one of fsspec: pandas, dask and others read and write `zactor://TOPOLOGY/path`.

What fsspec lets a file system decide is decided so: a file that is opened is one version, however often it is replaced
meanwhile; one that is written appears whole when it is closed, and not at all when its `with` ends by an exception or
nobody closes it. Folders on the way to a file are made (`auto_mkdir`), as in fsspec's other stores. The specification
is `fsspec.AbstractFileSystem`; the names below that have no text of their own are explained there.

All file systems of a program that mean the same topology share one client, which goes when the program ends.
"""

from __future__ import annotations

import atexit
import errno
import io
import os
import re
import stat
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from fsspec import AbstractFileSystem
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.utils import isfilelike, stringify_path

from zactor.errors import Failure, UserError

from .library import Files
from .local import read_pieces, whole_file
from .messages import (
    IsAFolder,
    NotAFolder,
)
from .opened import Compressed, Text, ZactorFile, as_os_error, forgotten
from .operations import Stat

PROTOCOL = "zactor"

_SLASHES = re.compile("/{2,}")
_MAGIC = frozenset("*?[")


class ZactorFileSystem(AbstractFileSystem):
    """The files of a running topology. `topology` is its name or its file, None for the only one that runs.

    `dir` is where topologies keep their state, as `--dir` of the command line. Raises OSError, with the numbers that
    a file system of this computer would give, and UserError when there is nothing to talk to.
    """

    protocol = PROTOCOL
    root_marker = "/"

    def __init__(
        self,
        topology: str | None = None,
        dir: str | None = None,  # noqa: A002 - as it is called everywhere
        auto_mkdir: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(topology=topology, dir=dir, auto_mkdir=auto_mkdir, **options)
        self.auto_mkdir = auto_mkdir
        self._meant = _Meant(topology, None if dir is None else os.fspath(dir))

    @property
    def files(self) -> Files:
        """The client, as `nodes.files.library` has it."""
        return _connected(self._meant)

    @property
    def fsid(self) -> str:
        return f"{PROTOCOL}_{self._meant.topology or ''}"

    # --- names
    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        written = stringify_path(path)
        if written.startswith(f"{PROTOCOL}://"):
            written = f"/{written.removeprefix(f'{PROTOCOL}://').partition('/')[2]}"
        else:
            written = f"/{written.removeprefix(f'{PROTOCOL}::')}"
        return _SLASHES.sub("/", written).rstrip("/") or "/"

    def unstrip_protocol(self, name: str) -> str:
        return f"{PROTOCOL}://{self._meant.topology or ''}{self._strip_protocol(name)}"

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        if not path.startswith(f"{PROTOCOL}://"):
            return {}
        topology = path.removeprefix(f"{PROTOCOL}://").partition("/")[0]
        return {"topology": topology} if topology else {}

    # --- looking
    def info(self, path: str, **_options: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        with as_os_error(path):
            found = self.files.stat(path, follow=False)
            return self.details_of(path, found, self.files.stat(path) if found.kind == "link" else found)

    def ls(self, path: str, detail: bool = True, **_options: Any) -> list[Any]:
        path = self._strip_protocol(path)
        with as_os_error(path):
            own = self.files.stat(path)
            if own.kind != "folder":
                found = [self.details_of(path, own, own)]
            else:
                found = [self._details_in(path, item) for item in self.files.list(path)]
        return found if detail else [each["name"] for each in found]

    def exists(self, path: str, **_options: Any) -> bool:
        try:
            self.info(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.ELOOP):
                return False
            raise
        return True

    def lexists(self, path: str, **_options: Any) -> bool:
        try:
            with as_os_error(path):
                self.files.stat(self._strip_protocol(path), follow=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def created(self, path: str) -> datetime:
        """When it became what it is: what is put is a file of its own."""
        return datetime.fromtimestamp(self.info(path)["mtime"], UTC)

    modified = created

    def checksum(self, path: str) -> int:
        found = self.info(path)
        return int(found["ino"]) << 32 | int(found["checksum"])

    def _details_in(self, folder: str, item: Stat) -> dict[str, Any]:
        """An item of a listing. A link to a folder is none itself: who walks must not go round in circles."""
        path = f"{folder.rstrip('/')}/{item.name}"
        if item.kind != "link":
            return self.details_of(path, item, item)
        try:
            target = self.files.stat(path)
        except Failure:
            return self.details_of(path, item, item)
        return self.details_of(path, item, item if target.kind == "folder" else target)

    def details_of(self, path: str, own: Stat, target: Stat) -> dict[str, Any]:
        kind, file_type = _TYPES[target.kind]
        details = {
            "name": path,
            "size": target.size,
            "type": kind,
            "created": target.mtime_ns / 1e9,
            "mtime": target.mtime_ns / 1e9,
            "ino": target.inode,
            "mode": file_type | target.mode,
            "checksum": target.checksum,
            "islink": own.kind == "link",
        }
        return details | {"destination": own.target} if own.kind == "link" else details

    # --- changing names
    def mkdir(self, path: str, create_parents: bool = True, **_options: Any) -> None:
        path = self._strip_protocol(path)
        with as_os_error(path):
            if create_parents:
                self.make_parents(path)
            self.files.mkdir(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        path = self._strip_protocol(path)
        if not exist_ok:
            self.mkdir(path)
        elif path != "/":
            with as_os_error(path):
                self.files.mkdir(path, parents=True)

    def rmdir(self, path: str) -> None:
        path = self._strip_protocol(path)
        with as_os_error(path):
            if self.files.stat(path, follow=False).kind != "folder":
                raise NotAFolder(f"{path} is no folder")
            self.files.remove(path)

    def rm_file(self, path: str) -> None:
        path = self._strip_protocol(path)
        with as_os_error(path):
            if self.files.stat(path, follow=False).kind == "folder":
                raise IsAFolder(f"{path} is a folder")
            self.files.remove(path)

    _rm = rm_file

    def rm(self, path: str | list[str], recursive: bool = False, maxdepth: int | None = None) -> None:
        if maxdepth is not None:
            super().rm(path, recursive=recursive, maxdepth=maxdepth)
            return
        for each in reversed(self.expand_path(path)):
            with as_os_error(each):
                if recursive:
                    self.files.remove_tree(each)
                else:
                    self.rm_file(each)

    def mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **options: Any) -> None:
        """Rename, in one step, what is a single name; else as fsspec does it."""
        if not (isinstance(path1, str) and isinstance(path2, str)) or maxdepth is not None or _MAGIC & set(path1):
            super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth, **options)
            return
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if path2.endswith("/") or self.isdir(target):
            target = f"{target.rstrip('/')}/{source.rpartition('/')[2]}"
        with as_os_error(source):
            self.make_parents(target)
            self.files.rename(source, target)

    def cp_file(self, path1: str, path2: str, **_options: Any) -> None:
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if self.isdir(source):
            self.makedirs(target, exist_ok=True)
            return
        with as_os_error(source):
            self.make_parents(target)
            self.files.copy(source, target)

    def touch(self, path: str, truncate: bool = True, **_options: Any) -> None:
        path = self._strip_protocol(path)
        if not truncate and self.exists(path):
            raise NotImplementedError("the time of a file is that of its content; touch(truncate=True) makes it empty")
        with as_os_error(path):
            self.make_parents(path)
            self.files.create(path, replace=True)

    def make_parents(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if self.auto_mkdir and parent:
            self.files.mkdir(parent, parents=True)

    # --- content
    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: Any = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> ZactorFile:
        return ZactorFile(self, path, mode, block_size, autocommit, cache_options=cache_options, **options)

    def open(self, path: str, mode: str = "rb", compression: str | None = None, **options: Any) -> Any:
        """As fsspec does it; and what wraps a file that is written leaves nothing when its `with` fails."""
        text = {name: options.pop(name) for name in ("encoding", "errors", "newline") if name in options}
        is_text = "b" not in mode
        inner = super().open(path, mode.replace("t", "") + "b" if is_text else mode, **options)
        if compression is not None:
            inner = Compressed(inner, self._strip_protocol(path), compression)
        return Text(inner, **text) if is_text else inner

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_options: Any) -> bytes:
        path = self._strip_protocol(path)
        with as_os_error(path):
            if start is None and end is None:
                return self.files.read(path)
            with self.files.open(path) as reader:
                first, last, _ = slice(start, end).indices(reader.stat.size)
                return reader.read(first, max(0, last - first))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_options: Any) -> None:
        path = self._strip_protocol(path)
        with as_os_error(path):
            self.make_parents(path)
            self.files.put(io.BytesIO(value), path, size=memoryview(value).nbytes, replace=mode != "create")

    def put_file(
        self, lpath: str, rpath: str, callback: Any = DEFAULT_CALLBACK, mode: str = "overwrite", **_options: Any
    ) -> None:
        path = self._strip_protocol(rpath)
        if os.path.isdir(lpath):
            self.makedirs(path, exist_ok=True)
            return
        with open(lpath, "rb", buffering=0) as file, as_os_error(path):
            size = os.fstat(file.fileno()).st_size
            callback.set_size(size)
            self.make_parents(path)
            self.files.put(
                read_pieces(file), path, size=size, replace=mode != "create", progress=callback.absolute_update
            )

    def get_file(
        self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, outfile: Any = None, **_options: Any
    ) -> None:
        path = self._strip_protocol(rpath)
        if outfile is None and isfilelike(lpath):
            outfile = lpath
        if outfile is None and self.isdir(path):
            os.makedirs(lpath, exist_ok=True)
            return
        callback.set_size(self.size(path))
        with as_os_error(path):
            if outfile is not None:
                self.files.get(path, outfile, progress=callback.absolute_update)
                return
            target = Path(lpath)
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(target) as file:
                self.files.get(path, file, progress=callback.absolute_update)


_TYPES = {"file": ("file", stat.S_IFREG), "folder": ("directory", stat.S_IFDIR), "link": ("link", stat.S_IFLNK)}


# --- one client for each topology
class _Meant(NamedTuple):
    topology: str | None
    folder: str | None


_connections: dict[tuple[int, _Meant], Files] = {}
_connecting = threading.Lock()


def _connected(meant: _Meant) -> Files:
    """The client for a topology; another one after a fork. Raises UserError when there is nothing to talk to."""
    while forgotten:
        with suppress(Failure, IndexError):
            forgotten.popleft().close()
    key = (os.getpid(), meant)
    with _connecting:
        if key not in _connections:
            _connections[key] = _connect(meant)
        return _connections[key]


def _connect(meant: _Meant) -> Files:
    if meant.folder is None:
        return Files(meant.topology)
    from zactor.launchers.folders import find_running

    return Files(find_running(meant.topology, Path(meant.folder), "topology=NAME or topology=FILE")[0])


def disconnect() -> None:
    """Close the clients of this program; file systems that are used again connect anew."""
    with _connecting:
        for (process, _), files in list(_connections.items()):
            if process == os.getpid():
                with suppress(Failure, UserError, OSError):
                    files.close()
        _connections.clear()


atexit.register(disconnect)
