"""Load and its histories, and saved files: over a door that ends at a store in memory, and loses what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from io import BytesIO
from typing import Any

import pytest

from nodes.kv import load, saving, words
from nodes.kv import operations as op
from nodes.kv.client import KvClient
from nodes.kv.store import Store
from tests.replication.doors import AskSoon
from zactor.errors import ConnectionLost, Failure, UserError
from zactor.judges.history import History
from zactor.judges.judge import judge_named, model_named
from zactor.message import Message, Ref
from zactor.replication.messages import EndSession, OpenSession, Query, Submit, Watch
from zactor.replication.sessions import Sessions, encode_change, encode_end, encode_open

TICK_NS = 1_000_000


class Door(AskSoon):
    """A store with its sessions. Each ask takes a millisecond of its clock; `lost` says which changes get no answer."""

    def __init__(self, lost: Iterable[bool] = ()) -> None:
        self.sessions = Sessions(Store())
        self.time_ns = 0
        self._next = 1
        self._lost = iter(lost)

    def ask(self, target: Ref[Any], message: Message[Any], timeout_s: float = 5.0) -> Awaitable[Any]:
        return asyncio.ensure_future(self._answer(message))

    async def sleep(self, seconds: float) -> None:
        self.time_ns += int(seconds * 1e9)
        await asyncio.sleep(0)

    def now_ns(self) -> int:
        return self.time_ns

    async def _answer(self, message: Any) -> Any:
        self.time_ns += TICK_NS
        await asyncio.sleep(0)
        if isinstance(message, Query):
            return self.sessions.machine.query(message.body)
        if isinstance(message, Watch):
            return self.sessions.machine.watch(1, message.body) or b""  # type: ignore[attr-defined]
        answer = self._make(message)
        if isinstance(answer, Failure):
            raise answer
        if isinstance(message, Submit) and next(self._lost, False):
            raise ConnectionLost("it died")
        return answer

    def _make(self, message: Any) -> Any:
        match message:
            case OpenSession():
                record = encode_open()
            case EndSession():
                record = encode_end(message.session)
            case _:
                record = encode_change(message)
        (answer,), self._next = self.sessions.apply(self._next, self.time_ns, (record,))
        return answer


def drive(door: Door, given: load.Load) -> tuple[load.Measured, History]:
    history = History(lambda: door.time_ns, load.MODEL)
    return asyncio.run(load.run(door, [Ref("kv")], given, history)), history


@pytest.mark.parametrize("level", ["linearizable", "bounded", "session", "eventual"])
def test_a_load_is_counted_and_its_history_is_judged(level: Any) -> None:
    measured, history = drive(Door(), load.Load(clients=4, keys=3, seconds=1.0, size=64, level=level, bound_s=5.0))

    assert measured.operations > 500
    assert not measured.failed
    assert measured.swapped
    assert len(history.operations()) == measured.operations
    assert judge_named("linearizable", 10**6)(history.operations(), model_named("kv.items", None)).word == "ok"
    if level != "linearizable":
        assert judge_named(f"kv.{level}", 10**6)(history.operations(), None).word == "ok"


def test_a_change_without_an_answer_is_made_once_and_the_history_says_so() -> None:
    every_third = (number % 3 == 0 for number in range(10**6))
    measured, history = drive(Door(every_third), load.Load(clients=4, keys=3, seconds=1.0, size=64))

    assert measured.operations > 50
    assert judge_named("linearizable", 10**6)(history.operations(), model_named("kv.items", None)).word == "ok"


def test_an_outcome_that_nobody_knows_is_recorded_so() -> None:
    lost = (number > 10 for number in range(10**6))
    door = Door(lost)
    measured, history = drive(door, load.Load(clients=2, keys=3, seconds=1.0, size=64, give_up_s=0.1))

    assert measured.unknown == measured.failed["ConnectionLost"] > 0
    outcomes = [operation.outcome for operation in history.operations()]
    assert outcomes.count("unknown") == measured.unknown
    assert judge_named("linearizable", 10**6)(history.operations(), model_named("kv.items", None)).word == "ok"


def test_a_load_leaves_nothing_behind() -> None:
    door = Door()
    drive(door, load.Load(clients=2, keys=3, seconds=0.2, size=64))

    assert [key for key in door.sessions.machine.items.by_key if key != b"load"] == []  # type: ignore[attr-defined]


def test_quantiles_are_of_what_was_answered() -> None:
    measured = load.Measured(1.0, {"get": [number * 10**6 for number in range(1, 101)], "put": [], "cas": [10**6]})

    assert (measured.quantile_ms("get", 0.5), measured.quantile_ms("get", 0.99)) == (51.0, 100.0)
    assert (measured.quantile_ms("put", 0.5), measured.quantile_ms("cas", 0.99)) == (None, 1.0)


# --- saved files
def test_what_is_saved_is_read_and_put_again() -> None:
    items = [op.Item(b"%03d" % number, bytes([number]), 1, 1, 1) for number in range(200)]
    lines = b"".join(saving.written(7, items))
    door = Door()

    async def work() -> None:
        kv = KvClient(door, [Ref("kv")])
        await saving.put_all(kv, saving.read(BytesIO(lines), "saved"))
        revision, found = await kv.copy()
        assert [(item.key, item.value) for item in found] == [(item.key, item.value) for item in items]
        assert revision == kv.revision

    asyncio.run(work())


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (b"", "saved:1: this is no line"),
        (b"text\n", "saved:1: this is no line"),
        (b'{"zactor_kv":9,"revision":1,"keys":0}\n', "saved:1: it has format 9"),
        (b'{"zactor_kv":1,"revision":1,"keys":2}\n{"key":"YQ==","value":""}\n', "1 keys of 2: it is not whole"),
        (b'{"zactor_kv":1,"revision":1,"keys":1}\n{"key":"","value":""}\n', "saved:2: this is no line"),
    ],
    ids=["empty", "text", "newer", "cut off", "an empty key"],
)
def test_what_is_no_saved_store_is_refused_with_its_line(lines: bytes, text: str) -> None:
    with pytest.raises(UserError, match=text):
        saving.read(BytesIO(lines), "saved")


# --- words
@pytest.mark.parametrize(
    ("written", "condition"),
    [
        ("a version = 0", op.Condition(b"a", "version", "=", 0)),
        ("'a b' value != 'x y'", op.Condition(b"a b", "value", "!=", b"x y")),
        ("a value = 7", op.Condition(b"a", "value", "=", b"7")),
    ],
)
def test_conditions_are_written_in_words(written: str, condition: op.Condition) -> None:
    assert words.parse_condition(written) == condition


@pytest.mark.parametrize(
    "written", ["a version = x", "a versions = 1", "a version == 1", "a version =", "a value = 'x", "a version = ²"]
)
def test_what_is_no_condition_is_refused(written: str) -> None:
    with pytest.raises(UserError):
        words.parse_condition(written)


def test_steps_are_written_in_words() -> None:
    written = ["put a 'b c'", "delete a", "delete a c", "get a", "range a c"]
    assert [words.parse_step(each) for each in written] == [
        op.Put(b"a", b"b c"), op.Delete(b"a"), op.Delete(b"a", b"c"), op.Get(b"a"), op.Range(b"a", b"c"),
    ]  # fmt: skip
    with pytest.raises(UserError, match="no step"):
        words.parse_step("put a")


def test_bytes_that_are_no_text_are_shown_by_escapes() -> None:
    assert words.text(b"a\xff") == "a\\xff"
