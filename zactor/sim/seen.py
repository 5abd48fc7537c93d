"""What the clients of one run saw, from the log events of their workloads: the history, and what is wrong by itself.

It stands on nothing that is simulated: whoever runs the clients tells it what they logged.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zactor.judges.history import History
from zactor.judges.judge import judge_named, model_named
from zactor.judges.verdict import Verdict
from zactor.workload import ANSWERED, BAD_ANSWER, FAILED, INVOKED, UNKNOWN

ENOUGH_AFTER = 3
"""How many operations of each client must succeed after the healing."""

MISTAKES = frozenset(
    kind.__name__
    for kind in (
        AssertionError, AttributeError, IndexError, KeyError, NameError, RecursionError, RuntimeError, TypeError,
        ValueError, ZeroDivisionError, NotImplementedError, UnboundLocalError, FileNotFoundError, OSError,
    )
)  # fmt: skip


_FRAME = re.compile(r'^  File "(.+)", line ([0-9]+)', re.MULTILINE)
_OWN = str(Path(__file__).resolve().parents[1])


def _place(traceback: str) -> str:
    """Where in the code of actors something was raised."""
    places = [f", {file}:{line}" for file, line in _FRAME.findall(traceback) if not file.startswith(_OWN)]
    return places[-1] if places else ""


class Seen:
    """`accuse(because, rule)` is called for what no correct system shows. `write` takes each line of the history."""

    def __init__(
        self,
        now_ns: Callable[[], int],
        model: str,
        accuse: Callable[[str, str], None],
        write: Callable[[str], object] | None = None,
    ) -> None:
        self.history = History(now_ns, model, write)
        self._accuse = accuse
        self._open: dict[tuple[str, int], tuple[int, str]] = {}
        self._answered: Counter[str] = Counter()
        self._functions: set[str] = set()  # what was asked and answered
        self._known: set[str] = set()  # of them, what must be answered again after the healing

    @property
    def in_flight(self) -> int:
        """Operations whose outcome is not known yet."""
        return len(self._open)

    def hear(self, level: str, node: str, event: str, fields: Mapping[str, Any]) -> None:
        """A log event of a client or, when a handler failed, of anybody."""
        if event == INVOKED:
            call = self.history.invoke(node, fields["function"], *fields["arguments"], key=fields["key"])
            self._open[node, fields["operation"]] = (call, fields["function"])
        elif event in (ANSWERED, FAILED, UNKNOWN):
            self._end(node, event, fields)
        elif event == BAD_ANSWER:
            self._accuse(f"{node}: {fields['because']}", "answer")
        elif event == "handler_failed" and level == "error":
            self._failed(node, fields)

    def _end(self, node: str, event: str, fields: Mapping[str, Any]) -> None:
        if (node, fields["operation"]) not in self._open:
            self._accuse(f"{node}: operation {fields['operation']} ended twice, or was never invoked", "mistake")
            return
        call, function = self._open.pop((node, fields["operation"]))
        if event == ANSWERED:
            self._functions.add(function)
            self._answered[node] += 1
            self.history.complete(call, fields["result"])
        elif event == FAILED:
            self.history.fail(call)
        else:
            self.history.unknown(call)

    def _failed(self, node: str, fields: Mapping[str, Any]) -> None:
        """A handler raised: what is no failure that `zactor.errors` knows is a mistake in the code."""
        kind = fields["error"].partition(": ")[2].partition(":")[0]
        if node[:1] == "@" or kind in MISTAKES:
            handling = f" {fields['message']}" if fields["where"] == "handler" else ""
            place = _place(fields.get("traceback", ""))
            self._accuse(f"{fields['error']} (in {fields['where']}{handling}{place})", "mistake")

    def healed(self) -> None:
        """From now on everybody must get on, and all that was ever answered must be answered again."""
        self._answered.clear()
        self._known, self._functions = self._functions, set()

    def late(self, clients: Iterable[str]) -> list[str]:
        """Who and what has not got on since the healing."""
        found = [name for name in clients if self._answered[name] < ENOUGH_AFTER]
        return found + [f"any {function}" for function in sorted(self._known - self._functions)]

    def finished(self) -> int:
        """How many operations were answered."""
        return sum(operation.outcome == "ok" for operation in self.history.operations())

    def judge(self, judges: Sequence[str], folder: Path) -> tuple[str, Verdict] | None:
        """The first of these judges that does not find the history in order, and what it says. None: all do."""
        model = model_named(self.history.model, folder)
        for name in judges:
            verdict = judge_named(name)(self.history.operations(), model)
            if verdict.word != "ok":
                return name, verdict
        return None
