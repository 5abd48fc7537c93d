"""`zactor fs`: the files of a running topology, by the verbs of a shell.

Each verb finds the topology and its metadata server and hands over to `FilesClient`, `folders` or `archive`. Where a
verb is called as one of POSIX it does what that one does: what is copied or moved to a folder that is there goes into
it. Several sources are done one after the other, and one that fails does not keep the others from it.
"""

from __future__ import annotations

import asyncio
import io
import os
import stat
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from zactor.cli.common import (
    FAILED,
    OK,
    USAGE,
    VIOLATION,
    DirOption,
    JsonOption,
    TopologyOption,
    find_running,
    print_json,
    say,
)
from zactor.errors import Refused, UserError
from zactor.units import format_size

from . import archive, check, folders, report
from .client import FilesClient
from .folders import join
from .local import progress_bar, read_pieces, whole_file
from .messages import READ_SIZE, IsAFolder, NotAFolder, NotFound

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Files: put, get, list, move, remove, check.")

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
    local_folders = {each for each in local if os.path.isdir(each)}
    if local_folders and not recursive:
        raise UserError(f"{sorted(local_folders)[0]} is a folder; add -r to put it with all that is in it")

    async def work(files: FilesClient) -> int:
        target = await _Target.of(files, path, len(local))

        async def store(each: str) -> list[str]:
            where = target.of_local(each)
            if each in local_folders or (resume and each != "-"):
                with progress_bar(where, None, quiet=quiet) as progress:
                    found = await folders.put_tree(
                        files, Path(each), where, resume=resume, progress=_tree_bar(progress)
                    )
                return _problems(found)
            with _opened(each) as source:
                size, mode = _size_and_mode(source)
                with progress_bar(where, size, quiet=quiet) as progress:
                    await files.put(read_pieces(source), where, size=size, mode=mode, progress=progress)
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
            where = _local_target(local, each)
            found = await files.stat(_plain(each))
            if found.kind == "folder" and not recursive:
                raise IsAFolder(f"{each} is a folder; add -r to fetch it with all that is in it")
            with progress_bar(each, found.size if found.kind == "file" else None, quiet=quiet) as progress:
                if found.kind == "folder" or resume:
                    got = await folders.get_tree(
                        files, _plain(each), where, resume=resume, progress=_tree_bar(progress)
                    )
                    return _problems(got)
                with whole_file(where) as sink:
                    got_one = await files.get(_plain(each), sink, progress=progress)
                where.chmod(got_one.mode)
            return []

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
                await folders.copy(files, _plain(each), target.of_path(each))
                return []
            if not recursive:
                raise IsAFolder(f"{each} is a folder; add -r to copy it with all that is in it")
            return _problems(await folders.copy_tree(files, _plain(each), target.of_path(each)))

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
            await files.rename(_plain(each), target.of_path(each))
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
            if found.kind == "folder" and not recursive:
                raise IsAFolder(f"{each} is a folder; add -r to remove it with all that is in it")
            # The root itself stays.
            below = [join("/", item.name) async for item in files.list("/")] if found.name == "" else [_plain(each)]
            for path_there in below:
                await folders.remove_tree(files, path_there)
            return []

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
        print_json(report.json_of_space(space)) if as_json else print("\n".join(report.space_lines(space)))
        return 0

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
        async for found in check.check(files, _plain(path), verify=verify):
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

    def __init__(self, path: str, *, is_folder: bool) -> None:
        self._path = path
        self._is_folder = is_folder

    @classmethod
    async def of(cls, files: FilesClient, path: str, sources: int) -> _Target:
        """Raises `NotAFolder` when it has to be one, for several sources or by its last sign, and is none."""
        plain = _plain(path)
        try:
            is_folder = (await files.stat(plain)).kind == "folder"
        except NotFound:
            is_folder = False
            # Said before anything is sent: a file that is there has a folder.
            await _check_folder(files, plain.rpartition("/")[0] or "/")
        if not is_folder and sources > 1:
            raise NotAFolder(f"{plain} is no folder; several sources need one to go into: zactor fs mkdir {plain}")
        return cls(plain, is_folder=is_folder)

    def of_path(self, source: str) -> str:
        """Where a file or folder there goes."""
        name = _plain(source).rpartition("/")[2]
        return join(self._path, name) if self._is_folder and name else self._path

    def of_local(self, source: str) -> str:
        """Where a file or folder here goes. `FOLDER/.` is what is in it, as for cp(1)."""
        name = os.path.basename(source.rstrip("/"))
        if not self._is_folder or name in (".", "..", ""):
            return self._path
        if source == "-":
            raise IsAFolder(f"{self._path} is a folder; standard input needs a name in it: {join(self._path, 'NAME')}")
        return join(self._path, name)


