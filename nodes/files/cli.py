"""`zactor fs`: the files of a running topology, by the verbs of a shell.

Each verb finds the topology and its metadata server and hands over to `FilesClient`, `folders` or `archive`. Where a
verb is called as one of POSIX it does what that one does: what is copied or moved to a folder that is there goes into
it. Several sources are done one after the other, and one that fails does not keep the others from it.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from zactor.cli.common import FAILED, USAGE, VIOLATION, DirOption, JsonOption, TopologyOption, print_json, say
from zactor.errors import Failure, Refused, UserError

from . import archive, check, folders, report
from .client import FilesClient
from .local import progress_bar, read_pieces, whole_file
from .messages import IsAFolder, NotAFolder, NotFound
from .operations import Stat

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Files: put, get, list, move, remove, check.")

RENEW_S = 2.0
"""A reader of a pipe may take its time: what is open is kept by saying so, a quarter of the lease apart."""

RecursiveOption = Annotated[bool, typer.Option("-r", "--recursive", help="Folders, with all that is in them.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with what an earlier try has left.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="No progress bar.")]
PathArgument = Annotated[str, typer.Argument(help="A folder or a file there.")]
PathsArgument = Annotated[list[str], typer.Argument(metavar="PATH...", help="Files or folders there.")]


# --- in and out
@app.command()
def put(
    local: Annotated[list[str], typer.Argument(metavar="LOCAL...", help="Files here, or - for standard input.")],
    path: Annotated[str, typer.Argument(help="Their name there, such as /docs/a.txt, or a folder to put them into.")],
    recursive: RecursiveOption = False,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Store files; one of the same name is replaced."""
    for each in local:
        _check_local(each, recursive)

    async def work(files: FilesClient) -> int:
        target = await _Target.of(files, path, len(local))

        async def store(each: str) -> list[str]:
            where = target.of_local(each)
            if each != "-" and Path(each).is_dir():
                with progress_bar(where, None, quiet=quiet) as progress:
                    return await folders.put_tree(files, Path(each), where, resume=resume, progress=progress)
            with _opened(each) as source:
                size = _size(source)
                with progress_bar(where, size, quiet=quiet) as progress:
                    await files.put(read_pieces(source), where, size=size, mode=_mode(source), progress=progress)
            return []

        return await _each(local, store)

    _run(work, topology, folder)


