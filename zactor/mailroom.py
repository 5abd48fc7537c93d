"""Where mail comes in and goes out: local delivery, outboxes, frames, and room.

Letters whose kind begins with `$` are the kernels' own: answers, flow control, probes, and those of `neighbours`.
Nothing that comes in is trusted: what does not decode, or is out of place, is counted with its source and dropped.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from zactor import hlc
from zactor.cell import Cell, Mail, RemoteAsk, Wait, chain_of
from zactor.errors import (
    ActorFailed,
    ActorStopped,
    AskCycle,
    ConnectionLost,
    Failure,
    Overloaded,
    Refused,
    TooLarge,
    Unhandled,
)
from zactor.message import NAME_LENGTH_MAX, UNDECODABLE, Opaque, Ref, answer_decoder, bulk_fields, decoder
from zactor.peer import OUTBOX_BYTES, OWED_MAX, Lane, Peer
from zactor.wire import (
    BULK,
    CHAIN_LENGTH_MAX,
    CONTROL,
    FRAME_SIZE_MAX,
    LANES,
    LETTER_BYTES,
    PROTOCOL_VERSION,
    Asked,
    Chain,
    Frame,
    Letter,
    decode_frame,
    lane_of,
    split,
    unsplit,
    unwrap,
)

if TYPE_CHECKING:
    from zactor.kernel import Kernel

MAILBOX_BYTES = 64 << 20
"""Mail from other processes that one mailbox holds before it pauses them."""

PROCESS_BYTES = 4 * MAILBOX_BYTES
"""Mail from other processes that all mailboxes hold together. Beyond it what comes is taken, and not acknowledged:
so at most a window more comes from each process. Control is always acknowledged."""

GREETING_SIZE_MAX = 4096

LEFT_NS_MAX = 1 << 62
"""A deadline further away is taken for this one."""

LOUD_STRANGERS = 10

_error = decoder(tuple[str, str, str])
_chain = decoder(Chain)
_break = decoder(tuple[int, str])


class Mailroom:
    """The post of one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.dirty: list[Peer] = []
        self.strangers: Counter[str] = Counter()
        self.stamps_ahead: Counter[str] = Counter()
        self._controls: dict[str, Callable[[Peer, str, str, Letter], None]] = {
            "$error": self._on_error,
            "$pause": self._on_pause,
            "$resume": self._on_resume,
            "$probe": self._on_probe,
            "$break": self._on_break,
            "$cancel": self._on_cancel,
            "$inspect": self._on_inspect,
            "$taken": self._on_taken,
            "$beat": kernel.heartbeat.heard,
            **kernel.neighbours.controls(),
        }

    # --- out
    def deliver(self, target: Ref[Any], mail: Mail, wait: Wait | None) -> str | None:
        """Put mail into a mailbox here or an outbox. Returns why there is no room, or None. Raises `TooLarge`."""
        kernel = self._kernel
        cell = target.cell
        if cell is None or cell.state == "stopped":
            cell = target.cell = kernel.cells.get(target.name)
        if wait is not None and wait.depth > CHAIN_LENGTH_MAX:
            kernel.dead_letter("cycle", mail, target.name, AskCycle(f"asks nested {wait.depth} deep: {target.name}"))
            return None
        if cell is None:
            return self._post(target, mail, wait)
        if wait is not None and cell.held:
            ring = kernel.cycles.closes(cell, wait)
            if ring is not None:
                kernel.dead_letter("cycle", mail, cell.name, AskCycle(ring))
                return None
        if len(cell.mailbox) >= cell.capacity or cell.waiters:  # nobody overtakes those who wait for room
            return f"the mailbox of {cell.name} holds {len(cell.mailbox)} messages already"
        kernel.push(cell, mail)
        return None

    def _post(self, target: Ref[Any], mail: Mail, wait: Wait | None) -> str | None:
        kernel = self._kernel
        peer = target.peer or self._find_peer(target)
        if peer is not None and peer.left:
            peer = self._find_peer(target)  # its node may live elsewhere by now
        if peer is None:
            kernel.dead_letter("unknown", mail, target.name, ActorStopped(f"there is no actor {target.name}"))
            return None
        if peer.gone is not None or peer.state == "refused":
            lost = ConnectionLost(f"{target.name}: {peer.gone}", "not sent")
            kernel.dead_letter("peer lost", mail, target.name, lost)
            return None
        if peer.bye_due is not None:
            kernel.dead_letter("stopped", mail, target.name, ActorStopped(f"{target.name}: {peer.process} stops"))
            return None
        if target.name in peer.paused:
            return f"the mailbox of {target.name} is full"
        lane = peer.lanes[lane_of(mail.message)]
        if lane.waiters or lane.full():
            return f"the outbox for process {peer.process} is full"
        asked: tuple[int, Chain] | None = None
        if wait is not None:
            asked = (wait.deadline_ns - kernel.world.now_ns(), chain_of(wait.parent))
        message = mail.message
        try:
            if message.__class__ is Opaque:
                kind, body, blobs = unwrap(message)
            else:
                kind, (body, blobs) = message.wire, split(message)
            numbers = (mail.id, mail.cause, mail.root, mail.hlc)
            peer.post(lane, kind, target.name, mail.sender.name, numbers, body, asked, blobs)
        except Exception as problem:  # it is too large, or holds what cannot be encoded
            kernel.unsent += 1
            if wait is not None:
                kernel.waits.forget(wait)
            if kernel.tap is not None:
                kernel.tap.input(mail.sender, "unsent", mail.id, problem)
            raise
        if lane.ready():  # a whole frame: let the other side begin with it
            kernel.shipped += peer.flush(kernel.ship, whole_frames=True)
        if not peer.dirty:
            self.touch(peer)
        return None

    def _find_peer(self, target: Ref[Any]) -> Peer | None:
        if len(target.name) <= NAME_LENGTH_MAX:  # nobody has a longer one, and a frame with it would be refused
            target.peer = self._kernel.neighbours.peers.get(self._kernel.neighbours.process_of(target.name))
        peer: Peer | None = target.peer
        return peer

    def touch(self, peer: Peer) -> None:
        if peer.state == "closed":
            self._kernel.neighbours.greet(peer.process)
        if not peer.dirty:
            peer.dirty = True
            self.dirty.append(peer)
            if not self._kernel.armed:
                self._kernel.arm()

    def control(self, target: str, kind: str, sender: str, body: Any, number: int = 0) -> None:
        """Send another kernel a letter of ours."""
        peer = self._kernel.neighbours.peers.get(self._kernel.neighbours.process_of(target))
        if peer is not None and peer.gone is None:
            self.post_control(peer, kind, target, sender, body, number)

    def post_control(self, peer: Peer, kind: str, target: str, sender: str, body: Any, number: int = 0) -> None:
        if not peer.bye:
            peer.lanes[CONTROL].post(kind, target, sender, (number, 0, 0, self._kernel.hlc), body)
            self.touch(peer)

    def answer(self, cell: Cell | None, ask: RemoteAsk, value: Any, error: BaseException | None) -> None:
        """Send an answer back; it never queues behind a mailbox."""
        kernel = self._kernel
        peer = kernel.neighbours.peers.get(ask.process)
        if peer is None or peer.gone is not None:
            return
        current = kernel.current
        numbers = (ask.id, current.id, current.root, kernel.hlc)
        sender = "" if cell is None else cell.name
        if error is None:
            try:
                self._reply(peer, sender, numbers, value)
            except Exception as problem:  # it is too large, or holds what cannot be encoded
                error = ActorFailed(f"{sender}: its answer cannot be sent: {problem}")
        if error is not None:
            known = error if isinstance(error, Failure) else ActorFailed(f"{type(error).__name__}: {error}")
            body = (known.wire, str(known)[:10_000], known.detail[:100_000])
            peer.lanes[CONTROL].post("$error", "", sender, numbers, body)
        if peer.is_client and any(lane.size > OUTBOX_BYTES for lane in peer.lanes):
            kernel.neighbours.lost(peer, f"{peer.process} does not read its answers")
        elif not peer.dirty:
            self.touch(peer)

    def _reply(self, peer: Peer, sender: str, numbers: tuple[int, int, int, int], value: Any) -> None:
        """Answers travel on control, ahead of all mail; large ones would hold it up, and go beside it."""
        if value.__class__ is Opaque:
            _, value, blobs = unwrap(value)
        else:
            value, blobs = split(value)
        if not blobs:
            try:
                peer.lanes[CONTROL].post("$reply", "", sender, numbers, value, size_max=LETTER_BYTES)
                return
            except TooLarge:
                pass
        peer.lanes[BULK].post("$reply", "", sender, numbers, value, None, blobs)

    def outbox_messages(self) -> int:
        """Messages that have not left yet, and those of senders that wait for room."""
        return sum(
            peer.outbox_messages + sum(len(lane.waiters) for lane in peer.lanes) + sum(map(len, peer.paused.values()))
            for peer in self._kernel.neighbours.peers.values()
        )

    def flush(self) -> None:
        """What this pass sent leaves."""
        kernel = self._kernel
        send = kernel.world.send if kernel.tap is None else kernel.ship
        leaving = kernel.neighbours.leaving
        dirty, self.dirty = self.dirty, []
        for peer in dirty:
            peer.dirty = False
            kernel.shipped += peer.flush(send)
            if leaving or not peer.mail.room:  # else nobody waits for room or parts
                self._flushed(peer)

    def _flushed(self, peer: Peer) -> None:
        for lane in peer.lanes:
            if lane.waiters and not lane.full():
                waiters, lane.waiters = lane.waiters, deque()
                self._release(waiters)
        if peer.bye_due is not None or self._kernel.neighbours.leaving:
            self._kernel.neighbours.part(peer)

    # --- room
    def queue_up(self, target: Ref[Any], mail: Mail, wait: Wait) -> None:
        """Mail of a `send` that found no room waits for it here; `deliver` has just said why."""
        cell = target.cell
        if cell is not None:
            if cell.waiters is None:
                cell.waiters = deque()
            cell.limit = 0  # while somebody waits, the fast way of `tell` is closed
            queue = cell.waiters
        else:
            peer = target.peer
            queue = peer.paused.get(target.name, peer.lanes[lane_of(mail.message)].waiters)
            peer.silent()
        wait.value = queue
        queue.append((wait, target, mail))

    def give_up(self, wait: Wait) -> None:
        """A `send` that found no room in time."""
        queue = wait.value
        for entry in queue:
            if entry[0] is wait:
                queue.remove(entry)
                self._kernel.dead_letter("full", entry[2], entry[1].name)
                self._kernel.settle(wait, None, Overloaded(f"{entry[1].name} had no room in time"))
                return

    def resume(self, cell: Cell) -> None:
        """A mailbox has room again: first for those who wait here, then for those elsewhere."""
        waiters = cell.waiters
        while waiters and len(cell.mailbox) < cell.capacity:
            wait, _, mail = waiters.popleft()
            self._kernel.push(cell, mail)
            self._kernel.settle(wait, None, None)
        if waiters is not None and not waiters:
            cell.waiters = None
            cell.limit = cell.capacity
        if cell.paused and len(cell.mailbox) <= cell.capacity >> 1 and cell.bytes <= MAILBOX_BYTES >> 1:
            for process in sorted(cell.paused):
                peer = self._kernel.neighbours.peers.get(process)
                if peer is not None:
                    self.post_control(peer, "$resume", cell.name, "", None)
            cell.paused = None

    def _release(self, waiters: deque[Any]) -> None:
        for wait, target, mail in waiters:
            if wait.id not in self._kernel.pending:
                self._kernel.dead_letter("stopped", mail, target.name)
            elif self.deliver(target, mail, None) is None:
                self._kernel.settle(wait, None, None)
            else:
                self.queue_up(target, mail, wait)

    # --- in
    def receive(self, source: str, data: bytes, blobs: Sequence[bytes] = ()) -> bool:
        """A frame came. Bad ones are counted with their source and dropped; a bad letter costs no other.

        Returns False for what nobody who is known would send.
        """
        neighbours = self._kernel.neighbours
        size = len(data)
        if blobs:
            size += sum(map(len, blobs))
        entry = neighbours.sources.get(source)
        if size > FRAME_SIZE_MAX:
            self.stranger(source, "too large", f"{size} bytes; a frame has at most {FRAME_SIZE_MAX}")
            return entry is not None
        try:
            frame = decode_frame(data)
        except UNDECODABLE as problem:
            self.stranger(source, "undecodable frame", str(problem))
            return entry is not None
        if frame.version != PROTOCOL_VERSION:
            self.stranger(source, "wrong version", f"speaks version {frame.version}, this is {PROTOCOL_VERSION}")
            return False
        if frame.sequence == 0 and frame.letters:
            if len(frame.letters) > 1 or size > GREETING_SIZE_MAX:
                self.stranger(source, "bad HELLO", f"{len(frame.letters)} letters in {size} bytes")
                return False
            return neighbours.handshake(source, frame)
        entry = entry or neighbours.introduce(source)
        if entry is None:
            if frame.letters or frame.sequence:  # else it is an acknowledgement that crossed a goodbye
                self.stranger(source, "not introduced", "there was no HELLO")
                if source[:1] == "@":
                    neighbours.call_again(source)
            return False
        peer, lane = entry
        if frame.session != peer.session or not peer.welcomed:
            if frame.letters:
                self.stranger(source, "old session", f"session {frame.session}, this is {peer.session}")
            return True
        peer.heard_ns = self._kernel.world.now_ns()
        if peer.take_acknowledgements(frame.acknowledged) or peer.bye or peer.bye_due is not None:
            self.touch(peer)
        if frame.sequence:
            self._take_frame(peer, lane, frame, data, size, blobs)
        return True

    def _take_frame(self, peer: Peer, lane: Lane, frame: Frame, data: bytes, size: int, blobs: Sequence[bytes]) -> None:
        if not peer.took(lane, frame.sequence, size):
            known = f"frame {frame.sequence} on {LANES[lane.number]} does not follow {lane.received}"
            self.stranger(_name_of(peer), "frame out of place", known)
            if frame.sequence > lane.received:
                self._kernel.neighbours.lost(peer, f"frames from {peer.process} were lost on the way")
            return
        self._kernel.bytes_received += size
        if lane.number == CONTROL or self._kernel.held_bytes < PROCESS_BYTES:
            lane.granted = lane.received
        if self._kernel.tap is not None:
            self._kernel.tap.received(peer.process, peer.heard_ns, data, blobs)
        letters = frame.letters
        if len(letters) == 1 and not blobs:
            letter = letters[0]
            if letter.hlc > self._kernel.hlc:
                self._merge_stamp(peer, letter.hlc)
            self._take_letter(peer, frame.names, letter, size, ())
        else:
            self._take(peer, frame, size, blobs)
        if peer.owed >= OWED_MAX:
            self.touch(peer)

    def relieved(self) -> None:
        """The mailboxes hold less again: what was taken meanwhile is acknowledged."""
        for peer in self._kernel.neighbours.peers.values():
            if any(lane.granted != lane.received for lane in peer.lanes):
                for lane in peer.lanes:
                    lane.granted = lane.received
                peer.owed = max(peer.owed, OWED_MAX)
                self.touch(peer)

    def _take(self, peer: Peer, frame: Frame, size: int, blobs: Sequence[bytes]) -> None:
        names, letters = frame.names, frame.letters
        count = len(letters)
        size //= count or 1
        stamp = max([letter.hlc for letter in letters], default=0)
        if stamp > self._kernel.hlc:
            self._merge_stamp(peer, stamp)
        taken = pieces = 0
        while taken < count:
            letter = letters[taken]
            taken += 1
            bulk = tuple(blobs[pieces : pieces + letter.blobs]) if letter.blobs else ()
            pieces += letter.blobs
            is_mail = self._take_letter(peer, names, letter, size, bulk)
            if is_mail and taken < count and letters[taken].kind == letter.kind:
                taken = self._take_alike(peer, letters, taken, names, size)
        if pieces < len(blobs):
            self.stranger(_name_of(peer), "wrong parts", f"{len(blobs) - pieces} beside its frame are no letter's")

    def _take_control(
        self, peer: Peer, kind: str, target: str, sender: str, letter: Letter, bulk: tuple[bytes, ...]
    ) -> None:
        if kind == "$reply":
            self._on_reply(peer, letter, bulk)
            return
        control = self._controls.get(kind)
        if control is None:
            self.stranger(_name_of(peer), "unknown control", kind)
            return
        try:
            control(peer, target, sender, letter)
        except UNDECODABLE as problem:
            self.stranger(_name_of(peer), "bad control", f"{kind}: {problem}")

    def _take_alike(self, peer: Peer, letters: list[Letter], taken: int, names: list[str], size: int) -> int:
        """Take the letters that bring messages of one kind to one actor, as the one before: most of a full frame.

        It ends where something else has to be looked at. Returns how many letters of the frame are taken then.
        Across processes this is what a message costs its receiver, so it is written out.
        """
        kernel = self._kernel
        before = letters[taken - 1]
        kind, target, sender = before.kind, before.target, before.sender
        cell = kernel.cells.get(names[target])
        handler = None if cell is None else cell.wires.get(names[kind])
        if cell is None or handler is None or letters[taken].blobs or not (cell.queued and cell.mailbox):
            return taken
        if cell.bytes + size * len(letters) >= MAILBOX_BYTES:
            return taken
        decode, mailbox, name = handler.decode, cell.mailbox, names[sender]
        first = taken
        for index in range(taken, min(len(letters), taken + cell.capacity - len(mailbox))):
            letter = letters[index]
            if letter.target != target or letter.kind != kind or letter.blobs:
                break
            try:
                if letter.sender != sender:
                    sender, name = letter.sender, names[letter.sender]
                message = decode(letter.body)
            except Exception:  # it is looked at again, where there is somebody to tell
                break
            ask = None if letter.ask is None else self._asked(peer, name, letter, letter.ask)
            if ask is not None and cell.held and kernel.cycles.closes(cell, ask) is not None:
                break
            mailbox.append(Mail(message, letter.id, letter.cause, letter.root, letter.hlc, name, ask, size))
            taken += 1
        cell.came += taken - first
        kernel.received += taken - first
        kernel.held_bytes += size * (taken - first)
        cell.bytes += size * (taken - first)
        return taken

    def _merge_stamp(self, peer: Peer, stamp: int) -> None:
        kernel = self._kernel
        merged = hlc.merge(kernel.hlc, stamp, kernel.world.wall_ns())
        if merged == kernel.hlc:
            self.stamps_ahead[peer.process] += 1
        kernel.hlc = merged

    def _take_letter(self, peer: Peer, names: list[str], letter: Letter, size: int, bulk: tuple[bytes, ...]) -> bool:
        """Take one letter. Returns whether it brought mail for an actor."""
        kernel = self._kernel
        try:
            kind, target, sender = names[letter.kind], names[letter.target], names[letter.sender]
            if letter.blobs != len(bulk):
                raise IndexError
        except IndexError:
            self.stranger(_name_of(peer), "bad letter", "an index beyond the names or pieces of its frame")
            return False
        if kind[:1] == "$":
            self._take_control(peer, kind, target, sender, letter, bulk)
            return False
        kernel.received += 1
        ask = None if letter.ask is None else self._asked(peer, sender, letter, letter.ask)
        mail = Mail(None, letter.id, letter.cause, letter.root, letter.hlc, sender, ask, size)
        cell = kernel.cells.get(target)
        if cell is None:
            kernel.dead_letter("unknown", mail, target, ActorStopped(f"there is no actor {target}"))
            return False
        handler = cell.wires.get(kind)
        if handler is not None:
            try:
                mail.message = message = handler.decode(letter.body)
                if bulk or handler.is_bulk:
                    mail.message = unsplit(message, bulk)
            except Exception as problem:  # a message may check itself, with code and errors of its own
                mail.message = None
                kernel.dead_letter("undecodable", mail, target, Unhandled(f"{target}: {kind}: {problem}"))
                return False
        elif Opaque in cell.handlers:
            mail.message = Opaque(name=kind, body=letter.body, blobs=bulk)
        else:
            known = ", ".join(sorted(cell.wires)) or "nothing"
            kernel.dead_letter("unhandled", mail, target, Unhandled(f"{target} handles {known}, not {kind}"))
            return False
        if ask is not None and cell.held:
            ring = kernel.cycles.closes(cell, ask)
            if ring is not None:
                kernel.dead_letter("cycle", mail, target, AskCycle(ring))
                return False
        if len(cell.mailbox) >= cell.capacity or cell.bytes >= MAILBOX_BYTES:
            self._pause(cell, peer)
        cell.came += 1
        cell.bytes += size
        kernel.held_bytes += size
        kernel.push(cell, mail)
        return True

    def _asked(self, peer: Peer, sender: str, letter: Letter, asked: Asked) -> RemoteAsk:
        left_ns = asked.left_ns
        if not 0 <= left_ns <= LEFT_NS_MAX:
            left_ns = 0 if left_ns < 0 else LEFT_NS_MAX
        deadline_ns = peer.heard_ns + left_ns
        return RemoteAsk(peer.process, letter.id, deadline_ns, (*asked.chain, (sender, letter.id)))

    def _pause(self, cell: Cell, peer: Peer) -> None:
        """What is on its way is taken; the rest is held where it comes from."""
        if cell.paused is None:
            cell.paused = set()
        if peer.process not in cell.paused:
            cell.paused.add(peer.process)
            self.post_control(peer, "$pause", cell.name, "", None)

    def stranger(self, source: str, reason: str, detail: str) -> None:
        """Count what is refused; log it with its source while that is no flood."""
        self.strangers[reason] += 1
        count = self.strangers[reason]
        if count <= LOUD_STRANGERS or count & (count - 1) == 0:
            fields = {"source": source[:100], "reason": reason, "detail": detail[:200], "count": count}
            self._kernel.world.log("warning", "", "frame_refused", fields)

    # --- the kernels' own letters
    def _pending(self, peer: Peer, letter: Letter) -> Wait | None:
        """The ask that a letter answers; a peer answers only what it was asked."""
        wait = self._kernel.pending.get(letter.id)
        if wait is None or wait.target is None or wait.target.peer is not peer:
            return None
        return wait

    def _on_reply(self, peer: Peer, letter: Letter, bulk: tuple[bytes, ...]) -> None:
        wait = self._pending(peer, letter)
        if wait is None:
            return
        kind: Any = wait.message.__class__
        if kind is Opaque:
            self._kernel.settle(wait, Opaque(name="", body=letter.body, blobs=bulk), None)
            return
        try:
            value = answer_decoder(kind)(letter.body)
            if bulk or bulk_fields(value.__class__):
                value = unsplit(value, bulk)
        except Exception as problem:
            self._kernel.settle(wait, None, Unhandled(f"the answer of {wait.target and wait.target.name}: {problem}"))
        else:
            self._kernel.settle(wait, value, None)

    def _on_error(self, peer: Peer, _target: str, _sender: str, letter: Letter) -> None:
        wait = self._pending(peer, letter)
        if wait is not None:
            wire, text, detail = _error(letter.body)
            try:
                failure = Failure.from_wire(wire, text, detail)
            except Exception:  # its class takes other arguments, against the rules: the asker hears of it all the same
                failure = Refused(f"{wire}: {text}", detail)
            self._kernel.settle(wait, None, failure)

    def _on_pause(self, peer: Peer, target: str, _sender: str, _letter: Letter) -> None:
        if self._kernel.neighbours.process_of(target) == peer.process:
            peer.paused.setdefault(target, deque())
            peer.silent()

    def _on_resume(self, peer: Peer, target: str, _sender: str, _letter: Letter) -> None:
        waiters = peer.paused.pop(target, None)
        if waiters:
            self._release(waiters)

    def _on_probe(self, _peer: Peer, target: str, _sender: str, letter: Letter) -> None:
        cell = self._kernel.cells.get(target)
        path = _chain(letter.body)
        if cell is not None and 0 < len(path) <= CHAIN_LENGTH_MAX:
            self._kernel.cycles.arrive(cell, path)

    def _on_break(self, _peer: Peer, _target: str, _sender: str, letter: Letter) -> None:
        self._kernel.cycles.broken(*_break(letter.body))

    def _on_cancel(self, peer: Peer, _target: str, _sender: str, letter: Letter) -> None:
        task = self._kernel.serving.get(letter.id)
        if task is not None and isinstance(task.mail.ask, RemoteAsk) and task.mail.ask.process == peer.process:
            self._kernel.direct(task.cell, "cancel", letter.id)

    def cancel_ask(self, wait: Wait) -> None:
        """The asker is gone: tell the kernel that works for it."""
        assert wait.target is not None
        if wait.target.peer is not None:
            self.post_control(wait.target.peer, "$cancel", wait.target.name, wait.cell.name, None, wait.id)

    def _on_inspect(self, peer: Peer, _target: str, _sender: str, letter: Letter) -> None:
        self.answer(None, RemoteAsk(peer.process, letter.id, 0, ()), self._kernel.inspect(), None)

    def _on_taken(self, peer: Peer, _target: str, _sender: str, letter: Letter) -> None:
        self.answer(None, RemoteAsk(peer.process, letter.id, 0, ()), None, None)


def _name_of(peer: Peer) -> str:
    """A peer in the log."""
    return f"{peer.process}#{peer.incarnation}"
