"""The plugin as pytest's users meet it: seeds, failures, and what it costs those who do not use it."""

from __future__ import annotations

import pytest

TESTS = """
from zactor import Actor, Message, on
from zactor.testing import Simulated, Stage


class Say(Message[int]):
    number: int


class Echo(Actor):
    @on
    def say(self, message: Say) -> int:
        if message.number == 13:
            raise RuntimeError("unlucky")
        return message.number


def test_virtual(virtual: Stage) -> None:
    echo = virtual.add("echo", Echo)
    assert virtual.ask(echo, Say(number=1)) == 2


def test_simulated(simulated: Simulated) -> None:
    echo = simulated.add("echo", Echo)
    assert simulated.ask(echo, Say(number=1)) == 1
    assert simulated.seed != 3


def test_failure(virtual: Stage) -> None:
    echo = virtual.add("echo", Echo)
    virtual.ask(echo, Say(number=13))


def test_probe(virtual: Stage) -> None:
    probe = virtual.probe()
    virtual.tell(probe, Say(number=1))
    probe.expect_nothing()


def test_parametrized(simulated: Simulated, number: int) -> None:
    assert simulated.seed != 1


def test_own() -> None:
    pass


def pytest_generate_tests(metafunc):
    if "number" in metafunc.fixturenames:
        metafunc.parametrize("number", [7])
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_echo=TESTS)
    return pytester


def test_a_failure_shows_what_happened(suite: pytest.Pytester) -> None:
    result = suite.runpytest_subprocess("-k", "virtual")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*- zactor: what happened -*", "*  echo   <- Say(number=1) from @test", "*  @test  gets 1"]
    )
    result.stdout.no_fnmatch_line("*zactor: seed*")


def test_a_handler_that_raises_is_shown_with_its_place(suite: pytest.Pytester) -> None:
    result = suite.runpytest_subprocess("-k", "failure")

    result.stdout.fnmatch_lines(
        ["E *ActorFailed: echo: RuntimeError: unlucky", "*handler_failed*", '*File "*test_echo.py", line *in say']
    )


def test_what_a_probe_did_not_expect_is_named(suite: pytest.Pytester) -> None:
    result = suite.runpytest_subprocess("-k", "probe")

    result.stdout.fnmatch_lines(["E *AssertionError: 'probe' was to get nothing, and got Say(number=1)"])
    result.stdout.no_fnmatch_line("*raise AssertionError*")


def test_each_seed_is_a_test(suite: pytest.Pytester) -> None:
    result = suite.runpytest_subprocess("-k", "simulated", "--zactor-seeds", "4")

    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*- zactor: seed 3 -*",
            "run it again with: pytest 'test_echo.py::test_simulated?seed-3?' --zactor-seed 3",
        ]
    )


def test_the_command_that_is_shown_runs_it_again(suite: pytest.Pytester) -> None:
    again = suite.runpytest_subprocess("test_echo.py::test_simulated[seed-3]", "--zactor-seed", "3")
    assert again.ret == pytest.ExitCode.TESTS_FAILED

    result = suite.runpytest_subprocess("-k", "parametrized")
    result.stdout.fnmatch_lines(["run it again with: pytest 'test_echo.py::test_parametrized?7?'"])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--zactor-seeds", "0"], "ERROR: --zactor-seeds 0: expected how many seeds, 1 or more"),
        (["--zactor-seed", "-1"], "ERROR: --zactor-seed -1: expected a number that is not negative"),
        (["--zactor-seed", "1", "--zactor-seeds", "2"], "ERROR: *exclude each other: leave one of them out"),
    ],
)
def test_seeds_that_cannot_be_meant_are_refused(suite: pytest.Pytester, options: list[str], text: str) -> None:
    result = suite.runpytest_subprocess(*options)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([text])


def test_who_does_not_use_it_loads_no_kernel_and_no_socket(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_modules() -> None:
            assert "zactor.testing" in sys.modules
            heavy = {"zmq", "asyncio", "structlog", "typer", "msgspec", "zactor.actor", "zactor.kernel"}
            assert heavy & set(sys.modules) == set()
        """
    )

    pytester.runpytest_subprocess("-p", "no:anyio").assert_outcomes(passed=1)


def test_who_uses_it_loads_no_socket_either(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_modules(simulated) -> None:
            simulated.settle()
            assert {"zmq", "asyncio", "typer"} & set(sys.modules) == set()
        """
    )

    pytester.runpytest_subprocess().assert_outcomes(passed=1)
