"""What an actor must not reach for: clocks, chance, threads, sockets and files other than those of its own door.

While `guarded` is entered they are replaced by functions that look who called. Code of Python's library counts as
whoever called it, so `uuid.uuid4()` is found in the actor; zactor itself may do as it likes. Names that a module
took over with `from time import time` are replaced, too, and so is `datetime`, by a class that makes the same objects.
"""

from __future__ import annotations

import builtins
import datetime
import io
import os
import random
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any

from zactor.errors import ZactorError
from zactor.world import Call, InThread


class SimulationEscape(ZactorError):
    """An actor reached for something that a simulation cannot give. The text names its file and line."""


_OWN = str(Path(__file__).resolve().parents[1]) + os.sep
_LIBRARIES = tuple(
    str(Path(sysconfig.get_path(name)).resolve()) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
)

CLOCK = "self.now_ns() and self.sleep(...)"
CHANCE = "self.rng"
DISK = "self.disk"
THREAD = "self.in_thread(function, ...)"
MESSAGES = "messages"

FORBIDDEN: list[tuple[Any, tuple[str, ...], str]] = [
    (time, ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep"), CLOCK),
    (random, tuple(name for name in random.__all__ if hasattr(getattr(random, name), "__self__")), CHANCE),
    (os, ("urandom", "getrandom"), CHANCE),
    (os, ("open",), DISK),
    (threading.Thread, ("start",), THREAD),
    (subprocess.Popen, ("__init__",), THREAD),
    (socket.socket, ("__init__",), MESSAGES),
    (builtins, ("open",), DISK),
    (io, ("open",), DISK),
]
"""What it is found in, the names, and what to use instead."""

DATES: list[tuple[type, tuple[str, ...]]] = [
    (datetime.datetime, ("now", "utcnow", "today")),
    (datetime.date, ("today",)),
]
"""Classes that look at the clock, and how. Their methods cannot be replaced, so they are, as a whole."""


StandIns = dict[Callable[..., Any], Callable[..., Any]]
"""What runs here in place of coroutines of libraries: plain functions of the same values."""


def stand_in(operation: Call | InThread, stand_ins: StandIns) -> tuple[Any, BaseException | None]:
    """What `self.call` and `self.in_thread` give: a thread's function runs at once, a library's coroutine cannot."""
    function: Callable[..., Any] | None = stand_ins.get(operation.function)
    if function is None and isinstance(operation, Call):
        name = getattr(operation.function, "__qualname__", repr(operation.function))
        return None, SimulationEscape(f"self.call({name}) needs a stand-in here: stand_ins[{name}] = function")
    try:
        return (function or operation.function)(*operation.values), None
    except Exception as error:
        return None, error


def _always() -> bool:
    return True


@contextmanager
def guarded(is_on: Callable[[], bool] = _always) -> Iterator[list[str]]:
    """Raise `SimulationEscape` where an actor reaches past its door; each is in the list, should the actor catch it.

    While `is_on` says no, everybody may do as they like.
    """
    escapes: list[str] = []
    replaced: list[tuple[Any, str, Any]] = []
    guards: dict[int, Any] = {}
    for owner, names, instead in FORBIDDEN:
        for name in names:
            if hasattr(owner, name):
                original = getattr(owner, name)
                guard = _guard(f"{owner.__name__}.{name}", original, instead, escapes, is_on)
                guards[id(original)] = guard
                replaced.append((owner, name, original))
                setattr(owner, name, guard)
    for kind, names in DATES:
        found = {name: _guard(f"{kind.__name__}.{name}", getattr(kind, name), CLOCK, escapes, is_on) for name in names}
        guards[id(kind)] = _with_guards(kind, found)
        replaced.append((datetime, kind.__name__, kind))
        setattr(datetime, kind.__name__, guards[id(kind)])
    for module in list(sys.modules.values()):
        if not _is_foreign(getattr(module, "__file__", None) or _OWN):
            continue
        for name, value in list(vars(module).items()):
            if id(value) in guards:
                replaced.append((module, name, value))
                setattr(module, name, guards[id(value)])
    try:
        yield escapes
    finally:
        for owner, name, original in replaced:
            setattr(owner, name, original)


def _guard(name: str, original: Callable[..., Any], instead: str, escapes: list[str], is_on: Callable[[], bool]) -> Any:
    def guard(*values: Any, **named: Any) -> Any:
        place = _culprit(sys._getframe(1)) if is_on() else None
        if place is not None:
            escapes.append(f"{place}: {name}: an actor cannot use it in a simulation; use {instead}")
            raise SimulationEscape(escapes[-1])
        return original(*values, **named)

    assert isinstance(guard, FunctionType)
    return guard


def _with_guards(kind: type, guards: dict[str, Any]) -> type:
    """A class in the place of another: it makes objects of that one, and counts them as its own."""

    class Stand(type):
        def __call__(cls, *values: Any, **named: Any) -> Any:
            return kind(*values, **named)

        def __instancecheck__(cls, value: Any) -> bool:
            return isinstance(value, kind)

        def __subclasscheck__(cls, other: type) -> bool:
            return issubclass(other, kind)

    return Stand(kind.__name__, (kind,), {name: staticmethod(guard) for name, guard in guards.items()})


def _culprit(frame: FrameType | None) -> str | None:
    """Where somebody else's code called, over Python's library or not; None when zactor itself did."""
    while frame is not None:
        file = frame.f_code.co_filename
        if _is_foreign(file):
            return f"{file}:{frame.f_lineno}"
        if file.startswith(_OWN):
            return None
        frame = frame.f_back
    return None


def _is_foreign(file: str) -> bool:
    return not file.startswith((_OWN, "<frozen", *_LIBRARIES))
