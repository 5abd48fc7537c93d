"""Who waits for changes. A watch is answered once: its client then asks for what follows.

Those that wait have seen all changes so far, and none of them was theirs. After a batch its changes are looked up for
each *range* that is watched, however many watch it, and its keys among those that are watched alone; a batch that
nobody watches costs nothing. When a range is quiet for long, its watches are told so, lest what they start from is
forgotten while they wait.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TypeAlias

from zactor.message import encode
from zactor.statemachine import Told

from .backlog import CHANGES_MAX, Backlog
from .operations import Changes, Compacted, Item, TooMuch, WatchFrom
from .questions import is_in

WATCHES_MAX = 100_000
"""Watches that may wait."""

SCAN_MAX = 10_000
"""Changes that one watch looks at. Where there are more, it is told how far it came."""

ANSWER_CHANGES_MAX = 1_000
ANSWER_SIZE = 1 << 20
"""Changes, and bytes of their keys and values, after which an answer takes no further revision."""

QUIET_MAX = CHANGES_MAX // 4
"""Changes after which a watch that waits is told that none of them was its own."""

Group: TypeAlias = tuple[bytes, bytes | None, int]
"""Key, end, and the revision to start from: 0 when all that comes will do."""


class Watches:
    """The watches that wait, on one backlog."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._groups: dict[Group, dict[int, None]] = {}
        self._ranges: dict[Group, None] = {}  # groups that are not found by a key alone
        self._waiting: dict[int, tuple[Group, int]] = {}  # where the backlog ended when it began; in that order
        self._told = backlog.end

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, token: int, watch: WatchFrom, revision: int) -> Changes | None:
        """Answer a watch of a state of that revision, or None, and it waits. Raises `Compacted`, and `TooMuch`."""
        if not watch.start:
            return Changes(revision)
        known = self._known(watch, revision)
        if known is None:
            if len(self._waiting) >= WATCHES_MAX:
                raise TooMuch(f"{WATCHES_MAX} watches wait already; ask another replica")
            group = (watch.key, watch.end, watch.start if watch.start > revision + 1 else 0)
            self._groups.setdefault(group, {})[token] = None
            if not _is_plain(group):
                self._ranges[group] = None
            self._waiting[token] = group, self._backlog.end
        return known

    def remove(self, token: int) -> None:
        """It waits no more."""
        waiting = self._waiting.pop(token, None)
        if waiting is not None:
            group = waiting[0]
            del self._groups[group][token]
            if not self._groups[group]:
                del self._groups[group]
                self._ranges.pop(group, None)

    def _known(self, watch: WatchFrom, revision: int) -> Changes | None:
        backlog = self._backlog
        if watch.start <= backlog.compacted:
            first = backlog.compacted + 1
            raise Compacted(
                f"changes are known from revision {first} on, not from {watch.start}: read what is there, and go on",
                str(first),
            )
        start = backlog.find(watch.start)
        end = len(backlog.changes)
        if end - start > SCAN_MAX:
            end = backlog.revision_end(start + SCAN_MAX - 1)
            revision = backlog.changes[end - 1].modified
        matched = [item for item in backlog.changes[start:end] if is_in(item.key, watch.key, watch.end)]
        return _page(matched, revision) if matched or end < len(backlog.changes) else None

    # --- after a batch
    def told(self, revision: int) -> list[Told]:
        """The answers that follow from the changes since this was last called."""
        backlog = self._backlog
        new = backlog.changes[max(0, self._told - backlog.first) :] if self._waiting else []
        self._told = backlog.end
        answers = self._matched(new, revision) if new else []
        answers += self._quiet(revision)
        return answers

    def _matched(self, new: list[Item], revision: int) -> list[Told]:
        keys = sorted({item.key: None for item in new})
        answers: list[Told] = []
        for group in self._touched(keys):
            key, end, start = group
            matched = [item for item in new if item.modified >= start and is_in(item.key, key, end)]
            if matched:
                answers += self._answer(list(self._groups[group]), _page(matched, revision))
        return answers

    def _touched(self, keys: list[bytes]) -> list[Group]:
        """The groups of these keys, which are sorted. Thousands may wait for a key each, as for locks."""
        plain: list[Group] = [(key, None, 0) for key in keys]
        ranges = [group for group in self._ranges if _touches(keys, group)]
        return [group for group in plain if group in self._groups] + ranges

    def _quiet(self, revision: int) -> list[Told]:
        latest = self._backlog.end - QUIET_MAX
        tokens = []
        for token, (group, since) in self._waiting.items():
            if since > latest:
                break
            if not group[2]:
                tokens.append(token)
        return self._answer(tokens, Changes(revision)) if tokens else []

    def _answer(self, tokens: list[int], changes: Changes) -> list[Told]:
        answer = encode(changes)
        for token in tokens:
            self.remove(token)
        return [Told(token, answer) for token in tokens]


def _is_plain(group: Group) -> bool:
    return group[1] is None and not group[2]


def _touches(keys: list[bytes], group: Group) -> bool:
    index = bisect_left(keys, group[0])
    return index < len(keys) and is_in(keys[index], group[0], group[1])


def _page(matched: list[Item], revision: int) -> Changes:
    """As many of them as an answer takes, in whole revisions; all of them are known up to `revision`."""
    size = 0
    for index, item in enumerate(matched):
        if index >= ANSWER_CHANGES_MAX or size >= ANSWER_SIZE:
            last = matched[index - 1].modified
            if item.modified != last:
                return Changes(last, tuple(matched[:index]))
        size += len(item.key) + len(item.value)
    return Changes(revision, tuple(matched))
