"""Mailboxes are bounded across processes: a sender that is faster than its receiver waits, and nothing is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.live.running import Launched, eventually_in_loop, kind, resident_bytes, word
from zactor.client import AsyncClient

pytestmark = pytest.mark.live

COUNT = 1_000_000
MEMORY_BYTES_MAX = 100 << 20
TIMEOUT_S = 100.0

TOPOLOGY = f"""\
name: flood
nodes:
  gate: {{kind: {kind("Gate")}}}
  receiver: {{kind: {kind("Receiver")}, links: {{gate: gate}}}}
  sender: {{kind: {kind("Sender")}, links: {{receiver: receiver}}}}
"""


async def sent(client: AsyncClient) -> int:
    return await client.ask(client.ref("sender"), word("Sent")(), TIMEOUT_S)


async def look(client: AsyncClient, pids: list[int]) -> None:
    """Both answer inspection, and neither has grown."""
    for process in ("receiver", "sender"):
        assert (await client.inspect(process, TIMEOUT_S))["actors"][0]["state"] == "ready"
    assert max(map(resident_bytes, pids)) < MEMORY_BYTES_MAX


async def fill(client: AsyncClient, pids: list[int]) -> None:
    """Pause the receiver, and let the sender send until it finds no room for more than a second."""
    await client.send(client.ref("receiver"), word("Hold")())
    await eventually_in_loop(lambda: client.ask(client.ref("gate"), word("Waiting")()))
    await client.send(client.ref("sender"), word("Go")(count=COUNT))
    full = 0
    while not full:
        await look(client, pids)
        full = (await client.inspect("sender", TIMEOUT_S))["dead_letters"].get("full", 0)
        await asyncio.sleep(0.05)
    assert await sent(client) < COUNT // 10


async def empty(client: AsyncClient, pids: list[int]) -> tuple[int, int]:
    """Wait until all was sent; how many came, and how many of them out of order."""
    while await sent(client) < COUNT:
        await look(client, pids)
        await asyncio.sleep(0.05)
    count, wrong = 0, 0
    while count < COUNT and not wrong:
        count, wrong = await client.ask(client.ref("receiver"), word("Items")(), TIMEOUT_S)
    return count, wrong


def test_a_million_messages_to_a_paused_receiver_stay_within_bounds_and_all_arrive_in_order(tmp_path: Path) -> None:
    with Launched(tmp_path, TOPOLOGY) as launched:
        launched.ready()
        pids = [launched.pid("sender"), launched.pid("receiver")]

        async def main() -> tuple[int, int]:
            async with launched.client() as client:
                await fill(client, pids)
                await client.ask(client.ref("gate"), word("Open")())
                return await empty(client, pids)

        assert asyncio.run(main()) == (COUNT, 0)
