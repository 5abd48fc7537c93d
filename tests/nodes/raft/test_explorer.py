"""A share of what the explorer does; all of it is `python -m tests.nodes.raft.explorer`."""

from __future__ import annotations

import pytest

from nodes.raft.core import HardState
from tests.nodes.raft.explorer import RENAMINGS, SCOPES, Explorer, Scope, Violation, _bits, hunt
from tests.nodes.raft.frozen import NAMES, freeze, renamed, started, synced, thaw, turn
from tests.nodes.raft.group import entry
from tests.nodes.raft.mutants import MUTANTS, broken

STATES_MAX = 5_000

SEEN_SOON = [
    mutant.name
    for mutant in MUTANTS.values()
    if mutant.scope in ("one term, a kill", "led: one term", "figure 7") and "cuts" not in mutant.name
]
"""Those that take no more states than that."""


def scope(name: str) -> Scope:
    return next(each for each in SCOPES if each.name == name)


def test_one_term_with_a_kill_is_right_in_every_state() -> None:
    explorer = Explorer(scope("one term, a kill"))

    assert explorer.run(), "there are no others"
    assert explorer.count > 5_000


@pytest.mark.parametrize("each", SCOPES, ids=lambda each: each.name)
def test_the_first_states_of_each_scope_are_right(each: Scope) -> None:
    Explorer(each).run(1_000)


@pytest.mark.parametrize("name", SEEN_SOON)
def test_a_mistake_is_found(name: str) -> None:
    assert hunt(MUTANTS[name], STATES_MAX)


def test_a_violation_says_how_it_came_to_that() -> None:
    with broken("votes are not saved (PySyncObj)"), pytest.raises(Violation) as caught:
        Explorer(scope("one term, a kill")).run()

    assert caught.value.what == "election safety: two lead term 1"
    assert [line for line in caught.value.steps if line.endswith("is killed and started again")]
    assert caught.value.steps[-1].endswith("Vote(term=1, is_granted=True, is_pre=False)")


def test_states_that_differ_by_names_are_one() -> None:
    """With each peer as the one who begins, there are as many states as with any other."""
    kept = set()
    for first in range(3):
        explorer = Explorer(Scope("as any", 1, 0, 0, is_sure=True, electors=(first, (first + 1) % 3)))
        assert explorer.run()
        kept.add(explorer.kept)

    assert len(kept) == 1


@pytest.mark.parametrize("kills", [0, 1])
def test_what_is_left_out_leaves_nothing_out(kills: int) -> None:
    """Without any of its thoughts the explorer comes to the same peers with the same pasts."""
    explorer = Explorer(Scope("tiny", 1, 0, kills, is_quick=True, is_sure=True, electors=(0, 1)))
    explorer._begin()
    _, state, mail = explorer._todo[0]
    assert explorer.run()
    seen = {(state, mail)}
    todo = list(seen)
    while todo:
        state, mail = todo.pop()
        for place in range(3):
            past = explorer._pasts[state[3]]
            steps = {*explorer._possible(state[place], past, 0), *_bits(mail & explorer._mail_to[place])}
            for step in sorted(steps):
                after, sent = explorer._do(0, place, state[place], step)
                peers = [*state[:3]]
                peers[place] = after
                spent = explorer._spent(state[3], past, step)
                watched = explorer._watched((peers[0], peers[1], peers[2], spent), place)
                new = (peers[0], peers[1], peers[2], watched), mail | sent
                if new not in seen:
                    seen.add(new)
                    todo.append(new)

    assert {explorer._canonical(state, mail)[0] for state, mail in seen} == set(explorer._seen)
    assert len(seen) > 4 * explorer.count


# --- peers as values
def test_a_core_is_the_same_when_it_was_a_value() -> None:
    peer = started("p1", HardState(2, "p0"), (entry(1), entry(2)))
    for _ in range(3):
        peer, _ = turn(peer, lambda core: core.campaign(because="a test", is_transfer=True))
        core = thaw(peer.core)
        assert freeze(core, core) == peer.core
    while peer.saves:
        peer, _ = synced(peer)

    assert peer.hard_state == HardState(5, "p1")


def test_names_can_be_changed_and_changed_back() -> None:
    peer, _ = turn(
        started("p1", HardState(), (entry(1),)), lambda core: core.campaign(because="a test", is_transfer=True)
    )
    for renaming in RENAMINGS:
        there = {NAMES[place]: NAMES[renaming[place]] for place in range(3)}
        back = {after: before for before, after in there.items()}
        assert renamed(renamed(peer, there), back) == peer
        assert thaw(renamed(peer, there).core).me == there["p1"]
