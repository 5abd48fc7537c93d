"""Textbook histories, and what can be said of them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.judges.brute import in_real_time, is_ordered
from tests.judges.making import SERVICES, edited, simulate
from tests.judges.written import MS_NS, drawn
from zactor.errors import UserError
from zactor.judges.history import Call, History, Operation
from zactor.judges.linearizability import LINEARIZABLE, SEQUENTIAL, Criterion, judge_order
from zactor.judges.models import BUILT_IN, Register
from zactor.judges.verdict import Verdict, lines


def word(picture: str, model: str = "register", criterion: Criterion = LINEARIZABLE) -> str:
    return judge_order(drawn(picture), BUILT_IN[model], criterion).word


# --- Herlihy and Wing 1990, figure 1: queues
def test_figure_1_a_two_enqueues_at_a_time_may_take_either_order() -> None:
    picture = """
    a: [q enqueue x]        [q dequeue = y]  [q enqueue z]
    b:   [q enqueue y]    [q dequeue = x]             [q dequeue = z]
    """
    assert word(picture, "queue") == "ok"


def test_figure_1_b_what_was_enqueued_first_comes_out_first() -> None:
    picture = """
    a: [q enqueue x]                  [q dequeue = y]
    b:                [q enqueue y]
    """
    assert word(picture, "queue") == "violation"


def test_figure_1_c_a_dequeue_may_see_an_enqueue_under_way() -> None:
    picture = """
    a: [q enqueue x                ]
    b:     [q dequeue = x]
    """
    assert word(picture, "queue") == "ok"


def test_figure_1_d_nothing_comes_out_twice() -> None:
    picture = """
    a: [q enqueue x]  [q enqueue y]   [q dequeue = y]
    b:      [q dequeue = x]                 [q dequeue = y]
    """
    assert word(picture, "queue") == "violation"


# --- Herlihy and Wing 1990, figure 2: registers
def test_figure_2_a_read_sees_old_or_new_while_a_write_is_under_way() -> None:
    picture = """
    a: [x write 0]  [x write 1           ]
    b:                 [x read = 0] [x read = 1]
    """
    assert word(picture) == "ok"


def test_figure_2_once_the_new_was_seen_nobody_sees_the_old() -> None:
    picture = """
    a: [x write 0]  [x write 1                        ]
    b:                 [x read = 1]
    c:                              [x read = 0]
    """
    assert word(picture) == "violation"


# --- what is not known, and what is known not to have been
def test_a_write_of_unknown_outcome_may_be_seen_later_or_never() -> None:
    assert word("a: [x write 1]  [x write 2>  [x read = 1]") == "ok"
    assert word("a: [x write 1]  [x write 2>  [x read = 1] [x read = 2]") == "ok"
    assert word("a: [x write 1]  [x write 2>  [x read = 2] [x read = 1]") == "violation"


def test_a_write_is_not_seen_before_it_was_asked_for() -> None:
    assert word("a: [x read = 2]  [x write 2>") == "violation"


def test_a_write_that_failed_is_never_seen() -> None:
    assert word("a: [x write 1]  [!x write 2]  [x read = 1]") == "ok"
    assert word("a: [x write 1]  [!x write 2]  [x read = 2]") == "violation"


def test_a_write_of_what_is_there_already_may_be_needed_later() -> None:
    picture = """
    a: [x write 0] [x write 0       ]   [x read = 0]
    b:                 [x write 2   ]
    c:              [x read = 0] [x read = 2]
    """
    assert word(picture) == "ok"


# --- the other models
@pytest.mark.parametrize(
    ("model", "picture", "expected"),
    [
        ("cas", "a: [x cas nothing 1 = yes] [x cas nothing 2 = no] [x read = 1]", "ok"),
        ("cas", "a: [x cas nothing 1 = yes] [x cas nothing 2 = yes]", "violation"),
        ("kv", "a: [x append a] [x append b] [x get = ab] [x delete] [x get] [x put c] [x get = c]", "ok"),
        ("kv", "a: [x append a] [x append b] [x get = ba]", "violation"),
        ("kv", "a: [x put a] [x delete] [x get = a]", "violation"),
        ("counter", "a: [n add 2 = 2] [n add 3] [n read = 5]", "ok"),
        ("counter", "a: [n add 2 = 3]", "violation"),
        ("counter", "a: [n add 2] [n add 2>\nb:             [n read = 4] [n read = 2]", "violation"),
        ("lock", "a: [l acquire a = yes]  [l release a = yes]\nb:          [l acquire b = no]", "ok"),
        ("lock", "a: [l acquire a]\nb:                [l acquire b]", "violation"),
        ("lock", "a: [l acquire a]\nb:                [l release b = yes]", "violation"),
        ("lock", "a: [l acquire a] [l release a>\nb:                               [l acquire b = yes]", "ok"),
        ("queue", "a: [q dequeue] [q enqueue 1] [q dequeue = 1] [q dequeue]", "ok"),
    ],
)
def test_a_model_allows_what_its_thing_would_do(model: str, picture: str, expected: str) -> None:
    assert word(picture, model) == expected


# --- weaker orders
def test_sequential_consistency_lets_a_client_be_behind() -> None:
    picture = """
    a: [x write 1]  [x write 2]
    b:                            [x read = 1] [x read = 2]
    """
    assert word(picture) == "violation"
    assert word(picture, criterion=SEQUENTIAL) == "ok"


def test_sequential_consistency_keeps_the_order_of_each_client() -> None:
    picture = """
    a: [x write 1]  [x write 2]
    b:                            [x read = 2] [x read = 1]
    """
    assert word(picture, criterion=SEQUENTIAL) == "violation"


def test_sequential_consistency_is_more_than_that_of_each_key() -> None:
    picture = """
    a: [x write 1]  [y read]
    b: [y write 1]  [x read]
    """
    assert word(picture, criterion=SEQUENTIAL) == "violation"
    assert word(picture.replace("y read]", "y read = 1]"), criterion=SEQUENTIAL) == "ok"


@pytest.mark.parametrize(("bound_ms", "expected"), [(3, "violation"), (10, "ok")])
def test_a_read_may_be_as_late_as_the_bound_says(bound_ms: int, expected: str) -> None:
    picture = """
    a: [x write 1]  [x write 2]
    b:                              [x read = 1]
    """
    assert word(picture, criterion=Criterion("late", stale_ns=bound_ms * MS_NS)) == expected


def test_a_bound_on_staleness_says_nothing_for_writes() -> None:
    picture = """
    a: [x write 1]                 [x read = 1]  [x read = 1]
    b:               [x write 2]
    """
    assert word(picture, criterion=Criterion("late", stale_ns=4 * MS_NS)) == "violation"


# --- budget and bad models
def test_a_hard_part_does_not_hide_an_easy_violation() -> None:
    rng = random.Random(3)
    hard = simulate(rng, SERVICES["kv"], clients=30, count=600, keys=("hard",), lost=0)
    easy = drawn("a: [easy put x] [easy put y] [easy get = x]")
    moved = [
        Operation(
            10_000 + each.id, each.client, each.call, each.invoked, each.invoked_ns, each.completed, each.ended_ns
        )
        for each in easy
    ]

    assert judge_order(hard, BUILT_IN["kv"], LINEARIZABLE, 50_000).word == "unknown"
    verdict = judge_order([*hard, *moved], BUILT_IN["kv"], LINEARIZABLE, 50_000)

    assert verdict.word == "violation"
    assert [operation.id for operation in verdict.evidence] == [10_000, 10_001, 10_002]


def test_an_operation_that_the_model_does_not_know_is_named() -> None:
    with pytest.raises(UserError, match=r"Register knows read, write; operation 1 is 'pop x -> 3'"):
        word("a: [x write 1] [x pop = 3]")


def test_a_model_that_raises_is_blamed_with_operation_and_state() -> None:
    with pytest.raises(UserError, match=r"the model failed at 'append x 'b'' in state 1: TypeError"):
        word("a: [x put 1] [x append b] [x get = 1]", "kv")


@pytest.mark.parametrize("model", ["register", "cas", "kv", "counter", "lock", "queue", "names"])
def test_an_operation_without_its_arguments_is_named(model: str) -> None:
    function = {"kv": "put", "names": "put", "counter": "add", "lock": "acquire", "queue": "enqueue"}.get(
        model, "write"
    )

    with pytest.raises(UserError, match=rf"the model failed at '{function} x -> None'.*IndexError"):
        word(f"a: [x {function}]", model)


class Growing(Register):
    """Its states cannot be remembered."""

    def step(self, state: Any, call: Call) -> tuple[bool, Any]:
        return True, [state]


class Apart(Register):
    """It does not know what its calls touch."""

    def partition(self, call: Call) -> str:
        raise LookupError(call.key)


def test_a_model_that_cannot_tell_parts_is_named_with_the_line() -> None:
    with pytest.raises(UserError, match=rf"the model failed at 'write x 1': {__file__}:\d+: LookupError: x"):
        judge_order(drawn("a: [x write 1]"), Apart(), LINEARIZABLE)


def test_a_state_that_cannot_be_remembered_is_named() -> None:
    with pytest.raises(UserError, match=r"the model failed at 'write x 1' in state None: TypeError: unhashable type"):
        judge_order(drawn("a: [x write 1]"), Growing(), LINEARIZABLE)


def test_nothing_at_all_is_in_order() -> None:
    assert judge_order([], BUILT_IN["register"], LINEARIZABLE).word == "ok"


# --- what people read
def test_a_counterexample_names_the_few_operations_that_have_no_order() -> None:
    operations = drawn("""
    a: [x write 1]  [x write 2]   [x write 4>         [x read = 1]
    b:      [x read]                      [x read = 2]
    c: [y write 1]    [y read = 1]
    """)

    verdict = judge_order(operations, BUILT_IN["register"], LINEARIZABLE)

    assert list(lines(verdict)) == [
        "violation: key 'x': these 3 operations are not linearizable, whatever the 3 others did",
        "OPERATION  CLIENT  FROM        TO",
        "0          a       0.005000 s  0.016000 s  write x 1    |-|",
        "6          b       0.040000 s  0.052000 s  read x -> 2      |-|",
        "7          a       0.052000 s  0.064000 s  read x -> 1          |-|",
    ]


def test_a_long_list_of_evidence_is_cut() -> None:
    operations = drawn(f"a: {'[x write 1]' * 50}")

    said = list(lines(Verdict("violation", "so it is", tuple(operations))))

    assert len(said) < 30
    assert said[-1] == "... and 30 more"


# --- properties
@st.composite
def calls(draw: st.DrawFn) -> list[Operation]:
    """Any history of a register with few values: each event ends an operation, or begins one."""
    history = History(lambda: 0)
    under_way: list[int] = []
    for index in range(draw(st.integers(1, 9))):
        for operation in list(under_way):
            if draw(st.booleans()):
                under_way.remove(operation)
                history.complete(operation, draw(st.sampled_from([None, 1, 2])))
        written = draw(st.sampled_from([None, 1, 2]))
        client = f"c{index}"
        under_way.append(history.invoke(client, "write", written) if written else history.invoke(client, "read"))
    return history.operations()


@settings(max_examples=300)
@given(calls())
def test_any_history_is_judged_as_brute_force_judges_it(operations: list[Operation]) -> None:
    model = BUILT_IN["register"]

    verdict = judge_order(operations, model, LINEARIZABLE)

    assert (verdict.word == "ok") == is_ordered(operations, model.initial, model.step, in_real_time)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from(sorted(SERVICES)))
def test_a_system_that_keeps_its_promises_is_never_accused(seed: int, model: str) -> None:
    operations = simulate(random.Random(seed), SERVICES[model], clients=4, count=60, keys="xy")

    assert judge_order(operations, BUILT_IN[model], LINEARIZABLE, 50_000).word != "violation"


# --- names
@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ("a: [f put a 1] [f rename a b = yes] [f get b = 1] [f get a]", "ok"),
        ("a: [f put a 1] [f rename a b = yes] [f get a] [f get b]", "violation"),
        ("a: [f put b 1] [f rename a b = no] [f get b = 1]", "ok"),
        ("a: [f put a 1] [f delete a = yes] [f delete a = yes]", "violation"),
        ("a: [f put a 1] [f create a 2 = yes]", "violation"),
    ],
)
def test_names_move_with_their_values(picture: str, expected: str) -> None:
    assert word(picture, "names") == expected


@pytest.mark.parametrize("lost", [0.02, 0.1])
def test_a_long_history_of_names_is_judged_and_shown_in_few_operations(lost: float) -> None:
    rng = random.Random(3)
    operations = simulate(rng, SERVICES["names"], clients=5, count=800, keys="xyz", lost=lost)
    wrong = edited(rng, operations)

    assert judge_order(operations, BUILT_IN["names"], LINEARIZABLE, 20_000).word == "ok"
    verdict = judge_order(wrong, BUILT_IN["names"], LINEARIZABLE, 20_000)
    assert (verdict.word, len(verdict.evidence)) == ("violation", 1)
