"""What comes in over a socket is not trusted: it is counted, logged with its source and dropped, and costs nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any, Self

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.live.running import PATIENCE_S, Launched, eventually, kind, resident_bytes, word
from zactor.live.doorkeeper import REFUSED_MAX
from zactor.live.sockets import BESIDE, PARTS_MAX
from zactor.message import encode
from zactor.wire import FRAME_SIZE_MAX, PROTOCOL_VERSION, SOCKET_SIZE_MAX, Batch, decode_frame, frame

pytestmark = pytest.mark.live

GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
CONNECTIONS = 10_000
WAVE = 2000
GROWTH_BYTES_MAX = 8 << 20

TOPOLOGY = f"""\
name: target
nodes:
  echo: {{kind: {kind("Echo")}}}
  other: {{kind: {kind("Echo")}}}
processes:
  target: {{nodes: [echo], transport: tcp}}
"""

Letter = tuple[str, str, str, int, Any]

FLOOD = """\
import sys, zmq
context, frame, sockets = zmq.Context(), bytes.fromhex(sys.argv[2]), []
for number in range(10):
    socket = context.socket(zmq.DEALER)
    socket.routing_id = b"flood%d#1#control#t" % number
    socket.linger = 0
    socket.connect(sys.argv[1])
    sockets.append(socket)
while True:
    for socket in sockets:
        try:
            socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            pass
"""

BLOCKED = """\
import asyncio, sys
from zactor.live.world import LiveWorld

async def main():
    world = LiveWorld("blocked", number=1, incarnation=1, run="r", peer_timeout_ns=50_000_000)
    print(world.bind("tcp://127.0.0.1:*"), flush=True)
    sys.stdin.readline()
    await world.close()
    print("still there", flush=True)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    folder: Path = tmp_path_factory.mktemp("target")
    with Launched(folder, TOPOLOGY) as launched:
        yield launched.ready()


class Raw:
    """A socket of somebody who does not keep to the rules."""

    def __init__(self, endpoint: str, identity: bytes) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.routing_id = identity
        self.socket.linger = int(PATIENCE_S * 1000)
        self.socket.sndhwm = 0
        self.socket.connect(endpoint)

    def send(self, *parts: bytes) -> None:
        self.socket.send_multipart(parts)

    def answer(self) -> list[str]:
        """The names in the next frame that comes."""
        assert self.socket.poll(int(PATIENCE_S * 1000))
        return decode_frame(self.socket.recv()).names

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.socket.close()
        self._context.term()


def framed(session: int, sequence: int, *letters: Letter, ask: Any = None) -> bytes:
    batch = Batch()
    for letter_kind, to, sender, number, body in letters:
        batch.add(letter_kind, to, sender, number, 0, 0, 0, body, ask)
    return frame(session, sequence, (0, 0, 0), batch.close())


def hello(
    launched: Launched,
    process: str,
    incarnation: int,
    *,
    run: str | None = None,
    key: str | None = None,
    expected: str = "target",
) -> bytes:
    book = launched.book()
    run, key = book.run if run is None else run, book.key if key is None else key
    return framed(1, 0, ("$hello", "", "", 0, (run, key, process, incarnation, expected)))


def endpoint(launched: Launched, which: int = 0) -> str:
    """One of its two addresses."""
    found = launched.book().processes["target"].endpoint
    assert found is not None
    return found.split(BESIDE)[which]


def raw(launched: Launched, identity: str = "stranger#1#control#t") -> Raw:
    return Raw(endpoint(launched), identity.encode())


def inspect(launched: Launched) -> dict[str, Any]:
    """What the process says of itself, after it has answered an ask."""

    async def main() -> dict[str, Any]:
        async with launched.client() as client:
            assert await client.ask(client.ref("echo"), word("Say")(text="alive"), PATIENCE_S) == "alive"
            about: dict[str, Any] = await client.inspect("target", PATIENCE_S)
            return about

    about = asyncio.run(main())
    assert about["incarnation"] == 1
    books = about["books"]
    there = books["sent"] + books["received"]
    assert there == sum(books[column] for column in ("handled", "dead", "queued", "outbox", "shipped"))
    return about


