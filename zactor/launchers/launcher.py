"""What launches a topology, from coming up to going down: its run, and the socket by which it is asked.

It is the same for `up` and for a program that launches a topology itself. They differ in who wants it to end, and so
they bring `asked`, which is set when somebody does.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from zactor.launchers.control import Control
from zactor.launchers.folders import AlreadyRunning, Home, file_of
from zactor.launchers.inline import Inline
from zactor.launchers.local import Local
from zactor.launchers.run import Run, Tell
from zactor.topology.model import Topology
from zactor.topology.placement import is_inline


@contextmanager
def occupied(home: Home, topology: Topology, *, is_program: bool = False) -> Iterator[str]:
    """A new run, while whose id is used nobody else can run this topology. Raises `AlreadyRunning`."""
    home.make()
    run = home.new_run()
    try:
        home.acquire(run, file_of(topology), is_program=is_program)
    except AlreadyRunning:
        shutil.rmtree(home.run_folder(run))
        raise
    try:
        yield run
    finally:
        home.release()


class Launcher:
    """Runs a topology whose home is occupied. Whatever comes of `start`, `stop` must follow."""

    def __init__(self, topology: Topology, home: Home, run: str, tell: Tell, asked: asyncio.Event) -> None:
        self.run = Run(topology, home, run, Inline() if is_inline(topology) else Local(), tell)
        self._control = Control(self.run, home, asked.set)
        self._asked = asked

    async def start(self, startup_s: float) -> bool:
        """Start everything, and wait until all nodes are ready or somebody wants an end; says whether they are.

        Raises `StartFailed`.
        """
        await self._control.open()
        return await self._before_asked(self.run.start(startup_s))

    async def ended(self) -> bool:
        """Wait until nothing is left running, or somebody wants an end; says whether nothing is left."""
        return await self._before_asked(self.run.ended())

    async def _before_asked(self, work: Coroutine[Any, Any, None]) -> bool:
        loop = asyncio.get_running_loop()
        working, asked = loop.create_task(work), loop.create_task(self._asked.wait())
        try:
            await asyncio.wait((working, asked), return_when=asyncio.FIRST_COMPLETED)
            return working.done() and working.result() is None
        finally:
            working.cancel()
            asked.cancel()
            await asyncio.wait((working, asked))

    async def stop(self) -> None:
        """Stop all processes in order; what does not stop in time is killed."""
        await self._control.close()
        await self.run.stop()
