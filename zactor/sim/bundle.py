"""A failure in a file: everything that is needed to see it again, on another machine and after the seeds have changed.

The faults stand in it as an explicit schedule: what a seed draws may change with the code, a schedule does not.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from zactor.errors import UserError
from zactor.sim.runner import Plan, Result
from zactor.topology.model import Topology
from zactor.topology.read import read

FORMAT = 1


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """`text` is that of the topology's file, `file` its name as it was given; `command` runs the bundle again."""

    zactor_bundle: int = FORMAT
    version: str
    file: str
    text: str
    plan: Plan
    result: Result
    command: str

    def topology(self, base: Path) -> Topology:
        """The topology as it was. Kinds in plain files are looked for beside `file`, seen from here or from `base`."""
        file = Path(self.file)
        return read(self.text, file if file.parent.is_dir() or file.is_absolute() else base / file)

    def write(self, path: Path) -> None:
        """Write it, for people, too."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")


def is_bundle(path: Path) -> bool:
    """Whether a file's name is that of a bundle."""
    return path.suffix == ".json"


def read_bundle(path: Path) -> Bundle:
    """A bundle from its file. Raises `UserError`."""
    try:
        bundle = msgspec.json.decode(path.read_bytes(), type=Bundle)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise UserError(f"{path}: this is no bundle of `zactor sim`, or it was damaged: {error}") from error
    if bundle.zactor_bundle > FORMAT:
        raise UserError(
            f"{path}: the bundle has format {bundle.zactor_bundle}; this zactor reads {FORMAT}: use a newer one"
        )
    return bundle