async def _check_folder(files: FilesClient, path: str) -> None:
    try:
        await files.stat(path)
    except NotFound as refusal:
        raise NotFound(f"there is no folder {path}; make it with: zactor fs mkdir -p {path}") from refusal


def _plain(path: str) -> str:
    """A path without the slash at its end, with which one says that it is a folder."""
    return path.rstrip("/") or path[:1]


def _local_target(local: str, path: str) -> Path:
    """Where what is fetched goes here."""
    target = Path(local)
    return target / (_plain(path).rpartition("/")[2] or ".") if target.is_dir() else target


@contextmanager
def _opened(local: str) -> Iterator[io.RawIOBase]:
    """A file here, or standard input, without a buffer: see `read_pieces`."""
    if local == "-":
        standard_input: Any = sys.stdin.buffer  # of which types do not know what it reads from
        yield standard_input.raw
        return
    with open(local, "rb", buffering=0) as file:
        yield file


def _size_and_mode(source: io.RawIOBase) -> tuple[int | None, int | None]:
    """The bytes and permissions of a plain file; a pipe has none to say."""
    status = os.fstat(source.fileno())
    return (status.st_size, stat.S_IMODE(status.st_mode)) if stat.S_ISREG(status.st_mode) else (None, None)


async def _show(files: FilesClient, path: str) -> None:
    """Write a file to standard output, which may block, and so is written to by a thread."""
    out = sys.stdout.buffer
    if (await files.stat(_plain(path))).size <= READ_SIZE:  # such a file is not pinned, which would be a change
        out.write(await files.read(_plain(path)))
        out.flush()
        return
    reader = await files.open(_plain(path))

    async def take(piece: bytes) -> None:
        await asyncio.to_thread(out.write, piece)

    try:
        await reader.stream(0, reader.stat.size, take)
        await asyncio.to_thread(out.flush)
    finally:
        await reader.close()


async def _each(sources: Sequence[str], work: Callable[[str], Awaitable[Sequence[str]]]) -> int:
    """Do something with each source; what is wrong with one, in a line or several, does not keep it from the others."""
    code = 0
    for source in sources:
        try:
            problems = await work(source)
            failed = FAILED
        except Refused as refusal:
            problems, failed = [str(refusal)], FAILED
        except BrokenPipeError:
            raise  # who reads has gone, as in `fs cat /log | head`
        except OSError as error:
            problems, failed = [_words(error)], USAGE
        for problem in problems:
            say(problem)
            code = code or failed
    return code


def _problems(found: folders.Report) -> list[str]:
    """What went wrong with the files of a tree, a line each."""
    return [
        _words(each.error) if isinstance(each.error, OSError) else f"{each.path}: {each.error}"
        for each in found.problems
    ]


def _words(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _said(done: str, moved: archive.Moved) -> int:
    """Say on standard error what became of an archive; the exit code."""
    for problem in moved.problems:
        say(problem)
    counted = ((moved.folders, "folder"), (moved.links, "link"))
    words = [f"{report.count(moved.files, 'file')} of {format_size(moved.bytes)}"]
    words += [report.count(number, name) for number, name in counted]
    sys.stderr.write(f"{done} {', '.join(words)}\n")
    return FAILED if moved.problems else OK


def _tree_bar(progress: Callable[[int], None] | None) -> folders.TreeProgress | None:
    """A bar that shows the bytes of all files."""
    return None if progress is None else lambda _files, size: progress(size)


def _run(work: Callable[[FilesClient], Coroutine[Any, Any, int]], topology: str | None, folder: Path | None) -> None:
    """Join the topology, do the work, and end with its exit code."""
    from .library import AsyncFiles  # not needed for help

    async def connected() -> int:
        home, _ = find_running(topology, folder)
        async with AsyncFiles(home) as files:
            return await work(files)

    try:
        code = asyncio.run(connected())
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(_words(error)) from error
    raise typer.Exit(code)
