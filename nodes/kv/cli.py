"""`zactor kv`: the keys of a running store.

Each verb finds the topology and the store in it, and hands over to `KvClient`. Keys and values are words; `-` is what
comes from standard input.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from zactor.cli.common import (
    DEADLINE,
    FAILED,
    OK,
    DirOption,
    JsonOption,
    TimeoutOption,
    TopologyOption,
    find_running,
    print_json,
    print_table,
    say,
    seconds,
)
from zactor.errors import Failure, UserError
from zactor.message import encode
from zactor.replication.messages import Level, Query
from zactor.units import format_size

from . import operations as op
from . import saving, words
from .client import HeldLease, KvClient, LeaseLost
from .locks import Lock, holder, observe

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Keys: put, get, watch, lock, elect, lease, load.")
lease_app = typer.Typer(no_args_is_help=True, add_completion=False, help="Leases: keys that go when nobody keeps them.")
app.add_typer(lease_app, name="lease")

TIMEOUT = "10s"
TTL = "10s"

Work = Callable[[KvClient], Coroutine[Any, Any, int]]

StoreOption = Annotated[
    str | None, typer.Option("-n", "--node", metavar="NODE", help="The store, by its node; default: the only one.")
]
ReadOption = Annotated[
    str, typer.Option("--read", metavar="LEVEL", help=f"How fresh an answer must be: {', '.join(get_args(Level))}.")
]
BoundOption = Annotated[
    str, typer.Option("--bound", metavar="DURATION", help="How old a bounded answer may be, such as 500ms.")
]
PrefixOption = Annotated[bool, typer.Option("--prefix", help="All keys that begin so.")]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY")]
LeaseArgument = Annotated[int, typer.Argument(metavar="LEASE", help="Its number.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME")]
TtlOption = Annotated[
    str, typer.Option("--ttl", metavar="DURATION", help="How long it is held when this command is cut off.")
]
WaitOption = Annotated[str | None, typer.Option("--wait", metavar="DURATION", help="Give up after so long.")]
CommandArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[-- COMMAND...]", help="Run it meanwhile; default: until Ctrl-C.")
]


# --- keys
@app.command()
def get(
    key: KeyArgument,
    read: ReadOption = "linearizable",
    bound: BoundOption = "1s",
    output: Annotated[Path | None, typer.Option("-o", metavar="FILE", help="Write the very bytes there.")] = None,
    node: StoreOption = None,
    timeout: TimeoutOption = TIMEOUT,
    topology: TopologyOption = None,
    folder: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the value of a key. The exit code is 1 when it is not there."""

    async def work(kv: KvClient) -> int:
        item = await kv.get(key.encode(), level=_level(read), bound_s=seconds(bound))
        if item is None:
            say(f"there is no key {key}")
            return FAILED
        if as_json:
            print_json(words.as_object(item))
        elif output is not None:
            output.write_bytes(item.value)
        else:
            typer.echo(words.text(item.value))
        return OK

    _run(work, node, timeout, topology, folder)


@app.command()
def put(
    key: KeyArgument,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="A word, or - for standard input.")],
    lease: Annotated[int, typer.Option("--lease", metavar="LEASE", help="The key goes when this lease ends.")] = 0,
    node: StoreOption = None,
    timeout: TimeoutOption = TIMEOUT,
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Give a key a value, and show the revision."""
    if not key:
        raise UserError("a key has at least one character")
    content = sys.stdin.buffer.read() if value == "-" else value.encode()

    async def work(kv: KvClient) -> int:
        typer.echo(f"revision {(await kv.put(key.encode(), content, lease=lease)).revision}")
        return OK

    _run(work, node, timeout, topology, folder)


@app.command()
def delete(
    key: KeyArgument,
    end: Annotated[str | None, typer.Argument(metavar="[END]", help="Delete the keys from KEY to before this.")] = None,
    prefix: PrefixOption = False,
    node: StoreOption = None,
    timeout: TimeoutOption = TIMEOUT,
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Delete a key, or a range of them. The exit code is 1 when there was none."""
    where = _range_of(key, end, prefix)

    async def work(kv: KvClient) -> int:
        count, more = 0, True
        while more:
            deleted = await kv.delete(*where, limit=op.DELETE_KEYS_MAX)
            count, more = count + deleted.count, deleted.more
        typer.echo(f"{count} deleted")
        return OK if count else FAILED

    _run(work, node, timeout, topology, folder)


