"""The faults that are on in the processes of a run: begun, taken back, and ended when their time is up.

A pause is a signal; all else is done by the process itself (`zactor/live/faults.py`), which is told by its pipe: no cut
is in the way of that. A process that is started again is as cut off as it was before, but not paused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from zactor.errors import UserError
from zactor.launchers.member import Member, Outcome
from zactor.live.faults import ProcessFault
from zactor.units import format_duration

TIME_IS_UP = "its time is up"


class Say(Protocol):
    """How a run tells, and logs, what happens to a process."""

    def __call__(self, event: str, name: str, state: str, because: str) -> None: ...


class _On(msgspec.Struct):
    """A fault that is on: in which processes, and the timer that ends it."""

    members: list[Member]
    timer: asyncio.TimerHandle | None = None


class Faults:
    """The faults of one run. `until` waits for what a process reports."""

    def __init__(self, until: Callable[[Callable[[], object]], Awaitable[None]], tell: Say, say: Say) -> None:
        self._until = until
        self._tell = tell
        self._say = say
        self._number = 0
        self._on: dict[int, _On] = {}

    async def begin(
        self, fault: ProcessFault, homes: Mapping[str, Member], for_s: float, timeout_s: float, because: str
    ) -> Outcome:
        """Do it to the processes of these nodes, for so long, or with 0 until it is taken back; wait until it is on."""
        self._number += 1
        fault = msgspec.structs.replace(fault, number=self._number)
        failed = {name: "it does not run" for name, member in homes.items() if member.handle is None}
        on = self._on[fault.number] = _On([])
        for member in _each(homes):
            try:
                self._add(member, fault, because)
                on.members.append(member)
            except UserError as problem:
                failed |= {name: str(problem) for name in homes if homes[name] is member}
        if for_s and on.members:
            loop = asyncio.get_running_loop()
            on.timer = loop.call_later(for_s, self._take_back, fault.number, on.members, TIME_IS_UP)
        word = f"{fault} for {format_duration(round(for_s * 1e9))}" if for_s else str(fault)
        return await self._outcome(dict.fromkeys(homes, word), failed, homes, timeout_s)

    def _add(self, member: Member, fault: ProcessFault, because: str) -> None:
        if member.handle is None:
            return
        if fault.do == "pause":
            member.handle.pause()
        member.faults[fault.number] = fault
        self._told(fault, member, "begun", because)
        if fault.do != "pause":
            self.renew(member, because)

    async def end(self, homes: Mapping[str, Member], only: str | None, timeout_s: float, because: str) -> Outcome:
        """Take back all that was done to the processes of these nodes, or `only` one kind of it; wait until it is."""
        words = {}
        for name, member in homes.items():
            wanted = [fault for fault in member.faults.values() if only in (None, fault.do)]
            words[name] = f"no longer {', '.join(map(str, wanted))}" if wanted else "nothing was done to it"
        members = _each(homes)
        for number in list(self._on):
            self._take_back(number, members, because, only)
        return await self._outcome(words, {}, homes, timeout_s)

    def end_all(self, because: str) -> None:
        """Take everything back."""
        for number, on in list(self._on.items()):
            self._take_back(number, on.members, because)

    def _take_back(self, number: int, members: list[Member], because: str, only: str | None = None) -> None:
        on = self._on[number]
        for member in [each for each in on.members if each in members]:
            fault = member.faults.get(number)
            if fault is not None and only not in (None, fault.do):
                return
            on.members = [each for each in on.members if each is not member]
            if fault is None:  # a pause that ended with its process
                continue
            del member.faults[number]
            self._told(fault, member, "ended", because)
            if fault.do != "pause":
                self.renew(member, because)
            elif member.handle is not None and not any(each.do == "pause" for each in member.faults.values()):
                member.handle.resume()
        if not on.members:
            if on.timer is not None:
                on.timer.cancel()
            del self._on[number]

    def _told(self, fault: ProcessFault, member: Member, state: str, because: str) -> None:
        say = self._say if fault.do == "pause" else self._tell  # the others are logged by the process itself
        say("fault", member.process.name, state, f"{fault}; {because}")

    def renew(self, member: Member, because: str) -> None:
        """Tell a process what is on now."""
        if member.handle is not None:
            self._number += 1
            member.told = self._number
            member.handle.use_faults(member.inside(), member.told, because)

    async def _outcome(
        self, words: dict[str, str], failed: dict[str, str], homes: Mapping[str, Member], timeout_s: float
    ) -> Outcome:
        """What became of these nodes, when their processes have done what they were told."""
        outcome = Outcome(failed=failed)
        try:
            async with asyncio.timeout(timeout_s):
                await self._until(lambda: all(member.did >= member.told for member in homes.values()))
        except TimeoutError:
            outcome.late = True
            behind = [name for name, member in homes.items() if member.did < member.told]
            outcome.failed |= dict.fromkeys(behind, "told, and not done yet: its process is paused, busy or hangs")
        outcome.done = {name: word for name, word in words.items() if name not in outcome.failed}
        return outcome


def _each(homes: Mapping[str, Member]) -> list[Member]:
    return list(dict.fromkeys(homes.values()))


def between(fault: ProcessFault, processes: Iterable[str], others: Iterable[str]) -> ProcessFault:
    """A fault of the ways from processes to others, by their names; `*` is all but themselves.

    Raises `UserError` when there is no way between them.
    """
    own, far = dict.fromkeys(processes), dict.fromkeys(others)
    if "*" in far:
        return msgspec.structs.replace(fault, others=tuple(own), all_but=True)
    names = tuple(name for name in far if name not in own)
    if not names:
        raise UserError(f"nothing goes over a network there: all of them live in {', '.join(own)}")
    return msgspec.structs.replace(fault, others=names)
