"""`zactor raft`: the peers of a running group, and who leads it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from zactor.cli.common import (
    FAILED,
    OK,
    DirOption,
    JsonOption,
    TopologyOption,
    find_running,
    print_json,
    print_table,
    say,
)
from zactor.errors import Failure

from .forming import node_of
from .messages import PeerStatus
from .operating import Operator

if TYPE_CHECKING:
    from zactor.client import AsyncClient

KIND = "raft.peer"

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Raft: how peers fare, who leads, who takes part.")

GroupOption = Annotated[
    str | None, typer.Option("-n", "--node", metavar="NODE", help="The group, by its node; default: the only one.")
]
PeerArgument = Annotated[str, typer.Argument(metavar="PEER", help="A node, such as kv/3.")]


@app.command()
def status(
    node: GroupOption = None, topology: TopologyOption = None, folder: DirOption = None, json: JsonOption = False
) -> None:
    """Show each peer: its role and term, how far its log has come, and who takes part."""

    async def work(operator: Operator, _client: AsyncClient) -> int:
        found = await operator.status()
        if json:
            for name, peer in found:
                print_json(
                    {"node": name, "error": str(peer)} if isinstance(peer, Failure) else {"node": name, **_dict(peer)}
                )
        else:
            print_table(
                ("PEER", "ROLE", "TERM", "LEADER", "COMMIT", "LOG", "COMMANDS", "MEMBER"),
                [_row(name, peer) for name, peer in found],
            )
        leaders = [peer for _, peer in found if isinstance(peer, PeerStatus) and peer.role == "leader"]
        if not leaders:
            say("nobody leads: no majority of the peers can be reached, or an election is under way")
        return OK if leaders else FAILED

    _run(work, node, topology, folder)


def _dict(peer: PeerStatus) -> dict[str, Any]:
    return {name: msgspec.to_builtins(value) for name, value in msgspec.structs.asdict(peer).items()} | {
        "members": msgspec.structs.asdict(peer.members),
        "peers": [msgspec.structs.asdict(each) for each in peer.peers],
    }


def _row(name: str, peer: PeerStatus | Failure) -> tuple[object, ...]:
    if isinstance(peer, Failure):
        return (name, "unknown", "-", "-", "-", "-", "-", str(peer))
    members = peer.members
    member = "voter" if members.is_voter(peer.name) else "learner" if peer.name in members.learners else "no"
    log = f"{peer.first_index}..{peer.last_index}"
    return (name, peer.role, peer.term, node_of(peer.leader) or "-", peer.commit_index, log, peer.applied, member)


@app.command()
def transfer(
    to: Annotated[str, typer.Argument(metavar="[PEER]", help="Who is to lead; default: who knows most.")] = "",
    node: GroupOption = None,
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Hand leadership over, without an election timeout."""

    async def work(operator: Operator, _client: AsyncClient) -> int:
        typer.echo(f"{await operator.transfer(to)} is to lead")
        return OK

    _run(work, node, topology, folder)


@app.command()
def add(
    peer: PeerArgument, node: GroupOption = None, topology: TopologyOption = None, folder: DirOption = None
) -> None:
    """Take in a node: as a learner, and as a voter when it has caught up."""

    async def work(operator: Operator, client: AsyncClient) -> int:
        client.ref(peer)
        members = await operator.add(peer)
        typer.echo(f"voters: {', '.join(members.voters)}; learners: {', '.join(members.learners) or '-'}")
        return OK

    _run(work, node, topology, folder)


@app.command()
def remove(
    peer: PeerArgument, node: GroupOption = None, topology: TopologyOption = None, folder: DirOption = None
) -> None:
    """Leave a node out."""

    async def work(operator: Operator, _client: AsyncClient) -> int:
        members = await operator.remove(peer)
        typer.echo(f"voters: {', '.join(members.voters)}; learners: {', '.join(members.learners) or '-'}")
        return OK

    _run(work, node, topology, folder)


@app.command()
def snapshot(
    peer: PeerArgument, node: GroupOption = None, topology: TopologyOption = None, folder: DirOption = None
) -> None:
    """Let a peer write a snapshot now, and cut its log."""

    async def work(operator: Operator, client: AsyncClient) -> int:
        typer.echo(f"{peer}: a snapshot up to index {await operator.snapshot(client.ref(peer))}")
        return OK

    _run(work, node, topology, folder)


def _run(
    work: Callable[[Operator, AsyncClient], Coroutine[Any, Any, int]],
    node: str | None,
    topology: str | None,
    folder: Path | None,
) -> None:
    """Join the topology, do the work at the group, and end with its exit code."""

    from zactor.client import AsyncClient  # not needed for help

    async def connected() -> int:
        home, _ = find_running(topology, folder)
        async with AsyncClient(home) as client:
            names = home.replicas(client.book.run, "group", f"of kind {KIND}", lambda each: each.kind == KIND, node)
            return await work(Operator(client, [client.ref(name) for name in names]), client)

    raise typer.Exit(asyncio.run(connected()))