@app.command(name="range")
def range_(
    key: Annotated[str, typer.Argument(metavar="[KEY]", help="Where to begin; default: all keys.")] = "",
    end: Annotated[str | None, typer.Argument(metavar="[END]", help="Where to end, before this.")] = None,
    prefix: PrefixOption = False,
    limit: Annotated[int, typer.Option("--limit", metavar="COUNT", min=1, help="Show only so many.")] = sys.maxsize,
    keys_only: Annotated[bool, typer.Option("--keys-only", help="No values.")] = False,
    count: Annotated[bool, typer.Option("--count", help="Only how many there are.")] = False,
    read: ReadOption = "linearizable",
    node: StoreOption = None,
    timeout: TimeoutOption = TIMEOUT,
    topology: TopologyOption = None,
    folder: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show keys and values, in order. Of many, each page is of its own moment."""
    first, last = _range_of(key, end if end is not None else "", prefix)

    async def work(kv: KvClient) -> int:
        if count:
            typer.echo((await kv.question(op.Count(first, last), level=_level(read))).count)
            return OK
        shown = 0
        async for item in kv.scan(first, last, keys_only=keys_only, level=_level(read)):
            if shown == limit:
                break
            _show(item, keys_only, as_json)
            shown += 1
        return OK

    _run(work, node, timeout, topology, folder)


def _show(item: op.Item, keys_only: bool, as_json: bool) -> None:
    if as_json:
        print_json(words.as_object(item))
    else:
        typer.echo(words.text(item.key) if keys_only else f"{words.text(item.key)}  {words.text(item.value)}")


@app.command()
def txn(
    when: Annotated[list[str], typer.Option("--if", metavar="CONDITION", help="KEY version = 0, KEY value = x.")] = [],  # noqa: B006
    then: Annotated[list[str], typer.Option("--then", metavar="STEP", help="put KEY VALUE, delete KEY, get KEY.")] = [],  # noqa: B006
    otherwise: Annotated[list[str], typer.Option("--else", metavar="STEP", help="The same, if not.")] = [],  # noqa: B006
    node: StoreOption = None,
    timeout: TimeoutOption = TIMEOUT,
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Do all steps at once, if all conditions hold. The exit code is 1 when they do not."""
    conditions = tuple(words.parse_condition(each) for each in when)
    success, failure = (tuple(words.parse_step(each) for each in steps) for steps in (then, otherwise))

    async def work(kv: KvClient) -> int:
        done = await kv.transaction(conditions, success, failure)
        typer.echo(f"{'done' if done.succeeded else 'not so'}, revision {done.revision}")
        for answer in done.answers:
            typer.echo("\n".join(f"  {line}" for line in words.answer_lines(answer)))
        return OK if done.succeeded else FAILED

    _run(work, node, timeout, topology, folder)


@app.command()
def watch(
    key: KeyArgument,
    end: Annotated[str | None, typer.Argument(metavar="[END]", help="The keys from KEY to before this.")] = None,
    prefix: PrefixOption = False,
    start: Annotated[
        int, typer.Option("--start", metavar="REVISION", min=0, help="From that revision on; default: from now on.")
    ] = 0,
    count: Annotated[int, typer.Option("--count", metavar="COUNT", min=1, help="End after so many.")] = sys.maxsize,
    node: StoreOption = None,
    topology: TopologyOption = None,
    folder: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show changes as they are made, each once and in order, until Ctrl-C."""
    where = _range_of(key, end, prefix)

    async def work(kv: KvClient) -> int:
        seen = 0
        async for changes in kv.watch(*where, start=start):
            for item in changes.items:
                if as_json:
                    print_json(words.as_object(item))
                else:
                    typer.echo(words.change_line(item))
                sys.stdout.flush()
                seen += 1
                if seen == count:
                    return OK
        return OK

    _run(work, node, TIMEOUT, topology, folder)


# --- locks and elections
@app.command(context_settings={"ignore_unknown_options": True})
def lock(
    name: NameArgument,
    command: CommandArgument = None,
    ttl: TtlOption = TTL,
    wait: WaitOption = None,
    node: StoreOption = None,
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Wait for a lock, and hold it while a command runs.

    The command finds the fencing token in ZACTOR_LOCK_TOKEN, and its exit code is this one's. When the lock is lost,
    the command is ended, and the exit code is 1. It is 124 when the lock could not be had in time.
    """

    async def work(kv: KvClient) -> int:
        return await _held(kv, name, b"", seconds(ttl), None if wait is None else seconds(wait), command, "holds")

    _run(work, node, TIMEOUT, topology, folder)


@app.command(context_settings={"ignore_unknown_options": True})
def elect(
    name: NameArgument,
    value: Annotated[str | None, typer.Argument(metavar="[VALUE]", help="Lead, and be known by this.")] = None,
    command: CommandArgument = None,
    ttl: TtlOption = TTL,
    wait: WaitOption = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Show each leader, until Ctrl-C.")] = False,
    node: StoreOption = None,
    topology: TopologyOption = None,
    folder: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who leads; or, with a value, wait to be the leader, and lead while a command runs."""
    if value is not None and follow:
        raise UserError("--follow shows who leads; to lead, leave it out")

    async def work(kv: KvClient) -> int:
        if value is not None:
            wait_s = None if wait is None else seconds(wait)
            return await _held(kv, name, value.encode(), seconds(ttl), wait_s, command, "leads")
        if not follow:
            return _show_leader(await holder(kv, name.encode()), as_json)
        async for item in observe(kv, name.encode()):
            _show_leader(item, as_json)
            sys.stdout.flush()
        return OK

    _run(work, node, TIMEOUT, topology, folder)


def _show_leader(item: op.Item | None, as_json: bool) -> int:
    if as_json:
        print_json({"leader": item and words.text(item.value), "token": item and item.created})
    else:
        typer.echo("nobody leads" if item is None else f"{words.text(item.value)}  token {item.created}")
    return FAILED if item is None else OK


async def _held(
    kv: KvClient, name: str, value: bytes, ttl_s: float, wait_s: float | None, command: list[str] | None, verb: str
) -> int:
    """Hold a lock while a command runs, or until Ctrl-C."""
    lease = await kv.hold(ttl_s)
    keeping = asyncio.create_task(_kept(lease))
    try:
        mine = Lock(name.encode(), lease)
        acquiring = asyncio.create_task(mine.acquire(value, wait_s))
        await asyncio.wait((acquiring, keeping), return_when=asyncio.FIRST_COMPLETED)
        if not acquiring.done():
            acquiring.cancel()
            await keeping
        if not await acquiring:
            say(f"{name} could not be had in {wait_s:g} s")
            return DEADLINE
        if not command:
            typer.echo(f"{verb} {name}, token {mine.token}; Ctrl-C ends it")
            sys.stdout.flush()
            await keeping
        return await _while_held(command or [], mine.token, keeping)
    finally:
        keeping.cancel()
        await _let_go(lease)


async def _kept(lease: HeldLease) -> None:
    """Keep a lease until it is lost. Raises `LeaseLost`, and in time: not only when the store says so."""
    keeping, ending = asyncio.create_task(lease.keep()), asyncio.create_task(lease.ended())
    try:
        await asyncio.wait((keeping, ending), return_when=asyncio.FIRST_COMPLETED)
        if keeping.done():
            await keeping
        raise LeaseLost(f"lease {lease.id} could not be kept alive for {lease.ttl_s:g} s")
    finally:
        keeping.cancel()
        ending.cancel()


async def _while_held(command: list[str], token: int, keeping: asyncio.Task[None]) -> int:
    try:
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, "ZACTOR_LOCK_TOKEN": str(token)})
    except OSError as error:
        raise UserError(f"{command[0]} cannot be run: {error.strerror}") from None
    ending = asyncio.create_task(process.wait())
    try:
        await asyncio.wait((ending, keeping), return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            await keeping
        return await ending
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def _let_go(lease: HeldLease) -> None:
    if lease.left_s:
        with suppress(Failure):  # it ends by itself
            await lease.release()


# --- leases
@lease_app.command()
def grant(
    ttl: Annotated[str, typer.Argument(metavar="DURATION", help="How long it lives unless it is kept alive.")],
    node: StoreOption = None,
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """A new lease; shows its number."""

    async def work(kv: KvClient) -> int:
        typer.echo(f"lease {await kv.grant(seconds(ttl))}")
        return OK

    _run(work, node, TIMEOUT, topology, folder)


@lease_app.command()
def keep(
    lease: LeaseArgument, node: StoreOption = None, topology: TopologyOption = None, folder: DirOption = None
) -> None:
    """Let a lease begin anew."""

    async def work(kv: KvClient) -> int:
        kept = await kv.keep_alive(lease)
        typer.echo(f"lease {kept.lease} lives for {kept.ttl_ns / 1e9:g} s from now")
        return OK

    _run(work, node, TIMEOUT, topology, folder)


@lease_app.command()
def revoke(
    lease: LeaseArgument, node: StoreOption = None, topology: TopologyOption = None, folder: DirOption = None
) -> None:
    """End a lease, and delete its keys."""

    async def work(kv: KvClient) -> int:
        typer.echo(f"{(await kv.revoke(lease)).count} deleted")
        return OK

    _run(work, node, TIMEOUT, topology, folder)


@lease_app.command()
def show(
    lease: LeaseArgument,
    node: StoreOption = None,
    topology: TopologyOption = None,
    folder: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how long a lease lives yet, and its keys."""

    async def work(kv: KvClient) -> int:
        found = await kv.leased(lease)
        keys = [words.text(key) for key in found.keys]
        if as_json:
            print_json({"lease": found.lease, "ttl_ns": found.ttl_ns, "left_ns": found.left_ns, "keys": keys})
        else:
            typer.echo(f"lease {found.lease}, of {found.ttl_ns / 1e9:g} s, ends in {found.left_ns / 1e9:.1f} s")
            for key in keys:
                typer.echo(f"  {key}")
        return OK

    _run(work, node, TIMEOUT, topology, folder)


@lease_app.command()
def ls(
    node: StoreOption = None, topology: TopologyOption = None, folder: DirOption = None, as_json: JsonOption = False
) -> None:
    """Show the numbers of all leases."""

    async def work(kv: KvClient) -> int:
        after, more = 0, True
        while more:
            page = await kv.question(op.GetLeases(after))
            for lease in page.leases:
                if as_json:
                    print_json({"lease": lease})
                else:
                    typer.echo(lease)
                after = lease
            more = page.more
        return OK

    _run(work, node, TIMEOUT, topology, folder)


# --- the whole
@app.command()
def status(
    node: StoreOption = None,
    topology: TopologyOption = None,
    folder: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what each replica has. Equal digests at equal revisions say that they have the same."""

    async def work(kv: KvClient) -> int:
        question = Query(body=encode(op.GetStatus()), level="eventual")
        answers = [(each.name, kv.door.ask(each, question, 2.0)) for each in kv.targets]
        rows: list[tuple[object, ...]] = []
        found = 0
        for name, answer in answers:
            try:
                held = op.decode_answer(await answer)
            except Failure as error:
                rows.append((name, f"{type(error).__name__}: {error}"))
                continue
            found += 1
            size = held.size if as_json else format_size(held.size)
            rows.append((name, held.revision, held.keys, size, held.leases, held.compacted + 1, f"{held.digest:016x}"))
        head = ("REPLICA", "REVISION", "KEYS", "SIZE", "LEASES", "WATCH FROM", "DIGEST")
        if as_json:
            for row in rows:
                print_json(dict(zip([each.lower().replace(" ", "_") for each in head], row, strict=False)))
        else:
            print_table(head, [(*row, *[""] * (len(head) - len(row))) for row in rows])
        return OK if found else FAILED

    _run(work, node, TIMEOUT, topology, folder)


@app.command()
def save(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file here, or - for standard output.")],
    node: StoreOption = None,
    timeout: TimeoutOption = TIMEOUT,
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Write all keys and values to a file, as they are at one revision; without those that have a lease."""

    async def work(kv: KvClient) -> int:
        revision, items = await kv.copy()
        kept = [item for item in items if not item.lease]
        if file == "-":
            for line in saving.written(revision, kept):
                sys.stdout.buffer.write(line)
            return OK
        _write(Path(file), revision, kept)
        typer.echo(f"{len(kept)} keys of revision {revision}; {len(items) - len(kept)} with leases left out")
        return OK

    _run(work, node, timeout, topology, folder)


def _write(file: Path, revision: int, items: list[op.Item]) -> None:
    """Whole, or not at all."""
    with tempfile.NamedTemporaryFile(dir=file.absolute().parent, prefix=f".{file.name}.", delete=False) as unfinished:
        try:
            unfinished.writelines(saving.written(revision, items))
            unfinished.flush()
            os.fsync(unfinished.fileno())
            os.replace(unfinished.name, file)
        except BaseException:
            os.unlink(unfinished.name)
            raise


@app.command()
def restore(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What `save` wrote, or - for standard input.")],
    merge: Annotated[bool, typer.Option("--merge", help="Though there are keys: those of the file win.")] = False,
    node: StoreOption = None,
    timeout: TimeoutOption = TIMEOUT,
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Put all keys and values of a file. They get new revisions."""
    if file == "-":
        items = saving.read(sys.stdin.buffer, "standard input")
    else:
        with open(file, "rb") as lines:
            items = saving.read(lines, file)

    async def work(kv: KvClient) -> int:
        there = (await kv.status()).keys
        if there and not merge:
            raise UserError(f"the store has {there} keys already; add --merge to put those of the file over them")
        await saving.put_all(kv, items)
        typer.echo(f"{len(items)} keys")
        return OK

    _run(work, node, timeout, topology, folder)


@app.command(name="load")
def load_(
    clients: Annotated[int, typer.Option("--clients", metavar="COUNT", min=1, help="With one operation each.")] = 16,
    keys: Annotated[int, typer.Option("--keys", metavar="COUNT", min=1)] = 10_000,
    for_: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long.")] = "10s",
    size: Annotated[int, typer.Option("--size", metavar="BYTES", min=1, max=op.VALUE_SIZE_MAX)] = 256,
    reads: Annotated[float, typer.Option("--reads", metavar="SHARE", min=0, max=1, help="Of all operations.")] = 0.5,
    swaps: Annotated[
        float, typer.Option("--swaps", metavar="SHARE", min=0, max=1, help="Compare-and-sets; the others are puts.")
    ] = 0.1,
    history: Annotated[
        Path | None, typer.Option("--history", metavar="FILE", help="Write what was asked and answered, to judge it.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Which keys, and what.")] = 0,
    read: ReadOption = "linearizable",
    bound: BoundOption = "1s",
    node: StoreOption = None,
    timeout: TimeoutOption = TIMEOUT,
    topology: TopologyOption = None,
    folder: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let many clients work at once, and show how fast that went. The exit code is 1 when nothing was answered."""
    from . import load
    from .loading import drive  # histories and their judges are not needed by other verbs

    if reads + swaps > 1:
        raise UserError(f"--reads {reads:g} and --swaps {swaps:g} are more than 1 together")
    asked_for = load.Load(
        clients=clients,
        keys=keys,
        seconds=seconds(for_),
        size=size,
        reads=reads,
        swaps=swaps,
        level=_level(read),
        bound_s=seconds(bound),
        give_up_s=seconds(timeout),
        seed=seed,
    )
    _run(lambda kv: drive(kv, asked_for, history, as_json), node, timeout, topology, folder)


# --- what the verbs share
def _level(read: str) -> Level:
    if read not in get_args(Level):
        raise UserError(f"--read takes {', '.join(get_args(Level))}, not {read!r}")
    return cast("Level", read)


def _range_of(key: str, end: str | None, prefix: bool) -> tuple[bytes, bytes | None]:
    if prefix:
        return key.encode(), op.prefix_end(key.encode())
    return key.encode(), None if end is None else end.encode()


def _run(work: Work, node: str | None, timeout: str, topology: str | None, folder: Path | None) -> None:
    """Join the topology, do the work at the store, and end with its exit code."""
    from .running import KvDoor  # not needed for help

    async def connected() -> int:
        home, _ = find_running(topology, folder)
        async with KvDoor(home) as door:
            kv = KvClient(door, door.replicas(node), seconds(timeout))
            try:
                return await work(kv)
            finally:
                await kv.close()

    try:
        code = asyncio.run(connected())
    except LeaseLost as error:
        say(str(error))
        code = FAILED
    raise typer.Exit(code)
