"""Histories written as they are drawn in papers: a line a client, time from left to right."""

from __future__ import annotations

import re
from typing import Any

from zactor.judges.history import History, Operation

MS_NS = 1_000_000

_BAR = re.compile(r"\[([^\]>]*)(\]|>)")


def drawn(picture: str) -> list[Operation]:
    """The history that a picture shows; a column is a millisecond.

        a: [x write 1   ]        [x read = 2]
        b:        [x write 2]  [x write 3 >

    `=` gives the answer, which is None otherwise; what ends in `>` is never answered, `!` in front says that it
    failed. Words are integers where they can be.
    """
    events: list[tuple[int, int, str, str, list[Any], Any]] = []
    for line in picture.strip("\n").splitlines():
        indent = len(line) - len(line.lstrip())
        client, _, bars = line.strip().partition(":")
        for bar in _BAR.finditer(bars):
            words, _, answer = bar[1].partition("=")
            begins, ends = indent + bar.start(), indent + bar.end()
            asked = [_value(word) for word in words.lstrip("!").split()]
            events.append((begins, ends, client, "fail" if words.startswith("!") else bar[2], asked, _value(answer)))
    return _recorded(events)


def _recorded(bars: list[tuple[int, int, str, str, list[Any], Any]]) -> list[Operation]:
    now = [0]
    history = History(lambda: now[0])
    ids: dict[int, int] = {}
    moments = [(begins, 1, index) for index, (begins, *_) in enumerate(bars)]
    moments += [(ends, 0, index) for index, (_, ends, *_) in enumerate(bars)]
    for column, begins, index in sorted(moments):
        now[0] = column * MS_NS
        _, _, client, ending, (key, function, *arguments), answer = bars[index]
        if begins:
            ids[index] = history.invoke(client, function, *arguments, key=key)
        elif ending == "fail":
            history.fail(ids[index])
        elif ending == "]":
            history.complete(ids[index], answer)
    return history.operations()


def _value(word: str) -> Any:
    word = word.strip()
    known = {"": None, "nothing": None, "yes": True, "no": False}
    if word in known:
        return known[word]
    return int(word) if word.lstrip("-").isdigit() else word
