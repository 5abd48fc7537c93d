"""Somebody made of bytes alone, who greets and speaks as a client, a process or a stranger would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from zactor.kernel import Kernel
from zactor.sim.virtual import Virtual
from zactor.wire import CONTROL, MAIL, Batch, Frame, Route, decode_frame, frame


class RawClient:
    """A client made of bytes alone, in the place of a process of the virtual world."""

    def __init__(self, virtual: Virtual, kernel: Kernel, name: str = "@raw") -> None:
        self.up = True
        self.incarnation = 1
        self.kernel = self
        self.name = self.process = name
        self.frames: list[Frame] = []
        self.session = 1
        self.sequences = [0, 0, 0]
        self._to = kernel
        virtual.processes[name] = self  # type: ignore[assignment]

    def receive(self, source: str, data: bytes, blobs: Sequence[bytes] = ()) -> bool:
        self.frames.append(decode_frame(data))
        return True

    def source(self, lane: int = CONTROL) -> str:
        """The connection by which it sends."""
        return str(Route(self.name, self.incarnation, lane, "raw"))

    def hello(
        self, run: str = "virtual", expected: str = "back", key: str = "", calls_itself: str | None = None
    ) -> bool:
        batch = Batch()
        name = self.name if calls_itself is None else calls_itself
        batch.add("$hello", "", "", 0, 0, 0, 0, (run, key, name, self.incarnation, expected))
        return self._to.receive(self.source(), frame(self.session, 0, (0, 0, 0), batch.close()))

    def letter(
        self,
        kind: str,
        target: str,
        body: Any,
        number: int = 1,
        stamp: int = 0,
        ask: Any = None,
        lane: int | None = None,
    ) -> bool:
        """Send one letter: on control if it is the kernels' own, else on mail."""
        batch = Batch()
        batch.add(kind, target, f"{self.name}/1", number, 0, 0, stamp, body, ask)
        if lane is None:
            lane = CONTROL if kind.startswith("$") else MAIL
        self.sequences[lane] += 1
        return self._to.receive(self.source(lane), frame(self.session, self.sequences[lane], (0, 0, 0), batch.close()))

    def goodbye(self) -> None:
        """Say BYE, and how many frames went before it."""
        self.letter("$bye", "", tuple(self.sequences[MAIL:]))

    def letters(self) -> list[tuple[str, int, Any]]:
        """What came: kind, id, and body."""
        return [
            (each.names[letter.kind], letter.id, msgspec.msgpack.decode(letter.body))
            for each in self.frames
            for letter in each.letters
        ]