def refusals(launched: Launched, reason: str) -> int:
    return int(inspect(launched)["strangers"].get(reason, 0))


def assert_refused(launched: Launched, reason: str, identity: str, *frames: bytes) -> None:
    """Each of these frames is counted under that reason, and the first of them logged with its source."""
    before = refusals(launched, reason)
    with raw(launched, identity) as stranger:
        for each in frames:
            stranger.send(each)
        eventually(lambda: refusals(launched, reason) == before + len(frames))
    if before < 10:
        eventually(lambda: identity in sources(launched, reason))


def sources(launched: Launched, reason: str) -> list[str]:
    """Whose frames the log says were refused for that reason."""
    events = [json.loads(line) for line in launched.log_lines("target") if '"frame_refused"' in line]
    return [event["source"] for event in events if event["reason"] == reason]


# --- frames that are none
def test_garbage_is_counted_and_logged_with_its_source(target: Launched) -> None:
    good = hello(target, "@c", 1)

    assert_refused(
        target, "undecodable frame", "garbage#1#control#t", b"", b"\xc1", b"hello", b"\x97" * 1000, good[:-1]
    )


def test_a_message_of_several_parts_is_no_frame(target: Launched) -> None:
    before = refusals(target, "wrong parts")
    with raw(target) as stranger:
        stranger.send(*[b"part"] * (PARTS_MAX + 2))
        eventually(lambda: refusals(target, "wrong parts") == before + 1)


def test_another_version_is_refused(target: Launched) -> None:
    newer = encode((PROTOCOL_VERSION + 1, 1, 0, (0, 0, 0), [], []))

    assert_refused(target, "wrong version", "newer#1#control#t", newer)


def test_a_frame_that_is_too_large_is_refused(target: Launched) -> None:
    assert_refused(target, "too large", "large#1#control#t", bytes(FRAME_SIZE_MAX + 1))


def test_a_frame_that_no_socket_takes_ends_its_connection_and_nothing_else(target: Launched) -> None:
    before = resident_bytes(target.pid("target"))
    with raw(target, "huge#1#control#t") as stranger:
        stranger.socket.linger = 0
        stranger.send(bytes(SOCKET_SIZE_MAX + 1))

        inspect(target)
        assert resident_bytes(target.pid("target")) - before < GROWTH_BYTES_MAX


def test_the_largest_frame_of_garbage_is_refused(target: Launched) -> None:
    assert_refused(target, "undecodable frame", "largest#1#control#t", bytes(FRAME_SIZE_MAX))


def test_what_speaks_no_zeromq_is_dropped(target: Launched) -> None:
    endless = b"\x06" + (1 << 62).to_bytes(8, "big")  # a frame that says how long it will be
    for start in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4096, GREETING + endless, GREETING + b"\x04\xff" * 500):
        with connect(endpoint(target)) as connection, contextlib.suppress(OSError):
            connection.sendall(start)
            connection.sendall(bytes(100_000))

    inspect(target)


# --- those who did not introduce themselves
def test_frames_before_a_hello_are_refused(target: Launched) -> None:
    say = framed(1, 1, ("actors.Say", "echo", "x", 1, ("hi",)))

    assert_refused(target, "not introduced", "early#1#control#t", say, framed(2, 1), framed(2, 2))


def test_a_hello_of_another_run_is_refused_and_a_client_told_why(target: Launched) -> None:
    before = refusals(target, "wrong HELLO")
    with raw(target, "@elsewhere#1#control#t") as stranger:
        stranger.send(hello(target, "@elsewhere", 1, run="another"))
        assert stranger.answer() == ["$goaway", ""]
    assert refusals(target, "wrong HELLO") == before + 1


def test_a_hello_under_a_name_that_is_not_that_of_the_connection_is_refused(target: Launched) -> None:
    assert_refused(target, "false name", "stranger#2#control#t", hello(target, "@c", 1), hello(target, "stranger", 3))


