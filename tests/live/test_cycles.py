"""Asks that wait for themselves fail at once with the chain, across processes and within one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.running import Launched, eventually_in_loop, kind, word
from zactor.client import AsyncClient
from zactor.message import Ref

pytestmark = pytest.mark.live

LENGTHS = (2, 3, 5)
TIMEOUT_S = 50.0


def ring(length: int) -> list[str]:
    return [f"ring{length}-{index}" for index in range(length)]


async def all_wait(client: AsyncClient, gate: Ref[Any], length: int) -> bool:
    waiting: int = await client.ask(gate, word("Waiting")())
    return waiting == length


def topology(*, together: bool) -> str:
    lines = ["name: rings", "nodes:"]
    for length in LENGTHS:
        names = ring(length)
        lines.append(f"  gate{length}: {{kind: {kind('Gate')}}}")
        for name, following in zip(names, names[1:] + names[:1], strict=True):
            links = f"links: {{next: {following}, gate: gate{length}}}"
            lines.append(f"  {name}: {{kind: {kind('Ring')}, {links}}}")
    if together:
        nodes = [name for length in LENGTHS for name in (*ring(length), f"gate{length}")]
        lines += ["processes:", f"  all: {{nodes: [{', '.join(nodes)}]}}"]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module", params=["across processes", "in one process"])
def rings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    folder: Path = tmp_path_factory.mktemp("rings")
    with Launched(folder, topology(together=request.param == "in one process")) as launched:
        yield launched.ready()


@pytest.mark.parametrize("length", LENGTHS)
def test_a_chain_of_asks_that_returns_to_its_beginning_fails_with_the_chain(rings: Launched, length: int) -> None:
    names = ring(length)

    async def main() -> str:
        async with rings.client() as client:
            return await client.ask(client.ref(names[0]), word("Around")(), TIMEOUT_S)

    said = asyncio.run(main())

    assert said.startswith("cycle")
    assert all(name in said for name in names)


@pytest.mark.parametrize("length", LENGTHS)
def test_actors_that_ask_each_other_at_the_same_time_are_not_stuck(rings: Launched, length: int) -> None:
    names = ring(length)

    async def main() -> list[str]:
        async with rings.client() as client:
            for name in names:
                await client.send(client.ref(name), word("Begin")())
            gate = client.ref(f"gate{length}")

            # All of them are suspended at the gate; the asks that they then make are roots of their own.
            await eventually_in_loop(lambda: all_wait(client, gate, length))
            assert await client.ask(gate, word("Open")()) == length
            asks = [client.ask(client.ref(name), word("Outcome")(), TIMEOUT_S) for name in names]
            return list(await asyncio.gather(*asks))

    outcomes = asyncio.run(main())

    cycles = [outcome for outcome in outcomes if outcome.startswith("cycle")]
    assert cycles
    assert all(outcome == "answered" for outcome in outcomes if outcome not in cycles)
    assert all(name in cycles[0] for name in names)
