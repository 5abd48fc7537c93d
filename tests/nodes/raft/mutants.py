"""Mistakes that somebody could make in the core, each as a change to one function, for those who must find them."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from nodes.raft.core import Raft
from nodes.raft.election import Election
from nodes.raft.leader import Leadership
from nodes.raft.log import Log


class Mutant(NamedTuple):
    """`before` stands once in the function of that name; with `after` in its place the core is wrong.

    `scope`: what the explorer finds it in, if three peers that stay members suffice.
    """

    name: str
    owner: type
    function: str
    before: str
    after: str
    scope: str = ""


MUTANTS = {
    mutant.name: mutant
    for mutant in (
        Mutant(
            "entries of earlier terms are committed by counting (5.4.2)",
            Leadership,
            "_advance_commit",
            " or raft.log.term(reached) != raft.term",
            "",
            "figure 8",
        ),
        Mutant(
            "a vote leaves before it is durable",
            Raft,
            "_on_request_vote",
            "self.send_after(source, Vote(term=self.term",
            "self.send_now(source, Vote(term=self.term",
            "one term, a kill",
        ),
        Mutant(
            "a candidate asks and counts its own vote before that is durable",
            Election,
            "begin",
            """if self.is_pre else raft.send_after
        for name in raft.members.all:
            if name != raft.me and raft.members.is_voter(name):
                send(name, message)
        if self.is_pre:
""",
            """
        for name in raft.members.all:
            if name != raft.me and raft.members.is_voter(name):
                send(name, message)
        if raft.members:
""",
            "one term, a kill",
        ),
        Mutant(
            "votes are not saved (PySyncObj)",
            Raft,
            "_save",
            "hard_state = self.hard_state",
            'hard_state = HardState(self.term, "")',
            "one term, a kill",
        ),
        Mutant(
            "a leader's own log counts before it is durable",
            Leadership,
            "_match_index",
            "return self._raft.durable_index",
            "return self._raft.log.last_index",
            "one term, a kill",
        ),
        Mutant(
            "entries are acknowledged before they are durable",
            Raft,
            "_on_append_entries",
            "        self.send_after(source, Appended(term=self.term, index=last))",
            "        self.send_now(source, Appended(term=self.term, index=last))",
            "one term, a kill",
        ),
        Mutant(
            "who voted votes again for another",
            Raft,
            "_on_request_vote",
            'self.voted_for in ("", source)',
            "True",
            "led: one term",
        ),
        Mutant(
            "a follower cuts its log without a conflict (PySyncObj)",
            Log,
            "merge",
            "            if known == each.term:\n                continue\n",
            "",
            "led: one term",
        ),
        Mutant(
            "a heartbeat commits beyond what is known to agree",
            Leadership,
            "_beat",
            "min(raft.commit_index, progress.match_index)",
            "raft.commit_index",
            "figure 8",
        ),
        Mutant(
            "entries are taken without a look at those before",
            Raft,
            "_on_append_entries",
            "if self.log.term(previous) != term:",
            "if self.log.last_index < previous:",
            "figure 7",
        ),
        Mutant(
            "whoever has a longer log gets a vote, whatever its term (5.4.1)",
            Log,
            "is_up_to_date",
            "(last_term, last_index) >= (self.last_term, self.last_index)",
            "last_index >= self.last_index",
            "figure 8",
        ),
        Mutant(
            "anyone gets a vote, however short its log (5.4.1)",
            Raft,
            "_on_request_vote",
            " and self.log.is_up_to_date(message.last_index, message.last_term)",
            "",
            "led: two terms",
        ),
        Mutant(
            "what one peer has is committed",
            Leadership,
            "_advance_commit",
            "raft.members.agreed(self._match_index)",
            "max(map(self._match_index, raft.members.voters))",
            "led: one term",
        ),
        Mutant(
            "an answer stands for all that was sent since",
            Leadership,
            "_on_appended",
            "if progress.appended(index):",
            "if progress.appended(self._raft.log.last_index):",
            "led: one term",
        ),
        Mutant(
            "a read is answered by whoever led when it was last heard (6.4)",
            Leadership,
            "_beat",
            "self._barriers.append((self._round, ",
            "self._barriers.append((self._round - 1, ",
            "read",
        ),
        Mutant(
            "a read is answered as of what was known committed before the leader's own first entry was (6.4)",
            Leadership,
            "_confirm",
            "max(index, self._first_index)",
            "index",
            "read",
        ),
        Mutant(
            "a pre-vote counts as a vote (canonical/raft 196)",
            Election,
            "on_vote",
            "message.is_pre != self.is_pre or ",
            "",
            "one term, a kill",
        ),
        Mutant(
            "members change before an entry of the leader's term is committed (Ongaro 2015)",
            Leadership,
            "change_members",
            "if not self._has_committed:",
            "if not self._first_index:",
        ),
    )
}


@contextmanager
def broken(name: str) -> Iterator[None]:
    """The core with that mistake in it."""
    mutant = MUTANTS[name]
    right: Callable[..., Any] = getattr(mutant.owner, mutant.function)
    setattr(mutant.owner, mutant.function, _wrong(mutant, right))
    try:
        yield
    finally:
        setattr(mutant.owner, mutant.function, right)


def _wrong(mutant: Mutant, right: Callable[..., Any]) -> Callable[..., Any]:
    source = inspect.getsource(right)
    assert source.count(mutant.before) == 1, mutant.name
    module = sys.modules[mutant.owner.__module__]
    made: dict[str, Any] = {}
    source = textwrap.dedent(source.replace(mutant.before, mutant.after))
    code = compile(source, f"<{mutant.name}>", "exec", dont_inherit=True)
    exec(code, vars(module), made)
    wrong: Callable[..., Any] = made[mutant.function]
    return wrong