def test_a_hello_with_another_key_or_for_another_process_is_refused_and_told_why(target: Launched) -> None:
    for number, wrong in enumerate(({"key": "another"}, {"expected": "other"})):
        before = refusals(target, "wrong HELLO")
        with raw(target, f"@wrong{number}#1#control#t") as stranger:
            stranger.send(hello(target, f"@wrong{number}", 1, **wrong))
            assert stranger.answer() == ["$goaway", ""]
        assert refusals(target, "wrong HELLO") == before + 1


def test_an_incarnation_of_yesterday_is_refused(target: Launched) -> None:
    assert_refused(target, "old incarnation", "other#0#control#t", hello(target, "other", 0))


def test_a_hello_whose_body_is_no_hello_is_refused(target: Launched) -> None:
    assert_refused(target, "bad HELLO", "@c#1#control#t", framed(1, 0, ("$hello", "", "", 0, 42)))


# --- letters of one who did
def dead_letters(launched: Launched) -> dict[str, int]:
    found: dict[str, int] = inspect(launched)["dead_letters"]
    return found


@pytest.mark.parametrize(
    ("reason", "letter"),
    [
        ("unhandled", ("actors.Nonsense", "echo", "x", 7, ("hi",))),
        ("undecodable", ("actors.Say", "echo", "x", 7, (42,))),
        ("undecodable", ("actors.Say", "echo", "x", 7, ())),
        ("undecodable", ("actors.Say", "echo", "x", 7, "hi")),
        ("unknown", ("actors.Say", "nobody", "x", 7, ("hi",))),
    ],
)
def test_a_letter_that_nobody_can_handle_is_a_dead_letter_and_costs_no_other(
    target: Launched, reason: str, letter: Letter
) -> None:
    before = dead_letters(target).get(reason, 0)
    with raw(target, "@caller#1#control#t") as caller:
        caller.send(hello(target, "@caller", 1))
        assert caller.answer() == ["$welcome", ""]

        ask = (10**10, (("@caller", 7),))
        good = ("actors.Say", "echo", "@caller", 7, ("hi",))
        caller.send(framed(1, 1, letter, good, ask=ask))

        answers = caller.answer()
        assert {"$error", "$reply"} <= set(answers)
    assert dead_letters(target).get(reason, 0) == before + 1


@pytest.mark.parametrize(
    ("reason", "letter"),
    [
        ("unknown control", ("$nonsense", "echo", "", 0, None)),
        ("bad control", ("$probe", "echo", "", 0, 42)),
        ("bad control", ("$down", "echo", "@rude", 0, None)),
    ],
)
def test_a_control_letter_that_makes_no_sense_is_refused(target: Launched, reason: str, letter: Letter) -> None:
    before = refusals(target, reason)
    with raw(target, "@rude#1#control#t") as caller:
        caller.send(hello(target, "@rude", 1))
        caller.answer()
        caller.send(framed(1, 1, letter))

        eventually(lambda: refusals(target, reason) == before + 1)


def test_a_frame_that_comes_again_is_handled_once(target: Launched) -> None:
    before, nobody = refusals(target, "frame out of place"), dead_letters(target).get("unknown", 0)
    with raw(target, "@again#1#control#t") as caller:
        caller.send(hello(target, "@again", 1))
        assert caller.answer() == ["$welcome", ""]
        for _ in range(3):
            caller.send(framed(1, 1, ("actors.Say", "nobody", "x", 1, ("hi",))))

        eventually(lambda: refusals(target, "frame out of place") == before + 2)
    assert dead_letters(target).get("unknown", 0) == nobody + 1


def test_a_gap_ends_the_session_and_what_follows_it_is_not_delivered(target: Launched) -> None:
    before, nobody = refusals(target, "frame out of place"), dead_letters(target).get("unknown", 0)
    with raw(target, "@gap#1#control#t") as caller:
        caller.send(hello(target, "@gap", 1))
        assert caller.answer() == ["$welcome", ""]
        for sequence in (1, 3, 2):
            caller.send(framed(1, sequence, ("actors.Say", "nobody", "x", 1, ("hi",))))

        eventually(lambda: refusals(target, "frame out of place") == before + 1)
        assert caller.answer() == ["$forgotten", ""]
    assert dead_letters(target).get("unknown", 0) == nobody + 1