@app.command()
def get(
    path: PathsArgument,
    local: Annotated[str, typer.Argument(help="Their name here, a folder to put them into, or - for standard output.")],
    recursive: RecursiveOption = False,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Fetch files. If anything fails, none is left here but those that are whole."""
    if len(path) > 1 and local != "-" and not Path(local).is_dir():
        raise UserError(f"{local} is no folder; several files need one to go into")

    async def work(files: FilesClient) -> int:
        async def fetch(each: str) -> list[str]:
            if local == "-":
                await _show(files, each)
                return []
            where = _into(local, each)
            found = await files.stat(_plain(each))
            with progress_bar(each, found.size if found.kind == "file" else None, quiet=quiet) as progress:
                if found.kind == "file":
                    await folders.get_file(files, _plain(each), where, resume=resume, progress=progress)
                    return []
                if not recursive:
                    raise IsAFolder(f"{each} is a folder; add -r to fetch it with all that is in it")
                return await folders.get_tree(files, _plain(each), where, resume=resume, progress=progress)

        return await _each(path, fetch)

    _run(work, topology, folder)


@app.command()
def cat(path: PathsArgument, topology: TopologyOption = None, folder: DirOption = None) -> None:
    """Write files to standard output, one after the other."""

    async def work(files: FilesClient) -> int:
        async def show(each: str) -> list[str]:
            await _show(files, each)
            return []

        return await _each(path, show)

    _run(work, topology, folder)


@app.command()
def save(
    file: Annotated[str, typer.Argument(help="The archive here, or - for standard output.")],
    path: PathArgument = "/",
    quiet: QuietOption = False,
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Write a folder with all that is in it to a tar archive."""
    if file == "-" and sys.stdout.isatty():
        raise UserError("standard output is a terminal, which an archive would spoil; give a FILE, or a pipe")

    async def work(files: FilesClient) -> int:
        with progress_bar(path, None, quiet=quiet) as progress:
            if file == "-":
                moved = await archive.save(files, _plain(path), sys.stdout.buffer, progress)
                sys.stdout.buffer.flush()
            else:
                with whole_file(Path(file)) as sink:
                    moved = await archive.save(files, _plain(path), sink, progress)
        return _said("saved", moved)

    _run(work, topology, folder)


@app.command()
def restore(
    file: Annotated[str, typer.Argument(help="A tar archive here, compressed or not, or - for standard input.")],
    path: PathArgument = "/",
    quiet: QuietOption = False,
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Put what a tar archive has into a folder; files of the same name are replaced."""

    async def work(files: FilesClient) -> int:
        with _opened(file) as source, progress_bar(path, None, quiet=quiet) as progress:
            moved = await archive.restore(files, source, _plain(path), progress)
        return _said("restored", moved)

    _run(work, topology, folder)


# --- names
@app.command()
def cp(
    path: PathsArgument,
    to: Annotated[str, typer.Argument(metavar="TO", help="The name of the copy, or a folder for copies.")],
    recursive: RecursiveOption = False,
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Copy files there."""

    async def work(files: FilesClient) -> int:
        target = await _Target.of(files, to, len(path))

        async def copy(each: str) -> list[str]:
            found = await files.stat(_plain(each))
            if found.kind != "folder":
                await folders.copy(files, _plain(each), target.of(each))
                return []
            if not recursive:
                raise IsAFolder(f"{each} is a folder; add -r to copy it with all that is in it")
            return await folders.copy_tree(files, _plain(each), target.of(each))

        return await _each(path, copy)

    _run(work, topology, folder)


@app.command()
def mv(
    path: PathsArgument,
    to: Annotated[str, typer.Argument(metavar="TO", help="The new name, or a folder to go into.")],
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Rename files and folders, each in one step."""

    async def work(files: FilesClient) -> int:
        target = await _Target.of(files, to, len(path))

        async def move(each: str) -> list[str]:
            await files.rename(_plain(each), target.of(each))
            return []

        return await _each(path, move)

    _run(work, topology, folder)


@app.command()
def rm(
    path: PathsArgument,
    recursive: RecursiveOption = False,
    yes: Annotated[bool, typer.Option("--yes", help="Also when it is everything.")] = False,
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Remove files, and with -r folders."""
    if recursive and not yes and any(_plain(each) == "/" for each in path):
        raise UserError("/ is everything that there is; add --yes if that is meant")

    async def work(files: FilesClient) -> int:
        async def remove(each: str) -> list[str]:
            found = await files.stat(_plain(each), follow=False)
            if found.kind != "folder":
                await files.remove(_plain(each))
                return []
            if not recursive:
                raise IsAFolder(f"{each} is a folder; add -r to remove it with all that is in it")
            return await folders.remove_tree(files, _plain(each))

        return await _each(path, remove)

    _run(work, topology, folder)


@app.command()
def mkdir(
    path: PathsArgument,
    parents: Annotated[bool, typer.Option("-p", "--parents", help="Also those above it; it may be there.")] = False,
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Make folders."""

    async def work(files: FilesClient) -> int:
        async def make(each: str) -> list[str]:
            await files.mkdir(_plain(each), parents=parents)
            return []

        return await _each(path, make)

    _run(work, topology, folder)


# --- looking
@app.command()
def ls(
    path: PathArgument = "/",
    long: Annotated[bool, typer.Option("-l", help="With mode and time, and where links lead.")] = False,
    topology: TopologyOption = None,
    folder: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List a folder: sizes and names."""

    async def work(files: FilesClient) -> int:
        async for item in files.list(_plain(path)):
            if as_json:
                print_json(report.json_of(item))
            else:
                print(report.long_line(item) if long else report.line(item))
        return 0

    _run(work, topology, folder)


@app.command()
def tree(
    path: PathArgument = "/",
    topology: TopologyOption = None,
    folder: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a folder and all that is in it."""

    async def work(files: FilesClient) -> int:
        if as_json:
            async for where, item in folders.walk(files, _plain(path)):
                print_json({"path": where, **report.json_of(item)})
        else:
            print(path)
            async for line in report.tree(files, _plain(path)):
                print(line)
        return 0

    _run(work, topology, folder)


@app.command("stat")
def stat_(
    path: PathArgument,
    topology: TopologyOption = None,
    folder: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a file, its chunks, and what each server holds of them; exit 3 if a copy is wrong or missing."""

    async def work(files: FilesClient) -> int:
        found = await files.stat(_plain(path), follow=False)
        if found.kind != "file":
            print_json(report.json_of(found)) if as_json else print("\n".join(report.card(found)))
            return 0
        content = await files.content(_plain(path))
        chunks = await check.examine(files, content)
        copies = (await files.space()).copies
        if as_json:
            print_json(report.json_of(content.stat) | {"chunks": [report.json_of_chunk(each) for each in chunks]})
        else:
            print("\n".join([*report.card(content.stat), *report.chunk_lines(chunks)]))
        wrong = [f"chunk {each.chunk.chunk:016x}: {words}" for each in chunks for words in each.problems(copies)]
        for words in wrong:
            say(words)
        return VIOLATION if wrong else 0

    _run(work, topology, folder)


@app.command()
def du(
    path: PathArgument = "/",
    summary: Annotated[bool, typer.Option("-s", "--summary", help="Only the whole.")] = False,
    topology: TopologyOption = None,
    folder: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how large a folder is, and those in it."""

    async def work(files: FilesClient) -> int:
        async for where, size in report.sizes(files, _plain(path)):
            if not summary or where == _plain(path):
                print_json({"path": where, "size": size}) if as_json else print(report.size_line(size, where))
        return 0

    _run(work, topology, folder)


@app.command()
def df(topology: TopologyOption = None, folder: DirOption = None, as_json: JsonOption = False) -> None:
    """Show the file servers, and how full they are."""

    async def work(files: FilesClient) -> int:
        space = await files.space()
        print_json(space_json(space)) if as_json else print("\n".join(report.space_lines(space)))
        return 0

    space_json = report.json_of_space
    _run(work, topology, folder)


@app.command()
def fsck(
    path: PathArgument = "/",
    verify: Annotated[bool, typer.Option("--verify", help="Read every copy, and verify each block.")] = False,
    topology: TopologyOption = None,
    folder: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at all files: copies that are missing, on lost servers, or wrong; exit 3 if there are any."""

    async def work(files: FilesClient) -> int:
        total = check.Checked()
        async for found in check.check(files, _plain(path), files.door if verify else None):
            total.files += found.files
            total.chunks += found.chunks
            total.copies += found.copies
            total.problems += found.problems
            for where, chunk, words in found.problems:
                row = {"path": where, "chunk": f"{chunk:016x}", "problem": words}
                print_json(row) if as_json else print(f"{where}: chunk {chunk:016x}: {words}")
        if not as_json:
            print(report.checked_line(total))
        return VIOLATION if total.problems else 0

    _run(work, topology, folder)


# --- what they share
class _Target:
    """Where sources go: each into a folder that is there, or the only one under a name of its own."""

    def __init__(self, path: str, is_folder: bool) -> None:
        self._path = path
        self._is_folder = is_folder

    @classmethod
    async def of(cls, files: FilesClient, path: str, sources: int) -> _Target:
        """Raises `NotAFolder` for several sources, or a path that ends like a folder, when it is none."""
        plain = _plain(path)
        try:
            is_folder = (await files.stat(plain)).kind == "folder"
        except NotFound:
            is_folder = False
        if not is_folder and (sources > 1 or plain != path):
            raise NotAFolder(f"{plain} is no folder; make it with: zactor fs mkdir {plain}")
        return cls(plain, is_folder)

    def of(self, source: str) -> str: ...


def _run(
    work: Callable[[FilesClient], Coroutine[Any, Any, int]], topology: str | None, folder: Path | None
) -> None: ...
