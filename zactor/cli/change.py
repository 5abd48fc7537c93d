"""`up` on a topology that runs: shows what the file changes, and has the launcher change it.

A line a change: `+` a node is started, `-` it is stopped and its state kept, `~` it is restarted.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from zactor.cli.common import DEADLINE, FAILED, OK, say
from zactor.launchers.changes import Change
from zactor.launchers.control import Apply, Fault, Heal, Nodes, Plan, ask_launcher
from zactor.launchers.folders import Home, Lock, Unreachable, command_name
from zactor.launchers.member import Outcome
from zactor.topology.model import Topology
from zactor.topology.placement import is_inline


def change_running(topology: Topology, home: Home, lock: Lock, timeout_s: float) -> int:
    """Have a launcher run this topology from here on. Returns an exit code when that is done."""
    started_s = time.monotonic()
    planned: list[Change] = []

    def on_plan(plan: Plan) -> None:
        planned.extend(plan.changes)
        _show(planned)

    outcome = ask_launcher_of(home, lock, Apply(topology, False, timeout_s), on_plan)
    for node, because in outcome.failed.items():
        say(f"{node}: {because}")
    if planned:
        done = [change for change in planned if change.node not in outcome.failed]
        failed = f"{len(outcome.failed)} failed" if outcome.failed else ""
        what = _counted(done, {"+": "{} started", "-": "{} stopped", "~": "{} restarted"}, failed)
        _say(f"changed: {what} in {time.monotonic() - started_s:.2f} s")
    else:
        _say_no_change(home, lock)
    return exit_code(outcome)


def show_changes(topology: Topology, home: Home, lock: Lock | None, timeout_s: float) -> int:
    """Show what `up` would do, and do nothing."""
    changes: list[Change] = []
    if lock is None:
        changes = [Change("+", instance.name) for process in topology.processes for instance in process.instances]
    else:
        ask_launcher_of(home, lock, Apply(topology, True, timeout_s), lambda plan: changes.extend(plan.changes))
    _show(changes)
    if changes:
        _say(f"nothing was done: {_counted(changes, {'+': '{} to start', '-': '{} to stop', '~': '{} to restart'})}")
    elif lock is not None:
        _say_no_change(home, lock)
    return OK


def ask_launcher_of(
    home: Home, lock: Lock, request: Nodes | Fault | Heal | Apply, on_plan: Callable[[Plan], None] = lambda _plan: None
) -> Outcome:
    """Ask the launcher of a running topology. Raises what `ask_launcher` does, also for a change to or from inline."""
    try:
        inline = is_inline(home.read_run(lock.run))
    except FileNotFoundError:  # it has just been started
        inline = False
    mend = f"bring it down first: {command_name()} down -t {home.name}"
    if inline and isinstance(request, Apply):
        raise Unreachable(f"{home.name} runs inline (pid {lock.pid}), which cannot be changed while it runs; {mend}")
    if isinstance(request, Apply) and is_inline(request.topology):
        raise Unreachable(f"{home.name} runs (pid {lock.pid}), and cannot become inline while it runs; {mend}")
    return ask_launcher(home, request, on_plan)


def exit_code(outcome: Outcome) -> int:
    """What a command exits with after that."""
    if not outcome.failed:
        return OK
    return DEADLINE if outcome.late else FAILED


def _show(changes: Sequence[Change]) -> None:
    for change in changes:
        _say(str(change))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()  # what follows may take a while


def _say_no_change(home: Home, lock: Lock) -> None:
    _say(f"nothing to change: {home.name} runs as the file says (pid {lock.pid}, run {lock.run})")


def _counted(changes: Sequence[Change], words: Mapping[str, str], more: str = "") -> str:
    """How many nodes have which fate; several lines may be about one node."""
    nodes: Counter[str] = Counter({change.node: change.sign for change in changes}.values())
    return ", ".join([word.format(nodes[sign]) for sign, word in words.items() if nodes[sign]] + [more] * bool(more))
