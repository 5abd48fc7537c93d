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


class Faults:
    """The faults of one run. `until` waits for what a process reports."""

    def __init__(self, until: Callable[[Callable[[], object]], Awaitable[None]], tell: Say, say: Say) -> None:
        self._until = until
        self._tell = tell
        self._say = say
        self._number = 0

    async def begin(
        self, fault: ProcessFault, homes: Mapping[str, Member], for_s: float, timeout_s: float, because: str
    ) -> Outcome:
        """Do it to the processes of these nodes, for so long, or with 0 until it is taken back; wait until it is on."""
        self._number += 1
        fault = msgspec.structs.replace(fault, number=self._number)
        refused = {member: why for member in _each(homes) if (why := self._add(member, fault, because)) is not None}
        done = [member for member in _each(homes) if member not in refused]
        word = str(fault)
        if for_s and done:
            word = f"{fault} for {format_duration(round(for_s * 1e9))}"
            asyncio.get_running_loop().call_later(for_s, self._time_is_up, fault.number, done)
        failed = {name: refused[member] for name, member in homes.items() if member in refused}
        return await self._outcome(dict.fromkeys(homes, word), failed, homes, timeout_s)

    def _add(self, member: Member, fault: ProcessFault, because: str) -> str | None:
        """Do it to one process. Returns why it was not done, or None."""
        if member.handle is None:
            return "it does not run"
        if fault.do == "pause":
            try:
                member.handle.pause()
            except UserError as problem:
                return str(problem)
        member.faults[fault.number] = fault
        self._told(fault, member, "begun", because)
        if fault.do != "pause":
            self.renew(member, because)
        return None

    def _time_is_up(self, number: int, members: Iterable[Member]) -> None:
        for member in members:
            if number in member.faults:  # or else it was taken back, or has ended with its process
                self._take_back(member, [member.faults[number]], TIME_IS_UP)

    async def end(self, homes: Mapping[str, Member], only: str | None, timeout_s: float, because: str) -> Outcome:
        """Take back all that was done to the processes of these nodes, or `only` one kind of it; wait until it is."""
        words = {}
        found = {
            member: [fault for fault in member.faults.values() if only in (None, fault.do)] for member in _each(homes)
        }
        for name, member in homes.items():
            faults = found[member]
            words[name] = f"no longer {', '.join(map(str, faults))}" if faults else "nothing was done to it"
        for member, faults in found.items():
            self._take_back(member, faults, because)
        return await self._outcome(words, {}, homes, timeout_s)

    def end_all(self, members: Iterable[Member], because: str) -> None:
        """Take everything back, and wait for nothing."""
        for member in members:
            self._take_back(member, list(member.faults.values()), because)

    def _take_back(self, member: Member, faults: Iterable[ProcessFault], because: str) -> None:
        before = member.inside()
        for fault in faults:
            del member.faults[fault.number]
            self._told(fault, member, "ended", because)
            if fault.do == "pause" and member.handle is not None and not self._is_paused(member):
                member.handle.resume()
        if member.inside() != before:
            self.renew(member, because)

    @staticmethod
    def _is_paused(member: Member) -> bool:
        return any(fault.do == "pause" for fault in member.faults.values())

    def _told(self, fault: ProcessFault, member: Member, state: str, because: str) -> None:
        say = self._say if fault.do == "pause" else self._tell  # the others are logged by the process itself
        say("fault", member.process.name, state, f"{fault}; {because}")

    def renew(self, member: Member, because: str) -> None:
        """Tell a process what is on in it now."""
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
