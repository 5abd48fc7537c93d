"""A simulated run as a folder: recordings and a log, as a run of real processes leaves them.

So what reads the one reads the other: `zactor replay -r FOLDER` and `zactor logs -r FOLDER`. All of it is kept in
memory until the end, because an actor of a simulation must not see files come and go.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from zactor.debug.recorder import Recorder
from zactor.debug.recording import Memory
from zactor.hlc import from_wall
from zactor.kernel import Kernel
from zactor.launchers.folders import make_folder
from zactor.launchers.run import file_stem
from zactor.live.logs import Lines
from zactor.sim import runner
from zactor.sim.heap import WALL_NS
from zactor.sim.runner import Plan, Result
from zactor.sim.world import Log
from zactor.topology.model import Instance, Topology

LOG = "sim.jsonl"


def run_recorded(topology: Topology, plan: Plan, folder: Path, listen: Callable[[Log], None] | None = None) -> Result:
    """Run a plan, and leave a recording of each incarnation of each process in a folder, whatever `record:` says.

    What was in the folder goes. Raises `DiskFull` when it finds no room.
    """
    make_folder(folder.parent)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as part:
        result = _run_into(Path(part) / folder.name, topology, plan, listen)
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # somebody ran the same and was faster
            (Path(part) / folder.name).rename(folder)
    return result


def _run_into(folder: Path, topology: Topology, plan: Plan, listen: Callable[[Log], None] | None) -> Result:
    folder.mkdir(mode=0o700)
    recordings: dict[str, Memory] = {}

    def begin(kernel: Kernel, instances: Sequence[Instance]) -> None:
        name = f"{file_stem(kernel.process)}.{kernel.incarnation}.rec"
        recordings[name] = sink = Memory()
        Recorder(kernel, sink, lambda: {"run": folder.name, "instances": list(instances)})

    lines = Lines(folder / LOG)

    def write_down(log: Log) -> None:
        at_ns, level, node, event, fields = log
        hlc = from_wall(WALL_NS + at_ns)  # of those events that have no stamp of their own
        lines.add({"level": level, "hlc": hlc, "node": node, "event": event} | fields)
        if listen is not None:
            listen(log)

    result = runner.run(topology, plan, write_down, begin)
    lines.close()
    for name, memory in recordings.items():
        memory.write(folder / name)
    return result