# --- many of them
@st.composite
def mutations(draw: st.DrawFn) -> list[tuple[str, int, int, bytes]]:
    """What to do to a frame: where, how far, and with which bytes."""
    change = st.tuples(
        st.sampled_from(["replace", "insert", "cut", "truncate"]),
        st.integers(0, 200),
        st.integers(1, 8),
        st.binary(min_size=1, max_size=8),
    )
    return draw(st.lists(change, min_size=1, max_size=4))


def mutated(data: bytes, changes: list[tuple[str, int, int, bytes]]) -> bytes:
    for what, where, span, content in changes:
        at = where % (len(data) + 1)
        if what == "replace":
            data = data[:at] + content + data[at + len(content) :]
        elif what == "insert":
            data = data[:at] + content + data[at:]
        elif what == "cut":
            data = data[:at] + data[at + span :]
        else:
            data = data[:at]
    return data


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(st.tuples(st.integers(0, 4), mutations()), min_size=1, max_size=REFUSED_MAX - 2))
def test_frames_that_were_tampered_with_do_no_harm(
    target: Launched, changes: list[tuple[int, list[tuple[str, int, int, bytes]]]]
) -> None:
    ask = (10**9, (("@mutant", 3),))
    valid = [
        hello(target, "@mutant", 1),
        framed(1, 1, ("actors.Say", "echo", "@mutant", 3, ("hi",)), ask=ask),
        framed(1, 2, ("$watch", "echo", "@mutant", 0, None), ("$inspect", "target", "", 4, ())),
        framed(1, 3, ("$probe", "echo", "", 0, (("a", 1), ("b", 2))), ("$cancel", "echo", "", 3, None)),
        framed(1, 4, ("$error", "", "", 3, ("zactor.Refused", "no", "")), ("$pause", "echo", "", 0, None)),
    ]
    ended = refusals(target, "wrong parts")
    with raw(target, "@mutant#1#control#t") as mutant:
        mutant.send(valid[0])
        for index, change in changes:
            mutant.send(mutated(valid[index], change))
        mutant.send(*[b"the end"] * (PARTS_MAX + 2))

        eventually(lambda: refusals(target, "wrong parts") == ended + 1)


def descriptors(launched: Launched) -> int:
    return len(os.listdir(f"/proc/{launched.pid('target')}/fd"))


@contextlib.contextmanager
def unharmed(launched: Launched, growth_bytes_max: int = GROWTH_BYTES_MAX) -> Iterator[None]:
    """Afterwards it answers a member, and has the memory and the descriptors that it had."""
    inspect(launched)
    memory, files = resident_bytes(launched.pid("target")), descriptors(launched)
    yield
    eventually(lambda: descriptors(launched) <= files)
    inspect(launched)
    assert resident_bytes(launched.pid("target")) - memory < growth_bytes_max


def connect(endpoint: str) -> socket.socket:
    host, _, port = endpoint.removeprefix("tcp://").partition(":")
    return socket.create_connection((host, int(port)))


def command(name: bytes, content: bytes) -> bytes:
    """A command of ZMTP 3.1 (RFC 37)."""
    return bytes([4, 1 + len(name) + len(content), len(name)]) + name + content


def shake_hands(endpoint: str) -> socket.socket:
    """A connection that speaks ZMTP as a DEALER does, by hand."""
    connection = connect(endpoint)
    connection.sendall(GREETING + command(b"READY", b"\x0bSocket-Type\0\0\0\x06DEALER"))
    answer = b""
    while b"READY" not in answer:
        more = connection.recv(4096)
        assert more, "refused"
        answer += more
    return connection


def address(connection: socket.socket) -> str:
    host, port = connection.getsockname()
    return f"tcp://{host}:{port}"


def is_shut(connection: socket.socket) -> bool:
    connection.settimeout(PATIENCE_S)
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(4096):
            pass
    return True


def test_half_handshakes_and_silence_are_cut_off_and_named(target: Launched) -> None:
    starts = (b"", GREETING[:1], GREETING[:10], GREETING[:40], GREETING)
    with unharmed(target), contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(endpoint(target, index % 2))) for index in range(len(starts))]
        for connection, start in zip(connections, starts, strict=True):
            connection.sendall(start)
        silent = stack.enter_context(raw(target, "silent#1#control#t"))
        assert all(is_shut(connection) for connection in connections)
        silent.socket.linger = 0
        addresses = {address(connection) for connection in connections}
        reasons = ("no handshake", "not introduced in time")
        eventually(lambda: any(addresses.intersection(sources(target, reason)) for reason in reasons))


