"""`zactor fs`: put, get, list and remove files of a running topology.

It finds the topology and its metadata server and hands over to `FilesClient`.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from zactor.cli.common import DirOption, JsonOption, TopologyOption
from zactor.errors import UserError
from zactor.units import format_size

from .client import FilesClient
from .local import progress_bar, read_pieces, whole_file

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Files: put, get, list, remove.")


@app.command()
def put(
    local: Annotated[str, typer.Argument(help="A file here, or - for standard input.")],
    path: Annotated[str, typer.Argument(help="Its name there, such as /docs/a.txt.")],
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Store a file; one of that name is replaced."""

    async def work(files: FilesClient) -> None:
        with nullcontext(sys.stdin.buffer) if local == "-" else open(local, "rb") as source:
            size = _size(source)
            with progress_bar(path, size) as progress:
                await files.put(read_pieces(source), path, size=size, progress=progress)

    _run(work, topology, folder)


@app.command()
def get(
    path: Annotated[str, typer.Argument(help="Its name there.")],
    local: Annotated[str, typer.Argument(help="A file here, or - for standard output.")],
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Fetch a file. If anything fails, none is left here."""

    async def work(files: FilesClient) -> None:
        with nullcontext(sys.stdout.buffer) if local == "-" else whole_file(Path(local)) as sink:
            with progress_bar(path, None) as progress:
                await files.get(path, sink, progress=progress)
            sink.flush()

    _run(work, topology, folder)


@app.command()
def ls(
    path: Annotated[str, typer.Argument(help="A folder or a file there.")] = "/",
    topology: TopologyOption = None,
    folder: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List a folder: sizes and names."""

    async def work(files: FilesClient) -> None:
        async for item in files.list(path):
            if as_json:
                print(json.dumps({"name": item.name, "size": item.size}))
            else:
                size = "-" if item.size is None else format_size(item.size)
                print(f"{size:>10}  {item.name}")

    _run(work, topology, folder)


@app.command()
def rm(
    path: Annotated[str, typer.Argument(help="A file there.")],
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Remove a file."""
    _run(lambda files: files.remove(path), topology, folder)


def _size(source: BinaryIO) -> int | None:
    """The bytes of a plain file; a pipe does not say."""
    status = os.fstat(source.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _run(work: Callable[[FilesClient], Coroutine[Any, Any, None]], topology: str | None, folder: Path | None) -> None:
    from zactor.cli.client import connect  # not needed for help

    async def connected() -> None:
        async with connect(topology, folder) as client:
            servers = client.nodes("files.metadata")
            if len(servers) != 1:
                raise UserError(f"the topology has {len(servers)} nodes of kind files.metadata; expected one")
            await work(FilesClient(client, client.ref(servers[0])))

    try:
        asyncio.run(connected())
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise UserError(f"{where}{error.strerror or error}") from error
