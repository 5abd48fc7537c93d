"""From names to judges and models: what a topology, a command and a history call them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zactor import registry
from zactor.errors import UserError
from zactor.judges.convergence import judge_convergence
from zactor.judges.history import Operation
from zactor.judges.linearizability import LINEARIZABLE, SEQUENTIAL, Criterion, judge_order
from zactor.judges.models import BUILT_IN, Model
from zactor.judges.sessions import GUARANTEES, judge_sessions
from zactor.judges.verdict import Verdict
from zactor.units import parse_duration

BOUNDED = "bounded:"

NAMES = ("linearizable", "sequential", f"{BOUNDED}500ms", "session", *GUARANTEES, "converges")
"""What may be demanded; `bounded:` takes any duration."""

OF_PREFIXES = frozenset({"linearizable", "session", *GUARANTEES})
"""What a history has lost for good when a part of it from its beginning has; the same holds for `bounded:`."""

Judge = Callable[[Sequence[Operation], Model | None], Verdict]
"""Judges operations. Only orders need a model. Raises `UserError` when model and history do not fit."""


def judge_named(name: str, steps_max: int | None = None) -> Judge:
    """The judge of that name. Raises `UserError` when there is none."""
    criterion = _criterion(name)
    if criterion is not None:
        return lambda operations, model: judge_order(operations, _demanded(model, name), criterion, steps_max)
    if name == "converges":
        return lambda operations, _model: judge_convergence(operations)
    if name == "session":
        return lambda operations, _model: judge_sessions(operations, GUARANTEES)
    if name in GUARANTEES:
        return lambda operations, _model: judge_sessions(operations, (name,))
    known = registry.judges()
    if name in known:
        found: Callable[[Sequence[Operation]], Verdict] = registry.load(known[name], None)
        return lambda operations, _model: found(operations)
    names = [*NAMES, *sorted(known)]
    hint = registry.did_you_mean(name, names) or f" There are: {', '.join(names)}."
    raise UserError(f"there is no judge {name!r}.{hint}")


def holds_for_prefixes(name: str) -> bool:
    """Whether a violation in the beginning of a history is one of the whole."""
    return name in OF_PREFIXES or name.startswith(BOUNDED)


def model_named(name: str, base: Path | None) -> Model:
    """The model of that name: built in, brought by a kind (`files.paths`), or `./file.py:Model` relative to `base`.

    Raises `UserError` when there is none, and for a class that is none.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    known = registry.models()
    if name not in known and ".py:" not in name:
        names = [*BUILT_IN, *sorted(known)]
        hint = registry.did_you_mean(name, names) or f" There are: {', '.join(names)}; or ./file.py:Model."
        raise UserError(f"there is no model {name!r}.{hint}")
    return _model(registry.load(known.get(name, name), base), name)


def _criterion(name: str) -> Criterion | None:
    if name.startswith(BOUNDED):
        bound = name.removeprefix(BOUNDED)
        return Criterion(f"linearizable with reads up to {bound} late", stale_ns=parse_duration(bound))
    return {"linearizable": LINEARIZABLE, "sequential": SEQUENTIAL}.get(name)


def _demanded(model: Model | None, name: str) -> Model:
    if model is None:
        raise UserError(f"{name!r} needs a model, and the history names none: say --model; {', '.join(BUILT_IN)}, ...")
    return model


def _model(found: Any, name: str) -> Model:
    """An instance of a model's class, or the object itself."""
    try:
        model: Model = found() if isinstance(found, type) else found
    except Exception as error:
        text = f"{registry.place_of(error)}{type(error).__name__}: {error}"
        raise UserError(f"the model {name!r} cannot be made: {text}") from error
    missing = [part for part in ("reads", "writes", "initial", "step", "partition") if not hasattr(model, part)]
    if missing:
        raise UserError(f"{name!r} is no model: it has no {' and no '.join(missing)} (see zactor/judges/models.py)")
    return model