def test_a_flood_of_hellos_is_shut_out_again_and_again(target: Launched) -> None:
    bad = [b"garbage", hello(target, "@c", 1)[:-2], hello(target, "@c", 1, run="another"), bytes(1000)]
    shut = refusals(target, "shut out")
    with unharmed(target):
        count = sum(inspect(target)["strangers"].values())
        with contextlib.ExitStack() as stack:
            flood = [stack.enter_context(raw(target, f"flood{index}#1#control#t")) for index in range(10)]

            def poured() -> bool:
                for stranger in flood:
                    stranger.socket.linger = 0
                    for index in range(200):
                        stranger.send(bad[index % len(bad)])
                return bool(sum(inspect(target)["strangers"].values()) >= count + 1000)

            eventually(poured)
        assert refusals(target, "shut out") > shut
    assert any(source.startswith("tcp://127.0.0.1:") for source in sources(target, "shut out"))
    assert (target.run_folder() / "target.jsonl").stat().st_size < 1 << 20


def test_a_flood_of_hellos_at_full_speed_from_another_process_is_endured(target: Launched) -> None:
    pid, shut = target.pid("target"), refusals(target, "shut out")
    wrong = hello(target, "flood", 1, run="another").hex()
    with unharmed(target):
        arguments = (sys.executable, "-c", FLOOD, endpoint(target), wrong)
        with subprocess.Popen(arguments) as flood:
            eventually(lambda: refusals(target, "shut out") > shut + 50)
            flood.kill()
    assert target.pid("target") == pid
    assert refusals(target, "poured on") > 0


def test_whoever_fills_the_queue_of_a_process_that_is_busy_and_vanishes_does_no_harm() -> None:
    """libzmq would abort if it pinged such a connection; those that ping are closed when their pings fail to come."""
    arguments = (sys.executable, "-c", BLOCKED)
    with subprocess.Popen(arguments, stdin=PIPE, stdout=PIPE, text=True) as blocked:
        assert blocked.stdin is not None
        assert blocked.stdout is not None
        where = blocked.stdout.readline().strip().split(BESIDE)[0]
        with shake_hands(where) as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it ends by a reset
            stranger.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                while True:
                    stranger.sendall(b"\0\x10" + bytes(16))
        with shake_hands(where) as pinging:
            pinging.sendall(command(b"PING", b"\0\x02"))  # the next one comes within 0.2 s, it says
            assert is_shut(pinging)
        said, _ = blocked.communicate("go on\n", timeout=PATIENCE_S)
    assert said == "still there\n"


def test_a_message_of_endless_parts_is_cut_off(target: Launched) -> None:
    part = b"\x03" + (1 << 16).to_bytes(8, "big") + bytes(1 << 16)  # and more follow
    before = refusals(target, "too much")
    with unharmed(target, 256 << 20):  # some of what came between two looks is kept by the allocator for later
        for number in range(10):
            with shake_hands(endpoint(target)) as stranger, contextlib.suppress(OSError):
                stranger.settimeout(1.0)  # a reset may pass it by
                while True:
                    stranger.sendall(part)
            eventually(lambda: refusals(target, "too much") == before + number + 1)  # noqa: B023 - called here


def test_ten_thousand_connections_are_shut_out_and_leave_nothing(target: Launched) -> None:
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2  # of both sides: fewer at a time where the limit is lower
    wave = min(WAVE, room)
    before = refusals(target, "too many strangers")
    with unharmed(target):
        for _ in range(CONNECTIONS // wave):
            with contextlib.ExitStack() as stack:
                for _ in range(wave):
                    stack.enter_context(connect(endpoint(target)))
                inspect(target)
    assert refusals(target, "too many strangers") > before
    assert any(source.startswith("tcp://127.0.0.1:") for source in sources(target, "too many strangers"))
