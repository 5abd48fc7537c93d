"""A model that a history can be judged by, and what is none."""

from __future__ import annotations

from typing import Any

from zactor.judges.history import Call


class Careful:
    """Like the model kv, with text only."""

    reads = frozenset({"get"})
    writes = frozenset({"put", "append"})
    initial = ""

    def step(self, state: str, call: Call) -> tuple[bool, Any]:
        match call.function:
            case "get":
                return call.answered(state), state
            case "put":
                return True, call.arguments[0]
        return True, state + call.arguments[0]

    def partition(self, call: Call) -> str:
        return call.key


class Failing(Careful):
    """It is wrong itself."""

    def step(self, state: str, call: Call) -> tuple[bool, Any]:
        raise KeyError(call.key)


class Nothing:
    """No model."""
